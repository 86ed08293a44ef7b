"""EBML, the grammar of Matroska and WebM: elements in a file, and what they hold (RFC 8794).

An element is an identifier, the size of its content, and the content: a number,
a text, bytes, or again elements. A ``Document`` finds elements in a file
and reads the few whose content is wanted; a ``Master`` is such a content, taken
apart. Which identifier means what is not known here.
"""

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from streamer.containers.media import Source
from streamer.errors import MediaUnreadable

MOST_ELEMENTS = 25_000
"""How many elements one reading takes apart: what keeps it to some hundredths of a second."""

_LONGEST_IDENTIFIER = 4
_LONGEST_HEADER = 12
# by the first byte, section 4.1; the byte 0 begins none
_WIDTHS = bytes(9 - first.bit_length() for first in range(256))
# by the width in bytes, section 6.2; the last one is that of no size
_UNKNOWN = tuple((1 << 7 * width) - 1 for width in range(10))
# all bits of the value zero or all one, with their marker: no identifiers, section 5
_RESERVED = {identifier for width in range(1, 5) for identifier in (1 << 7 * width, (2 << 7 * width) - 1)}
_NOTHING = [b""]


class Element(NamedTuple):
    """An element of a file: its identifier, marker included, and where its content starts and ends."""

    identifier: int
    start: int
    end: int
    has_unknown_size: bool = False
    """Whether ``end`` is that of the parent, because the file does not tell that of the element."""


class Document:
    """A file of elements, of which at most ``MOST_ELEMENTS`` are looked at: ``elements_left`` more."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.elements_left = MOST_ELEMENTS

    def element(self, position: int, end: int) -> Element:
        """The element that begins at a position of the file, in a parent that ends at ``end``.

        Its end may be behind that of the parent, or of the file: of a file that was cut the beginning is
        still worth to be read. Raises MediaUnreadable where there is none.
        Source: RFC 8794, section 6.
        """
        self.leave(self.elements_left - 1)
        end = min(end, self.source.size)
        head = self.source.read(position, max(0, min(_LONGEST_HEADER, end - position)))
        _, width = variable_integer(head)
        size, size_width = variable_integer(head, width)
        identifier = int.from_bytes(head[:width])
        if width > _LONGEST_IDENTIFIER or size_width > 8 or identifier in _RESERVED:
            raise MediaUnreadable(f"no element begins at byte {position}")
        start = position + width + size_width
        is_unknown = size == _UNKNOWN[size_width]
        return Element(identifier, start, end if is_unknown else start + size, is_unknown)

    def elements(self, start: int, end: int) -> Iterator[Element]:
        """The elements of a part of the file, one after the other, up to one whose size is not known.

        Ends at what is no element, too, and at the end of the file.
        """
        while start < min(end, self.source.size):
            try:
                element = self.element(start, end)
            except MediaUnreadable:
                return
            yield element
            if element.has_unknown_size:
                return
            start = element.end

    def master(self, element: Element, most_bytes: int) -> "Master":
        """Read the content of a master element. Raises MediaUnreadable if it is longer, or not all there."""
        size = element.end - element.start
        if size > most_bytes:
            raise MediaUnreadable(f"an element of {size} bytes, where {most_bytes} are the most")
        return Master(self, self.source.read(element.start, size))

    def leave(self, elements: int) -> None:
        """Say how many elements may still be looked at. Raises MediaUnreadable when they were too many."""
        self.elements_left = elements
        if elements < 0:
            raise MediaUnreadable(f"the file describes itself by more than {MOST_ELEMENTS} elements")


class Master:
    """The content of a master element, in memory: its children by their identifiers.

    What is behind a child that is broken, or longer than its parent, is left out. The last child may be of
    unknown size. A value that is absent, empty or not of its type is the ``default``
    (RFC 8794, section 11.1.6.8), and so is a float that is no number.
    """

    def __init__(self, document: Document, content: bytes = b"") -> None:
        self._document = document
        self._children = _children(document, content)

    def binary(self, identifier: int) -> bytes:
        """The content of the first such child; empty where there is none."""
        return self._children.get(identifier, _NOTHING)[0]

    def unsigned(self, identifier: int, default: int = 0) -> int:
        """Source: RFC 8794, section 7.2."""
        content = self.binary(identifier)
        return int.from_bytes(content) if 0 < len(content) <= 8 else default

    def floating(self, identifier: int, default: float = 0.0) -> float:
        """Always finite. Source: RFC 8794, section 7.3."""
        content = self.binary(identifier)
        if len(content) not in (4, 8):
            return default
        value: float = struct.unpack(">f" if len(content) == 4 else ">d", content)[0]
        return value if math.isfinite(value) else default

    def text(self, identifier: int, default: str = "") -> str:
        """The first kilobyte, up to a NUL; what is not UTF-8 is replaced.

        Source: RFC 8794, sections 7.4, 7.5 and 13.
        """
        content = self.binary(identifier)[:1024].partition(b"\0")[0]
        return content.decode(errors="replace") if content else default

    def has(self, identifier: int) -> bool:
        """Whether there is such a child."""
        return identifier in self._children

    def master(self, identifier: int) -> "Master":
        """The first such child, taken apart; an empty one where there is none."""
        return Master(self._document, self.binary(identifier))

    def masters(self, identifier: int) -> Iterator["Master"]:
        """Each such child, taken apart when it is asked for."""
        return (Master(self._document, content) for content in self.contents(identifier))

    def contents(self, identifier: int) -> list[bytes]:
        """The contents of all such children."""
        return self._children.get(identifier, [])


def variable_integer(data: bytes, at: int = 0) -> tuple[int, int]:
    """Value, without the marker, and width in bytes of a VINT; width 9 where there is none.

    Source: RFC 8794, section 4.
    """
    width = _WIDTHS[data[at]] if at < len(data) else 9
    if at + width > len(data):
        return 0, 9
    return int.from_bytes(data[at : at + width]) & _UNKNOWN[width], width


def _children(document: Document, content: bytes) -> dict[int, list[bytes]]:
    """Take apart the content of a master element; all in one loop, which is run for each element."""
    children: dict[int, list[bytes]] = {}
    at, end, left = 0, len(content), document.elements_left
    padded = content + bytes(_LONGEST_HEADER)  # so that a head that is cut has a size that is none
    while at < end and left >= 0:
        left -= 1
        start = at + _WIDTHS[padded[at]]
        identifier = int.from_bytes(padded[at:start])
        width = _WIDTHS[padded[start]]
        if start - at > _LONGEST_IDENTIFIER or width > 8 or identifier in _RESERVED:
            break
        at, start = start, start + width
        size = int.from_bytes(padded[at:start]) & _UNKNOWN[width]
        at = end if size == _UNKNOWN[width] else start + size
        if at > end:
            break
        if identifier in children:
            children[identifier].append(content[start:at])
        else:
            children[identifier] = [content[start:at]]
    document.leave(left)
    return children
