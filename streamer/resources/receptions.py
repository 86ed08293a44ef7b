"""Videos on their way in: the body of ``POST /api/videos``, raw or as a form, taken as it comes.

One object does it under every server. Ours feeds it while the body arrives, so
that the bytes land once, in the file that becomes the video; under the others
the resource feeds it from ``wsgi.input``. ``received`` is the same for every
body that is taken so, also those of uploads that can be resumed.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import falcon
from falcon.media.multipart import BodyPart, MultipartParseError, MultipartParseOptions

from streamer import accounts, inputs, uploads
from streamer.admission import Head, Reception
from streamer.appends import Receiver, Replay
from streamer.errors import BodyTooLarge, FieldError, InvalidInput, MalformedRequest
from streamer.intake import DIRECT, Intake
from streamer.models import Video
from streamer.protocol import multipart
from streamer.resources import bodies
from streamer.tokens import Claims

FORM = "multipart/form-data"
FORM_OVERHEAD_BYTES = 256 * 1024  # what a form may have beside the file
MAX_TEXT_BYTES = 64 * 1024  # of one field of a form
DETAILS = {"title": inputs.title, "description": inputs.description}
QUERY = {**DETAILS, "filename": inputs.filename}

_R = TypeVar("_R", bound=Reception)


@dataclass(frozen=True)
class VideoBody:
    """The rule for a body that holds a video."""

    intake: Intake

    def check(self, head: Head) -> None:
        """Raise UnsupportedMediaType, LengthMissing or BodyTooLarge."""
        bodies.require_media_type(head, FORM, "application/octet-stream", "video/*")
        if head.content_length is None:
            raise bodies.no_length()
        if least_size(head) > self.intake.config.max_upload_bytes:
            raise BodyTooLarge(self.intake.config.max_upload_bytes)

    def begin(self, head: Head, claims: Claims) -> "VideoReception":
        """What takes a body that was checked. Raises InvalidInput for its query, or MalformedRequest."""
        reception = FormReception if head.media_type == FORM else VideoReception
        return reception(self.intake, head, claims)


def least_size(head: Head) -> int:
    """The size in bytes that the video in a body has at least."""
    return max(0, (head.content_length or 0) - (FORM_OVERHEAD_BYTES if head.media_type == FORM else 0))


class VideoReception:
    """Takes a raw body."""

    def __init__(self, intake: Intake, head: Head, claims: Claims) -> None:
        self._intake = intake
        self._claims = claims
        self._size = least_size(head)
        self._key = idempotency_key(head)
        self._receiver: Receiver | None = None
        self.began = time.monotonic()
        self.details: dict[str, Any] = details_of_query(head)

    def open(self) -> None:
        """Make room. Raises NotAuthenticated, QuotaExceeded, InsufficientStorage or KeyInUse."""
        user_id = accounts.user_of(self._intake.database, self._claims).id
        first = self._key and uploads.repeated(self._intake, user_id, self._key)
        if first:
            self._receiver = Replay(self._intake, first)
            return
        plan = uploads.Plan(kind=DIRECT, at_least=self._size, idempotency_key=self._key)
        self._receiver = uploads.begin(self._intake, user_id, plan)

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the body. Raises NotAVideo, BodyTooLarge or InsufficientStorage."""
        assert self._receiver is not None
        self._receiver.feed(data)

    def finish(self) -> Video:
        """The body is complete: make the video. Raises as ``Receiver.end`` does."""
        assert self._receiver is not None
        self._receiver.end(self.details)
        assert self._receiver.video is not None
        return self._receiver.video

    def close(self) -> None:
        """Remove what has not become a video."""
        if self._receiver is not None:
            self._receiver.close()


