"""Byte ranges: which part of a representation to send (RFC 9110, section 14)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter

from streamer.errors import RangeNotSatisfiable

MAX_PARTS = 16  # a player asks for one or two; hundreds are an attack (RFC 9110, section 17.15)

_OWS = " \t"
_RANGE_SPEC = "(?:[0-9]+-[0-9]*|-[0-9]+)"

# The list rule for recipients, RFC 9110, section 5.6.1.2: [ element ] *( OWS "," OWS [ element ] ).
# White space is matched possessively to keep the time linear (whole groups are not: Python before
# 3.11.5 errs on those). re.ASCII keeps U+017F from passing for an "s".
_RANGES_SPECIFIER = re.compile(
    rf"bytes={_RANGE_SPEC}?(?:[ \t]*+,[ \t]*+{_RANGE_SPEC}?)*", re.ASCII | re.IGNORECASE
)
_FIRST_AND_LAST = re.compile(r"([0-9]*)-([0-9]*)")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from position ``first`` to ``last``, counted from 0, both ends included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """The number of bytes, at least 1."""
        return self.last - self.first + 1

    def content_range(self, complete_length: int) -> str:
        """Write the value of Content-Range (RFC 9110, section 14.4)."""
        return f"bytes {self.first}-{self.last}/{complete_length}"


def select_ranges(header: str, complete_length: int) -> list[ByteRange] | None:
    """Choose the byte ranges to send for a Range header field.

    Positions and lengths count bytes. Overlapping and adjacent ranges become
    one, which stands where the first of them stood in the request. None means
    the field is ignored: unknown unit, invalid syntax, an empty representation,
    or still more than MAX_PARTS ranges.

    Raises RangeNotSatisfiable if no byte of the representation matches.
    Source: RFC 9110, sections 14.1.2, 14.2 and 15.3.7.2.
    """
    specs = _parse(header)
    if not specs or complete_length == 0:
        return None
    resolved = (_resolve(first, last, complete_length) for first, last in specs)
    satisfiable = [byte_range for byte_range in resolved if byte_range]
    if not satisfiable:
        raise RangeNotSatisfiable(complete_length)
    ranges = _coalesce(satisfiable) if len(satisfiable) > 1 else satisfiable
    return ranges if len(ranges) <= MAX_PARTS else None


def multipart_segments(
    ranges: Iterable[ByteRange], complete_length: int, content_type: str, boundary: str
) -> list[bytes | ByteRange]:
    """Lay out a multipart/byteranges body: bytes to send as they are, ranges to send from the file.

    ``content_type`` is that of the whole representation. ``boundary`` is 1 to
    70 characters that need no quoting and do not occur in the ranges, so a
    random one. Lengths count bytes. A request for a single range must not be
    answered in this form (RFC 9110, section 15.3.7.2).

    Raises UnicodeEncodeError if the texts are not ASCII.
    Source: RFC 9110, section 14.6; RFC 2046, section 5.1.1.
    """
    segments: list[bytes | ByteRange] = []
    delimiter = f"--{boundary}"
    for byte_range in ranges:
        content_range = byte_range.content_range(complete_length)
        head = f"{delimiter}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range}\r\n\r\n"
        segments += [head.encode("ascii"), byte_range]
        delimiter = f"\r\n--{boundary}"
    return [*segments, f"{delimiter}--\r\n".encode("ascii")]


def segments_length(segments: Iterable[bytes | ByteRange]) -> int:
    """Count the bytes of a body made by ``multipart_segments``: its Content-Length."""
    return sum(segment.length if isinstance(segment, ByteRange) else len(segment) for segment in segments)


def _parse(header: str) -> list[tuple[str, str]]:
    """Read the digits of all first and last positions; none at all if the field is invalid.

    A suffix range has no first position, an open one has no last.
    """
    field = header.strip(_OWS)
    if not _RANGES_SPECIFIER.fullmatch(field):
        return []
    specs = _FIRST_AND_LAST.findall(field)
    return specs if all(_is_ordered(first, last) for first, last in specs) else []


def _is_ordered(first: str, last: str) -> bool:
    if not first or not last:
        return True
    width = max(len(first), len(last))
    return first.zfill(width) <= last.zfill(width)


def _resolve(first: str, last: str, complete_length: int) -> ByteRange | None:
    """Apply a range-spec to a representation; None if it is not satisfiable."""
    end = complete_length - 1
    if first:
        byte_range = ByteRange(_number(first, complete_length), _number(last, end) if last else end)
    else:
        byte_range = ByteRange(complete_length - _number(last, complete_length), end)
    return byte_range if byte_range.first <= end else None


def _number(digits: str, ceiling: int) -> int:
    """Read a number, or ``ceiling`` if that is less."""
    significant = digits.lstrip("0")
    # int() takes quadratic time, and raises ValueError beyond 4300 digits.
    if len(significant) > len(str(ceiling)):
        return ceiling
    return min(int(significant or "0"), ceiling)


def _coalesce(ranges: list[ByteRange]) -> list[ByteRange]:
    merged: list[tuple[int, ByteRange]] = []
    for place, byte_range in sorted(enumerate(ranges), key=lambda item: item[1].first):
        if merged and byte_range.first <= merged[-1][1].last + 1:
            earlier_place, earlier = merged.pop()
            place = min(place, earlier_place)
            byte_range = ByteRange(earlier.first, max(earlier.last, byte_range.last))
        merged.append((place, byte_range))
    return [byte_range for _, byte_range in sorted(merged, key=itemgetter(0))]
