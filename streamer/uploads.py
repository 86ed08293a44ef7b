"""Uploads: the life of a video on its way in, whatever protocol brings it.

An upload is a row and a file of the same name. Bytes are appended to the file by
whoever holds its lock, and the row's offset follows when they are on the disk: it
never claims a byte that a crash could take back. When the last byte has come, the
file gets its final name and the video its row, without a copy and without a second
look at the bytes. An upload in one request goes the same way; it only cannot be
resumed.
"""

import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import peewee

from streamer import appends, clock
from streamer.appends import IDLE_SECONDS, KEY_LIFETIME, Append
from streamer.containers.signatures import HEAD_BYTES
from streamer.errors import (
    BodyTooLarge,
    FieldError,
    InconsistentLength,
    InvalidInput,
    KeyInUse,
    LengthMissing,
    MalformedRequest,
    NotFound,
    OffsetMismatch,
    StreamerError,
    TooManyUploads,
    UploadGone,
    UploadLocked,
    UploadNotAppendable,
)
from streamer.intake import DIRECT, FINAL, PARTIAL, RESUMABLE, WHOLE, Intake, require_room, require_size
from streamer.models import Upload, Video
from streamer.protocol.resumption import Checksum
from streamer.storage.local import StagedFile

BODY = ":"  # in a fingerprint, before that of the first body
logger = logging.getLogger("streamer")

