"""Matroska and WebM: what is in a file, by its Info and Tracks (RFC 9559).

Of a file some kilobytes are read: the EBML header, the SeekHead and what it
points to. Where there is no SeekHead the elements of the first level are passed,
their content unread. Blocks are looked at for what nothing else tells: the
profile of VP9, the frame rate where it is variable, the end of a live recording.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from streamer.containers import matroska_codecs, video_codecs
from streamer.containers.ebml import Document, Master
from streamer.containers.matroska_segment import Id, Segment
from streamer.containers.media import (
    MOST_FRAMES_PER_SECOND,
    MOST_TRACKS,
    SHORTEST,
    AudioTrack,
    Media,
    Source,
    TextTrack,
    VideoTrack,
    bit_rate,
    printable_label,
)
from streamer.containers.video_codecs import Coding

MOST_KEYFRAMES = 2000
"""How many times of keyframes are told; of more than that some, evenly."""

_MOST_TRACKS_BYTES = 2**20
_MOST_CUES_BYTES = 2 * 2**20
_CUE_ELEMENTS = 8  # in a cue point, and some to spare
_MOST_RECORDS = 8  # of the first tracks, if they are video: to follow one is what takes the most time
_LEAST_BLOCKS = 5  # that tell a frame rate
_VP9_HEAD = 16  # bytes of a frame, which are enough
_MOST_ENCODINGS = 8  # of a track, one around the other

_LONGEST_SECONDS = 2**63 / 1e9  # which are 292 years
_MOST_SAMPLE_RATE = 2**24
_MOST_CHANNELS = 255
_MOST_BIT_DEPTH = 64
_LARGEST_SIDE = 2**16

_VIDEO, _AUDIO, _SUBTITLE, _METADATA = 1, 2, 17, 33  # TrackType
_STREAMS = (_VIDEO, _AUDIO, _SUBTITLE, _METADATA)
_UNKNOWN_UNIT = 4  # DisplayUnit
_SIDE_BY_SIDE = (1, 8, 9, 11)  # StereoMode, like the columns of both eyes by turns
_TOP_BOTTOM = (2, 3, 6, 7)  # or their rows
_INTERLACED = {1: True, 2: False}  # FlagInterlaced
_ENCRYPTION = 1  # ContentEncodingType
_HEADER_STRIPPING = 3  # ContentCompAlgo
_OF_BLOCKS, _OF_PRIVATE = 1, 2  # bits of ContentEncodingScope

_LANGUAGE = re.compile(r"[A-Za-z0-9]{2,8}(-[A-Za-z0-9]{1,8}){0,8}")
_TIME = re.compile(r"([0-9]{1,6}):([0-9]{2}):([0-9]{2}(?:\.[0-9]{1,9})?)")
_FRAMES = re.compile("[0-9]{1,12}")


def read_media(source: Source) -> Media:
    """What is in a Matroska or WebM file. Raises MediaUnreadable if it has no Tracks that can be read.

    The duration is that of Info; where it tells none, as in a live recording, the end of the last block: both
    are on the timeline of the blocks, which need not begin at 0. ``number`` of a track is its place among
    those that ffmpeg makes a stream of.

    Source: RFC 9559, section 5.1.
    """
    segment = Segment(source, (Id.INFO, Id.TRACKS))
    tracks = list(_tracks(segment, _statistics(segment)))
    start = _start(segment, tracks)
    duration = _duration(segment, tracks, start)
    return Media(
        duration=duration,
        start=start if start < (duration or _LONGEST_SECONDS) else 0.0,
        video=tuple(_video(segment, track) for track in tracks if track.kind == _VIDEO),
        audio=tuple(_audio(track) for track in tracks if track.kind == _AUDIO),
        text=tuple(_text(track) for track in tracks if track.kind == _SUBTITLE),
        bit_rate=bit_rate(source.size, duration),
        is_encrypted=any(track.is_encrypted for track in tracks),
        is_truncated=segment.is_truncated,
    )


def read_keyframes(source: Source) -> tuple[float, ...]:
    """When the keyframes of the first video track are shown, in seconds, ascending: those that Cues list.

    Empty where the file has no Cues, or no video: it does not say then where its keyframes are. Not more than
    ``MOST_KEYFRAMES``, evenly thinned. Raises MediaUnreadable if Tracks or Cues can't be read.

    Source: RFC 9559, section 5.1.5.
    """
    segment = Segment(source, (Id.INFO, Id.TRACKS, Id.CUES))
    track = next((track for track in _tracks(segment, {}) if track.kind == _VIDEO), None)
    if track is None or Id.CUES not in segment.found:
        return ()
    points = segment.master(Id.CUES, _MOST_CUES_BYTES).contents(Id.CUE_POINT)
    most = max(1, min(MOST_KEYFRAMES, segment.document.elements_left // _CUE_ELEMENTS))
    stride = -(-len(points) // most) or 1
    spans = (points[at : at + stride] for at in range(0, len(points), stride))
    ticks = (next(_cue_times(segment.document, span, track.number), None) for span in spans)
    times = {tick * segment.tick_seconds for tick in ticks if tick is not None}
    return tuple(sorted(time for time in times if time < _LONGEST_SECONDS))


class _Statistics(NamedTuple):
    """What tags tell about a track."""

    duration: float | None = None
    frames: int | None = None


class _Track:
    """A TrackEntry. ``index`` counts the tracks that ffmpeg makes a stream of.

    ``private`` is the record of the codec; empty where it is compressed, as only that of text has ever been.
    """

    def __init__(self, index: int, entry: Master, noted: dict[int, _Statistics]) -> None:
        self.index = index
        self.entry = entry
        self.kind = entry.unsigned(Id.TRACK_TYPE)
        self.statistics = noted.get(entry.unsigned(Id.TRACK_UID), _Statistics())
        self.number = entry.unsigned(Id.TRACK_NUMBER)
        self.codec_id = entry.text(Id.CODEC_ID)
        encodings = list(entry.master(Id.CONTENT_ENCODINGS).masters(Id.CONTENT_ENCODING))
        self.is_encrypted = any(each.unsigned(Id.CONTENT_ENCODING_TYPE) == _ENCRYPTION for each in encodings)
        is_plain = _stripped(encodings, _OF_PRIVATE) == b""
        self.private = entry.binary(Id.CODEC_PRIVATE) if is_plain else b""
        self.block_prefix = _stripped(encodings, _OF_BLOCKS)

    @property
    def is_default(self) -> bool:
        """Both flags are set where they are not told (RFC 9559, sections 5.1.4.1.4 and 5.1.4.1.5)."""
        return bool(self.entry.unsigned(Id.FLAG_ENABLED, 1) and self.entry.unsigned(Id.FLAG_DEFAULT, 1))

    @property
    def language(self) -> str | None:
        """BCP 47, else ISO 639-2, which is English by default (RFC 9559, 5.1.4.1.19, 5.1.4.1.20)."""
        language = self.entry.text(Id.LANGUAGE_BCP47) or self.entry.text(Id.LANGUAGE, "eng")
        return language if _LANGUAGE.fullmatch(language) and language != "und" else None

    @property
    def label(self) -> str | None:
        """The name that people gave it."""
        return printable_label(self.entry.text(Id.NAME))

    @property
    def frame_seconds(self) -> float | None:
        """How long a frame is, from DefaultDuration, in nanoseconds, or the FrameRate of old files."""
        nanoseconds = self.entry.unsigned(Id.DEFAULT_DURATION)
        rate = self.entry.master(Id.VIDEO).floating(Id.FRAME_RATE)
        seconds = nanoseconds / 1e9 or (1 / rate if rate > 0 else 0)
        return seconds if 1 / MOST_FRAMES_PER_SECOND <= seconds < _LONGEST_SECONDS else None


def _tracks(segment: Segment, noted: dict[int, _Statistics]) -> Iterator[_Track]:
    """The first tracks that are streams to ffmpeg: those of a type that it knows, which have a CodecID."""
    index = 0
    for entry in segment.master(Id.TRACKS, _MOST_TRACKS_BYTES).masters(Id.TRACK_ENTRY):
        track = _Track(index, entry, noted)
        if track.kind in _STREAMS and track.codec_id:
            yield track
            index += 1
        if index == MOST_TRACKS:
            return


def _stripped(encodings: list[Master], scope: int) -> bytes | None:
    """What was taken off the beginning of blocks or of CodecPrivate, as far as it is of use.

    None if they are changed in another way, or in too many.

    Source: RFC 9559, section 5.1.4.1.31.
    """
    prefix = b""
    if len(encodings) > _MOST_ENCODINGS:
        return None
    for encoding in encodings:
        if not encoding.unsigned(Id.CONTENT_ENCODING_SCOPE, 1) & scope:
            continue
        compression = encoding.master(Id.CONTENT_COMPRESSION)
        if compression.unsigned(Id.CONTENT_COMP_ALGO) != _HEADER_STRIPPING:
            return None
        prefix += compression.binary(Id.CONTENT_COMP_SETTINGS)[:_VP9_HEAD]
    return prefix


def _video(segment: Segment, track: _Track) -> VideoTrack:
    """A video track; what the container says of colours and fields goes before what the codec says."""
    video = track.entry.master(Id.VIDEO)
    colour = video.master(Id.COLOUR)
    frame_rate = _frame_rate(segment, track)
    record = track.private if track.index < _MOST_RECORDS else b""
    name, coding = matroska_codecs.video(track.codec_id, record)
    if name == "vp9" and coding.codec is None:
        coding = _vp9(segment, track, frame_rate) or coding
    width, height = _display_size(video)
    rotation = _rotation(video.master(Id.PROJECTION))
    transfer = video_codecs.dynamic_range(colour.unsigned(Id.TRANSFER_CHARACTERISTICS))
    return VideoTrack(
        number=track.index,
        name=name,
        codec=coding.codec,
        width=height if rotation % 180 else width,
        height=width if rotation % 180 else height,
        rotation=rotation,
        frame_rate=frame_rate,
        bit_depth=coding.bit_depth or _up_to(_MOST_BIT_DEPTH, colour.unsigned(Id.BITS_PER_CHANNEL)),
        chroma=coding.chroma or _chroma(colour),
        is_interlaced=_INTERLACED.get(video.unsigned(Id.FLAG_INTERLACED), coding.is_interlaced),
        dynamic_range=transfer or coding.dynamic_range,
        duration=track.statistics.duration,
        language=track.language,
        is_default=track.is_default,
    )


def _audio(track: _Track) -> AudioTrack:
    """An audio track; what the codec says goes before the container, but for a rate that SBR has doubled."""
    audio = track.entry.master(Id.AUDIO)
    bit_depth = _up_to(_MOST_BIT_DEPTH, audio.unsigned(Id.BIT_DEPTH)) or 0
    name, coding = matroska_codecs.audio(track.codec_id, track.private, bit_depth)
    rate = coding.sample_rate or round(audio.floating(Id.SAMPLING_FREQUENCY, 8000.0))
    output_rate = round(audio.floating(Id.OUTPUT_SAMPLING_FREQUENCY))
    return AudioTrack(
        number=track.index,
        name=name,
        codec=coding.codec,
        channels=coding.channels or _up_to(_MOST_CHANNELS, audio.unsigned(Id.CHANNELS, 1)),
        sample_rate=_up_to(_MOST_SAMPLE_RATE, max(rate, output_rate)),
        duration=track.statistics.duration,
        language=track.language,
        is_default=track.is_default,
    )


def _text(track: _Track) -> TextTrack:
    return TextTrack(
        number=track.index,
        name=matroska_codecs.text(track.codec_id),
        language=track.language,
        label=track.label,
        is_default=track.is_default,
        is_forced=bool(track.entry.unsigned(Id.FLAG_FORCED)),
    )


def _display_size(video: Master) -> tuple[int, int]:
    """Width and height in square pixels, before the rotation; the height is that of the cropped picture.

    DisplayWidth and DisplayHeight are taken for an aspect ratio, whatever they are measured in. They are
    those of one eye, where the picture holds those of both.

    Source: RFC 9559, section 5.1.4.1.28, "Cropping" and "Multi-planar and 3D Videos".
    """
    width, height = _cropped_size(video)
    if video.unsigned(Id.DISPLAY_UNIT) >= _UNKNOWN_UNIT:
        return width, height
    display_width = video.unsigned(Id.DISPLAY_WIDTH) or width
    display_height = video.unsigned(Id.DISPLAY_HEIGHT) or height
    stereo_mode = video.unsigned(Id.STEREO_MODE)
    display_width *= 2 if stereo_mode in _SIDE_BY_SIDE else 1
    display_height *= 2 if stereo_mode in _TOP_BOTTOM else 1
    displayed = round(height * display_width / display_height) if display_height else 0
    return (displayed if 0 < displayed <= _LARGEST_SIDE else width), height


def _cropped_size(video: Master) -> tuple[int, int]:
    width = _up_to(_LARGEST_SIDE, video.unsigned(Id.PIXEL_WIDTH)) or 0
    height = _up_to(_LARGEST_SIDE, video.unsigned(Id.PIXEL_HEIGHT)) or 0
    cropped_width = width - video.unsigned(Id.PIXEL_CROP_LEFT) - video.unsigned(Id.PIXEL_CROP_RIGHT)
    cropped_height = height - video.unsigned(Id.PIXEL_CROP_TOP) - video.unsigned(Id.PIXEL_CROP_BOTTOM)
    return (cropped_width, cropped_height) if cropped_width > 0 and cropped_height > 0 else (width, height)


def _up_to(most: int, number: int) -> int | None:
    """A number that is likely; None for others, and for 0."""
    return number if 0 < number <= most else None


def _rotation(projection: Master) -> int:
    """Clockwise, by the roll of a flat picture, which is counted the other way.

    Source: RFC 9559, section 5.1.4.1.28 and "Rotation".
    """
    others = (projection.floating(each) for each in (Id.PROJECTION_POSE_YAW, Id.PROJECTION_POSE_PITCH))
    if projection.unsigned(Id.PROJECTION_TYPE) or any(others):
        return 0
    return round(-projection.floating(Id.PROJECTION_POSE_ROLL) / 90) % 4 * 90


def _chroma(colour: Master) -> str | None:
    if not colour.has(Id.CHROMA_SUBSAMPLING_HORZ) or not colour.has(Id.CHROMA_SUBSAMPLING_VERT):
        return None
    subsampling = colour.unsigned(Id.CHROMA_SUBSAMPLING_HORZ), colour.unsigned(Id.CHROMA_SUBSAMPLING_VERT)
    return {(0, 0): "4:4:4", (1, 0): "4:2:2", (1, 1): "4:2:0"}.get(subsampling)


def _frame_rate(segment: Segment, track: _Track) -> float | None:
    """The rate that is told; else that of the whole by its statistics; else that of the first Cluster."""
    if track.frame_seconds:
        return 1 / track.frame_seconds
    if track.statistics.frames and track.statistics.duration:
        rate = track.statistics.frames / track.statistics.duration
    else:
        times = [block.timestamp for block in segment.first_blocks if block.track == track.number]
        span = (max(times) - min(times)) * segment.tick_seconds if len(times) >= _LEAST_BLOCKS else 0
        rate = (len(times) - 1) / span if span > 0 else 0
    return rate if 0 < rate <= MOST_FRAMES_PER_SECOND else None


def _vp9(segment: Segment, track: _Track, frame_rate: float | None) -> Coding | None:
    """The coding of a VP9 track whose CodecPrivate does not tell it, like most, by its first frame."""
    block = next((block for block in segment.first_blocks if block.track == track.number), None)
    if block is None or block.has_lacing or track.block_prefix is None or track.is_encrypted:
        return None
    frame = matroska_codecs.vp9_frame(track.block_prefix + segment.head_of(block, _VP9_HEAD))
    video = track.entry.master(Id.VIDEO)
    picture_size = video.unsigned(Id.PIXEL_WIDTH) * video.unsigned(Id.PIXEL_HEIGHT)
    return matroska_codecs.vp9(frame, picture_size, frame_rate) if frame else None


def _duration(segment: Segment, tracks: list[_Track], start: float) -> float | None:
    """In seconds."""
    duration = segment.info.floating(Id.DURATION) * segment.tick_seconds
    if duration < SHORTEST:
        end = _live_end(segment, tracks)
        duration = end if end - start >= SHORTEST else 0.0
    return duration if SHORTEST <= duration < _LONGEST_SECONDS else None


def _start(segment: Segment, tracks: list[_Track]) -> float:
    """When the first block of pictures or sound begins, in seconds; 0 where it is not found."""
    played = {track.number for track in tracks if track.kind in (_VIDEO, _AUDIO)}
    ticks = next((block.timestamp for block in segment.opening() if block.track in played), 0)
    return max(0, ticks) * segment.tick_seconds


def _live_end(segment: Segment, tracks: list[_Track]) -> float:
    """When the last block ends; 0 where it is not found."""
    lengths = {track.number: track.frame_seconds or 0.0 for track in tracks}
    ends = (
        block.timestamp * segment.tick_seconds + lengths.get(block.track, 0.0)
        for block in segment.last_blocks()
    )
    return max(ends, default=0.0)


def _cue_times(document: Document, points: list[bytes], track: int) -> Iterator[int]:
    """The times of those cue points, in ticks, that are of a track."""
    for content in points:
        point = Master(document, content)
        positions = point.masters(Id.CUE_TRACK_POSITIONS)
        if any(position.unsigned(Id.CUE_TRACK) == track for position in positions):
            yield point.unsigned(Id.CUE_TIME)


def _statistics(segment: Segment) -> dict[int, _Statistics]:
    """What muxers note about each track when they are through, by its TrackUID.

    Source: "Matroska Tagging", sections on DURATION and NUMBER_OF_FRAMES.
    """
    statistics = {}
    for tag in segment.optional(Id.TAGS).masters(Id.TAG):
        uid = tag.master(Id.TARGETS).unsigned(Id.TAG_TRACK_UID)
        notes = {each.text(Id.TAG_NAME): each.text(Id.TAG_STRING) for each in tag.masters(Id.SIMPLE_TAG)}
        if uid:
            statistics[uid] = _noted(notes)
    return statistics


def _noted(notes: dict[str, str]) -> _Statistics:
    time = _TIME.fullmatch(notes.get("DURATION", ""))
    frames = _FRAMES.fullmatch(notes.get("NUMBER_OF_FRAMES", ""))
    duration = int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3]) if time else 0.0
    return _Statistics(duration if duration >= SHORTEST else None, int(frames[0]) if frames else None)
