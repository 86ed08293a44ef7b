"""Removes stored objects that have no video: after a deletion, and at start what a crash left."""

import logging

from streamer.database import Database
from streamer.models import Orphan, Video
from streamer.storage.local import LocalStorage

logger = logging.getLogger("streamer")


def sweep(database: Database, storage: LocalStorage) -> None:
    """Remove what processes that died have left behind; what live ones work on stays."""
    for file_path in storage.incoming():
        with storage.claim(file_path) as claimed:
            if claimed:
                storage.delete(file_path)
    for orphan in list(Orphan.select().execute(database)):
        remove_orphan(database, storage, orphan.file_path)


def remove_orphan(database: Database, storage: LocalStorage, file_path: str) -> None:
    """Remove an object without a video, and then the note of it, or else at the next start."""
    with storage.claim(file_path) as claimed:
        if not claimed or storage.is_staged(file_path):
            return
        # looked up again, now that whoever was publishing it has either committed or died
        if not Video.select().where(Video.file_path == file_path).exists(database):
            try:
                storage.delete(file_path)
            except OSError as error:  # Windows, while somebody watches it
                logger.warning("cannot remove %s yet: %s", file_path, error)
                return
        Orphan.delete().where(Orphan.file_path == file_path).execute(database)
