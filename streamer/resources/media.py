"""The bytes of stored objects: ``/api/videos/{video_id}/stream``, and what was made of a video.

The only place that joins the range grammar to stored objects. Preconditions
come first, then If-Range, then Range (RFC 9110, section 13.2.2); the file is
opened last, and never for an answer that has no body.
"""

import base64
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Protocol, Self

import falcon

from streamer import access, clock, derived, inputs
from streamer.access import StoredObject
from streamer.containers import signatures
from streamer.database import Database
from streamer.errors import FieldError, InvalidInput, NotFound
from streamer.models import Derived
from streamer.protocol.conditional import EntityTag, Validators, format_http_date, if_range_matches
from streamer.protocol.disposition import content_disposition
from streamer.protocol.ranges import ByteRange, multipart_segments, segments_length, select_ranges
from streamer.protocol.sendfile import OFF, X_ACCEL_REDIRECT, handing_over, is_answered_alike
from streamer.resources.representations import is_modified, preconditions
from streamer.storage.local import DERIVED, LocalStorage

BLOCK_BYTES = 256 * 1024  # what the server's file wrapper asks for; Falcon's own is 8 KiB
VTT = "text/vtt"
CONTENT_TYPES = {VTT: f"{VTT}; charset=utf-8"}  # it never is anything else, which not everybody knows


