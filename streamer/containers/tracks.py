"""The ``moov`` box of MP4 and QuickTime files, and what is alike in all tracks of it.

Sources: ISO/IEC 14496-12; QuickTime File Format Specification (2016).
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from streamer.containers import sample_entries
from streamer.containers.boxes import Box, boxes
from streamer.containers.fragments import Defaults, numbers
from streamer.containers.media import LONGEST_LABEL, MOST_TRACKS, SHORTEST, Source, printable_label
from streamer.containers.sample_entries import Entry
from streamer.errors import MediaUnreadable

LONGEST = 10 * 365 * 24 * 3600.0
"""In seconds. What claims to last longer has a broken header."""

_MOST_NOTES = 32  # boxes of user data
_MOST_EDITS = 8  # before one that is not empty

_IS_ENABLED = 1  # flag of tkhd, 8.3.2.1
_IS_SELF_CONTAINED = 1  # flag of an entry of dref, 8.7.2.1

# What hdlr boxes say if the author gave the track no name.
_NO_NAME = re.compile(r"handler|core media|apple|gpac|iso media|mainconcept|^video$|^sound$", re.IGNORECASE)

_LANGUAGE_TAG = re.compile(rb"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_FIRST_PACKED = 0x400  # three letters; what is less is a number of the Macintosh
# ISO 639-2 by these numbers, three letters each (QuickTime File Format, "Language Code Values")
_MACINTOSH = (
    "engfradeuitanldswespadanpornorhebjpnarafinellislmltturhrvzhourdhinthakorlitpolhunestlavsmefaofas"
    "ruszhonldglesqironcesslkslvyidsrpmkdbulukrbeluzbkazazeazehyekatronkirtgktukmonmonpuskurkassndbod"
    "nepsanmarbenasmgujpanorimalkantamtelsinmyakhmlaovieindtglmsamsaamhtirormsomswakinrunnyamlgepo"
)
_FORCED_ROLE = b"urn:mpeg:dash:role:2011\0forced"  # ISO/IEC 23009-1, 5.8.5.5: forced-subtitle


class Matrix(NamedTuple):
    """The part of a transformation matrix that turns and scales: 16.16 numbers (8.2.2.1, 8.3.2.1)."""

    a: int
    b: int
    c: int
    d: int


class Edits(NamedTuple):
    """What an edit list comes to if, as usual, it delays the media and cuts them."""

    delay: float = 0.0
    """For how many seconds there is nothing at first."""

    skip: int = 0
    """How much of the media is passed over then, in the track's timescale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A track, and its boxes as far as all kinds of tracks have them."""

    number: int
    identifier: int
    handler: bytes
    is_enabled: bool
    is_forced: bool
    is_external: bool
    """Whether samples may be in another file."""

    matrix: Matrix
    width: int
    """To be displayed at, before the matrix; like ``height`` a 16.16 number."""

    height: int
    timescale: int
    """Of ``media_duration``, and of all times in the tables and in fragments: ticks per second."""

    media_duration: int
    """0 is not told. Like ``samples`` without what is in fragments."""

    samples: int
    edits: Edits
    shown_seconds: float
    """How long it is shown, by its header; 0 is not told."""

    language: str | None
    label: str | None
    chapters: Sequence[int]
    """The tracks that hold the names and the pictures of its chapters."""

    entry: Entry
    tables: dict[bytes, Box]
    """The boxes in ``stbl``."""

    def seconds(self, ticks: int) -> float:
        """From the track's timescale; 0 for what is impossible."""
        return seconds(ticks, self.timescale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What the ``moov`` box says."""

    source: Source
    is_faststart: bool
    duration: float
    """In seconds; 0 is not told."""

    matrix: Matrix
    tracks: tuple[Track, ...]
    defaults: dict[int, Defaults] | None
    """Of the samples in fragments, by track; None if there are no fragments."""

    end: int
    """The position where the ``moov`` box ends."""

    fragments_start: int
    """The position behind which there may be fragments."""


def read_film(source: Source) -> Film:
    """Find the ``moov`` box and read it. Raises MediaUnreadable if it is not there, not whole, or void."""
    moov, is_faststart = _find_moov(source)
    parts = moov.parts()
    if b"mvhd" not in parts:
        raise MediaUnreadable("a moov box without its header")
    header = parts[b"mvhd"].full()
    at, width = (16, 8) if header.version else (8, 4)
    timescale, duration = header.number(at), _known(header.number(at + 4, width), width)
    defaults = None
    if b"mvex" in parts:
        defaults, whole_duration = _extends(parts[b"mvex"])
        duration = max(duration, whole_duration)
    return Film(
        source=source,
        is_faststart=is_faststart,
        duration=seconds(duration, timescale),
        matrix=_matrix(header.body, 44 if header.version else 32),
        tracks=tuple(_tracks(moov, timescale)),
        defaults=defaults,
        end=moov.end,
        fragments_start=moov.end if is_faststart else 0,
    )


def rotation(film: Matrix, track: Matrix) -> int:
    """How far to turn the picture clockwise, by both matrices, to the next quarter; 0 if they are void."""
    across = track.a * film.a + track.b * film.c, track.a * film.b + track.b * film.d
    down = track.c * film.a + track.d * film.c, track.c * film.b + track.d * film.d
    scale_x, scale_y = math.hypot(across[0], down[0]), math.hypot(across[1], down[1])
    if not scale_x or not scale_y:
        return 0
    turn = math.degrees(math.atan2(across[1] / scale_y, across[0] / scale_x))
    return round(turn / 90) * 90 % 360


def seconds(ticks: int, timescale: int) -> float:
    """0 where there is no timescale, or no film lasts as short or as long."""
    found = ticks / timescale if timescale else 0.0
    return found if SHORTEST <= found < LONGEST else 0.0


def _find_moov(source: Source) -> tuple[Box, bool]:
    """The ``moov`` box, and whether it stands before all media data."""
    is_faststart = True
    for box in boxes(source, 0, source.size):
        if box.kind == b"moov":
            if not box.is_whole:
                raise MediaUnreadable("the file ends within its moov box")
            return box, is_faststart
        if box.kind in (b"mdat", b"moof"):
            is_faststart = False
    raise MediaUnreadable("the file has no moov box")


def _extends(mvex: Box) -> tuple[dict[int, Defaults], int]:
    """Defaults by track (``trex``), and the duration with all fragments (``mehd``), 0 if it is not told."""
    defaults, duration = {}, 0
    for child in islice(mvex.children(), MOST_TRACKS):
        if child.kind == b"trex":
            trex = child.full()
            defaults[trex.number(0)] = Defaults(trex.number(8), trex.number(16))
        elif child.kind == b"mehd":
            mehd = child.full()
            width = 8 if mehd.version else 4
            duration = _known(mehd.number(0, width), width)
    return defaults, duration


def _tracks(moov: Box, timescale: int) -> Iterator[Track]:
    traks = (child for child in moov.children() if child.kind == b"trak")
    for number, trak in enumerate(islice(traks, MOST_TRACKS)):
        if track := _read_track(number, trak, timescale):
            yield track


def _read_track(number: int, trak: Box, film_timescale: int) -> Track | None:
    """None if boxes are missing that every track has."""
    parts = trak.parts()
    media = parts[b"mdia"].parts() if b"mdia" in parts else {}
    information = media[b"minf"].parts() if b"minf" in media else {}
    tkhd, mdhd, hdlr, stbl = (
        parts.get(b"tkhd"),
        media.get(b"mdhd"),
        media.get(b"hdlr"),
        information.get(b"stbl"),
    )
    if tkhd is None or mdhd is None or hdlr is None or stbl is None:
        return None
    header, media_header = tkhd.full(), mdhd.full()
    at, media_at, width = 48 if header.version else 36, *((16, 8) if media_header.version else (8, 4))
    handler, tables = hdlr.content(24 + 4 * LONGEST_LABEL), stbl.parts()
    entry = sample_entries.read_entry(tables[b"stsd"], handler[8:12]) if b"stsd" in tables else None
    if entry is None:
        return None
    edits = _edits(parts, film_timescale)
    duration = _known(header.number(24, 8), 8) if header.version else _known(header.number(16), 4)
    shown = seconds(duration, film_timescale) - edits.delay
    notes = list(islice(parts[b"udta"].children(), _MOST_NOTES)) if b"udta" in parts else []
    return Track(
        number=number,
        identifier=header.number(16 if header.version else 8),
        handler=handler[8:12],
        is_enabled=bool(header.flags & _IS_ENABLED),
        is_forced=_is_forced(notes),
        is_external=_is_external(information),
        matrix=_matrix(header.body, at),
        width=header.number(at + 36),
        height=header.number(at + 40),
        timescale=media_header.number(media_at),
        media_duration=_known(media_header.number(media_at + 4, width), width),
        samples=_sample_count(tables),
        edits=edits,
        shown_seconds=shown if shown >= SHORTEST else 0.0,
        language=_language(media, media_header.number(media_at + 4 + width, 2)),
        label=_label(notes, handler[24:]),
        chapters=_chapters(parts),
        entry=entry,
        tables=tables,
    )


def _known(duration: int, width: int) -> int:
    """All ones stand for a duration that nobody knows (8.2.2.3, 8.3.2.3); like 0."""
    return 0 if duration == (1 << 8 * width) - 1 else duration


def _matrix(body: bytes, at: int) -> Matrix:
    a, b, _, c, d = (int.from_bytes(body[start : start + 4], signed=True) for start in range(at, at + 20, 4))
    return Matrix(a, b, c, d)


def _sample_count(tables: dict[bytes, Box]) -> int:
    """The only thing of interest in ``stsz``, or in ``stz2``, which is laid out alike that far (8.7.3)."""
    sizes = tables.get(b"stsz") or tables.get(b"stz2")
    return int.from_bytes(sizes.content(4, skip=8)) if sizes else 0


def _edits(parts: dict[bytes, Box], timescale: int) -> Edits:
    """How the edit list of a track begins (8.6.6). Edits of media time -1 are empty."""
    elst = parts[b"edts"].parts().get(b"elst") if b"edts" in parts else None
    if elst is None:
        return Edits()
    table = elst.full()
    width = 8 if table.version else 4
    delay = 0
    for at in range(4, 4 + min(table.number(0), _MOST_EDITS) * (2 * width + 4), 2 * width + 4):
        length, begin = table.number(at, width), table.number(at + width, width)
        if not begin >> 8 * width - 1:
            return Edits(seconds(delay, timescale), begin)
        delay += length
    return Edits(seconds(delay, timescale))


def _language(media: dict[bytes, Box], packed: int) -> str | None:
    """As ``elng`` says it in BCP 47, or ``mdhd`` in ISO 639-2, packed, or by a number of the Macintosh."""
    if b"elng" in media:
        tag = media[b"elng"].content(40)[4:].partition(b"\0")[0]
        if _LANGUAGE_TAG.fullmatch(tag):
            return None if tag == b"und" else tag.decode("ascii")
    if packed < _FIRST_PACKED:
        return _MACINTOSH[3 * packed : 3 * packed + 3] or None
    letters = bytes(0x60 + (packed >> shift & 0x1F) for shift in (10, 5, 0))
    return letters.decode() if letters.isalpha() and letters != b"und" else None


def _label(notes: Sequence[Box], handler_name: bytes) -> str | None:
    """What the author calls the track: in its user data, or in its handler unless a program names itself."""
    for note in notes:
        if note.kind == b"name" and (label := _text(note.content(4 * LONGEST_LABEL))):
            return label
    if handler_name[:1] == bytes([len(handler_name[1:]) & 0xFF]):  # QuickTime tells the length first
        handler_name = handler_name[1:]
    label = _text(handler_name.partition(b"\0")[0])
    return None if label is None or _NO_NAME.search(label) else label


def _text(data: bytes) -> str | None:
    return printable_label(data.decode("utf-8", "ignore"))


def _is_forced(notes: Sequence[Box]) -> bool:
    """Whether the role of the track is that of forced subtitles (``kind``, 8.10.4)."""
    return any(note.kind == b"kind" and note.content(64).startswith(_FORCED_ROLE, 4) for note in notes)


def _chapters(parts: dict[bytes, Box]) -> Sequence[int]:
    """The tracks for chapters that this one refers to (QuickTime File Format, "Chapter Lists")."""
    chapters = parts[b"tref"].parts().get(b"chap") if b"tref" in parts else None
    return numbers(chapters.content(4 * MOST_TRACKS)) if chapters else ()


def _is_external(information: dict[bytes, Box]) -> bool:
    """Whether an entry of ``dref`` leads out of the file (8.7.2)."""
    dref = information[b"dinf"].parts().get(b"dref") if b"dinf" in information else None
    entries = islice(dref.children(skip=8), MOST_TRACKS) if dref else ()
    return any(not entry.content(4)[3:] or not entry.content(4)[3] & _IS_SELF_CONTAINED for entry in entries)
