"""The one table from failures to problem documents (RFC 9457)."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import falcon
import peewee

from streamer import errors, logs
from streamer.protocol import draft, tus

logger = logging.getLogger("streamer")

MEDIA_TYPE = "application/problem+json"


class Problem(NamedTuple):
    """How one kind of failure is told: the status, and a code that never changes."""

    status: int
    code: str


PROBLEMS: dict[type[errors.StreamerError], Problem] = {
    errors.InvalidInput: Problem(422, "invalid_input"),
    errors.UnsupportedMediaType: Problem(415, "unsupported_media_type"),
    errors.LengthMissing: Problem(411, "length_required"),
    errors.ClientDisconnected: Problem(400, "incomplete_body"),
    errors.NotFound: Problem(404, "not_found"),
    errors.MethodNotAllowed: Problem(405, "method_not_allowed"),
    errors.NotAuthenticated: Problem(401, "not_authenticated"),
    errors.WrongPassword: Problem(403, "wrong_password"),
    errors.UsernameTaken: Problem(409, "username_taken"),
    errors.RegistrationClosed: Problem(403, "registration_closed"),
    errors.TooManyAttempts: Problem(429, "too_many_attempts"),
    errors.Busy: Problem(503, "busy"),
    errors.Unavailable: Problem(503, "unavailable"),
    errors.NotAVideo: Problem(415, "not_a_video"),
    errors.NotAnImage: Problem(415, "not_an_image"),
    errors.NoPictures: Problem(409, "no_pictures"),
    errors.NothingFailed: Problem(409, "nothing_failed"),
    errors.FfmpegMissing: Problem(501, "ffmpeg_missing"),
    errors.BodyTooLarge: Problem(413, "body_too_large"),
    errors.QuotaExceeded: Problem(413, "quota_exceeded"),
    errors.InsufficientStorage: Problem(507, "insufficient_storage"),
    errors.PreconditionFailed: Problem(412, "precondition_failed"),
    errors.RangeNotSatisfiable: Problem(416, "range_not_satisfiable"),
    errors.UploadLocked: Problem(423, "upload_locked"),
    errors.UploadGone: Problem(410, "upload_gone"),
    errors.UploadNotAppendable: Problem(403, "upload_not_appendable"),
    errors.OffsetMismatch: Problem(409, "offset_mismatch"),
    errors.InconsistentLength: Problem(400, "inconsistent_length"),
    errors.ChecksumMismatch: Problem(460, "checksum_mismatch"),
    errors.UnsupportedTusVersion: Problem(412, "unsupported_tus_version"),
    errors.TooManyUploads: Problem(429, "too_many_uploads"),
    errors.KeyInUse: Problem(409, "key_in_use"),
    errors.KeyReused: Problem(422, "key_reused"),
}


DETAILS = {
    404: "there is nothing at this path",
    405: "this path does not take this method; Allow lists those that it takes",
}


PHRASES = {460: "Checksum Mismatch"}  # of tus; it is not registered


def document(status: int, code: str, detail: str, **members: Any) -> dict[str, Any]:
    """A problem document."""
    return {
        "type": "about:blank",
        "title": _phrase(status),
        "status": status,
        "detail": detail,
        "code": code,
        **members,
    }


def _phrase(status: int) -> str:
    # Falcon's are those of the status line; Python's differ from version to version
    return PHRASES.get(status) or str(falcon.code_to_http_status(status)).partition(" ")[2]


def describe(error: errors.StreamerError) -> tuple[dict[str, Any], dict[str, str]]:
    """The problem document and the header fields for a failure that we foresee."""
    if isinstance(error, errors.MalformedRequest):
        return document(400, error.code, str(error)), {}
    status, code = PROBLEMS[type(error)]
    fields = {"Upload-Complete": "?1"} if error.is_final else {}
    return document(status, code, str(error), **_members(error)), fields | _fields(error)


def _members(error: errors.StreamerError) -> dict[str, Any]:
    match error:
        case errors.InvalidInput():
            return {"errors": [{"field": e.field, "message": e.message} for e in error.errors]}
        case errors.BodyTooLarge():
            return {"limit": error.limit}
        case errors.QuotaExceeded():
            return {"quota": error.quota, "used": error.used}
        case errors.InsufficientStorage():
            return {"available": error.available}
        case errors.OffsetMismatch():
            offsets = {"expected-offset": error.expected, "provided-offset": error.provided}
            return {"type": draft.MISMATCHING_OFFSET, **offsets}
        case errors.InconsistentLength():
            return {"type": draft.INCONSISTENT_LENGTH}
    return {}


def _fields(error: errors.StreamerError) -> dict[str, str]:
    match error:
        case errors.NotAuthenticated(presented=True):
            return {"WWW-Authenticate": 'Bearer realm="streamer", error="invalid_token"'}
        case errors.NotAuthenticated():
            return {"WWW-Authenticate": 'Bearer realm="streamer"'}
        case errors.MethodNotAllowed():
            return {"Allow": ", ".join(error.allowed)}
        case errors.TooManyAttempts() | errors.Busy() | errors.Unavailable() | errors.TooManyUploads():
            return {"Retry-After": str(error.retry_after)}
        case errors.UploadLocked() | errors.KeyInUse():
            return {"Retry-After": str(error.retry_after)}
        case errors.OffsetMismatch():
            return {"Upload-Offset": str(error.expected), "Upload-Complete": "?0"}
        case errors.InconsistentLength():
            return {"Upload-Complete": "?0"}
        case errors.UnsupportedTusVersion():
            return {"Tus-Version": tus.VERSION}
        case errors.RangeNotSatisfiable():
            return {"Accept-Ranges": "bytes", "Content-Range": f"bytes */{error.complete_length}"}
    return {}


def install(app: "falcon.App[falcon.Request, falcon.Response]") -> None:
    """Let every failure of an application end in a problem document."""
    app.add_error_handler(Exception, _handle_unexpected)
    app.add_error_handler(falcon.HTTPError, _handle_falcon)
    app.add_error_handler(peewee.OperationalError, _handle_database)
    app.add_error_handler(errors.StreamerError, _handle_foreseen)


def _handle_foreseen(
    req: falcon.Request, resp: falcon.Response, error: errors.StreamerError, params: dict[str, Any]
) -> None:
    _answer(resp, *describe(error))


def _handle_falcon(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    phrase = _phrase(error.status_code)
    code = re.sub(r"[^a-z]+", "_", phrase.lower())
    detail = error.description or DETAILS.get(error.status_code, phrase)
    _answer(resp, document(error.status_code, code, detail), dict(error.headers or {}))


def _handle_database(
    req: falcon.Request, resp: falcon.Response, error: peewee.OperationalError, params: dict[str, Any]
) -> None:
    reason = " ".join(dict.fromkeys(_reasons(error)))
    logger.error("the database failed: %s", reason)
    if "full" in reason:
        _answer(resp, *describe(errors.InsufficientStorage(available=0)))
    elif "locked" in reason:
        _answer(resp, *describe(errors.Busy("the database is busy")))
    elif any(words in reason for words in ("unable to open", "disk I/O", "readonly")):
        _answer(resp, *describe(errors.Unavailable("the data folder cannot be used at the moment")))
    else:
        _handle_unexpected(req, resp, error, params)


def _reasons(error: BaseException | None) -> Iterator[str]:
    """What went wrong, and before it: the end of a transaction that SQLite has ended fails as well."""
    while error is not None:
        yield str(error)
        error = error.__context__


def _handle_unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]
) -> None:
    logger.error("unexpected error", exc_info=error)
    detail = "an error that nobody foresaw; the log of the server tells more under this request id"
    _answer(resp, document(500, "internal_error", detail, request_id=logs.request_id.get()), {})


def _answer(resp: falcon.Response, problem: dict[str, Any], fields: dict[str, str]) -> None:
    if (close := getattr(resp.stream, "close", None)) is not None:
        close()
    resp.stream = None
    for name in resp.headers:  # nothing stays of the answer whose place this one takes
        if name != "x-request-id":
            resp.delete_header(name)
    resp.status = f"{problem['status']} {problem['title']}"
    resp.content_type = MEDIA_TYPE
    resp.data = json.dumps(problem).encode() + b"\n"
    resp.set_headers(fields)
