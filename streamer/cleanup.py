"""Removes what nobody needs any more: expired uploads, what a crash left, objects whose video is gone."""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial

from peewee import OperationalError, chunked

from streamer import clock, jobs, uploads
from streamer.database import Database
from streamer.errors import StreamerError
from streamer.intake import DIRECT, FINAL, WHOLE, Intake
from streamer.models import Derived, Orphan, Upload, Video
from streamer.storage import locks
from streamer.storage.local import INCOMING, LocalStorage

logger = logging.getLogger("streamer")

LONGEST_PUBLISHING = timedelta(minutes=10)
"""Between the note of an object and its row."""

BATCH = 200  # notes removed in one transaction: each commit waits for the disk


def sweep(intake: Intake) -> None:
    """Remove what has expired and what processes that died have left; what live ones work on stays.

    An upload of which all bytes have come is no such thing: it becomes its video. What cannot be
    done now, because the disk is full or somebody has a file open, is done the next time.
    """
    for upload in _interrupted(intake):
        _try(partial(uploads.finish, intake, upload), f"finish upload {upload.id}")
    _try(partial(_forget_finished, intake), "forget finished uploads")
    for upload in _dead(intake):
        _try(partial(uploads.remove_dead, intake, upload), f"remove upload {upload.id}")
    for upload in _lost(intake):
        _try(partial(uploads.remove_lost, intake, upload), f"remove upload {upload.id}")
    remove_strays(intake.database, intake.storage)
    remove_orphans(intake.database, intake.storage, _orphans(intake.database))
    _try(intake.storage.sweep_scratch, "remove scratch folders")
    _try(partial(jobs.give_back_lost, intake.database, intake.storage), "give lost jobs back")


def _orphans(database: Database) -> list[str]:
    notes = Orphan.select(Orphan.file_path)
    if not locks.AVAILABLE:  # nothing else tells whether somebody is publishing it just now
        notes = notes.where(Orphan.created_at < clock.now() - LONGEST_PUBLISHING)
    return [file_path for (file_path,) in notes.tuples().execute(database)]


def _try(action: Callable[[], None], what: str) -> None:
    try:
        action()
    except (StreamerError, OSError, OperationalError) as error:
        logger.warning("cannot %s yet: %s", what, error)


def _interrupted(intake: Intake) -> list[Upload]:
    """Uploads of which all bytes have come, and then something failed."""
    complete = (Upload.kind == WHOLE) & (Upload.offset == Upload.length)
    return list(Upload.select().where(Upload.video.is_null(), complete).execute(intake.database))


def _forget_finished(intake: Intake) -> None:
    """Remove the traces of uploads that became videos long ago."""
    has_expired = (Upload.expires_at <= clock.now()) & Upload.video.is_null(False)
    Upload.delete().where(has_expired).execute(intake.database)


def _dead(intake: Intake) -> list[Upload]:
    """Uploads that nobody can go on with, unless somebody holds them just now."""
    cannot_go_on = Upload.kind.in_([DIRECT, FINAL]) | (Upload.expires_at <= clock.now())
    return list(Upload.select().where(Upload.video.is_null(), cannot_go_on).execute(intake.database))


def _lost(intake: Intake) -> list[Upload]:
    """Uploads that seem to have no file: it went, and then something failed."""
    unfinished = list(Upload.select().where(Upload.video.is_null()).execute(intake.database))
    growing = set(intake.storage.incoming())  # asked later: every upload has its file before its row
    return [upload for upload in unfinished if upload.id not in growing]


def remove_strays(database: Database, storage: LocalStorage) -> None:
    """Remove the files in ``incoming/`` that belong to no upload."""
    names = storage.incoming()
    known = {upload_id for (upload_id,) in Upload.select(Upload.id).tuples().execute(database)}
    for name in names:
        if name not in known:
            upload = Upload.select().where(Upload.id == name)
            _try_to_remove(storage, f"{INCOMING}/{name}", partial(upload.exists, database))


def remove_orphans(database: Database, storage: LocalStorage, file_paths: Iterable[str]) -> None:
    """Remove those of these objects that are noted, and the notes; what cannot go now goes with a sweep."""
    try:
        for batch in chunked(file_paths, BATCH):
            noted = Orphan.select(Orphan.file_path).where(Orphan.file_path.in_(batch))
            if paths := [path for (path,) in noted.tuples().execute(database)]:
                _remove_batch(database, storage, paths)
    except OperationalError as error:  # locked or full; the notes stay
        logger.warning("cannot remove objects yet: %s", error)


def _remove_batch(database: Database, storage: LocalStorage, file_paths: Sequence[str]) -> None:
    # removed before the transaction: a slow disk must not keep others from writing
    gone = [file_path for file_path in file_paths if _is_gone(database, storage, file_path)]
    needed = [
        table.select(table.file_path).where(table.file_path.in_(file_paths)) for table in (Video, Derived)
    ]
    with database.atomic():
        for done in (gone, *needed):  # one after the other, because each goes by the index
            Orphan.delete().where(Orphan.file_path.in_(done)).execute(database)


def _is_gone(database: Database, storage: LocalStorage, file_path: str) -> bool:
    """Remove an object, unless it is a video or made of one."""

    def is_needed() -> bool:
        return any(
            table.select().where(table.file_path == file_path).exists(database) for table in (Video, Derived)
        )

    return _try_to_remove(storage, file_path, is_needed)


def _try_to_remove(storage: LocalStorage, file_path: str, is_needed: Callable[[], bool]) -> bool:
    try:
        with storage.claim(file_path) as claimed:
            if claimed is None:
                return True  # and what comes there now is somebody's
            # asked under the lock: whoever had it has committed, or died, before it was free
            if not claimed or is_needed():
                return False
            storage.delete(file_path)
            return True
    except OSError as error:  # such as Windows, while somebody watches it
        logger.warning("cannot remove %s: %s", file_path, error)
        return False
