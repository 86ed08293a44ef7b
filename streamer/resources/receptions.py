"""Videos on their way in: the body of ``POST /api/videos``, raw or as a form, taken as it comes.

One object does it under every server. Ours feeds it while the body arrives, so
that the bytes land once, in the file that becomes the video; under the others
the resource feeds it from ``wsgi.input``.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import falcon
from falcon.media.multipart import BodyPart, MultipartParseError, MultipartParseOptions

from streamer import accounts, inputs, uploads, videos
from streamer.admission import Head
from streamer.config import Config
from streamer.containers.signatures import Container
from streamer.database import Database
from streamer.errors import BodyTooLarge, FieldError, InvalidInput, MalformedRequest
from streamer.models import User
from streamer.protocol import multipart
from streamer.resources import bodies
from streamer.storage.local import LocalStorage, StagedFile
from streamer.storage.space import Space
from streamer.tokens import Claims

FORM = "multipart/form-data"
FORM_OVERHEAD_BYTES = 256 * 1024  # what a form may have beside the file
MAX_TEXT_BYTES = 64 * 1024  # of one field of a form
DETAILS = {"title": inputs.title, "description": inputs.description}
QUERY = {**DETAILS, "filename": inputs.filename}

RECEPTION = "streamer.reception"
"""Where in the WSGI environment a server of ours puts a body that it has taken."""


@dataclass(frozen=True)
class VideoBody:
    """The rule for a body that holds a video."""

    database: Database
    config: Config
    storage: LocalStorage
    space: Space

    def check(self, head: Head) -> None:
        """Raise UnsupportedMediaType, LengthMissing or BodyTooLarge."""
        bodies.require_media_type(head, FORM, "application/octet-stream", "video/*")
        if head.content_length is None:
            raise bodies.no_length()
        if self._least_size(head) > self.config.max_upload_bytes:
            raise BodyTooLarge(self.config.max_upload_bytes)

    def begin(self, head: Head, claims: Claims) -> "VideoReception":
        """What takes a body that was checked. Raises InvalidInput for its query, or MalformedRequest."""
        reception = FormReception if head.media_type == FORM else VideoReception
        return reception(self, head, claims)

    def admit(self, user: User, head: Head) -> None:
        """Raise QuotaExceeded when the video cannot fit."""
        videos.check_quota(user, self._least_size(head), self.config.quota_bytes)

    @staticmethod
    def _least_size(head: Head) -> int:
        """The size in bytes that the video has at least."""
        return (head.content_length or 0) - (FORM_OVERHEAD_BYTES if head.media_type == FORM else 0)


class VideoReception:
    """Takes a raw body. A context that removes what has not become a video."""

    def __init__(self, rule: VideoBody, head: Head, claims: Claims) -> None:
        self._rule = rule
        self._head = head
        self._claims = claims
        self._held = ExitStack()
        self.began = time.monotonic()
        self.details: dict[str, Any] = _details(head)

    def open(self) -> None:
        """Make room. Raises NotAuthenticated, QuotaExceeded or InsufficientStorage."""
        self._rule.admit(accounts.user_of(self._rule.database, self._claims), self._head)
        promise = self._held.enter_context(self._rule.space.promise(self._head.content_length or 0))
        self.staged: StagedFile = self._held.enter_context(self._rule.storage.stage())
        self._receiver = uploads.Receiver(self.staged, promise, self._rule.config.max_upload_bytes)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises NotAVideo, BodyTooLarge or InsufficientStorage."""
        self._receiver.feed(data)

    def finish(self) -> Container:
        """The body is complete. Raises InvalidInput or NotAVideo."""
        return self._receiver.finish()

    def close(self) -> None:
        """Remove what has not become a video."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


class FormReception(VideoReception):
    """Takes a form with the parts ``video``, ``title`` and ``description``, in any order."""

    def __init__(self, rule: VideoBody, head: Head, claims: Claims) -> None:
        super().__init__(rule, head, claims)
        self._parser = multipart.FormParser(_boundary(head))
        self._name = ""
        self._text = bytearray()  # of the part that is on its way
        self._bytes_beside = 0
        self._seen: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the form. Also raises MalformedRequest and InvalidInput."""
        self._bytes_beside += len(data)
        for found in self._parser.feed(data):
            if isinstance(found, dict):
                self._end_part()
                self._begin_part(found)
            elif self._name == "video":
                self._bytes_beside -= len(found)
                self._receiver.feed(found)
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

    def finish(self) -> Container:
        """The body is complete. Raises MalformedRequest, InvalidInput or NotAVideo."""
        self._parser.finish()
        self._end_part()
        if "video" not in self._seen:
            raise InvalidInput(FieldError("video", "is required"))
        return super().finish()


@contextmanager
def received(req: falcon.Request, rule: VideoBody) -> Iterator[VideoReception]:
    """The body of an admitted request, taken. Also raises whatever taking it raises."""
    early: VideoReception | None = req.env.get(RECEPTION)
    if early is not None:
        with early:
            yield early
        return
    with rule.begin(bodies.head_of(req), req.context.claims) as reception:
        reception.open()
        for chunk in bodies.Body(req).chunks():
            reception.feed(chunk)
        yield reception


def _details(head: Head) -> dict[str, Any]:
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
    try:
        filename = part.filename
    except (ValueError, MultipartParseError) as error:
        raise MalformedRequest("malformed_multipart", "a part's file name is not UTF-8") from error
    # curl and the browsers send a quotation mark so (HTML standard, multipart form data)
    return name, filename and filename.replace("%22", '"')


def _decode(name: str, text: bytearray) -> str:
    try:
        return text.decode()
    except ValueError as error:
        raise InvalidInput(FieldError(name, "must be UTF-8")) from error
