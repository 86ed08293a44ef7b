"""Boxes, of which MP4 and QuickTime files are made (ISO/IEC 14496-12, 4.2; in QuickTime they are atoms).

Every header costs one read of the ``Source``, which bounds their number; depth is
bounded by what the readers ask for: nothing here descends by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from streamer.containers.media import Source
from streamer.errors import MediaUnreadable

MOST_CONTENT = 2**16
"""How many bytes of a box are read at once, if not told otherwise."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its type, and from where to where in the file it and its content are."""

    source: Source
    kind: bytes
    position: int
    start: int
    end: int
    is_whole: bool
    """Whether it ends before what it is in does; if not, ``end`` is where that ends."""

    def content(self, size: int = MOST_CONTENT, skip: int = 0) -> bytes:
        """At most ``size`` bytes of the content, behind ``skip`` of them; fewer where it is shorter."""
        start = min(self.start + skip, self.end)
        return self.source.read(start, min(size, self.end - start))

    def children(self, skip: int = 0) -> Iterator["Box"]:
        """The boxes in it, behind ``skip`` bytes of its own."""
        return boxes(self.source, self.start + skip, self.end)

    def parts(self, skip: int = 0) -> dict[bytes, "Box"]:
        """The first box of each type in it, behind ``skip`` bytes of its own."""
        found: dict[bytes, Box] = {}
        for child in self.children(skip):
            found.setdefault(child.kind, child)
        return found

    def full(self, size: int = MOST_CONTENT) -> "FullBox":
        """Read it as a box with version and flags. Raises MediaUnreadable if they are not there."""
        content = self.content(size)
        if len(content) < 4:
            raise MediaUnreadable(f"a box {self.kind!r} of {len(content)} bytes")
        return FullBox(content[0], int.from_bytes(content[1:4]), content[4:])


@dataclass(frozen=True, slots=True)
class FullBox:
    """The content of a box that has a version and flags (4.2.2)."""

    version: int
    flags: int
    body: bytes

    def number(self, at: int, size: int = 4) -> int:
        """An unsigned number in the body; 0 behind its end."""
        return int.from_bytes(self.body[at : at + size])


def boxes(source: Source, start: int, end: int) -> Iterator[Box]:
    """The boxes between two positions, in their order, up to one that can't be followed."""
    at = start
    while at + 8 <= end:
        head = source.read(at, min(16, end - at))
        size, kind, content = int.from_bytes(head[:4]), head[4:8], at + 8
        if size == 1:  # it is behind the type, in 64 bits
            size, content = int.from_bytes(head[8:]), at + 16
        elif size == 0:  # all that is left
            size = end - at
        if size < content - at or content > end:
            return
        yield Box(source, kind, at, content, min(at + size, end), at + size <= end)
        at += size
