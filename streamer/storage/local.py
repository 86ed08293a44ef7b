"""Objects as files below the data folder; nothing else builds a path.

An upload grows in ``incoming/`` and is renamed into ``videos/`` when it is
complete and on the disk. Who writes a file holds a lock on it, and the kernel
drops the lock of a dead process: a file that is not locked waits for its next
bytes, if there is a row of its upload, or was left behind by a crash.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from streamer.errors import InsufficientStorage, UploadGone, UploadLocked
from streamer.protocol.ranges import ByteRange
from streamer.storage import locks
from streamer.storage.slices import FileSlice, SegmentedBody, pread

VIDEOS = "videos"
INCOMING = "incoming"
COPY_BYTES = 64 * 2**20  # of one call that copies inside the kernel
BLOCK_BYTES = 2**20  # of one read where there is no such call
_FULL = {errno.ENOSPC, errno.EDQUOT}


class StagedFile:
    """A file that grows, and is locked for as long as it is open: write, seal, publish, close."""

    def __init__(self, storage: "LocalStorage", path: Path, descriptor: int) -> None:
        self.name = path.name
        self.file_path = f"{VIDEOS}/{path.name}"
        self.size = os.fstat(descriptor).st_size
        self._storage = storage
        self._path = path
        self._descriptor = descriptor

    def cut(self, size: int) -> None:
        """Go on from so many bytes, and drop the rest. Raises UploadGone if there are fewer."""
        if self.size < size:
            raise UploadGone("bytes of this upload have been lost: begin it anew")
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)
        self.size = size

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises InsufficientStorage when the disk is full; ``size`` tells how many it took."""
        rest = memoryview(data)
        with _told_when_full():
            while rest:
                written = os.write(self._descriptor, rest)
                self.size += written
                rest = rest[written:]

    def copy(self, other: "StagedFile") -> None:
        """Append all bytes of another file. Raises InsufficientStorage."""
        with _told_when_full():
            try:
                _copy_in_kernel(other._descriptor, self._descriptor, other.size)
            except (AttributeError, OSError) as error:
                if getattr(error, "errno", None) in _FULL:
                    raise
                # there is no such call on this system, or not for this file system
                os.lseek(self._descriptor, self.size, os.SEEK_SET)
                _copy_by_hand(other._descriptor, self._descriptor, other.size)
        self.size += other.size

    def read_head(self, size: int) -> bytes:
        """At most the first ``size`` bytes."""
        try:
            return pread(self._descriptor, size, 0)
        finally:
            os.lseek(self._descriptor, self.size, os.SEEK_SET)  # where reading has to move

    def seal(self) -> None:
        """Bring all bytes to the disk. Raises InsufficientStorage when it is full."""
        with _told_when_full():
            os.fsync(self._descriptor)

    def enter(self) -> None:
        """Bring the entry of a new file in its folder to the disk."""
        _sync(self._path.parent)

    def publish(self) -> None:
        """Give the sealed file its final name, durably; it stays locked until it is closed."""
        if not locks.AVAILABLE:
            self.close()  # such systems do not rename an open file
        final = self._storage.path(self.file_path)
        with _told_when_full():
            if self._path != final:
                os.rename(self._path, final)
                self._path = final
            _sync(final.parent)

    def discard(self) -> None:
        """Remove the file, wherever it is, and free its room at once."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
        if not locks.AVAILABLE:
            self.close()  # such systems do not remove an open file
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it; again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            locks.unlock(descriptor)
            os.close(descriptor)


def _copy_in_kernel(source: int, target: int, size: int) -> None:
    position = 0
    while position < size:
        copied = os.copy_file_range(source, target, min(size - position, COPY_BYTES), position)
        if not copied:
            raise OSError(errno.EIO, "the file has become too short")
        position += copied


def _copy_by_hand(source: int, target: int, size: int) -> None:
    position = 0
    while position < size:
        data = memoryview(pread(source, min(size - position, BLOCK_BYTES), position))
        if not data:
            raise OSError(errno.EIO, "the file has become too short")
        position += len(data)
        while data:
            data = data[os.write(target, data) :]


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
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        while True:
            path = self.path(f"{INCOMING}/{secrets.token_hex(16)}")
            descriptor = os.open(path, flags, self.file_mode)
            if locks.try_lock(descriptor) and os.fstat(descriptor).st_nlink:
                return StagedFile(self, path, descriptor)
            # a process that starts just now took it for abandoned, before it was locked
            locks.unlock(descriptor)
            os.close(descriptor)

    def resume(self, name: str) -> StagedFile:
        """Open a file that was staged before. Raises UploadGone, or UploadLocked if somebody has it."""
        for folder in (INCOMING, VIDEOS):  # a crash may have left it there, without its row
            path = self.path(f"{folder}/{name}")
            try:
                descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                continue
            if not locks.try_lock(descriptor):
                os.close(descriptor)
                raise UploadLocked("another request is adding to this upload")
            return StagedFile(self, path, descriptor)
        raise UploadGone("the bytes of this upload are gone: begin it anew")

    def staged_size(self, name: str) -> int:
        """How many bytes of a staged file have been written, on the disk or not; 0 for one that is gone."""
        for folder in (INCOMING, VIDEOS):
            try:
                return os.stat(f"{self._root_text}/{folder}/{name}").st_size
            except FileNotFoundError:
                continue
        return 0

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
        is_locked = locks.try_lock(descriptor)
        try:
            yield is_locked
        finally:
            if is_locked:
                locks.unlock(descriptor)
            os.close(descriptor)

    def incoming(self) -> list[str]:
        """The names of all files that are growing, or have not grown on."""
        names = os.listdir(self._root / INCOMING)
        # others put things into folders too: a NAS its previews, a file manager its settings
        return [name for name in names if re.fullmatch("[0-9a-f]{32}", name)]

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
        if error.errno in _FULL:
            raise InsufficientStorage(available=0) from error
        raise