class FormReception(VideoReception):
    """Takes a form with the parts ``video``, ``title`` and ``description``, in any order."""

    def __init__(self, intake: Intake, head: Head, claims: Claims) -> None:
        super().__init__(intake, head, claims)
        self._parser = multipart.FormParser(_boundary(head))
        self._name = ""
        self._text = bytearray()  # of the part that is on its way
        self._bytes_beside = 0
        self._seen: set[str] = set()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the form. Also raises MalformedRequest and InvalidInput."""
        self._bytes_beside += len(data)
        for found in self._parser.feed(bytes(data)):
            if isinstance(found, dict):
                self._end_part()
                self._begin_part(found)
            elif self._name == "video":
                self._bytes_beside -= len(found)
                super().feed(found)
            else:
                self._add_text(found)
        if self._bytes_beside > FORM_OVERHEAD_BYTES:
            reason = f"the form has more than {FORM_OVERHEAD_BYTES} bytes beside the video"
            raise MalformedRequest("malformed_multipart", reason)

    def _begin_part(self, head: multipart.Head) -> None:
        name, filename = _part_names(head)
        if name in self._seen:
            raise InvalidInput(FieldError(name, "is given twice"))
        if name == "video":
            if filename:
                self.details |= inputs.parse_fields(
                    {"filename": filename}, required={}, optional={"filename": inputs.filename}
                )
        elif name not in DETAILS:
            raise InvalidInput(
                FieldError(name, "is not a part of this form: it has video, title, description")
            )
        self._name = name
        self._seen.add(name)

    def _add_text(self, data: memoryview) -> None:
        self._text += data
        if len(self._text) > MAX_TEXT_BYTES:
            raise InvalidInput(FieldError(self._name, f"must have at most {MAX_TEXT_BYTES} bytes"))

    def _end_part(self) -> None:
        """Judge a text when it has come, not when the video behind it has."""
        if self._name in DETAILS:
            text = {self._name: _decode(self._name, self._text)}
            self.details |= inputs.parse_fields(text, required={}, optional=DETAILS)
        self._text = bytearray()

    def finish(self) -> Video:
        """The body is complete. Also raises MalformedRequest and InvalidInput."""
        self._parser.finish()
        self._end_part()
        if "video" not in self._seen:
            raise InvalidInput(FieldError("video", "is required"))
        return super().finish()


@contextmanager
def received(req: falcon.Request, begin: Callable[[Head, Claims], _R]) -> Iterator[_R]:
    """The body of an admitted request, taken; ``begin`` is that of its rule.

    Also raises whatever taking it raises.
    """
    reception: _R | None = req.env.get(bodies.RECEPTION)
    if reception is not None:
        with closing(reception):
            yield reception
        return
    head = bodies.head_of(req)
    with closing(begin(head, req.context.claims)) as reception:
        reception.open()
        for chunk in bodies.chunks_of(req, head):
            reception.feed(chunk)
        yield reception


def idempotency_key(head: Head) -> str | None:
    """The key of a request that is not to be done twice. Raises MalformedRequest.

    Source: draft-ietf-httpapi-idempotency-key-header, whose keys are strings in quotation marks; many
    clients leave those out.
    """
    key = head.field("Idempotency-Key")
    if key is None:
        return None
    match = re.fullmatch(r'"([ !#-\[\]-~]{1,255})"|([!#-~]{1,255})', key)
    if match is None:
        raise MalformedRequest("bad_idempotency_key", "Idempotency-Key has to be 1 to 255 visible characters")
    return match[1] or match[2]


def details_of_query(head: Head) -> dict[str, Any]:
    """What the query tells about the video. Raises InvalidInput."""
    params = falcon.uri.parse_query_string(head.query, keep_blank=True)
    return inputs.parse_fields(params, required={}, optional=QUERY)


def _boundary(head: Head) -> bytes:
    _, options = falcon.parse_header(head.content_type or "")
    boundary = options.get("boundary", "").rstrip()
    if not 1 <= len(boundary) <= 70 or not boundary.isascii():
        raise MalformedRequest(
            "malformed_multipart", "the Content-Type has no boundary of 1 to 70 characters"
        )
    return boundary.encode()


def _part_names(head: multipart.Head) -> tuple[str, str | None]:
    """The name of a form field, and that of its file. Raises MalformedRequest."""
    part = BodyPart(None, head, MultipartParseOptions())  # type: ignore[arg-type]  # nothing is read from it
    try:
        name = part.name or ""
    except ValueError as error:
        raise MalformedRequest("malformed_multipart", "a part's name is not UTF-8") from error
    filename = disposition_filename(head[b"content-disposition"], "malformed_multipart")
    # curl and the browsers send a quotation mark so (HTML standard, multipart form data)
    return name, filename and filename.replace("%22", '"')


def disposition_filename(field: bytes, code: str = "bad_upload_field") -> str | None:
    """The file name in a Content-Disposition. Raises MalformedRequest with this code."""
    head = {b"content-disposition": field}
    part = BodyPart(None, head, MultipartParseOptions())  # type: ignore[arg-type]  # nothing is read from it
    try:
        return part.filename
    except (ValueError, MultipartParseError) as error:
        raise MalformedRequest(code, "the file name in a Content-Disposition is not UTF-8") from error


def _decode(name: str, text: bytearray) -> str:
    try:
        return text.decode()
    except ValueError as error:
        raise InvalidInput(FieldError(name, "must be UTF-8")) from error