STEADY_SECONDS = 8  # after which the rate of an upload is not what it was
MOST_UNFINISHED = 1000  # of one account


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a client says of an upload before its first byte."""

    kind: str = WHOLE
    length: int | None = None
    at_least: int = 0
    """How many bytes come for sure, where the length is not known."""

    details: dict[str, Any] = field(default_factory=dict)
    """The ``title``, ``description`` and ``filename`` of the video, as far as they were given."""

    metadata: str = ""
    concat: str = ""
    idempotency_key: str | None = None

    @property
    def fingerprint(self) -> str:
        """Equal for equal plans."""
        length = None if self.kind == FINAL else self.length  # which is that of its parts
        return appends.fingerprint(self.kind, length, self.details, self.metadata, self.concat)


class UploadFinished(StreamerError):
    """The upload has become a video; ``upload`` is its trace."""

    def __init__(self, upload: Upload) -> None:
        super().__init__("the upload is finished")
        self.upload = upload


def begin(
    intake: Intake,
    user_id: int,
    plan: Plan,
    checksum: Checksum | None = None,
    is_last: bool = False,
) -> Append:
    """Make an upload, and hold it. ``is_last`` is whether the first request says that it is the last.

    Raises InvalidInput (it will be empty), BodyTooLarge, QuotaExceeded, InsufficientStorage, TooManyUploads,
    NotAuthenticated, and KeyInUse when somebody else makes one with the same key.
    """
    if plan.length == 0 and plan.kind == WHOLE:
        raise InvalidInput(FieldError("video", "is empty"))
    return _begin(intake, user_id, plan, checksum=checksum, is_last=is_last)


def _begin(
    intake: Intake,
    user_id: int,
    plan: Plan,
    *,
    checksum: Checksum | None = None,
    is_last: bool = False,
    parts: Sequence[str] = (),
) -> Append:
    require_size(intake, plan.length or plan.at_least)
    staged = intake.storage.stage()  # first, so that every row has a file, and a live one is locked
    try:
        with intake.database.atomic():
            upload = _insert(intake, user_id, plan, staged.name, parts)
        most = intake.config.max_upload_bytes if plan.length is None else plan.length
        return Append(
            intake,
            upload,
            staged,
            most=most,
            checksum=checksum,
            is_last=is_last,
            is_first=True,
            parts=parts,
        )
    except BaseException:
        staged.discard()
        staged.close()
        raise


def _insert(intake: Intake, user_id: int, plan: Plan, name: str, parts: Sequence[str]) -> Upload:
    reserved = plan.at_least if plan.length is None else plan.length
    require_room(intake, user_id, reserved, plan.kind, besides=parts)
    if plan.kind in RESUMABLE:
        _require_few(intake, user_id)
    now = clock.now()
    upload = Upload(
        id=name,
        user=user_id,
        kind=plan.kind,
        length=plan.length,
        reserved=reserved,
        metadata=plan.metadata,
        concat=plan.concat,
        idempotency_key=plan.idempotency_key,
        fingerprint=plan.fingerprint,
        created_at=now,
        updated_at=now,
        expires_at=now + timedelta(seconds=intake.config.upload_ttl),
    )
    appends.describe(upload, plan.details)
    try:
        Upload.insert(upload.__data__).execute(intake.database)
    except peewee.IntegrityError as error:
        raise KeyInUse("another request with this Idempotency-Key has just begun") from error
    return upload


def _require_few(intake: Intake, user_id: int) -> None:
    unfinished = Upload.select().where(Upload.user == user_id, Upload.video.is_null())
    if unfinished.count(intake.database) >= MOST_UNFINISHED:
        raise TooManyUploads(MOST_UNFINISHED)


def resume(
    intake: Intake,
    user_id: int,
    upload_id: str,
    *,
    offset: int,
    size: int | None,
    length: int | None = None,
    checksum: Checksum | None = None,
    is_last: bool = False,
) -> Append:
    """Hold an upload, to add ``size`` bytes to it at ``offset``, or None: as many as come.

    ``length`` is that of the whole upload, where the client tells it now. Raises NotFound, UploadGone,
    UploadLocked, UploadNotAppendable, UploadFinished, OffsetMismatch, InconsistentLength, LengthMissing,
    BodyTooLarge, QuotaExceeded and InsufficientStorage.
    """
    upload = find(intake, user_id, upload_id)
    _require_appendable(upload, offset)
    staged = _hold(intake, upload)
    try:
        with intake.database.atomic():
            upload = find(intake, user_id, upload_id)  # nobody else changes it from now on
            _require_appendable(upload, offset)
            _extend(intake, upload, offset + (size or 0), length)
        most = upload.length if size is None else offset + size
        if most is None:
            raise LengthMissing("a body without Content-Length needs an upload whose length is known")
        staged.cut(upload.offset)
        return Append(intake, upload, staged, most=most, checksum=checksum, is_last=is_last)
    except UploadGone:
        staged.close()
        remove(intake, upload)
        raise
    except BaseException:
        staged.close()
        raise


def _hold(intake: Intake, upload: Upload) -> StagedFile:
    """The file of an upload, locked. Raises UploadLocked or UploadGone."""
    _release_idle(upload.id, IDLE_SECONDS)
    if appends.running(upload.id) is not None:  # also where there are no locks
        raise UploadLocked("another request is adding to this upload")
    try:
        return intake.storage.resume(upload.id)
    except UploadGone:
        remove(intake, upload)
        raise


def _release_idle(upload_id: str, seconds: float) -> None:
    append = appends.running(upload_id)
    if append is not None:
        append.release_idle(seconds)


def _require_appendable(upload: Upload, offset: int) -> None:
    if upload.kind == FINAL:
        raise UploadNotAppendable("this upload was put together from others: nothing can be added to it")
    if upload.offset != offset:
        raise OffsetMismatch(upload.offset, offset)
    if upload.video_id is not None:
        raise UploadFinished(upload)


def _extend(intake: Intake, upload: Upload, stop: int, length: int | None) -> None:
    """Make room for bytes up to ``stop``, and remember the length as soon as it is known."""
    if length is not None and upload.length not in {None, length}:
        raise InconsistentLength(f"the length of the upload is {upload.length}, and not {length}")
    known = upload.length if length is None else length
    if known is not None and stop > known:
        raise BodyTooLarge(known)
    reserved = max(upload.reserved, stop, known or 0)
    require_size(intake, reserved)
    if reserved > upload.reserved:
        only = {upload.id}
        require_room(intake, upload.user_id, reserved, upload.kind, stored=upload.offset, besides=only)
    if (known, reserved) != (upload.length, upload.reserved):
        upload.length, upload.reserved = known, reserved
        changed = Upload.update(length=known, reserved=reserved).where(Upload.id == upload.id)
        changed.execute(intake.database)


def find(intake: Intake, user_id: int, upload_id: str) -> Upload:
    """One's own upload. Raises NotFound, in the same words for somebody else's, or UploadGone (expired)."""
    upload = None
    if re.fullmatch("[0-9a-f]{32}", upload_id):
        own = (Upload.id == upload_id) & (Upload.user == user_id) & (Upload.kind != DIRECT)
        upload = Upload.select().where(own).get_or_none(intake.database)
    if upload is None:
        raise NotFound("there is no such upload")
    if upload.expires_at <= clock.now() and appends.running(upload.id) is None:
        raise UploadGone("the upload has expired: begin it anew")
    return upload


def look(intake: Intake, user_id: int, upload_id: str, idle_seconds: float = IDLE_SECONDS) -> Upload:
    """One's own upload, such that the next request can go on from its offset. Raises as ``find`` does.

    A request that has got nothing for ``idle_seconds`` lets go of it.
    If all bytes have come, but what had to follow failed, it is done now; then also raises as ``end`` does.
    """
    upload = find(intake, user_id, upload_id)
    if appends.running(upload_id) is not None:
        _release_idle(upload_id, idle_seconds)
        upload = find(intake, user_id, upload_id)
    if upload.is_complete and upload.video_id is None and upload.kind == WHOLE:
        finish(intake, upload)
        upload = find(intake, user_id, upload_id)
    return upload


def finish(intake: Intake, upload: Upload) -> None:
    """Make the video of an upload of which all bytes have come, unless somebody does so just now."""
    try:
        append = resume(intake, upload.user_id, upload.id, offset=upload.offset, size=0)
    except (UploadLocked, UploadFinished):
        return
    try:
        append.end()
    finally:
        append.close()


def received(upload: Upload) -> int:
    """How many bytes have come, on the disk or not, as far as this process knows."""
    append = appends.running(upload.id)
    return upload.offset if append is None else max(upload.offset, append.received)


def bytes_per_second(upload: Upload) -> float:
    """How fast its bytes come; 0 while none do."""
    append = appends.running(upload.id)
    if append is not None:
        return append.bytes_per_second
    # it may be between two requests, or one of another process adds to it, which tells every five seconds
    age = (clock.now() - upload.updated_at).total_seconds()
    is_recent = age < STEADY_SECONDS and upload.video_id is None
    return float(upload.bytes_per_second) if is_recent else 0.0


def unfinished(intake: Intake, user_id: int) -> list[Upload]:
    """One's own uploads that can be resumed, oldest first."""
    own = (Upload.user == user_id) & Upload.video.is_null() & (Upload.expires_at > clock.now())
    query = Upload.select().where(own, Upload.kind.in_(RESUMABLE)).order_by(Upload.created_at, Upload.id)
    return list(query.execute(intake.database))


