"""The bytes of one request on their way into an upload."""

import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import peewee

from streamer import clock, inputs, videos
from streamer.containers.signatures import HEAD_BYTES, Container, recognise
from streamer.digests import Carried
from streamer.errors import (
    BodyTooLarge,
    ChecksumMismatch,
    FieldError,
    InvalidInput,
    KeyReused,
    NotAVideo,
    StreamerError,
    UploadGone,
    UploadLocked,
)
from streamer.intake import DIRECT, FINAL, PARTIAL, RESUMABLE, Intake
from streamer.models import Upload, Video
from streamer.protocol.resumption import Checksum
from streamer.storage.local import StagedFile

logger = logging.getLogger("streamer")

CHECKPOINT_SECONDS = 5  # a crash takes back no more than what came since
IDLE_SECONDS = 2  # a request that gets nothing for so long makes room for the next one
STEADY_SECONDS = 30  # a rate that is older says nothing about the present
KEY_LIFETIME = timedelta(hours=24)


class Receiver(Protocol):
    """Takes the bytes of one request: ``feed`` in order, then ``end``; ``close`` at any time and again."""

    video: Video | None
    """What the bytes have become."""

    def feed(self, data: bytes | memoryview) -> None: ...
    def end(self, details: dict[str, Any] | None = None) -> None: ...
    def close(self) -> None: ...


