"""Removes stored objects that have no video: after a deletion, and at start what a crash left."""

import logging
from collections.abc import Callable, Iterable, Sequence

from peewee import OperationalError, chunked

from streamer.database import Database
from streamer.models import Orphan, Video
from streamer.storage.local import LocalStorage

logger = logging.getLogger("streamer")

BATCH = 200  # notes removed in one transaction: each commit waits for the disk


def sweep(database: Database, storage: LocalStorage) -> None:
    """Remove what processes that died have left behind; what live ones work on stays."""
    for file_path in storage.incoming():
        _try_to_remove(storage, file_path, is_needed=lambda: False)
    remove_orphans(database, storage, [row.file_path for row in Orphan.select().execute(database)])


def remove_orphans(database: Database, storage: LocalStorage, file_paths: Iterable[str]) -> None:
    """Remove objects without a video, and the notes of them; what cannot go now goes at the next start."""
    try:
        for batch in chunked(file_paths, BATCH):
            _remove_batch(database, storage, batch)
    except OperationalError as error:  # locked or full; the notes stay
        logger.warning("cannot remove objects yet: %s", error)


def _remove_batch(database: Database, storage: LocalStorage, file_paths: Sequence[str]) -> None:
    # removed before the transaction: a slow disk must not keep others from writing
    gone = [file_path for file_path in file_paths if _is_gone(database, storage, file_path)]
    of_videos = Video.select(Video.file_path).where(Video.file_path.in_(file_paths))
    with database.atomic():
        Orphan.delete().where(Orphan.file_path.in_(gone) | Orphan.file_path.in_(of_videos)).execute(database)


def _is_gone(database: Database, storage: LocalStorage, file_path: str) -> bool:
    """Remove an object, unless it has a video or a live process is about to give it one."""
    # asked before all else: an object that has left incoming/ never goes back
    if storage.is_staged(file_path):
        return False
    belongs = Video.select().where(Video.file_path == file_path)
    return _try_to_remove(storage, file_path, is_needed=lambda: belongs.exists(database))


def _try_to_remove(storage: LocalStorage, file_path: str, is_needed: Callable[[], bool]) -> bool:
    try:
        with storage.claim(file_path) as claimed:
            # asked under the lock: whoever published it has committed, or died, before it was free
            if not claimed or is_needed():
                return False
            storage.delete(file_path)
            return True
    except OSError as error:  # such as Windows, while somebody watches it
        logger.warning("cannot remove %s: %s", file_path, error)
        return False
