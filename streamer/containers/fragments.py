"""Films in fragments: what the movie fragments (``moof``) behind the ``moov`` add to it.

How many there are is not written anywhere, and a film of hours has thousands. So
the first and the last of them are read, and of those between only the headers, or
nothing where an index says where the last ones are.

Source: ISO/IEC 14496-12, 8.8 (fragments), 8.8.9 to 8.8.11 (``mfra``), 8.16.3 (``sidx``).
"""

import struct
import sys
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import NamedTuple, TypeVar

from streamer.containers.boxes import Box, FullBox, boxes
from streamer.containers.media import Source
from streamer.errors import MediaUnreadable

MOST_WALKED = 1024
"""How many fragments are walked by, header by header, if no index leads past them."""

MOST_KEYFRAMES = 4096
"""How many keyframes of a film are told."""

_MOST_READ = 16  # fragments at the start, and as many at the end
_MOST_SEARCHED = 96  # fragments that are read for keyframes
_MOST_TRACKS, _MOST_CHILDREN = 8, 16  # of a fragment, and boxes of each
_MOST_SAMPLES = 2**16  # that have properties of their own, in all fragments that are read
_MOST_TABLE = 2**20  # bytes

_NOT_SYNC = 0x10000  # sample_is_non_sync_sample, 8.8.3.1

# flags of tfhd (8.8.7.1): what stands in it, in this order
_BASE_OFFSET, _DESCRIPTION, _ALL_DURATION, _ALL_SIZE, _ALL_FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20

# flags of trun (8.8.8.1): what stands before the rows, and in each of them
_DATA_OFFSET, _FIRST_FLAGS = 0x1, 0x4
_DURATION, _SIZE, _FLAGS, _OFFSET = 0x100, 0x200, 0x400, 0x800

Item = TypeVar("Item")


class Defaults(NamedTuple):
    """What holds for samples that say nothing else: their duration, in their track's timescale, and flags."""

    duration: int = 0
    flags: int = 0


@dataclass(slots=True)
class Extent:
    """What the fragments that were read say of one track. Times are in its timescale."""

    end: int
    """When the last sample ends, on the timeline of decoding."""

    samples: int = 0
    duration: int = 0
    """Of these samples."""


class Reach(NamedTuple):
    """How far the fragments reach."""

    extents: dict[int, Extent]
    """By track."""

    position: int
    """Where in the file the last of them ends; with its media data only where an index tells that."""


class _Run(NamedTuple):
    """The samples of a track in a fragment."""

    track: int
    start: int | None
    samples: int
    duration: int
    keyframes: list[int]
    """When each is shown, from when the first sample is decoded."""


class _Index(NamedTuple):
    """Keyframes of a track, in seconds, and where the part of the film is that begins with the last one."""

    times: list[float]
    last: int
    end: int
    """Where the bytes end that are told of."""


class _Budget:
    """How many samples may still be looked at one by one, for what they say or as keyframes."""

    def __init__(self) -> None:
        self._left = _MOST_SAMPLES

    def spend(self, samples: int) -> None:
        self._left -= samples
        if self._left < 0:
            raise MediaUnreadable("the samples of the fragments are told at too great a length")


def measure(source: Source, start: int, defaults: dict[int, Defaults], ends: dict[int, int]) -> Reach:
    """How far each track reaches, by the fragments behind ``start``; ``ends`` is how far it did before them.

    Tracks go by their identifiers, times by their timescales. A track that is
    missing has no samples in the fragments that were read.

    Raises MediaUnreadable if the fragments are too many, or can't be followed.
    """
    budget = _Budget()
    found: dict[int, Extent] = {}
    moofs, position = _first_and_last(source, start)
    for moof in moofs:
        for run in _runs(moof, defaults, budget):
            extent = found.setdefault(run.track, Extent(ends.get(run.track, 0)))
            extent.end = max(extent.end, (extent.end if run.start is None else run.start) + run.duration)
            extent.samples += run.samples
            extent.duration += run.duration
    return Reach(found, position)


