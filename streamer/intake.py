"""How much may come in: the limit of one video, the quota of an account, the room on the disk.

What unfinished uploads were promised is in the database, so all processes of one data
folder promise the same disk once.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from streamer import clock, jobs
from streamer.config import Config
from streamer.database import Database
from streamer.errors import BodyTooLarge, InsufficientStorage, NotAuthenticated, QuotaExceeded
from streamer.ffmpeg.tools import Tools
from streamer.models import Job, Upload, User
from streamer.storage import space
from streamer.storage.local import LocalStorage

DIRECT = "direct"
"""An upload in one request, which goes with it."""

WHOLE = "whole"
"""An upload in as many requests as it takes."""

PARTIAL = "partial"
"""A part of a final one, in as many requests as it takes."""

FINAL = "final"
"""What is put together from parts, in one request."""


RESUMABLE = (WHOLE, PARTIAL)

LEAST_ROOM_BYTES = 2**20  # a poster has less
STILL_SECONDS = 60  # an upload whose offset has not moved for so long gets no bytes


@dataclass(frozen=True, slots=True)
class Intake:
    """Where uploads go, and how much of them."""

    database: Database
    storage: LocalStorage
    config: Config
    tools: Tools | None = None
    """The ffmpeg that makes posters and variants, where there is one."""


class Room(NamedTuple):
    """What is left, in bytes."""

    disk: int
    quota_used: int
    """By the videos of the account and its unfinished uploads."""


def require_size(intake: Intake, size: int) -> None:
    """Raise BodyTooLarge for a video of more bytes than the limit."""
    if size > intake.config.max_upload_bytes:
        raise BodyTooLarge(intake.config.max_upload_bytes)


def require_room(
    intake: Intake, user_id: int, size: int, kind: str, besides: Collection[str] = (), *, stored: int = 0
) -> None:
    """Raise QuotaExceeded or InsufficientStorage unless an upload of this size and kind fits.

    So many bytes of it are ``stored`` already. ``besides`` names uploads whose promises do not
    count, because this one takes their place.
    """
    left = room(intake, user_id, besides)
    quota = intake.config.quota_bytes
    if quota is not None and left.quota_used + size > quota:
        raise QuotaExceeded(quota, left.quota_used)
    if size * _copies(kind) - stored > left.disk:
        raise InsufficientStorage(left.disk)


def room(intake: Intake, user_id: int, besides: Collection[str] = ()) -> Room:
    """What is left for this account. Raises NotAuthenticated if it is gone."""
    user = User.select(User.bytes_used).where(User.id == user_id).get_or_none(intake.database)
    if user is None:
        raise NotAuthenticated("the account has been deleted")
    quota_used, outstanding = user.bytes_used, _promised_to_jobs(intake)
    for promise in _promised_to_uploads(intake):
        if promise.upload_id not in besides:
            quota_used += promise.reserved if promise.owner_id == user_id else 0
            outstanding += promise.outstanding
    return Room(_free(intake, outstanding), quota_used)


def reserve_for_job(intake: Intake, job: Job, size: int) -> None:
    """Keep so many bytes free for a running job. Raises InsufficientStorage unless there are as many."""
    with intake.database.atomic():
        promised = _promised_to_jobs(intake, besides=job.id)
        promised += sum(promise.outstanding for promise in _promised_to_uploads(intake))
        available = _free(intake, promised)
        if size > available:
            raise InsufficientStorage(available)
        jobs.reserve(intake.database, job, size)


def is_disk_full(intake: Intake) -> bool:
    """Whether there is no room for anything, be it small."""
    return space.free_bytes(intake.config.data, intake.config.min_free_bytes) < LEAST_ROOM_BYTES


def _free(intake: Intake, outstanding: int) -> int:
    # asked last: what is written in between counts twice, and not never
    free = space.free_bytes(intake.config.data, intake.config.min_free_bytes)
    return max(0, free - outstanding)


class _Promise(NamedTuple):
    """What an unfinished upload will still write, and what it will be in the end, in bytes."""

    upload_id: str
    owner_id: int
    reserved: int
    outstanding: int


def _promised_to_uploads(intake: Intake) -> Iterator[_Promise]:
    moment = clock.now() - timedelta(seconds=STILL_SECONDS)
    is_still = Upload.kind.in_(RESUMABLE) & (Upload.updated_at < moment)
    query = Upload.select(Upload.id, Upload.user, Upload.kind, Upload.reserved, Upload.offset, is_still)
    found = query.where(Upload.video.is_null(), Upload.reserved > 0).tuples().execute(intake.database)
    for upload_id, owner_id, kind, reserved, offset, has_all_in_row in found:
        written = offset if has_all_in_row else intake.storage.staged_size(upload_id)
        yield _Promise(upload_id, owner_id, reserved, max(0, reserved * _copies(kind) - written))


def _promised_to_jobs(intake: Intake, besides: int = 0) -> int:
    """What jobs will still write, but for the one with this id."""
    is_promised = (Job.state == jobs.RUNNING) & (Job.reserved > 0) & (Job.id != besides)
    promises = Job.select(Job.reserved, Job.owner).where(is_promised).tuples().execute(intake.database)
    return sum(max(0, reserved - intake.storage.scratch_size(owner)) for reserved, owner in promises)


def _copies(kind: str) -> int:
    """How often the bytes are on the disk at the same time: parts are copied into the whole."""
    return 2 if kind == PARTIAL else 1
