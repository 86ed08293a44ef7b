"""Objects as files below the data folder; nothing else builds a path.

An upload grows in ``incoming/`` and is renamed into ``videos/`` when it is
complete and on the disk. The process that writes a file holds a lock on it
until its row is committed, and the kernel drops the lock of a dead process: a
file that is not locked and has no row was left behind by a crash.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from streamer.errors import InsufficientStorage
from streamer.protocol.ranges import ByteRange
from streamer.storage import locks
from streamer.storage.slices import FileSlice, SegmentedBody

VIDEOS = "videos"
INCOMING = "incoming"


class StagedFile:
    """A file that grows in ``incoming/``: write, seal, publish, keep. Not kept, it goes with the context."""

    def __init__(self, storage: "LocalStorage") -> None:
        self.size = 0
        self._kept = False
        self._storage = storage
        self._digest = hashlib.sha256()
        self._create()

    def _create(self) -> None:
        name = secrets.token_hex(16)
        self.file_path = f"{VIDEOS}/{name}"
        self._path = self._storage.path(f"{INCOMING}/{name}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._path, flags, self._storage.file_mode)
        if not locks.try_lock(self._descriptor) or not os.fstat(self._descriptor).st_nlink:
            # a process that starts just now took it for abandoned, before it was locked
            self._close()
            self._create()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises InsufficientStorage when the disk is full."""
        rest = memoryview(data)
        with _told_when_full():
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._digest.update(data)
        self.size += len(data)

    def seal(self) -> None:
        """Bring all bytes to the disk. Raises InsufficientStorage when it is full."""
        with _told_when_full():
            os.fsync(self._descriptor)

    def publish(self) -> None:
        """Give the sealed file its final name, durably; it stays locked until the context ends."""
        if not locks.AVAILABLE:
            self._close()  # such systems do not rename an open file
        final = self._storage.path(self.file_path)
        with _told_when_full():
            os.rename(self._path, final)
            self._path = final
            _sync(final.parent)

    def keep(self) -> None:
        """The published file belongs to a row now."""
        self._kept = True

    def discard(self) -> None:
        """Remove the file, wherever it is."""
        if not locks.AVAILABLE:
            self._close()  # such systems do not remove an open file
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
            self.discard()
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o700) -> None:
    """Make a folder, with those above it, and bring their entries to the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    if os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalStorage:
    """The ``videos/`` and ``incoming/`` folders of a data folder.

    With ``group_reads``, a server in front that runs as another user of our
    group can read the objects that are made from now on.
    """

    def __init__(self, root: Path, *, group_reads: bool = False) -> None:
        self._root = root
        self._root_text = str(root)  # joining text takes less than making a Path, for every answer
        self.file_mode = 0o640 if group_reads else 0o600
        make_folder(root / VIDEOS, 0o750 if group_reads else 0o700)
        make_folder(root / INCOMING)
        _sync(root)

    def path(self, file_path: str) -> Path:
        """Where an object is. Only names that this package has made are ever passed in."""
        return self._root / file_path

    def stage(self) -> StagedFile:
        """Begin a new object."""
        return StagedFile(self)

    def open(self, file_path: str, first: int, length: int, on_close: Callable[[int], None]) -> FileSlice:
        """A part of an object, from position ``first`` on, ``length`` bytes."""
        return FileSlice(f"{self._root_text}/{file_path}", first, length, on_close)

    def open_segments(
        self, file_path: str, segments: Sequence[bytes | ByteRange], on_close: Callable[[int], None]
    ) -> SegmentedBody:
        """Bytes and ranges of an object, one after the other."""
        parts = [part if isinstance(part, bytes) else (part.first, part.length) for part in segments]
        return SegmentedBody(self.path(file_path), parts, on_close)

    def delete(self, file_path: str) -> None:
        """Remove an object if it is there; whoever has it open reads on."""
        self.path(file_path).unlink(missing_ok=True)

    @contextmanager
    def claim(self, file_path: str) -> Iterator[bool]:
        """Lock a file, or the lack of one. False when a live process writes or publishes it."""
        try:
            descriptor = os.open(self.path(file_path), os.O_RDWR)
        except FileNotFoundError:
            yield True
            return
        try:
            yield locks.try_lock(descriptor)
        finally:
            os.close(descriptor)

    def is_staged(self, file_path: str) -> bool:
        """Tell whether an object still waits in ``incoming/`` to be published."""
        return (self._root / INCOMING / Path(file_path).name).exists()

    def incoming(self) -> list[str]:
        """The paths of all files that are growing, or were when their process died."""
        names = os.listdir(self._root / INCOMING)
        # others put things into folders too: a NAS its previews, a file manager its settings
        return [f"{INCOMING}/{name}" for name in names if re.fullmatch("[0-9a-f]{32}", name)]

    def is_writable(self) -> bool:
        """Tell whether the folders are there, can be written to, and have room."""
        folders = [self._root / folder for folder in (VIDEOS, INCOMING)]
        return (
            all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)
            and shutil.disk_usage(self._root).free > 0
        )


@contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise InsufficientStorage(available=0) from error
        raise
