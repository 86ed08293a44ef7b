"""The bytes of one request on their way into an upload."""

import hashlib
import hmac
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import peewee

from streamer import clock, facts, inputs, planning, videos
from streamer.containers.media import Media, Source
from streamer.containers.signatures import HEAD_BYTES, Container, recognise
from streamer.digests import Carried
from streamer.errors import (
    BodyTooLarge,
    ChecksumMismatch,
    FieldError,
    InconsistentLength,
    InvalidInput,
    KeyReused,
    NotAuthenticated,
    NotAVideo,
    StreamerError,
    UploadGone,
    UploadLocked,
)
from streamer.intake import DIRECT, FINAL, PARTIAL, RESUMABLE, Intake
from streamer.models import Upload, User, Video
from streamer.protocol.resumption import Checksum
from streamer.storage.local import StagedFile

logger = logging.getLogger("streamer")

CHECKPOINT_SECONDS = 5  # a crash takes back no more than what came since
IDLE_SECONDS = 2  # a request that gets nothing for so long makes room for the next one
RATE_SECONDS = 5.0  # how much of the past a rate is of
LEAST_SECONDS = 0.001
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
        is_last: bool = False,
        is_first: bool = False,
        parts: Sequence[str] = (),
    ) -> None:
        """``most`` is how many bytes the upload may have; ``parts`` are the uploads that go into it.

        ``is_last`` is whether the client says that this is the end: then it has to be.
        """
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
        self._is_last = is_last
        self._container: Container | None = None
        self._is_spoiled = False
        self._is_unsure = False  # whether the disk has what was written
        self._has_ended = False
        self._is_closed = False
        self._checkpoint = self._last_fed + CHECKPOINT_SECONDS
        self._digest = None if upload.kind in {PARTIAL, FINAL} else _carried.take(upload.id, staged.size)
        self._checksum = checksum
        self._checked = hashlib.new(checksum.algorithm) if checksum else None
        self._digest_before = self._digest.copy() if checksum and self._digest else None
        self._samples = deque([(self._last_fed, staged.size)])
        self._is_abandoned = False
        self._lock = threading.RLock()
        _running.add(self)

    @property
    def received(self) -> int:
        """How many bytes the upload has, on the disk or not."""
        return self._staged.size

    @property
    def bytes_per_second(self) -> float:
        """How fast the bytes of this request have come of late."""
        began, size = self._samples[0]
        return (self.received - size) / max(time.monotonic() - began, LEAST_SECONDS)

    def _sample(self) -> None:
        """Take note of how far it is, now and then."""
        if self._last_fed - self._samples[-1][0] >= RATE_SECONDS / 10:
            self._samples.append((self._last_fed, self._staged.size))
        while len(self._samples) > 1 and self._samples[1][0] <= self._last_fed - RATE_SECONDS:
            self._samples.popleft()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises NotAVideo as soon as the first bytes show none, BodyTooLarge, InsufficientStorage,
        UploadLocked when another request has taken over, and UploadGone when the upload was deleted.
        """
        with self._lock:
            self._require_open()
            if self._staged.size + len(data) > self._most:
                # of a body without a length: nobody knows which of its bytes were meant
                self._is_spoiled = self._most == self.upload.length
                raise BodyTooLarge(self._most)
            self._write(data)
            if time.monotonic() >= self._checkpoint:
                self._pass_checkpoint()
            self._last_fed = time.monotonic()
            self._sample()

    def _require_open(self) -> None:
        if self._is_abandoned:
            raise self._deleted()
        if self._is_closed:
            raise UploadLocked("another request goes on with this upload")

    def _pass_checkpoint(self) -> None:
        if self._checked is None and self._is_resumable:
            self._settle()
            return
        self._checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        if not Upload.select().where(Upload.id == self.upload.id).exists(self._intake.database):
            raise self._deleted()

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
            try:
                self._container = container_of(self._staged.read_at(HEAD_BYTES, 0))
            except NotAVideo:
                self._is_spoiled = True  # whatever comes, it will never be one
                raise
        return self._container

    def end(self, details: dict[str, Any] | None = None) -> None:
        """All bytes of the request have come: bring them to the disk, and if they are all, make the video.

        ``details`` are those that came with the bytes. Raises ChecksumMismatch, NotAVideo, InvalidInput
        (it is empty), QuotaExceeded, InsufficientStorage, UploadLocked and UploadGone.
        """
        with self._lock:
            self._require_open()
            self._check()
            if self.upload.kind == DIRECT:
                self.upload.length = self._staged.size
                describe(self.upload, details or {})
            is_whole = self.upload.length == self._staged.size
            if is_whole and self.upload.kind != PARTIAL:
                self._finish()
            else:
                self._settle_rest()
                if self._is_last and not is_whole:
                    raise InconsistentLength(
                        f"the end came after {self._staged.size} of {self.upload.length} bytes"
                    )
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
        self._seal()
        if not self.upload.offset:
            self._staged.enter()
        self._checkpoint = time.monotonic() + CHECKPOINT_SECONDS
        now, size = clock.now(), self._staged.size
        changes = {
            "offset": size,
            "bytes_per_second": self.bytes_per_second,
            "updated_at": now,
            "expires_at": now + self._lifetime,
        }
        self._change(changes)
        self._remember(changes)

    def _settle_rest(self) -> None:
        """Let the offset follow, and give back the room that a body of another length was promised."""
        if self._staged.size != self.upload.offset:
            self._settle()
        if self.upload.length is None and self.upload.reserved > self.upload.offset:
            self._change({"reserved": self.upload.offset})

    def _seal(self) -> None:
        """Bring what has come to the disk. What could not get there once is never believed to be there."""
        try:
            self._staged.seal()
        except BaseException:
            self._is_unsure = True
            raise

    @property
    def _lifetime(self) -> timedelta:
        return timedelta(seconds=self._intake.config.upload_ttl)

    def _change(self, changes: dict[str, Any]) -> None:
        """Change the row. Raises UploadGone if it was deleted meanwhile."""
        same = Upload.id == self.upload.id
        if not Upload.update(**changes).where(same).execute(self._intake.database):
            raise self._deleted()

    def _deleted(self) -> StreamerError:
        self._is_spoiled = True
        if not User.select().where(User.id == self.upload.user_id).exists(self._intake.database):
            return NotAuthenticated("the account has been deleted")
        return UploadGone("the upload has been deleted")

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
        media = facts.read(container.mime_type, Source(self._staged.read_at, self._staged.size))
        self._seal()
        self._staged.publish()
        try:
            self.video = self._commit(container, media)
        except BaseException:
            # only the database knows whether it was committed
            self.video = self._committed()
            if self.video is None:
                raise
        self._remember({"video": self.video, "offset": self.video.size, "length": self.video.size})

    def _commit(self, container: Container, media: Media | None) -> Video:
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
                media=media,
                quota_bytes=self._intake.config.quota_bytes,
            )
            planning.plan(database, video, self._intake.config, self._intake.tools)
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
        lifetimes = [self._lifetime] if upload.kind != DIRECT else []
        if upload.idempotency_key is not None:
            lifetimes.append(KEY_LIFETIME)
        self._change({**changes, "updated_at": now, "expires_at": now + max(lifetimes)})

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
                self._staged.close()
                _running.remove(self)

    def _leave(self) -> None:
        if self.video is not None:
            return
        # a client that does not know of it begins anew, and this one would keep its room for nothing
        is_lost = not self.is_known and not self._has_ended
        if self._is_spoiled or is_lost or not self._is_resumable:
            self._remove()
            return
        if self._is_unsure:
            self._staged.cut(self.upload.offset)
            return
        if self._checked is not None:  # the request ended before they could be checked
            self._staged.cut(self._start)
            self._digest = self._digest_before
        try:
            self._settle_rest()
        except (NotAuthenticated, UploadGone):
            self._remove()
            return
        _carried.put(self.upload.id, self._staged.size, self._digest)

    def _remove(self) -> None:
        """Remove the upload, unless it is a video after all: only the database knows."""
        if self._committed() is None:
            self._staged.discard()  # first: a full disk has room for the change of the row then
            Upload.delete().where(Upload.id == self.upload.id).execute(self._intake.database)

    def release_idle(self, seconds: float) -> None:
        """Close, if nothing has come for so long: the client has come back on another way."""
        if self._lock.acquire(blocking=False):
            try:
                if time.monotonic() - self._last_fed >= seconds:
                    self.close()
            finally:
                self._lock.release()

    def abandon(self) -> None:
        """Close, and keep nothing."""
        with self._lock:
            self._is_abandoned = self._is_spoiled = True
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

    def of_user(self, user_id: int) -> list[Append]:
        with self._lock:
            return [append for append in self._appends.values() if append.upload.user_id == user_id]


# Both are about what this process does at this moment, and the ids of uploads are unique in the world.
_running = _Running()
_carried = Carried()


def container_of(head: bytes) -> Container:
    """The container of a file that begins so. Raises NotAVideo."""
    container = recognise(head)
    if container is None:
        raise NotAVideo("the file is not a video of a kind that is known here, whatever its name says")
    return container


def running(upload_id: str) -> Append | None:
    """The request of this process that adds to an upload just now."""
    return _running.get(upload_id)


def abandon_all(user_id: int) -> None:
    """End the requests of this process that add to uploads of an account that is gone."""
    for append in _running.of_user(user_id):
        append.abandon()


def describe(upload: Upload, details: dict[str, Any]) -> None:
    """Remember the ``title``, ``description`` and ``filename`` of the video, as far as they are given."""
    for name in ("title", "description", "filename"):
        if name in details:
            setattr(upload, name, details[name])


def fingerprint(*facts: object) -> str:
    """Equal for equal facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fingerprint_of_video(upload: Upload, size: int, sha256: str) -> str:
    """That of an upload in one request: what it brought, however it was framed."""
    return fingerprint(upload.title, upload.description, upload.filename, size, sha256)


def key_reused() -> KeyReused:
    """The error for an Idempotency-Key that came with something else before."""
    return KeyReused("another request has had this Idempotency-Key within the last 24 hours")
