"""What a WSGI server reads from: windows of a stored file.

Servers differ in what they do with the body of a response. Waitress reads
ahead, seeks back and skips what the socket took; others iterate; some take
any ``fileno()`` and send the wrong part of the file. The classes here are
right under all of them: bounded by their *position* (not by a count of what
was read), without ``fileno()`` and ``__len__``, closed by whoever comes first.
"""

import errno
import logging
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Self, TypeAlias

# Waitress asks for the size of the socket's buffer (megabytes) and reads again
# all that the socket did not take: longer blocks burn the processor for nothing.
BLOCK_BYTES = 128 * 1024

Segment: TypeAlias = bytes | tuple[int, int]
"""Bytes as they are, or ``(first, length)`` of a part of the file, in bytes."""

_log = logging.getLogger(__name__)


class _Window(ABC):
    """A readable, seekable span of positions over one open file.

    ``on_close`` is called once, by the first ``close()``, with the number of
    bytes between the start and the position reached. It may run in any thread,
    also in the garbage collector: it should neither wait nor take locks.
    What it raises is logged, because the server that closes cannot mend it.

    Raises OSError if the file cannot be opened or has fewer than ``least_size`` bytes;
    ``on_close`` is then not called.
    """

    # On the class, so that __del__ finds it also when the file did not open.
    _descriptor = -1

    def __init__(
        self, path: str | Path, first: int, stop: int, least_size: int, on_close: Callable[[int], None] | None
    ) -> None:
        self._first = self._position = first
        self._stop = stop
        self._on_close = on_close
        self._descriptor = _open(path, least_size)

    @abstractmethod
    def _read_at(self, position: int, n: int) -> bytes:
        """At least one and at most ``n`` bytes from ``position``; none if the file became shorter."""

    def read(self, n: int | None = -1) -> bytes:
        """The next ``n`` bytes, at most ``BLOCK_BYTES``; if ``n`` is negative or None, all that are left.

        Shorter only at the end, which is where the file ends if it has become
        shorter than the window; ``b""`` once closed.
        """
        if self._descriptor < 0:
            return b""
        position, stop, blocks = self._position, self._stop, []
        if n is not None and n >= 0:
            stop = min(stop, position + min(n, BLOCK_BYTES))
        while position < stop and (block := self._read_at(position, stop - position)):
            blocks.append(block)
            position += len(block)
        self._position = position
        return b"".join(blocks)

    def tell(self) -> int:
        """The position of the next byte to read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset`` bytes from 0, the position or the end; return the new position.

        Positions outside of the window become the nearest one that is inside.

        Raises ValueError if ``whence`` is none of 0, 1 and 2.
        """
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._stop}
        if whence not in origins:
            raise ValueError(f"whence is {whence}, want 0, 1 or 2")
        self._position = min(max(origins[whence] + offset, self._first), self._stop)
        return self._position

    def seekable(self) -> bool:
        """Always true: waitress keeps a worker thread for bodies that are not."""
        return True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if block := self.read(BLOCK_BYTES):
            return block
        raise StopIteration

    def close(self) -> None:
        """Release the file and report the bytes delivered; again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            os.close(descriptor)
        finally:
            self._report()

    # Falcon forgets to close the stream of a HEAD or of a late error, pyruvate every one.
    __del__ = close

    def _report(self) -> None:
        if self._on_close is None:
            return
        try:
            self._on_close(self._position - self._first)
        except Exception:  # noqa: BLE001 - it is logged, and the server that closes could not mend it
            _log.exception("on_close failed")


class FileSlice(_Window):
    """``length`` bytes of the file at ``path``, from position ``first`` on.

    Positions are those of the file: ``tell()`` is ``first`` after opening, and
    ``seek(0, 2)`` goes to ``first + length``.
    """

    def __init__(
        self, path: str | Path, first: int, length: int, on_close: Callable[[int], None] | None = None
    ) -> None:
        super().__init__(path, first, first + length, first + length, on_close)

    @property
    def descriptor(self) -> int:
        """The open file, for a server that sends from ``tell()`` on and no more than it was told.

        It is no ``fileno()``, because other servers would send from the wrong place. -1 once closed.
        """
        return self._descriptor

    def _read_at(self, position: int, n: int) -> bytes:
        return pread(self._descriptor, n, position)


class SegmentedBody(_Window):
    """Byte strings and parts of the file at ``path``, one after the other.

    The body of a multipart/byteranges answer (RFC 9110, section 14.6). Positions
    count from 0 to the sum of all lengths. The file is opened once. If it has
    become shorter than a part, the body ends there: nothing is ever moved up.
    """

    def __init__(
        self, path: str | Path, segments: Sequence[Segment], on_close: Callable[[int], None] | None = None
    ) -> None:
        self._segments = tuple(segments)
        self._starts = tuple(accumulate(map(_length, segments), initial=0))
        least_size = max((sum(part) for part in segments if not isinstance(part, bytes)), default=0)
        super().__init__(path, 0, self._starts[-1], least_size, on_close)

    def _read_at(self, position: int, n: int) -> bytes:
        index = bisect_right(self._starts, position) - 1
        segment, offset = self._segments[index], position - self._starts[index]
        if isinstance(segment, bytes):
            return segment[offset : offset + n]
        first, length = segment
        return pread(self._descriptor, min(n, length - offset), first + offset)


def _length(segment: Segment) -> int:
    return len(segment) if isinstance(segment, bytes) else segment[1]


def _open(path: str | Path, least_size: int) -> int:
    # Windows has no O_CLOEXEC, and without O_BINARY it translates line ends.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    if os.fstat(descriptor).st_size < least_size:
        os.close(descriptor)
        # better no answer than one that cannot be completed: waitress would try without end
        raise OSError(errno.EIO, "the file has become too short", str(path))
    return descriptor


def pread(descriptor: int, n: int, position: int) -> bytes:
    """At most ``n`` bytes from a position; the descriptor's own position may move."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, n, position)
    # Windows. Safe because no two windows share a descriptor.
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, n)