class Append:
    """Adds the bytes of one request to an upload, and holds the upload for as long."""

    def __init__(
        self,
        intake: Intake,
        upload: Upload,
        staged: StagedFile,
        *,
        most: int,
        checksum: Checksum | None = None,
        is_first: bool = False,
        parts: Sequence[str] = (),
    ) -> None:
        """``most`` is how many bytes the upload may have; ``parts`` are the uploads that go into it."""
        self.is_first = is_first
        self.is_known = not is_first or upload.idempotency_key is not None
        """Whether the client has a way to the upload when this request is cut."""

        self.upload = upload
        self.video: Video | None = None
        self._last_fed = time.monotonic()
        self._intake = intake
        self._staged = staged
        self._start = staged.size
        self._most = most
        self._parts = parts
        self._container: Container | None = None
        self._is_spoiled = False
        self._has_ended = False
        self._is_closed = False
        self._checkpoint = self._last_fed + CHECKPOINT_SECONDS
        self._digest = None if upload.kind in {PARTIAL, FINAL} else _carried.take(upload.id, staged.size)
        self._checksum = checksum
        self._checked = hashlib.new(checksum.algorithm) if checksum else None
        self._digest_before = self._digest.copy() if checksum and self._digest else None
        self._lock = threading.RLock()
        _running.add(self)

    @property
    def received(self) -> int:
        """How many bytes the upload has, on the disk or not."""
        return self._staged.size

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises NotAVideo as soon as the first bytes show none, BodyTooLarge, InsufficientStorage, and
        UploadLocked when another request has taken over.
        """
        with self._lock:
            if self._is_closed:
                raise UploadLocked("another request goes on with this upload")
            if self._staged.size + len(data) > self._most:
                raise BodyTooLarge(self._most)
            self._write(data)
            self._last_fed = time.monotonic()
            if self._checked is None and self._last_fed >= self._checkpoint and self._is_resumable:
                self._settle()

    def _write(self, data: bytes | memoryview) -> None:
        before = self._staged.size
        try:
            self._staged.write(data)
        finally:  # on a full disk some may have been taken
            taken = memoryview(data)[: self._staged.size - before]
            for digest in (self._digest, self._checked):
                if digest is not None:
                    digest.update(taken)
        if self._checked is None and before < HEAD_BYTES <= self._staged.size:
            self._recognise()

    def join(self, part: StagedFile) -> None:
        """Take all bytes of a part."""
        self._staged.copy(part)

    def _recognise(self) -> Container | None:
        """The container of what has come, of which a part has none."""
        if self._container is None and self.upload.kind != PARTIAL:
            self._container = recognise(self._staged.read_head(HEAD_BYTES))
            if self._container is None:
                self._is_spoiled = True  # whatever comes, it will never be a video
                raise NotAVideo(
                    "the file is not a video of a kind that is known here, whatever its name says"
                )
        return self._container

    def end(self, details: dict[str, Any] | None = None) -> None:
        """All bytes of the request have come: bring them to the disk, and if they are all, make the video.

        ``details`` are those that came with the bytes. Raises ChecksumMismatch, NotAVideo, InvalidInput
        (it is empty), QuotaExceeded, InsufficientStorage, UploadLocked and UploadGone.
        """
        with self._lock:
            if self._is_closed:
                raise UploadLocked("another request goes on with this upload")
            self._check()
            if self.upload.kind == DIRECT:
                self.upload.length = self._staged.size
                describe(self.upload, details or {})
            if self.upload.kind != PARTIAL and self.upload.length == self._staged.size:
                self._finish()
            elif self._staged.size != self.upload.offset:
                self._settle()
            self._has_ended = True

    def _check(self) -> None:
        if self._checksum is None or self._checked is None:
            return
        if not hmac.compare_digest(self._checked.digest(), self._checksum.digest):
            raise ChecksumMismatch
        self._checked = None
        if self._start < HEAD_BYTES <= self._staged.size:
            self._recognise()  # not before: what was broken on its way says nothing about the file

    @property
    def _is_resumable(self) -> bool:
        return self.upload.kind in RESUMABLE

    def _settle(self) -> None:
        """Bring what has come to the disk, and let the offset follow. Raises UploadGone if it was deleted."""
        self._staged.seal()
        self._checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        now, size = clock.now(), self._staged.size
        changes = {
            "offset": size,
            "bytes_per_second": _rate(self.upload, size, (now - self.upload.updated_at).total_seconds()),
            "updated_at": now,
            "expires_at": now + self._lifetime,
        }
        self._change(changes)
        self._remember(changes)

    @property
    def _lifetime(self) -> timedelta:
        if self.upload.kind == DIRECT:
            return KEY_LIFETIME
        return timedelta(seconds=self._intake.config.upload_ttl)

    def _change(self, changes: dict[str, Any]) -> None:
        """Change the row. Raises UploadGone if it was deleted meanwhile."""
        same = Upload.id == self.upload.id
        if not Upload.update(**changes).where(same).execute(self._intake.database):
            self._is_spoiled = True
            raise UploadGone("the upload has been deleted")

    def _remember(self, changes: dict[str, Any]) -> None:
        """The change of the row is there to stay."""
        for name, value in changes.items():
            setattr(self.upload, name, value)

    def _finish(self) -> None:
        if not self._staged.size:
            self._is_spoiled = True
            raise InvalidInput(FieldError("video", "is empty"))
        container = self._recognise()
        assert container is not None  # only parts have none
        self._staged.seal()
        self._staged.publish()
        try:
            self.video = self._commit(container)
        except BaseException:
            # only the database knows whether it was committed
            self.video = self._committed()
            if self.video is None:
                raise
        self._remember({"video": self.video, "offset": self.video.size, "length": self.video.size})

    def _commit(self, container: Container) -> Video:
        upload, database = self.upload, self._intake.database
        with database.atomic():
            video = videos.add(
                database,
                upload.user_id,
                title=upload.title or (inputs.title_of(upload.filename) if upload.filename else "Untitled"),
                description=upload.description or "",
                filename=upload.filename or f"video{container.suffix}",
                file_path=self._staged.file_path,
                mime_type=container.mime_type,
                size=self._staged.size,
                sha256=self._digest.hexdigest() if self._digest else "",
                quota_bytes=self._intake.config.quota_bytes,
            )
            self._leave_trace(video)
            if self._parts:
                Upload.delete().where(Upload.id.in_(self._parts)).execute(database)
        return video

    def _leave_trace(self, video: Video) -> None:
        """Keep the row for whoever asks for the upload again."""
        upload, now = self.upload, clock.now()
        if upload.kind == DIRECT and upload.idempotency_key is None:
            Upload.delete().where(Upload.id == upload.id).execute(self._intake.database)
            return
        changes: dict[str, Any] = {"video": video.id, "offset": video.size, "length": video.size}
        if upload.kind == DIRECT:
            changes["fingerprint"] = fingerprint_of_video(upload, video.size, video.sha256)
        self._change({**changes, "updated_at": now, "expires_at": now + self._lifetime})

    def _committed(self) -> Video | None:
        same = Video.file_path == self._staged.file_path
        return Video.select().where(same).get_or_none(self._intake.database)

    def close(self) -> None:
        """Keep what has come of an upload that can be resumed, remove any other; again does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                self._leave()
            except (StreamerError, OSError, peewee.DatabaseError) as error:
                logger.warning("upload %s could not be left as it should be: %s", self.upload.id, error)
            finally:
                if self._is_spoiled and self.video is None:
                    self._staged.discard()
                self._staged.close()
                _running.remove(self)

    def _leave(self) -> None:
        if self.video is not None:
            return
        if not self._is_resumable:
            self._is_spoiled = self._committed() is None
        elif not self.is_known and not self._has_ended:
            self._is_spoiled = True  # it would begin anew, and this one keep its room for nothing
        if self._is_spoiled:
            self._staged.discard()  # first: a full disk has room for the change of the row then
            Upload.delete().where(Upload.id == self.upload.id).execute(self._intake.database)
            return
        if self._checked is not None:  # the request ended before they could be checked
            self._staged.cut(self._start)
            self._digest = self._digest_before
        if self._staged.size != self.upload.offset:
            self._settle()
        _carried.put(self.upload.id, self._staged.size, self._digest)

    def release_idle(self) -> None:
        """Close, if nothing has come for a while: the client has come back on another way."""
        if self._lock.acquire(blocking=False):
            try:
                if time.monotonic() - self._last_fed >= IDLE_SECONDS:
                    self.close()
            finally:
                self._lock.release()

    def abandon(self) -> None:
        """Close, and keep nothing."""
        with self._lock:
            self._is_spoiled = True
            self.close()