def join(intake: Intake, user_id: int, plan: Plan, part_ids: Sequence[str]) -> Upload:
    """Put an upload together from others, which go with that.

    Raises NotFound, UploadGone, UploadLocked, MalformedRequest (a part is none, or not complete), and as
    ``begin`` and ``end`` do.
    """
    parts = {part_id: _part(intake, user_id, part_id) for part_id in part_ids}
    length = sum(parts[part_id].offset for part_id in part_ids)
    with ExitStack() as held:
        files = {}
        for part_id, part in parts.items():
            files[part_id] = _hold(intake, part)
            held.callback(files[part_id].close)
            files[part_id].cut(part.offset)
        _require_video([files[part_id] for part_id in part_ids])
        final = replace(plan, kind=FINAL, length=length)
        append = _begin(intake, user_id, final, parts=list(parts))
        held.callback(append.close)
        for part_id in part_ids:
            append.join(files[part_id])
        append.end()
        for file in files.values():
            file.discard()
    return append.upload


def _require_video(files: Sequence[StagedFile]) -> None:
    """Raise NotAVideo before anything is copied for nothing."""
    head = b""
    for file in files:
        if len(head) < HEAD_BYTES:
            head += file.read_at(HEAD_BYTES - len(head), 0)
    if head:
        appends.container_of(head)