class FileBody(Protocol):
    """What is handed to the server: a slice or a multipart body of a stored object."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def read(self, n: int | None = -1) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Sender:
    """Answers with a stored object, by the bytes or by the server in front."""

    storage: LocalStorage
    sendfile: str = OFF

    def send(self, req: falcon.Request, resp: falcon.Response, look_up: Callable[[], StoredObject]) -> None:
        """Send what is found, which may be exchanged or removed while it is.

        Raises PreconditionFailed, RangeNotSatisfiable, or what ``look_up`` raises.
        """
        stored = look_up()
        while True:
            try:
                self._answer(req, resp, stored)
            except FileNotFoundError:
                current = look_up()
                if current.file_path == stored.file_path:
                    if stored.file_path.startswith(f"{DERIVED}/"):
                        raise NotFound("this has been lost: have it made again") from None
                    raise
                stored = current
            else:
                return

    def _answer(self, req: falcon.Request, resp: falcon.Response, stored: StoredObject) -> None:
        req.context.username = stored.username
        validators = validators_of(stored)
        resp.set_headers(_validator_fields(validators))
        if not is_modified(req, validators):
            resp.status = 304
            return
        ranges = _requested_ranges(req, stored, validators)
        resp.set_headers(_representation_fields(stored, kind=_disposition_kind(req)))
        if self._is_for_front(req, validators, ranges):
            self._leave_to_front(req, resp, stored)
        elif ranges is None:
            self._send_whole(req, resp, stored)
        elif len(ranges) == 1:
            self._send_range(req, resp, stored, ranges[0])
        else:
            self._send_ranges(req, resp, stored, ranges)

    def _is_for_front(
        self, req: falcon.Request, validators: Validators, ranges: list[ByteRange] | None
    ) -> bool:
        # the server in front would add a date of its own
        if self.sendfile == OFF or req.method != "GET" or validators.last_modified is None:
            return False
        range_field, if_range = req.get_header("Range"), req.get_header("If-Range")
        return is_answered_alike(preconditions(req), range_field, if_range, validators, ranges)

    def _leave_to_front(self, req: falcon.Request, resp: falcon.Response, stored: StoredObject) -> None:
        """Answer 200 without a byte: the server in front makes a 206 of it where a range was asked for."""
        self._open(req, stored, 0, stored.size).close()
        resp.set_header(*handing_over(self.sendfile, stored.file_path, self.storage.path(stored.file_path)))
        if self.sendfile == X_ACCEL_REDIRECT and req.get_header("Range") is None:
            resp.delete_header("Accept-Ranges")  # nginx adds its own to the whole, and none to a range
        resp.content_length = 0
        req.context.log_entry.is_sent_by_front = True

    def _send_whole(self, req: falcon.Request, resp: falcon.Response, stored: StoredObject) -> None:
        if req.method == "GET":
            _hand_over(req, resp, self._open(req, stored, 0, stored.size))
        resp.content_length = stored.size

    def _send_range(
        self, req: falcon.Request, resp: falcon.Response, stored: StoredObject, byte_range: ByteRange
    ) -> None:
        _hand_over(req, resp, self._open(req, stored, byte_range.first, byte_range.length))
        resp.status = 206
        resp.set_header("Content-Range", byte_range.content_range(stored.size))
        resp.content_length = byte_range.length

    def _send_ranges(
        self, req: falcon.Request, resp: falcon.Response, stored: StoredObject, ranges: list[ByteRange]
    ) -> None:
        boundary = secrets.token_hex(16)
        segments = multipart_segments(ranges, stored.size, content_type(stored), boundary)
        length = segments_length(segments)
        if length > stored.size:  # the framing would cost more than the ranges save
            self._send_whole(req, resp, stored)
            return
        on_close = req.context.log_entry.close
        _hand_over(req, resp, self.storage.open_segments(stored.file_path, segments, on_close))
        resp.status = 206
        resp.content_type = f"multipart/byteranges; boundary={boundary}"
        resp.content_length = length

    def _open(self, req: falcon.Request, stored: StoredObject, first: int, length: int) -> FileBody:
        return self.storage.open(stored.file_path, first, length, req.context.log_entry.close)


@dataclass(frozen=True)
class Stream:
    """``/api/videos/{video_id}/stream``"""

    database: Database
    sender: Sender
    reads_by_claims = True  # one query for the user and the video

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        number, claims = inputs.identifier(video_id), req.context.claims
        variant = req.params.get("variant")
        if variant is None:
            self.sender.send(req, resp, partial(access.stored_video, self.database, claims, number))
        elif variant != derived.WEB:
            raise InvalidInput(FieldError("variant", f"must be {derived.WEB}, or not be there"))
        else:
            self.sender.send(
                req, resp, lambda: find(self.database, req, number, derived.VARIANT, derived.WEB)
            )

    on_head = on_get


def find(
    database: Database,
    req: falcon.Request,
    video_id: int | None,
    kind: str,
    name: str,
    ending: str | None = None,
) -> StoredObject:
    """What was made of a video, to be sent with this ending of its name, by default that of its container.

    Raises NotFound if it was not made.
    """
    made = access.derived_objects(database, req.context.claims, video_id, kind)
    req.context.username = made.username
    if name not in made.objects:
        raise NotFound(f"the video has no {kind} of this name, or not yet")
    stored = made.objects[name]
    return renamed(stored, ending or signatures.BY_MIME_TYPE[stored.mime_type].suffix)


def renamed(stored: StoredObject, ending: str) -> StoredObject:
    """With another ending of the file name than that of the video."""
    return stored._replace(filename=PurePosixPath(stored.filename).stem + ending)


def content_type(stored: StoredObject) -> str:
    """The Content-Type of a stored object."""
    return CONTENT_TYPES.get(stored.mime_type, stored.mime_type)


def validators_of(stored: StoredObject | Derived) -> Validators:
    """The validators of a stored object."""
    # it never changes, and its name is never used again
    etag = EntityTag(stored.file_path.rpartition("/")[2])
    # others may be exchanged within the same second, or after the clock was set back
    is_film = stored.mime_type.startswith("video/")
    return Validators(etag=etag, last_modified=stored.created_at if is_film else None)


def _validator_fields(validators: Validators) -> dict[str, str]:
    dated = validators.last_modified
    return {
        "ETag": str(validators.etag),
        **({"Last-Modified": format_http_date(dated)} if dated else {}),
        # a file that somebody uploaded must not run as a page of this origin; also on a 304,
        # whose fields replace those that a cache has stored (RFC 9111, section 3.2)
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "private, no-cache",
    }


def _representation_fields(stored: StoredObject, kind: str) -> dict[str, str]:
    fields = {
        "Content-Type": content_type(stored),
        "Accept-Ranges": "bytes",
        "Content-Disposition": content_disposition(kind, stored.filename),
    }
    if stored.sha256:  # else it is still being computed
        digest = base64.b64encode(bytes.fromhex(stored.sha256)).decode()
        fields["Repr-Digest"] = f"sha-256=:{digest}:"
    return fields


def _disposition_kind(req: falcon.Request) -> str:
    return "attachment" if req.params.get("download") == "1" else "inline"


def _requested_ranges(
    req: falcon.Request, stored: StoredObject, validators: Validators
) -> list[ByteRange] | None:
    """The ranges to send, or None for the whole. Raises RangeNotSatisfiable."""
    header = req.get_header("Range")
    if header is None or req.method != "GET":
        return None
    condition = req.get_header("If-Range")
    if condition is not None and not if_range_matches(condition, validators, clock.now()):
        return None
    return select_ranges(header, stored.size)


class _Iterated:
    """A body without ``read``, which Falcon would wrap and read in blocks of 8 KiB."""

    def __init__(self, body: FileBody) -> None:
        self._body = body

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._body)

    def close(self) -> None:
        self._body.close()


def _hand_over(req: falcon.Request, resp: falcon.Response, body: FileBody) -> None:
    """Give a body to the server by its file wrapper, so that no worker thread waits for the viewer."""
    wrapper = req.env.get("wsgi.file_wrapper")
    if wrapper is None or "uwsgi.version" in req.env:
        # uWSGI's wrapper reads on to the end when the viewer has long gone
        resp.stream = _Iterated(body)
    else:
        resp.stream = wrapper(body, BLOCK_BYTES)
