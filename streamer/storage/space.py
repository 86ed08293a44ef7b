"""Disk space, promised to uploads before their bytes are taken."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import InsufficientStorage

RESERVE_FRACTION = 20  # a twentieth of the disk, that is 5 %
RESERVE_MOST = 2 * 2**30  # bytes


class Promise:
    """Space for one upload; it shrinks as the upload's bytes reach the disk."""

    def __init__(self, size: int) -> None:
        self.outstanding = size

    def keep(self, size: int) -> None:
        """So many of the promised bytes are on the disk now."""
        self.outstanding = max(0, self.outstanding - size)


class Space:
    """Knows what the disk below a folder has left, less what this process has promised to uploads."""

    def __init__(self, folder: Path, min_free_bytes: int | None) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._promises: set[Promise] = set()
        self._lock = threading.Lock()

    @contextmanager
    def promise(self, size: int) -> Iterator[Promise]:
        """Promise ``size`` bytes to an upload for as long as it runs. Raises InsufficientStorage."""
        promise = Promise(size)
        with self._lock:
            available = self._available()
            if size > available:
                raise InsufficientStorage(available)
            self._promises.add(promise)
        try:
            yield promise
        finally:
            with self._lock:
                self._promises.discard(promise)

    def _available(self) -> int:
        disk = shutil.disk_usage(self._folder)
        reserve = self._min_free_bytes
        if reserve is None:
            reserve = min(disk.total // RESERVE_FRACTION, RESERVE_MOST)
        promised = sum(promise.outstanding for promise in self._promises)
        return max(0, disk.free - promised - reserve)