def _part(intake: Intake, user_id: int, part_id: str) -> Upload:
    part = find(intake, user_id, part_id)
    if part.kind != PARTIAL or not part.is_complete:
        raise MalformedRequest("part_not_complete", f"{part_id} is not a partial upload that is complete")
    return part


def remove(intake: Intake, upload: Upload) -> None:
    """Remove an upload and its bytes; a video that it has become stays."""
    append = appends.running(upload.id)
    if append is not None:
        append.abandon()
    Upload.delete().where(Upload.id == upload.id).execute(intake.database)
    if upload.video_id is None:
        try:
            staged = intake.storage.resume(upload.id)
        except (UploadGone, UploadLocked):  # whoever holds it will find that its row is gone
            return
        if not Video.select().where(Video.file_path == staged.file_path).exists(intake.database):
            staged.discard()
        staged.close()


def repeated(intake: Intake, user_id: int, key: str) -> Upload | None:
    """What the first request with this Idempotency-Key has made. Raises KeyInUse while it is running."""
    first = _first_with(intake, user_id, key)
    if first is None:
        return None
    if first.created_at + KEY_LIFETIME <= clock.now():
        Upload.update(idempotency_key=None).where(Upload.id == first.id).execute(intake.database)
        return None
    if first.video_id is not None:
        return first
    # what the first request brought is noted at its end
    if is_held(intake, first) and BODY not in first.fingerprint:
        raise KeyInUse("the first request with this Idempotency-Key is still running")
    remove_dead(intake, first)
    return _first_with(intake, user_id, key)  # it may have ended just now


def note_body(intake: Intake, upload: Upload, sha256: str) -> None:
    """Remember what the first request with an Idempotency-Key brought."""
    upload.fingerprint += BODY + sha256
    changed = Upload.update(fingerprint=upload.fingerprint).where(Upload.id == upload.id)
    changed.execute(intake.database)


def require_same_body(first: Upload, sha256: str) -> None:
    """Raise KeyReused if the first request brought something else; if it was cut, nobody knows."""
    _, is_known, brought = first.fingerprint.partition(BODY)
    if is_known and brought != sha256:
        raise appends.key_reused()


def _first_with(intake: Intake, user_id: int, key: str) -> Upload | None:
    same = (Upload.user == user_id) & (Upload.idempotency_key == key)
    found: Upload | None = Upload.select().where(same).get_or_none(intake.database)
    return found


def remove_dead(intake: Intake, upload: Upload) -> None:
    """Remove an upload that nobody can go on with: it has expired, or went with its process."""
    if is_held(intake, upload):
        return
    # asked when it is not held: whoever held it has done all that there was to do
    current = Upload.select().where(Upload.id == upload.id).get_or_none(intake.database)
    if current is None or current.video_id is not None:
        return
    if current.kind not in RESUMABLE or current.expires_at <= clock.now():
        remove(intake, current)
        logger.info("removed upload %s, which had expired or was cut off", current.id)


def remove_lost(intake: Intake, upload: Upload) -> None:
    """Remove an upload if it has no file any more."""
    try:
        intake.storage.resume(upload.id).close()
    except UploadGone:
        Upload.delete().where(Upload.id == upload.id, Upload.video.is_null()).execute(intake.database)
    except UploadLocked:
        pass


def is_held(intake: Intake, upload: Upload) -> bool:
    """Whether a live process adds to an upload."""
    if appends.running(upload.id) is not None:  # also where there are no locks
        return True
    try:
        intake.storage.resume(upload.id).close()
    except UploadLocked:
        return True
    except UploadGone:
        pass
    return False


def require_same(first: Upload, plan: Plan) -> None:
    """Raise KeyReused unless an upload was made by a request like this one."""
    if first.fingerprint.partition(BODY)[0] != plan.fingerprint:
        raise appends.key_reused()