def keyframes(
    source: Source, start: int, defaults: dict[int, Defaults], track: int, timescale: int
) -> list[float]:
    """When keyframes of a track are shown, in seconds, by an index or by fragments all over the file.

    Raises MediaUnreadable if the fragments are too many, or can't be followed.
    """
    index = _random_access(source, timescale, track) or _segments(source, start, track)
    if index and index.times and next(_moofs(source, index.end), None) is None:
        return index.times
    budget = _Budget()
    moofs = thinned(list(_moofs(source, start)), _MOST_SEARCHED)
    times: list[float] = []
    end = 0
    for moof in moofs:
        for run in _runs(moof, defaults, budget, track, MOST_KEYFRAMES // len(moofs)):
            begin = end if run.start is None else run.start
            end = begin + run.duration
            times += [(begin + time) / timescale for time in run.keyframes]
    return list(thinned(times))


def thinned(items: Sequence[Item], most: int = MOST_KEYFRAMES) -> Sequence[Item]:
    """At most so many of them, evenly spread, the first among them."""
    return items[:: max(1, -(-len(items) // most))]


def _first_and_last(source: Source, start: int) -> tuple[list[Box], int]:
    """Fragments from where the film begins, fragments up to where it ends, and where the last one does."""
    moofs = list(islice(_moofs(source, start), _MOST_READ))
    if len(moofs) < _MOST_READ:
        return moofs, moofs[-1].end if moofs else start
    index = _random_access(source) or _segments(source, start)
    at = max(moofs[-1].end, index.last if index else 0)
    moofs += deque(_moofs(source, at), maxlen=_MOST_READ)
    return moofs, max(moofs[-1].end, index.end if index else 0)


def _moofs(source: Source, start: int) -> Iterator[Box]:
    """The fragments that are whole."""
    walked = 0
    for box in boxes(source, start, source.size):
        if box.kind == b"moof" and box.is_whole:
            walked += 1
            if walked > MOST_WALKED:
                raise MediaUnreadable("there are more fragments than can be walked by")
            yield box


def _runs(
    moof: Box,
    defaults: dict[int, Defaults],
    budget: _Budget,
    only: int | None = None,
    most_keyframes: int = 0,
) -> Iterator[_Run]:
    """Of one track, or of all; with so many keyframes of each ``trun``."""
    trafs = (child for child in moof.children() if child.kind == b"traf")
    for traf in islice(trafs, _MOST_TRACKS):
        children = list(islice(traf.children(), _MOST_CHILDREN))
        parts = {child.kind: child for child in children}
        if b"tfhd" not in parts:
            continue
        header = parts[b"tfhd"].full()
        track = header.number(0)
        if only not in (None, track):
            continue
        start = None
        if b"tfdt" in parts:
            decoded = parts[b"tfdt"].full()
            start = decoded.number(0, 8 if decoded.version else 4)
        of_all = _defaults(header, defaults.get(track, Defaults()))
        samples, duration, times = 0, 0, []
        for child in children:
            if child.kind == b"trun":
                more, longer, keys = _samples(child.full(_MOST_TABLE), of_all, budget, most_keyframes)
                times += [duration + key for key in keys]
                samples, duration = samples + more, duration + longer
        yield _Run(track, start, samples, duration, times)


def _defaults(header: FullBox, of_track: Defaults) -> Defaults:
    """What ``tfhd`` says of all samples of the fragment, or else of the track (8.8.7)."""
    at = 4 + 8 * bool(header.flags & _BASE_OFFSET) + 4 * bool(header.flags & _DESCRIPTION)
    duration, flags = of_track
    if header.flags & _ALL_DURATION:
        duration = header.number(at)
        at += 4
    at += 4 * bool(header.flags & _ALL_SIZE)
    if header.flags & _ALL_FLAGS:
        flags = header.number(at)
    return Defaults(duration, flags)


def _samples(
    trun: FullBox, defaults: Defaults, budget: _Budget, most_keyframes: int
) -> tuple[int, int, list[int]]:
    """Their number, their duration, and when so many keyframes among them are shown (8.8.8)."""
    count, at, first_flags = trun.number(0), 4, None
    at += 4 * bool(trun.flags & _DATA_OFFSET)
    if trun.flags & _FIRST_FLAGS:
        first_flags = trun.number(at)
        at += 4
    columns = [flag for flag in (_DURATION, _SIZE, _FLAGS, _OFFSET) if trun.flags & flag]
    if columns:
        budget.spend(count)
    table = numbers(trun.body[at : at + 4 * len(columns) * count])
    if len(table) < len(columns) * count:
        raise MediaUnreadable("a run of samples that ends too early")
    rows = {flag: table[place :: len(columns)] for place, flag in enumerate(columns)}
    keys: Sequence[int] = ()
    if most_keyframes:
        keys = thinned(_sync_samples(count, rows.get(_FLAGS), first_flags, defaults.flags), most_keyframes)
        budget.spend(len(keys))
    shown = _signed(rows[_OFFSET][0]) if rows.get(_OFFSET) else 0
    if durations := rows.get(_DURATION):
        starts = list(accumulate(durations, initial=0))
        return count, starts[-1], [starts[key] + shown for key in keys]
    return count, count * defaults.duration, [key * defaults.duration + shown for key in keys]


def _sync_samples(
    count: int, flags: Sequence[int] | None, first_flags: int | None, of_all: int
) -> Sequence[int]:
    """The positions of the samples that need no other one."""
    if flags:
        first = flags[0] if first_flags is None else first_flags
        return [at for at, own in enumerate([first, *flags[1:]]) if not own & _NOT_SYNC]
    if of_all & _NOT_SYNC:
        return range(min(count, first_flags is not None and not first_flags & _NOT_SYNC))
    return range(count)


def _random_access(source: Source, timescale: int = 1, track: int | None = None) -> _Index | None:
    """The index at the end of the file (``mfra``), of this track or of the first."""
    if source.size < 16:
        return None
    trailer = source.read(source.size - 16, 16)
    position = source.size - int.from_bytes(trailer[12:])
    if trailer[4:8] != b"mfro" or position < 0:
        return None
    found = next(boxes(source, position, source.size), None)
    if found is None or found.kind != b"mfra":
        return None
    for child in islice(found.children(), _MOST_CHILDREN):
        if child.kind == b"tfra":
            table = child.full(_MOST_TABLE)
            if track in (None, table.number(0)):
                return _random_access_entries(table, timescale, found.position)
    return None


def _random_access_entries(table: FullBox, timescale: int, end: int) -> _Index | None:
    """The rows of a ``tfra`` (8.8.10); only their first two fields are of use."""
    widths = table.number(4)
    rest = sum(1 + (widths >> shift & 3) for shift in (4, 2, 0))
    row = struct.Struct(f">{'QQ' if table.version else 'II'}{rest}x")
    count = min(table.number(8), (len(table.body) - 12) // row.size)
    if count <= 0:
        return None
    rows = list(row.iter_unpack(table.body[12 : 12 + count * row.size]))
    return _Index([time / timescale for time, _ in thinned(rows)], rows[-1][1], end)


def _segments(source: Source, start: int, track: int | None = None) -> _Index | None:
    """The index before the first fragment (``sidx``), if it tells of media and not of other indices."""
    for box in islice(boxes(source, start, source.size), _MOST_CHILDREN):
        if box.kind == b"moof":
            return None
        if box.kind == b"sidx" and box.is_whole:
            table = box.full(_MOST_TABLE)
            if track in (None, table.number(0)):
                return _segment_entries(table, box.end)
    return None


def _segment_entries(table: FullBox, anchor: int) -> _Index | None:
    """The references of a ``sidx`` (8.16.3), of three words: type and size, duration, and access point."""
    width = 8 if table.version else 4
    timescale, earliest, first = table.number(4), table.number(8, width), table.number(8 + width, width)
    at = 12 + 2 * width
    words = numbers(table.body[at : at + 12 * table.number(at - 2, 2)])
    words = words[: len(words) // 3 * 3]
    sizes, durations, access_points = words[0::3], words[1::3], words[2::3]
    if not sizes or not timescale or max(sizes) >> 31:
        return None
    starts = accumulate(durations, initial=earliest)
    times = [time / timescale for time, point in zip(starts, access_points, strict=False) if point >> 31]
    end = anchor + first + sum(sizes)
    return _Index(list(thinned(times)), end - sizes[-1], end)


def numbers(data: bytes) -> "array[int]":
    """Unsigned numbers of 32 bits; bytes behind the last whole one are left out."""
    found = array("I", data[: len(data) // 4 * 4])
    if sys.byteorder == "little":
        found.byteswap()
    return found


def _signed(number: int) -> int:
    return number - (number >> 31 << 32)