class Replay:
    """Takes the body of a request that repeats a finished one, and keeps nothing of it."""

    def __init__(self, intake: Intake, first: Upload) -> None:
        self.video: Video | None = None
        self._intake = intake
        self._first = first
        self._digest = hashlib.sha256()
        self._size = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self._digest.update(data)
        self._size += len(data)

    def end(self, details: dict[str, Any] | None = None) -> None:
        """All bytes have come. Raises KeyReused unless they are those of the first request."""
        repeated = Upload()
        describe(repeated, details or {})
        found = fingerprint_of_video(repeated, self._size, self._digest.hexdigest())
        if found != self._first.fingerprint:
            raise key_reused()
        same = Video.id == self._first.video_id
        self.video = Video.select().where(same).get_or_none(self._intake.database)
        if self.video is None:
            raise UploadGone("the video of the first request with this Idempotency-Key has been deleted")

    def close(self) -> None:
        """There is nothing to remove."""


class _Running:
    """The requests of this process that add to uploads."""

    def __init__(self) -> None:
        self._appends: dict[str, Append] = {}
        self._lock = threading.Lock()

    def add(self, append: Append) -> None:
        with self._lock:
            self._appends[append.upload.id] = append

    def remove(self, append: Append) -> None:
        with self._lock:
            if self._appends.get(append.upload.id) is append:
                del self._appends[append.upload.id]

    def get(self, upload_id: str) -> Append | None:
        with self._lock:
            return self._appends.get(upload_id)


# Both are about what this process does at this moment, and the ids of uploads are unique in the world.
_running = _Running()
_carried = Carried()


def running(upload_id: str) -> Append | None:
    """The request of this process that adds to an upload just now."""
    return _running.get(upload_id)


def describe(upload: Upload, details: dict[str, Any]) -> None:
    """Remember the ``title``, ``description`` and ``filename`` of the video, as far as they are given."""
    for name in ("title", "description", "filename"):
        if name in details:
            setattr(upload, name, details[name])


def _rate(upload: Upload, size: int, seconds: float) -> float:
    """Bytes per second, smoothed from one time that the offset moves to the next."""
    rate = (size - upload.offset) / max(seconds, 0.001)
    if seconds > STEADY_SECONDS or not upload.bytes_per_second:
        return rate
    return (rate + float(upload.bytes_per_second)) / 2


def fingerprint(*facts: object) -> str:
    """Equal for equal facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fingerprint_of_video(upload: Upload, size: int, sha256: str) -> str:
    """That of an upload in one request: what it brought, however it was framed."""
    return fingerprint(upload.title, upload.description, upload.filename, size, sha256)


def key_reused() -> KeyReused:
    """The error for an Idempotency-Key that came with something else before."""
    return KeyReused("another request has had this Idempotency-Key within the last 24 hours")
