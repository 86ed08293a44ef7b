"""What a reader of containers tells about a file, and the file as it sees it.

Times are in seconds, rates in frames or bits per second. What a file does not
say is None, never a guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from streamer.errors import MediaUnreadable

MOST_BYTES = 16 * 2**20
"""How many bytes of a file one reading may ask for."""

MOST_READS = 4096
"""How often one reading may ask for bytes."""

SHORTEST = 0.001
"""In seconds: nothing that plays is shorter. What claims to be has a broken header."""

MOST_FRAMES_PER_SECOND = 10_000
"""What claims to have more has a broken header."""

MOST_TRACKS = 64
"""How many tracks are told; those behind are not."""

LONGEST_LABEL = 200
"""In characters."""
_IMPOSSIBLE_BIT_RATE = 2**53  # and more than JSON can tell to a browser

DynamicRange = Literal["sdr", "pq", "hlg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTrack:
    """Moving pictures. ``width`` and ``height`` are as displayed: in square pixels, after the rotation."""

    number: int
    """The position among all tracks of the file, from 0, as ffmpeg counts its streams."""

    name: str
    """The codec by its short name (``h264``, ``hevc``, ``av1``, ``vp9``), or the container's word for it."""

    codec: str | None
    """The codec as in RFC 6381, or None where it has no such name or the file does not tell."""

    width: int
    height: int
    rotation: int = 0
    """How far the picture has to be turned clockwise: 0, 90, 180 or 270."""

    frame_rate: float | None = None
    """The average."""

    bit_depth: int | None = None
    chroma: str | None = None
    """The subsampling of the colours: ``4:0:0``, ``4:2:0``, ``4:2:2`` or ``4:4:4``."""

    is_interlaced: bool | None = None
    dynamic_range: DynamicRange | None = None
    """``sdr`` where the file says so by its transfer characteristics."""

    duration: float | None = None
    language: str | None = None
    is_default: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """Sound."""

    number: int
    name: str
    codec: str | None
    channels: int | None = None
    sample_rate: int | None = None
    duration: float | None = None
    language: str | None = None
    is_default: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTrack:
    """Captions or subtitles. ``name`` is that of ffmpeg: ``mov_text``, ``webvtt``, ``subrip``, ``ass``."""

    number: int
    name: str
    language: str | None = None
    """As in the file: ISO 639-2 or BCP 47; None where it is not told."""

    label: str | None = None
    is_default: bool = False
    is_forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What is in a file. Pictures of covers and chapters are no tracks."""

    duration: float | None
    start: float = 0.0
    """When the first picture or sound is shown, in seconds on the timeline of the file; the duration counts
    from 0. Less than the duration, and 0 where it is not known."""

    video: tuple[VideoTrack, ...] = ()
    audio: tuple[AudioTrack, ...] = ()
    text: tuple[TextTrack, ...] = ()
    bit_rate: int | None = None
    """Of the whole file: its bits through its duration."""

    faststart: bool | None = None
    """Whether what a player needs first is first; None where the container knows no such thing."""

    is_fragmented: bool = False
    is_encrypted: bool = False
    has_external_data: bool = False
    """Whether the samples of a track are said to be in another file."""

    is_truncated: bool = False
    """Whether the file ends before what it says is in it."""


_Track = TypeVar("_Track", VideoTrack, AudioTrack)


def bit_rate(size: int, duration: float | None) -> int | None:
    """Of a file of ``size`` bytes; None where its duration is not known, or can't be right."""
    rate = round(8 * size / duration) if duration else _IMPOSSIBLE_BIT_RATE
    return rate if rate < _IMPOSSIBLE_BIT_RATE else None


def printable_label(text: str) -> str | None:
    """What can be shown of the name of a track: neither control characters nor what turns its direction."""
    return "".join(filter(str.isprintable, text)).strip()[:LONGEST_LABEL] or None


def chosen(tracks: Sequence[_Track]) -> _Track | None:
    """The track that players begin with: the first that is marked as default, else the first."""
    return next((track for track in tracks if track.is_default), tracks[0] if tracks else None)


class Source:
    """A file as the readers see it: ``size`` bytes, of which some are asked for, and not too many.

    ``read_at(size, position)`` answers like ``os.pread``.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self.size = size
        self._read_at = read_at
        self._bytes_left = MOST_BYTES
        self._reads_left = MOST_READS

    def read(self, position: int, size: int) -> bytes:
        """Exactly these bytes. Raises MediaUnreadable if they are not all there, or were too many."""
        if position < 0 or size < 0 or position + size > self.size:
            raise MediaUnreadable(f"the file ends before byte {position + size}")
        self._bytes_left -= size
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            raise MediaUnreadable("the file describes itself at too great a length")
        data = self._read_at(size, position)
        if len(data) != size:
            raise MediaUnreadable(f"the file ends before byte {position + size}")
        return data
