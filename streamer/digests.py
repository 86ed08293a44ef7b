"""The SHA-256 of videos: carried along with their bytes where it can be, computed afterwards where not."""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from math import inf
from pathlib import Path

from streamer.database import Database
from streamer.models import Video
from streamer.storage.local import LocalStorage

logger = logging.getLogger("streamer")

MOST_CARRIED = 4096  # unfinished uploads; less than 1 KiB each
READ_BYTES = 2**20
BATCH = 100


class Carried:
    """Of the unfinished uploads of this process, as far as their bytes have come."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, tuple[int, hashlib._Hash]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, upload_id: str, size: int) -> "hashlib._Hash | None":
        """That of the first ``size`` bytes, or None where it is not known."""
        if not size:
            return hashlib.sha256()
        with self._lock:
            known, digest = self._digests.pop(upload_id, (0, None))
        return digest if known == size else None

    def put(self, upload_id: str, size: int, digest: "hashlib._Hash | None") -> None:
        """Keep that of the first ``size`` bytes for the next request."""
        if digest is None:
            return
        with self._lock:
            self._digests[upload_id] = (size, digest)
            if len(self._digests) > MOST_CARRIED:
                self._digests.popitem(last=False)


def compute_missing(database: Database, storage: LocalStorage, until: float = inf) -> None:
    """Compute the digests that could not be carried along.

    Some of them, where that takes longer than ``until`` on the monotonic clock.
    """
    last = 0
    while videos := _without_digest(database, last):
        for last, file_path in videos:
            if time.monotonic() >= until:
                return
            try:
                digest = _digest(storage.path(file_path))
            except OSError as error:
                if Video.select().where(Video.id == last).exists(database):  # it was not deleted just now
                    logger.warning("cannot compute the digest of video %s: %s", last, error)
                continue
            Video.update(sha256=digest).where(Video.id == last).execute(database)


def _without_digest(database: Database, after: int) -> list[tuple[int, str]]:
    missing = Video.select(Video.id, Video.file_path).where(Video.sha256 == "", Video.id > after)
    return list(missing.order_by(Video.id).limit(BATCH).tuples().execute(database))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
