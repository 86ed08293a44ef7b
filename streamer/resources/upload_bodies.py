"""The bodies of requests to uploads that can be resumed, in both dialects, taken as they come."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from streamer import accounts, inputs, intake, uploads
from streamer.admission import Head
from streamer.appends import Append
from streamer.errors import BodyTooLarge, InvalidInput, NotAVideo, NotFound, QuotaExceeded
from streamer.intake import FINAL, PARTIAL, WHOLE, Intake
from streamer.models import Upload
from streamer.protocol import draft, tus
from streamer.protocol.resumption import Addition, Creation
from streamer.resources import bodies
from streamer.resources.receptions import (
    DETAILS,
    details_of_query,
    disposition_filename,
    idempotency_key,
)
from streamer.tokens import Claims

_TUS_DETAILS = {**DETAILS, "filename": inputs.filename}


def is_draft(head: Head) -> bool:
    """Whether a request is in the dialect of the IETF. Raises UnsupportedTusVersion if it is in none."""
    if head.field("Tus-Resumable") is None and (
        head.media_type == draft.MEDIA_TYPE
        or head.field("Upload-Draft-Interop-Version") is not None
        or draft.parse_complete(head.field) is not None
    ):
        return True
    tus.require_version(head.field)
    return False


@dataclass(frozen=True)
class CreationBody:
    """The rule for a request that makes an upload, with or without the first of its bytes."""

    intake: Intake

    def check(self, head: Head) -> None:
        """Raise UnsupportedTusVersion, UnsupportedMediaType, LengthMissing, BodyTooLarge, or as ``parse``."""
        creation = self.parse(head)
        if head.content_length is None:
            _require_end(head, creation.length)
        if head.content_length or head.is_chunked:
            # tus-js-client says of the first bytes what the draft says of those that follow
            kinds = ("application/octet-stream", "video/*", draft.MEDIA_TYPE)
            bodies.require_media_type(head, *(kinds if is_draft(head) else (tus.MEDIA_TYPE,)))
        intake.require_size(self.intake, max(creation.length or 0, head.content_length or 0))
        if creation.length is not None and (head.content_length or 0) > creation.length:
            raise BodyTooLarge(creation.length)
        if creation.parts and (head.content_length or head.is_chunked):
            raise BodyTooLarge(0)

    @staticmethod
    def parse(head: Head) -> Creation:
        """What the header fields say. Raises MalformedRequest, InconsistentLength or InvalidInput."""
        if not is_draft(head):
            creation = tus.parse_creation(head.field)
            return creation._replace(
                details=inputs.parse_fields(creation.details, required={}, optional=_TUS_DETAILS)
            )
        details = details_of_query(head)
        filename = disposition_filename(
            (head.field("Content-Disposition") or "").encode("latin-1", "replace")
        )
        if filename and "filename" not in details:
            details |= inputs.parse_fields(
                {"filename": filename}, required={}, optional={"filename": inputs.filename}
            )
        length = None if head.is_chunked else head.content_length or 0
        return draft.parse_creation(head.field, length, details)

    def begin(self, head: Head, claims: Claims) -> "CreationReception":
        """What takes the body of a request that was checked."""
        return CreationReception(self.intake, head, claims, self.parse(head))


def _require_end(head: Head, length: int | None) -> None:
    """Raise LengthMissing for a body that may go on for ever: nobody knows how much of the disk it needs."""
    is_there = head.is_chunked or head.field("Transfer-Encoding") is not None
    if is_there and not (head.is_chunked and length is not None):
        raise bodies.no_length()


class CreationReception:
    """Makes an upload, and takes the first of its bytes."""

    def __init__(self, intake: Intake, head: Head, claims: Claims, creation: Creation) -> None:
        self.began = time.monotonic()
        self._intake = intake
        self._claims = claims
        self._creation = creation
        self.is_last = creation.is_last
        self._append: Append | None = None
        self._first: Upload | None = None
        self._body = hashlib.sha256()
        self._is_announced = is_draft(head) and draft.is_interoperable(head.field)
        self._plan = uploads.Plan(
            kind=FINAL if creation.parts else PARTIAL if creation.is_partial else WHOLE,
            length=creation.length,
            at_least=head.content_length or 0,
            details=creation.details,
            metadata=creation.metadata,
            concat=creation.concat,
            idempotency_key=idempotency_key(head),
        )

    def open(self) -> None:
        """Make the upload. Raises as ``uploads.begin`` does, and KeyReused."""
        self._user_id = accounts.user_of(self._intake.database, self._claims).id
        if self._plan.idempotency_key is not None:
            self._first = uploads.repeated(self._intake, self._user_id, self._plan.idempotency_key)
        if self._first is not None:
            uploads.require_same(self._first, self._plan)
        elif not self._creation.parts:
            self._append = uploads.begin(
                self._intake, self._user_id, self._plan, self._creation.checksum, self.is_last
            )

    def announcement(self, base: str) -> dict[str, str] | None:
        """Where the upload is, for a client that speaks this version of the draft."""
        if self._append is None or not self._is_announced:
            return None
        self._append.is_known = True
        config = self._intake.config
        return {
            "Upload-Draft-Interop-Version": str(draft.INTEROP_VERSION),
            "Location": f"{base}/api/uploads/{self._append.upload.id}",
            "Upload-Limit": draft.format_limits(config.max_upload_bytes, config.upload_ttl),
        }

    def feed(self, data: bytes) -> None:
        """Take the next bytes; those of a request that only repeats another are compared."""
        if self._append is not None:
            self._append.feed(data)
        if self._plan.idempotency_key is not None:
            self._body.update(data)

    def finish(self) -> Upload:
        """The request has come whole. Raises as ``Append.end`` and ``uploads.join`` do."""
        if self._first is not None:
            uploads.require_same_body(self._first, self._body.hexdigest())
            return self._first
        if self._append is None:
            part_ids = [_upload_id(url) for url in self._creation.parts]
            return uploads.join(self._intake, self._user_id, self._plan, part_ids)
        with _told_as_final(self.is_last):
            self._append.end()
        if self._plan.idempotency_key is not None:
            uploads.note_body(self._intake, self._append.upload, self._body.hexdigest())
        return self._append.upload

    def close(self) -> None:
        """Let go of the upload, and keep what has come."""
        if self._append is not None:
            self._append.close()


@contextmanager
def _told_as_final(is_last: bool) -> Iterator[None]:
    """Mark an error about an upload that the client has sent whole: the draft wants that to be seen."""
    try:
        yield
    except (InvalidInput, NotAVideo, QuotaExceeded) as error:
        error.is_final = is_last
        raise


def _upload_id(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    folder, _, upload_id = path.rpartition("/")
    if not folder.endswith("/api/uploads"):
        raise NotFound("Upload-Concat has a URL that is not of an upload here")
    return upload_id


@dataclass(frozen=True)
class AdditionBody:
    """The rule for a request that adds bytes to an upload."""

    intake: Intake

    def check(self, head: Head) -> None:
        """Raise UnsupportedTusVersion, UnsupportedMediaType, LengthMissing, BodyTooLarge, or as ``parse``."""
        bodies.require_media_type(head, draft.MEDIA_TYPE if is_draft(head) else tus.MEDIA_TYPE)
        if head.content_length is None and not head.is_chunked:
            raise bodies.no_length()
        addition = self.parse(head)
        intake.require_size(self.intake, max(addition.length or 0, head.content_length or 0))

    @staticmethod
    def parse(head: Head) -> Addition:
        """What the header fields say. Raises MalformedRequest or InconsistentLength."""
        if is_draft(head):
            return draft.parse_addition(head.field, head.content_length)
        return tus.parse_addition(head.field)

    def begin(self, head: Head, claims: Claims, upload_id: str) -> "AdditionReception":
        """What takes the body of a request that was checked."""
        return AdditionReception(self.intake, head, claims, self.parse(head), upload_id)


class AdditionReception:
    """Adds the body of a request to an upload."""

    def __init__(
        self, intake: Intake, head: Head, claims: Claims, addition: Addition, upload_id: str
    ) -> None:
        self.began = time.monotonic()
        self._intake = intake
        self._claims = claims
        self._addition = addition
        self.is_last = addition.is_last
        self._size = head.content_length
        self._upload_id = upload_id
        self._append: Append | None = None
        self._finished: Upload | None = None

    def open(self) -> None:
        """Hold the upload. Raises as ``uploads.resume`` does."""
        user_id = accounts.user_of(self._intake.database, self._claims).id
        addition = self._addition
        try:
            self._append = uploads.resume(
                self._intake,
                user_id,
                self._upload_id,
                offset=addition.offset,
                size=self._size,
                length=addition.length,
                checksum=addition.checksum,
                is_last=self.is_last,
            )
        except uploads.UploadFinished as finished:
            if self._size != 0:
                raise BodyTooLarge(addition.offset) from finished
            self._finished = finished.upload  # whoever asks has not had the answer

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        assert self._append is not None
        self._append.feed(data)

    def finish(self) -> Upload:
        """The body has come whole. Raises as ``Append.end`` does."""
        if self._finished is not None:
            return self._finished
        assert self._append is not None
        with _told_as_final(self.is_last):
            self._append.end()
        return self._append.upload

    def close(self) -> None:
        """Let go of the upload, and keep what has come."""
        if self._append is not None:
            self._append.close()
