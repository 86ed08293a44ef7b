"""Objects as files below the data folder; nothing else builds a path.

An upload grows in ``incoming/`` and is renamed into ``videos/`` when it is
complete and on the disk. Who writes a file holds a lock on it, and the kernel
drops the lock of a dead process: a file that is not locked waits for its next
bytes, if there is a row of its upload, or was left behind by a crash.

What is made of a video grows in a folder of its own in ``scratch/``, whose lock
tells in the same way whether somebody still works there, and is renamed into
``derived/``.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from streamer.errors import InsufficientStorage, UploadGone, UploadLocked
from streamer.protocol.ranges import ByteRange
from streamer.storage import locks
from streamer.storage.slices import FileSlice, SegmentedBody, pread

VIDEOS = "videos"
DERIVED = "derived"
INCOMING = "incoming"
SCRATCH = "scratch"
LOCK_SUFFIX = ".lock"
COPY_BYTES = 64 * 2**20  # of one call that copies inside the kernel
BLOCK_BYTES = 2**20  # of one read where there is no such call
# others put things into folders too: a NAS its previews, a file manager its settings
_OURS = re.compile("[0-9a-f]{32}")
FULL = {errno.ENOSPC, errno.EDQUOT}
"""What the system says when a disk, or the share of it that somebody may use, has no room."""


class StagedFile:
    """A file that grows, and is locked for as long as it is open: write, seal, publish, close."""

    def __init__(
        self, storage: "LocalStorage", path: Path, descriptor: int, folder: str = VIDEOS, name: str = ""
    ) -> None:
        """``folder`` and ``name`` are what it will be published as; the name is that of the path already."""
        self.name = name or path.name
        self.file_path = f"{folder}/{self.name}"
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
                if getattr(error, "errno", None) in FULL:
                    raise
                # there is no such call on this system, or not for this file system
                os.lseek(self._descriptor, self.size, os.SEEK_SET)
                _copy_by_hand(other._descriptor, self._descriptor, other.size)
        self.size += other.size

    def read_at(self, size: int, position: int) -> bytes:
        """At most ``size`` bytes from a position, as ``os.pread`` does."""
        try:
            return pread(self._descriptor, size, position)
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


class Scratch:
    """A folder for one piece of work, which is removed with all that is in it when it is closed."""

    def __init__(self, path: Path, lock: Path, descriptor: int) -> None:
        self.name = path.name
        self.path = path
        self._lock = lock
        self._descriptor = descriptor

    def close(self) -> None:
        """Remove it; again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            locks.unlock(descriptor)
            os.close(descriptor)
            self._lock.unlink(missing_ok=True)


class LocalStorage:
    """The folders of a data folder.

    With ``group_reads``, a server in front that runs as another user of our
    group can read the objects that are made from now on.
    """

    def __init__(self, root: Path, *, group_reads: bool = False) -> None:
        self._root = root
        self._root_text = str(root)  # joining text takes less than making a Path, for every answer
        self.file_mode = 0o640 if group_reads else 0o600
        for folder in (VIDEOS, DERIVED):
            make_folder(root / folder, 0o750 if group_reads else 0o700)
        for folder in (INCOMING, SCRATCH):
            make_folder(root / folder)
        _sync(root)

    def path(self, file_path: str) -> Path:
        """Where an object is. Only names that this package has made are ever passed in."""
        return self._root / file_path

    def stage(self, folder: str = VIDEOS) -> StagedFile:
        """Begin a new object of this folder."""
        return StagedFile(self, *self._create(INCOMING, ""), folder)

    def _create(self, folder: str, suffix: str) -> tuple[Path, int]:
        """A new file with a name of its own, locked and open for writing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        while True:
            path = self.path(f"{folder}/{secrets.token_hex(16)}{suffix}")
            descriptor = os.open(path, flags, self.file_mode)
            if locks.try_lock(descriptor) and os.fstat(descriptor).st_nlink:
                return path, descriptor
            # a process that starts just now took it for abandoned, before it was locked
            locks.unlock(descriptor)
            os.close(descriptor)

    def scratch(self) -> Scratch:
        """Begin a folder to work in."""
        lock, descriptor = self._create(SCRATCH, LOCK_SUFFIX)
        scratch = Scratch(lock.with_suffix(""), lock, descriptor)
        try:
            scratch.path.mkdir(mode=0o700)
        except BaseException:  # such as a full disk
            scratch.close()
            raise
        return scratch

    def adopt(self, path: Path) -> StagedFile:
        """Take a file that was made in a scratch folder, to publish it as a derived object."""
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        os.chmod(path, self.file_mode)
        locks.try_lock(descriptor)  # nobody else knows of it
        return StagedFile(self, path, descriptor, DERIVED, secrets.token_hex(16))

    def is_worked_in(self, name: str) -> bool:
        """Whether somebody still works in a scratch folder."""
        with self.claim(f"{SCRATCH}/{name}{LOCK_SUFFIX}") as claimed:
            return claimed is False

    def sweep_scratch(self) -> None:
        """Remove the scratch folders in which nobody works any more."""
        # a folder is made after its lock and removed before it
        for name in {entry.removesuffix(LOCK_SUFFIX) for entry in os.listdir(self._root / SCRATCH)}:
            if not _OURS.fullmatch(name):
                continue
            with self.claim(f"{SCRATCH}/{name}{LOCK_SUFFIX}") as claimed:
                if claimed is not False:
                    shutil.rmtree(self.path(f"{SCRATCH}/{name}"), ignore_errors=True)
                    self.delete(f"{SCRATCH}/{name}{LOCK_SUFFIX}")

    def scratch_size(self, name: str) -> int:
        """How many bytes the files of a scratch folder have."""
        size = 0
        with suppress(FileNotFoundError), os.scandir(self.path(f"{SCRATCH}/{name}")) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it went just now
                    size += entry.stat(follow_symlinks=False).st_size
        return size

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
    def claim(self, file_path: str) -> Iterator[bool | None]:
        """Lock a file. False when a live process writes or publishes it, None when it is not there (yet)."""
        try:
            descriptor = os.open(self.path(file_path), os.O_RDWR)
        except FileNotFoundError:
            yield None
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
        return [name for name in names if _OURS.fullmatch(name)]

    def is_writable(self) -> bool:
        """Tell whether the folders are there, can be written to, and have room."""
        folders = [self._root / folder for folder in (VIDEOS, DERIVED, INCOMING, SCRATCH)]
        return (
            all(os.access(folder, os.W_OK | os.X_OK) for folder in folders)
            and shutil.disk_usage(self._root).free > 0
        )


@contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InsufficientStorage(available=0) from error
        raise
