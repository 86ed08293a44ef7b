"""Matroska, element by element: what each says, and that no bytes can trouble the reader."""

import math
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.containers import matroska, matroska_codecs
from streamer.containers.ebml import Document, Master, variable_integer
from streamer.containers.matroska_segment import Id
from streamer.containers.media import MOST_TRACKS, Media, Source
from streamer.errors import MediaUnreadable
from tests.containers.bounds import assert_bounded
from tests.containers.ffprobe import source

UNKNOWN = b"\x01" + b"\xff" * 7
HUGE = b"\x01\xff\xff\xff\xff\xff\xff\xfe"
AVCC = bytes.fromhex("0142c00affe100156742c00ada11ec0440000003004000000c83c489a801000468ce0fc8")
VIDEO, AUDIO, SUBTITLE = 1, 2, 17


def element(identifier: int, *content: bytes, size: bytes | None = None) -> bytes:
    """An element; its size in as few bytes as it needs, or as told."""
    joined = b"".join(content)
    width = max(1, -(-(len(joined) + 2).bit_length() // 7))
    told = size or (1 << 7 * width | len(joined)).to_bytes(width)
    return identifier.to_bytes((identifier.bit_length() + 7) // 8) + told + joined


def number(identifier: int, value: int, width: int | None = None) -> bytes:
    return element(identifier, value.to_bytes(width or max(1, (value.bit_length() + 7) // 8)))


def floating(identifier: int, value: float) -> bytes:
    return element(identifier, struct.pack(">d", value))


def text(identifier: int, value: str) -> bytes:
    return element(identifier, value.encode())


def header(*more: bytes, kind: str = "matroska") -> bytes:
    return element(Id.EBML, text(Id.DOC_TYPE, kind), *more)


def info(duration: float | None = 1000.0, *more: bytes) -> bytes:
    return element(Id.INFO, b"" if duration is None else floating(Id.DURATION, duration), *more)


def entry(kind: int, codec_id: str, *more: bytes, number_: int = 1) -> bytes:
    head = number(Id.TRACK_NUMBER, number_), number(Id.TRACK_TYPE, kind), text(Id.CODEC_ID, codec_id)
    return element(Id.TRACK_ENTRY, *head, *more)


def pictures(*more: bytes, codec_id: str = "V_VP8", about: tuple[bytes, ...] = (), number_: int = 1) -> bytes:
    size = number(Id.PIXEL_WIDTH, 64), number(Id.PIXEL_HEIGHT, 48)
    return entry(VIDEO, codec_id, element(Id.VIDEO, *size, *more), *about, number_=number_)


def tracks(*entries: bytes) -> bytes:
    return element(Id.TRACKS, *entries)


def segment(*children: bytes, size: bytes | None = None) -> bytes:
    return element(Id.SEGMENT, *children, size=size)


def document(*children: bytes, size: bytes | None = None) -> bytes:
    return header() + segment(*children, size=size)


def block(track: int, timestamp: int, frame: bytes = b"frame", flags: int = 0x80) -> bytes:
    return bytes([0x80 | track]) + timestamp.to_bytes(2, signed=True) + bytes([flags]) + frame


def simple_block(*arguments: Any) -> bytes:
    return element(Id.SIMPLE_BLOCK, block(*arguments))


def cluster(timestamp: int, *blocks: bytes, size: bytes | None = None) -> bytes:
    return element(Id.CLUSTER, number(Id.TIMESTAMP, timestamp), *blocks, size=size)


def cue(timestamp: int, *of: int) -> bytes:
    positions = (
        element(Id.CUE_TRACK_POSITIONS, number(Id.CUE_TRACK, track), number(0xF1, 300)) for track in of
    )
    return element(Id.CUE_POINT, number(Id.CUE_TIME, timestamp), *positions)


def seek_head(*seeks: tuple[int, int]) -> bytes:
    return element(
        Id.SEEK_HEAD,
        *(
            element(
                Id.SEEK,
                element(Id.SEEK_ID, identifier.to_bytes(4)),
                number(Id.SEEK_POSITION, position, 8),
            )
            for identifier, position in seeks
        ),
    )


def read(*children: bytes) -> Media:
    return matroska.read_media(source(document(*children)))


def keyframes(*children: bytes) -> tuple[float, ...]:
    return matroska.read_keyframes(source(document(*children)))


# EBML


@pytest.mark.parametrize(
    ("data", "value", "width"),
    [
        ("81", 1, 1), ("4001", 1, 2), ("0100000000000001", 1, 8), ("ff", 127, 1), ("80", 0, 1),
        ("01ffffffffffffff", 2**56 - 1, 8), ("00", 0, 9), ("", 0, 9), ("40", 0, 9),
        ("0012345678901234", 0, 9),
    ],
)  # fmt: skip
def test_a_variable_integer_has_a_width_and_a_value(data: str, value: int, width: int) -> None:
    assert variable_integer(bytes.fromhex(data)) == (value, width)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("ec81aa ec81bb", [b"\xaa", b"\xbb"]),
        ("ec4001aa", [b"\xaa"]),
        ("ec0100000000000001aa", [b"\xaa"]),
        ("bf84aabbccdd ec81aa", [b"\xaa"]),  # CRC-32
        ("ec80", [b""]),
        ("ecffaabb", [b"\xaa\xbb"]),  # of unknown size
        ("ec81aa ec", [b"\xaa"]),
        ("ec81aa ec82bb", [b"\xaa"]),  # longer than its parent
        ("ec81aa ec00bb", [b"\xaa"]),
        ("ec81aa 0012 ec81bb", [b"\xaa"]),
        ("ec81aa 8081cc ec81bb", [b"\xaa"]),  # an identifier of zeros
        ("ec81aa ff81cc ec81bb", [b"\xaa"]),  # of ones
        ("ec81aa 080000000181cc ec81bb", [b"\xaa"]),  # of five bytes
        ("ec81aa 1000", [b"\xaa"]),
        ("", []),
    ],
)
def test_children_are_read_up_to_the_first_broken_one(content: str, values: list[bytes]) -> None:
    assert Master(Document(source(b"")), bytes.fromhex(content)).contents(0xEC) == values


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (struct.pack(">f", 1.5), 1.5), (struct.pack(">d", -2.5), -2.5), (b"", 7.0), (b"\0" * 3, 7.0),
        (b"\0" * 10, 7.0), (struct.pack(">d", math.nan), 7.0), (struct.pack(">d", math.inf), 7.0),
        (struct.pack(">f", -math.inf), 7.0), (bytes(4), 0.0),
    ],
)  # fmt: skip
def test_a_float_is_finite_or_the_default(content: bytes, expected: float) -> None:
    assert Master(Document(source(b"")), element(0x4489, content)).floating(0x4489, 7.0) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"\1", 1), (b"\0\0\1\0", 256), (b"\xff" * 8, 2**64 - 1), (b"", 5), (bytes(9), 5)],
)
def test_an_integer_has_up_to_eight_bytes(content: bytes, expected: int) -> None:
    assert Master(Document(source(b"")), element(0xD7, content)).unsigned(0xD7, 5) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"eng", "eng"), (b"eng\0\0x", "eng"), (b"", "default"), (b"\0eng", "default"), (b"a\xff", "a\ufffd")],
)
def test_a_text_ends_at_its_first_nul(content: bytes, expected: str) -> None:
    assert Master(Document(source(b"")), element(0x86, content)).text(0x86, "default") == expected


# Headers


@pytest.mark.parametrize("kind", ["matroska", "webm"])
def test_both_document_types_are_read(kind: str) -> None:
    data = header(kind=kind) + segment(info(), tracks(pictures()))
    assert matroska.read_media(source(data)).duration == 1.0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x1a\x45\xdf", id="the start of an identifier"),
        pytest.param(header(), id="no segment"),
        pytest.param(header(kind="other") + segment(tracks(pictures())), id="another document type"),
        pytest.param(header(number(Id.EBML_READ_VERSION, 2)) + segment(tracks()), id="another EBML"),
        pytest.param(header(number(Id.DOC_TYPE_READ_VERSION, 5)) + segment(tracks()), id="another Matroska"),
        pytest.param(header(number(Id.EBML_MAX_ID_LENGTH, 5)) + segment(tracks()), id="long identifiers"),
        pytest.param(header(number(Id.EBML_MAX_SIZE_LENGTH, 9)) + segment(tracks()), id="long sizes"),
        pytest.param(segment(tracks(pictures())), id="no header"),
        pytest.param(element(Id.EBML, text(Id.DOC_TYPE, "webm"), size=UNKNOWN), id="a header without end"),
        pytest.param(element(Id.EBML, text(Id.DOC_TYPE, "webm"), size=HUGE), id="a huge header"),
        pytest.param(document(info()), id="no tracks"),
        pytest.param(document(info(), cluster(0)), id="no tracks before a cluster"),
        pytest.param(document(element(Id.TRACKS, size=HUGE)), id="huge tracks"),
        pytest.param(document(tracks(pictures()))[:-1], id="cut tracks"),
        pytest.param(header() + b"\xec\x81\0" * 100 + segment(tracks()), id="much before the segment"),
    ],
)
def test_what_cannot_be_followed_is_refused(data: bytes) -> None:
    with pytest.raises(MediaUnreadable):
        matroska.read_media(source(data))


@pytest.mark.parametrize("size", [None, UNKNOWN, b"\xff", HUGE])
def test_a_segment_goes_to_the_end_of_the_file_where_it_does_not_tell(size: bytes | None) -> None:
    data = document(info(), tracks(pictures()), size=size)
    assert matroska.read_media(source(data)).duration == 1.0


@pytest.mark.parametrize(
    ("scale", "duration", "expected"),
    [
        (None, 1500.0, 1.5), (1_000_000, 1500.0, 1.5), (1_000, 1500.0, 0.0015), (1_000, 999.0, None),
        (None, 1.0, 0.001), (0, 1500.0, 1.5),
        (10**9, 2.0, 2.0), (None, 0.0, None), (None, -1.0, None), (None, math.nan, None),
        (None, math.inf, None), (None, 1e300, None), (None, 5e-324, None), (2**64 - 1, 1e308, None),
    ],
)  # fmt: skip
def test_the_duration_is_counted_in_ticks(scale: int | None, duration: float, expected: float | None) -> None:
    more = [] if scale is None else [number(Id.TIMESTAMP_SCALE, scale)]
    media = read(info(duration, *more), tracks(pictures()))
    assert media.duration == (None if expected is None else pytest.approx(expected))
    assert (media.bit_rate is None) == (expected is None)


# Where things are


def test_elements_behind_the_clusters_are_found_by_the_seek_head() -> None:
    behind = info(), tracks(pictures()), element(Id.CUES, cue(500, 1))
    clusters = cluster(0, simple_block(1, 0), size=UNKNOWN)
    start = len(seek_head((Id.INFO, 0), (Id.TRACKS, 0), (Id.CUES, 0))) + len(clusters)
    positions = [start, start + len(behind[0]), start + len(behind[0]) + len(behind[1])]
    seeks = seek_head(*zip((Id.INFO, Id.TRACKS, Id.CUES), positions, strict=True))
    assert read(seeks, clusters, *behind).duration == 1.0
    assert keyframes(seeks, clusters, *behind) == (0.5,)


def test_a_seek_head_may_point_to_a_second_one() -> None:
    first, clusters = seek_head((Id.SEEK_HEAD, 0)), cluster(0, simple_block(1, 0), size=UNKNOWN)
    at = len(first) + len(clusters)
    behind = info() + tracks(pictures())
    second = seek_head((Id.TRACKS, at + len(info())), (Id.INFO, at))
    assert read(seek_head((Id.SEEK_HEAD, at + len(behind))), clusters, behind, second).duration == 1.0


@pytest.mark.parametrize(
    "position",
    [0, 1, 3, 10**6, 2**64 - 1],
    ids=["itself", "inside of itself", "no element", "behind", "huge"],
)
@pytest.mark.parametrize("identifier", [Id.SEEK_HEAD, Id.TRACKS, Id.INFO, Id.CUES])
def test_a_seek_head_is_not_trusted(identifier: Id, position: int) -> None:
    children = seek_head((identifier, position)), info(), tracks(pictures()), cluster(0, simple_block(1, 0))
    assert read(*children).duration == 1.0
    assert keyframes(*children, element(Id.CUES, cue(0, 1))) == (0.0,)


def test_void_and_checksums_may_be_everywhere() -> None:
    filler = element(0xEC, bytes(300)) + element(0xBF, bytes(4))
    about = element(Id.VIDEO, filler, number(Id.PIXEL_WIDTH, 64), filler, number(Id.PIXEL_HEIGHT, 48))
    track = entry(VIDEO, "V_VP8", filler, about, filler)
    data = (
        header(filler) + filler + segment(filler, info(1000.0, filler), filler, tracks(filler, track, filler))
    )
    (video,) = matroska.read_media(source(data)).video
    assert (video.width, video.height) == (64, 48)


# Tracks


def test_tracks_are_counted_as_ffmpeg_counts_its_streams() -> None:
    media = read(
        tracks(
            entry(18, "B_VOBBTN"),  # buttons are no stream
            pictures(),
            element(Id.TRACK_ENTRY, number(Id.TRACK_TYPE, AUDIO)),  # nor is what has no codec
            entry(AUDIO, "A_UNKNOWN"),
            entry(33, "D_WEBVTT/METADATA"),  # which is for programs
            entry(SUBTITLE, "D_WEBVTT/CAPTIONS"),
        )
    )
    assert [track.number for track in media.video] == [0]
    assert [track.number for track in media.audio] == [1]
    assert [track.number for track in media.text] == [3]


def test_flags_and_languages_have_the_defaults_of_the_standard() -> None:
    media = read(tracks(pictures(), entry(AUDIO, "A_OPUS", element(Id.AUDIO)), entry(SUBTITLE, "S_TEXT/ASS")))
    video, audio, text_ = media.video[0], media.audio[0], media.text[0]
    assert (video.is_default, audio.is_default, text_.is_default, text_.is_forced) == (
        True,
        True,
        True,
        False,
    )
    assert (video.language, audio.language, text_.language, text_.label) == ("eng", "eng", "eng", None)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ([text(Id.LANGUAGE, "fre")], "fre"),
        ([text(Id.LANGUAGE, "fre"), text(Id.LANGUAGE_BCP47, "fr-CA")], "fr-CA"),
        ([text(Id.LANGUAGE, "und")], None),
        ([text(Id.LANGUAGE, "")], "eng"),
        ([text(Id.LANGUAGE, "\u202egne")], None),
        ([text(Id.LANGUAGE, "a" * 100_000)], None),
        ([text(Id.LANGUAGE, "de\0utsch")], "de"),
    ],
)
def test_a_language_is_a_tag_or_nothing(about: list[bytes], expected: str | None) -> None:
    assert read(tracks(entry(AUDIO, "A_OPUS", *about))).audio[0].language == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Director's cut", "Director's cut"), ("a\u202eb\x07c\n", "abc"), ("", None), ("\u200b", None),
     (" Zürich ", "Zürich"), ("x" * 100_000, "x" * 200)],
)  # fmt: skip
def test_a_label_is_short_and_prints(name: str, expected: str | None) -> None:
    assert read(tracks(entry(SUBTITLE, "S_TEXT/UTF8", text(Id.NAME, name)))).text[0].label == expected


def test_a_track_that_is_disabled_is_no_default() -> None:
    media = read(tracks(pictures(about=(number(Id.FLAG_ENABLED, 0), number(Id.FLAG_DEFAULT, 1)))))
    assert not media.video[0].is_default


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ([], (64, 48)),
        ([number(Id.DISPLAY_WIDTH, 128)], (128, 48)),
        ([number(Id.DISPLAY_WIDTH, 640), number(Id.DISPLAY_HEIGHT, 480)], (64, 48)),
        ([number(Id.DISPLAY_WIDTH, 16), number(Id.DISPLAY_HEIGHT, 9), number(Id.DISPLAY_UNIT, 3)], (85, 48)),
        ([number(Id.DISPLAY_WIDTH, 16), number(Id.DISPLAY_HEIGHT, 9), number(Id.DISPLAY_UNIT, 4)], (64, 48)),
        ([number(Id.PIXEL_CROP_LEFT, 8), number(Id.PIXEL_CROP_RIGHT, 8)], (48, 48)),
        ([number(Id.PIXEL_CROP_TOP, 6), number(Id.PIXEL_CROP_BOTTOM, 6)], (64, 36)),
        ([number(Id.PIXEL_CROP_LEFT, 64)], (64, 48)),
        (
            [number(Id.PIXEL_CROP_TOP, 12), number(Id.DISPLAY_WIDTH, 16), number(Id.DISPLAY_HEIGHT, 9)],
            (64, 36),
        ),
        ([number(Id.DISPLAY_WIDTH, 2**64 - 1)], (64, 48)),
        ([number(Id.DISPLAY_HEIGHT, 2**64 - 1)], (64, 48)),
    ],
)
def test_the_display_size_gives_the_aspect_ratio(about: list[bytes], expected: tuple[int, int]) -> None:
    (track,) = read(tracks(pictures(*about))).video
    assert (track.width, track.height) == expected


@pytest.mark.parametrize(
    ("mode", "display", "expected"),
    [
        *((mode, (32, 48), (64, 48)) for mode in (1, 8, 9, 11)),
        *((mode, (64, 24), (64, 48)) for mode in (2, 3, 6, 7)),
        *((mode, (64, 48), (64, 48)) for mode in (0, 4, 5, 10, 12, 13, 14, 15, 2**64 - 1)),
        (1, (64, 48), (128, 48)),
        (3, (64, 48), (32, 48)),
    ],
)
def test_the_display_size_of_two_eyes_is_that_of_one(
    mode: int, display: tuple[int, int], expected: tuple[int, int]
) -> None:
    shown = number(Id.DISPLAY_WIDTH, display[0]), number(Id.DISPLAY_HEIGHT, display[1])
    (track,) = read(tracks(pictures(*shown, number(Id.STEREO_MODE, mode)))).video
    assert (track.width, track.height) == expected


@pytest.mark.parametrize(
    ("projection", "rotation"),
    [
        ([], 0),
        ([floating(Id.PROJECTION_POSE_ROLL, 90)], 270),
        ([floating(Id.PROJECTION_POSE_ROLL, -90)], 90),
        ([floating(Id.PROJECTION_POSE_ROLL, -270)], 270),
        ([floating(Id.PROJECTION_POSE_ROLL, 1e308)], None),
        ([floating(Id.PROJECTION_POSE_ROLL, math.nan)], 0),
        ([floating(Id.PROJECTION_POSE_ROLL, 90), floating(Id.PROJECTION_POSE_YAW, 20)], 0),
        ([floating(Id.PROJECTION_POSE_ROLL, 90), number(Id.PROJECTION_TYPE, 1)], 0),  # a sphere
    ],
)
def test_the_roll_of_a_flat_picture_is_its_rotation(projection: list[bytes], rotation: int | None) -> None:
    (track,) = read(tracks(pictures(element(Id.PROJECTION, *projection)))).video
    assert track.rotation in ((0, 90, 180, 270) if rotation is None else (rotation,))
    assert (track.width, track.height) == ((48, 64) if track.rotation in (90, 270) else (64, 48))


def test_colours_and_fields_are_told_by_the_container_first() -> None:
    colour = element(
        Id.COLOUR,
        number(Id.TRANSFER_CHARACTERISTICS, 16),
        number(Id.BITS_PER_CHANNEL, 10),
        number(Id.CHROMA_SUBSAMPLING_HORZ, 1),
        number(Id.CHROMA_SUBSAMPLING_VERT, 0),
    )
    (track,) = read(tracks(pictures(colour, number(Id.FLAG_INTERLACED, 1), codec_id="V_PRORES"))).video
    assert (track.dynamic_range, track.bit_depth, track.chroma, track.is_interlaced) == (
        "pq",
        10,
        "4:2:2",
        True,
    )


@pytest.mark.parametrize(
    ("about", "channels", "rate"),
    [
        ([], 1, 8000),
        ([floating(Id.SAMPLING_FREQUENCY, 44100.0), number(Id.CHANNELS, 6)], 6, 44100),
        (
            [floating(Id.SAMPLING_FREQUENCY, 22050.0), floating(Id.OUTPUT_SAMPLING_FREQUENCY, 44100.0)],
            1,
            44100,
        ),
        ([floating(Id.SAMPLING_FREQUENCY, math.nan)], 1, 8000),
        ([floating(Id.SAMPLING_FREQUENCY, 1e300)], 1, None),
        ([floating(Id.SAMPLING_FREQUENCY, -5.0), number(Id.CHANNELS, 2**40)], None, None),
    ],
)
def test_sound_has_channels_and_a_rate(about: list[bytes], channels: int | None, rate: int | None) -> None:
    (track,) = read(tracks(entry(AUDIO, "A_VORBIS", element(Id.AUDIO, *about)))).audio
    assert (track.channels, track.sample_rate) == (channels, rate)


@pytest.mark.parametrize(
    ("codec_id", "private", "name", "codec"),
    [
        ("V_MPEG4/ISO/AVC", AVCC, "h264", "avc1.42C00A"),
        ("V_MPEG4/ISO/AVC", b"", "h264", None),
        ("V_MPEG4/ISO/AVC", b"\x02rubbish", "h264", None),
        ("V_MPEGH/ISO/HEVC", b"\x01", "hevc", None),
        ("V_AV1", bytes.fromhex("81050c00"), "av1", "av01.0.05M.08"),
        ("V_VP9", bytes.fromhex("010100 02011f 030108 040101"), "vp9", "vp09.00.31.08"),
        ("V_VP9", b"", "vp9", None),
        ("V_MPEG4/ISO/ASP", bytes.fromhex("000001b0f5"), "mpeg4", "mp4v.20.245"),
        ("V_MS/VFW/FOURCC", bytes(16) + b"XVID" + bytes(20), "mpeg4", None),
        ("V_MS/VFW/FOURCC", bytes(16) + b"h264", "h264", None),
        ("V_MS/VFW/FOURCC", bytes(16) + b"ABCD", "ABCD", None),
        ("V_MS/VFW/FOURCC", bytes(40), "V_MS/VFW/FOURCC", None),
        ("V_MS/VFW/FOURCC", b"", "V_MS/VFW/FOURCC", None),
        ("V_QUICKTIME", bytes(4) + b"SVQ3", "svq3", None),
        ("V_SOMETHING/\u202eNEW" + "x" * 100, b"", "V_SOMETHING/NEWxxxxxxxxxxxxxxxxx", None),
        ("\x07", b"", "unknown", None),
    ],
)
def test_a_video_codec_has_a_name(codec_id: str, private: bytes, name: str, codec: str | None) -> None:
    (track,) = read(tracks(pictures(codec_id=codec_id, about=(element(Id.CODEC_PRIVATE, private),)))).video
    assert (track.name, track.codec) == (name, codec)


@pytest.mark.parametrize(
    ("codec_id", "private", "name", "codec"),
    [
        ("A_AAC", bytes.fromhex("1210"), "aac", "mp4a.40.2"),
        ("A_AAC", b"", "aac", None),
        ("A_AAC/MPEG4/LC", b"", "aac", "mp4a.40.2"),
        ("A_AAC/MPEG2/LC", b"", "aac", "mp4a.67"),
        ("A_AAC/MPEG4/LC/SBR", b"", "aac", "mp4a.40.5"),
        ("A_AAC/MPEG4/LC", bytes.fromhex("2b11 8800"), "aac", "mp4a.40.5"),
        ("A_AAC/MPEG9", b"", "aac", None),
        ("A_OPUS", b"OpusHead\1\2", "opus", "opus"),
        ("A_OPUS", b"", "opus", "opus"),
        ("A_FLAC", b"rubbish", "flac", "flac"),
        ("A_FLAC", b"fLaC", "flac", "flac"),
        ("A_EAC3", b"", "eac3", "ec-3"),
        ("A_TRUEHD", b"", "truehd", "mlpa"),
        ("A_PCM/INT/BIG", b"", "pcm_s16be", None),
        ("A_PCM/FLOAT/IEEE", b"", "pcm_f16le", None),
        ("A_MS/ACM", b"\x55\0", "mp3", "mp3"),
        ("A_MS/ACM", b"\x61\x01", "wmav2", None),
        ("A_MS/ACM", b"", "A_MS/ACM", None),
    ],
)
def test_an_audio_codec_has_a_name(codec_id: str, private: bytes, name: str, codec: str | None) -> None:
    about = element(Id.CODEC_PRIVATE, private), element(Id.AUDIO, number(Id.BIT_DEPTH, 16))
    (track,) = read(tracks(entry(AUDIO, codec_id, *about))).audio
    assert (track.name, track.codec) == (name, codec)


@pytest.mark.parametrize(
    ("codec_id", "name"),
    [
        ("S_TEXT/UTF8", "subrip"), ("S_TEXT/ASS", "ass"), ("S_SSA", "ass"), ("S_TEXT/WEBVTT", "webvtt"),
        ("D_WEBVTT/SUBTITLES", "webvtt"), ("S_VOBSUB", "dvd_subtitle"), ("S_HDMV/PGS", "hdmv_pgs_subtitle"),
        ("S_DVBSUB", "dvb_subtitle"), ("S_KATE", "S_KATE"),
    ],
)  # fmt: skip
def test_a_text_codec_has_a_name(codec_id: str, name: str) -> None:
    assert read(tracks(entry(SUBTITLE, codec_id))).text[0].name == name


def stripping(size: int) -> bytes:
    """A ContentEncoding that has taken so many bytes off each block."""
    settings = element(Id.CONTENT_COMP_SETTINGS, b"x" * size)
    compression = element(Id.CONTENT_COMPRESSION, number(Id.CONTENT_COMP_ALGO, 3), settings)
    return element(Id.CONTENT_ENCODING, compression)


def encoding(*content: bytes) -> bytes:
    return element(Id.CONTENT_ENCODINGS, element(Id.CONTENT_ENCODING, *content))


def test_encryption_is_told_and_compression_is_not() -> None:
    zlib = encoding(element(Id.CONTENT_COMPRESSION, number(Id.CONTENT_COMP_ALGO, 0)))
    encryption = encoding(number(Id.CONTENT_ENCODING_TYPE, 1), element(0x5035))
    assert not read(tracks(pictures(), entry(SUBTITLE, "S_VOBSUB", zlib))).is_encrypted
    assert read(tracks(pictures(about=(encryption,)))).is_encrypted


def test_a_record_that_is_compressed_is_not_read() -> None:
    private = element(Id.CODEC_PRIVATE, AVCC)
    both = number(Id.CONTENT_ENCODING_SCOPE, 3)
    about = (encoding(both, element(Id.CONTENT_COMPRESSION)), private)
    (track,) = read(tracks(pictures(codec_id="V_MPEG4/ISO/AVC", about=about))).video
    assert (track.name, track.codec) == ("h264", None)


# What blocks tell


@pytest.mark.parametrize(
    ("frame", "codec", "depth", "chroma"),
    [
        ("824983420000", "vp09.00.10.08", 8, "4:2:0"),
        ("a24983420000", "vp09.01.10.08.03.02.02.02.00", 8, "4:4:4"),
        ("924983420000", "vp09.02.10.10", 10, "4:2:0"),
        ("924983428000", "vp09.02.10.12", 12, "4:2:0"),
        ("b124c1a10a00", "vp09.03.10.10.02.02.02.02.00", 10, "4:2:2"),
        ("864983420000", None, None, None),  # no keyframe
        ("8a4983420000", None, None, None),  # one that is shown again
        ("824983430000", None, None, None),  # another sync code
        ("024983420000", None, None, None),
        ("8249", None, None, None),
        ("", None, None, None),
    ],
)
def test_vp9_is_told_by_its_first_frame(
    frame: str, codec: str | None, depth: int | None, chroma: str | None
) -> None:
    blocks = simple_block(2, 0), simple_block(1, 0, bytes.fromhex(frame))
    (track,) = read(info(), tracks(pictures(codec_id="V_VP9")), cluster(0, *blocks)).video
    assert (track.codec, track.bit_depth, track.chroma) == (codec, depth, chroma)


def test_what_was_stripped_off_every_frame_is_put_back() -> None:
    stripped = encoding(
        element(
            Id.CONTENT_COMPRESSION,
            number(Id.CONTENT_COMP_ALGO, 3),
            element(Id.CONTENT_COMP_SETTINGS, bytes.fromhex("824983")),
        )
    )
    children = (
        tracks(pictures(codec_id="V_VP9", about=(stripped,))),
        cluster(0, simple_block(1, 0, b"\x42\0\0")),
    )
    assert read(info(), *children).video[0].codec == "vp09.00.10.08"


@pytest.mark.parametrize(
    ("lengths", "codec"), [((1, 1, 1), "vp09.00.10.08"), ((3, 0, 10**5), "vp09.00.10.08"), ((1,) * 9, None)]
)
def test_of_what_was_stripped_off_the_first_bytes_count(lengths: tuple[int, ...], codec: str | None) -> None:
    off, encodings = bytes.fromhex("824983420000") + bytes(10**6), []
    for length in lengths:
        settings, off = element(Id.CONTENT_COMP_SETTINGS, off[:length]), off[length:]
        compression = element(Id.CONTENT_COMPRESSION, number(Id.CONTENT_COMP_ALGO, 3), settings)
        encodings.append(element(Id.CONTENT_ENCODING, compression))
    track = pictures(codec_id="V_VP9", about=(element(Id.CONTENT_ENCODINGS, *encodings),))
    assert read(info(), tracks(track), cluster(0, simple_block(1, 0, off[:9]))).video[0].codec == codec


def test_a_vp9_frame_in_a_lace_is_not_taken_for_one() -> None:
    blocks = simple_block(1, 0, bytes.fromhex("824983420000"), 0x86)
    assert read(info(), tracks(pictures(codec_id="V_VP9")), cluster(0, blocks)).video[0].codec is None


@pytest.mark.parametrize(
    ("size", "rate", "level"),
    [
        (64 * 48, None, 10), (640 * 360, 30, 21), (1280 * 720, 30, 31), (1920 * 1080, 30, 40),
        (1920 * 1080, 60, 41), (3840 * 2160, 30, 50), (3840 * 2160, 60, 51), (7680 * 4320, 60, 61),
        (2**32, 1000, 62),
    ],
)  # fmt: skip
def test_the_level_of_vp9_is_the_lowest_that_fits(size: int, rate: float | None, level: int) -> None:
    coding = matroska_codecs.vp9(matroska_codecs.Vp9Frame(0, 8, 1), size, rate)
    assert coding.codec == f"vp09.00.{level}.08"


def tags(uid: int, **notes: str) -> bytes:
    simple = [element(Id.SIMPLE_TAG, text(Id.TAG_NAME, k), text(Id.TAG_STRING, v)) for k, v in notes.items()]
    return element(Id.TAGS, element(Id.TAG, element(Id.TARGETS, number(Id.TAG_TRACK_UID, uid)), *simple))


@pytest.mark.parametrize(
    ("about", "notes", "blocks", "expected"),
    [
        ([number(Id.DEFAULT_DURATION, 40_000_000)], {}, (), 25.0),
        ([number(Id.DEFAULT_DURATION, 33_366_667)], {}, (), 29.97),
        ([], {"NUMBER_OF_FRAMES": "90", "DURATION": "00:00:03.000000000"}, (), 30.0),
        ([], {"NUMBER_OF_FRAMES": "90", "DURATION": "00:00:00"}, (), None),
        ([], {"NUMBER_OF_FRAMES": "1", "DURATION": "00:00:00.000000001"}, (), None),
        ([], {"NUMBER_OF_FRAMES": "many", "DURATION": "01:00:00"}, (), None),
        ([], {"NUMBER_OF_FRAMES": "٣", "DURATION": "1:2"}, (), None),
        ([], {}, (0, 100, 200, 300, 400), 10.0),
        ([], {}, (400, 0, 300, 100, 200), 10.0),
        ([], {}, (0, 100, 200), None),
        ([], {}, (0, 0, 0, 0, 0, 0), None),
        ([], {}, (), None),
        ([number(Id.DEFAULT_DURATION, 1)], {}, (), None),
        ([number(Id.DEFAULT_DURATION, 100_000)], {}, (), 10_000),
        ([number(Id.DEFAULT_DURATION, 99_999)], {}, (), None),
        ([number(Id.DEFAULT_DURATION, 2**64 - 1)], {}, (), None),
    ],
)
def test_the_frame_rate_is_told_noted_or_seen(
    about: list[bytes], notes: dict[str, str], blocks: tuple[int, ...], expected: float | None
) -> None:
    track = pictures(about=(number(Id.TRACK_UID, 7), *about))
    frames = [simple_block(1, timestamp) for timestamp in blocks]
    (video,) = read(info(), tracks(track), tags(7, **notes), cluster(0, *frames)).video
    assert video.frame_rate == (expected and pytest.approx(expected, rel=0.001))


def test_an_old_frame_rate_counts_where_there_is_no_duration_of_a_frame() -> None:
    assert read(tracks(pictures(floating(Id.FRAME_RATE, 24.0)))).video[0].frame_rate == pytest.approx(24)
    assert read(tracks(pictures(floating(Id.FRAME_RATE, 5e-324)))).video[0].frame_rate is None


def test_tags_tell_how_long_a_track_is() -> None:
    media = read(info(), tracks(pictures(about=(number(Id.TRACK_UID, 9),))), tags(9, DURATION="01:02:03.5"))
    assert media.video[0].duration == 3723.5


@pytest.mark.parametrize(
    ("blocks", "start"),
    [
        ([], 0.0),
        ([simple_block(1, 0)], 100.0),
        ([simple_block(1, 50), simple_block(1, 0)], 100.05),
        ([simple_block(2, 0), simple_block(3, 70), simple_block(1, 90)], 100.07),  # text comes first
        ([simple_block(2, 0)], 0.0),
        ([element(Id.BLOCK_GROUP, element(Id.BLOCK, block(1, 20)))], 100.02),
    ],
)
def test_a_film_starts_with_its_first_picture_or_sound(blocks: list[bytes], start: float) -> None:
    all_ = pictures(), entry(SUBTITLE, "S_TEXT/UTF8", number_=2), entry(AUDIO, "A_OPUS", number_=3)
    assert read(info(120_000.0), tracks(*all_), cluster(100_000, *blocks)).start == pytest.approx(start)


@pytest.mark.parametrize(("timestamp", "relative"), [(0, -5), (2**64 - 1, 0), (1000, 0)])
def test_a_film_starts_at_zero_where_its_first_block_cannot_be(timestamp: int, relative: int) -> None:
    assert read(info(), tracks(pictures()), cluster(timestamp, simple_block(1, relative))).start == 0.0


def group(*arguments: Any) -> bytes:
    return element(Id.BLOCK_GROUP, element(Id.BLOCK, block(*arguments)), number(0x9B, 40))


@pytest.mark.parametrize("size", [None, UNKNOWN], ids=["known", "unknown"])
@pytest.mark.parametrize("last", [(simple_block(1, 50),), (group(1, 50), element(0xEC, bytes(9)))])
def test_a_live_recording_ends_at_its_last_block(size: bytes | None, last: tuple[bytes, ...]) -> None:
    clusters = [cluster(2000 + at, simple_block(1, 0), simple_block(1, 40), size=size) for at in (0, 1000)]
    clusters.append(cluster(4000, simple_block(1, 10), *last, size=size))
    track = tracks(pictures(about=(number(Id.DEFAULT_DURATION, 40_000_000),)))
    data = document(info(None), track, *clusters, size=UNKNOWN)
    media = matroska.read_media(source(data))
    assert (media.start, media.duration) == pytest.approx((2.0, 4.090))


BEGIN = info(), tracks(pictures())
LAST = cluster(2000, simple_block(1, 0), simple_block(1, 40))


@pytest.mark.parametrize(
    ("data", "is_truncated"),
    [
        (document(*BEGIN, LAST), False),
        (document(*BEGIN, LAST)[:-1], True),
        (document(*BEGIN, LAST)[: -len(LAST)], True),
        (document(*BEGIN, LAST) + b"a few words at the end", False),
        (document(*BEGIN, LAST, size=UNKNOWN), False),
        (document(*BEGIN, LAST, size=UNKNOWN)[:-1], True),
        (document(*BEGIN, LAST, LAST, size=b"\xff")[:-15], False),  # not one block of it
        (document(*BEGIN, LAST, LAST, size=b"\xff")[:-5], True),
        (document(*BEGIN, LAST, LAST[:2], size=UNKNOWN), False),
        (document(*BEGIN, cluster(0, simple_block(1, 0), size=UNKNOWN), size=UNKNOWN), False),
        (document(*BEGIN, cluster(0, simple_block(1, 0), size=UNKNOWN), size=UNKNOWN)[:-1], False),
        (document(*BEGIN, LAST, b"a few words at the end", size=UNKNOWN), False),
        (document(*BEGIN, LAST, bytes(100), size=UNKNOWN), False),
        (document(*BEGIN, size=UNKNOWN), False),
        (document(*BEGIN, size=HUGE), True),
    ],
)
def test_a_file_is_truncated_where_its_segment_or_last_cluster_reaches_behind_it(
    data: bytes, is_truncated: bool
) -> None:
    assert matroska.read_media(source(data)).is_truncated is is_truncated


def test_of_a_recording_that_was_cut_the_last_whole_block_counts() -> None:
    clusters = (
        cluster(0, simple_block(1, 0), size=UNKNOWN),
        cluster(1000, simple_block(1, 10), simple_block(1, 50)),
    )
    data = document(info(None), tracks(pictures()), *clusters, size=UNKNOWN)
    assert matroska.read_media(source(data)).duration == pytest.approx(1.050)
    assert matroska.read_media(source(data[:-1])).duration == pytest.approx(1.010)


@pytest.mark.parametrize("end", [Id.CLUSTER.to_bytes(4), Id.CLUSTER.to_bytes(4) + b"\x08"])
def test_a_cluster_that_has_only_begun_is_none(end: bytes) -> None:
    data = document(info(None), tracks(pictures()), cluster(0, simple_block(1, 300)), cluster(1000), end)
    assert matroska.read_media(source(data)).duration is None
    later = document(info(None), tracks(pictures()), cluster(0, simple_block(1, 0), simple_block(1, 90)), end)
    assert matroska.read_media(source(later)).duration == pytest.approx(0.09)


@pytest.mark.parametrize("content", [b"", b"\x81", b"\x81\0\0", bytes(9)])
def test_a_block_without_a_whole_head_ends_its_cluster(content: bytes) -> None:
    broken = element(Id.SIMPLE_BLOCK, content)
    children = simple_block(1, 0), simple_block(1, 70), broken, simple_block(1, 200)
    assert read(info(None), tracks(pictures()), cluster(0, *children)).duration == pytest.approx(0.07)


def test_what_looks_like_a_cluster_inside_of_a_frame_is_none() -> None:
    fake = Id.CLUSTER.to_bytes(4) + b"\x84rubbish"
    data = document(
        info(None), tracks(pictures()), cluster(0, simple_block(1, 0), simple_block(1, 700, fake))
    )
    assert matroska.read_media(source(data)).duration == pytest.approx(0.7)


# Keyframes


def test_keyframes_are_those_of_the_first_video_track() -> None:
    both = tracks(entry(AUDIO, "A_OPUS", number_=1), pictures(number_=2), pictures(number_=3))
    cues = element(Id.CUES, cue(0, 1), cue(0, 2), cue(400, 1, 2), cue(300, 3), cue(200, 2), cue(200, 2))
    assert keyframes(info(), both, cues) == (0.0, 0.2, 0.4)


def test_many_keyframes_are_thinned_evenly() -> None:
    cues = element(Id.CUES, *(cue(500 * at, 1 + at % 2) for at in range(2 * 4000)))
    times = keyframes(info(), tracks(pictures()), cues)
    assert matroska.MOST_KEYFRAMES / 2 <= len(times) <= matroska.MOST_KEYFRAMES
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert (times[0], max(steps)) == (0.0, min(steps))


def test_ten_hours_of_keyframes_are_read() -> None:
    cues = element(Id.CUES, *(cue(2000 * at, 1) for at in range(5 * 3600)))
    times = keyframes(info(), tracks(pictures()), cues)
    assert len(times) > 500
    assert times[-1] > 10 * 3600 - 120


@pytest.mark.parametrize(
    "children",
    [
        pytest.param((tracks(pictures()),), id="no cues"),
        pytest.param((tracks(pictures()), element(Id.CUES)), id="empty cues"),
        pytest.param((tracks(entry(AUDIO, "A_OPUS")), element(Id.CUES, cue(0, 1))), id="no video"),
        pytest.param((tracks(pictures()), element(Id.CUES, cue(5, 2))), id="of another track"),
        pytest.param((tracks(pictures()), element(Id.CUES, element(Id.CUE_POINT))), id="an empty cue"),
    ],
)
def test_without_cues_of_a_video_there_are_no_keyframes(children: tuple[bytes, ...]) -> None:
    assert keyframes(info(), *children) == ()


@pytest.mark.parametrize("size", [HUGE, UNKNOWN, b"\x10\x40\0\0"])
def test_cues_that_are_not_all_there_are_refused(size: bytes) -> None:
    data = document(info(), tracks(pictures()), element(Id.CUES, cue(0, 1), size=size))
    if size == UNKNOWN:
        assert matroska.read_keyframes(source(data)) == (0.0,)
        return
    with pytest.raises(MediaUnreadable):
        matroska.read_keyframes(source(data))


# Whatever the bytes are

SLOW_HVCC = bytes(22) + b"\x01\x21\x00\x01\x04\x00\x42\x01" + b"\xff" * 1022
MANY = [entry(VIDEO, "V_VP9", number_=1)] * 100_000
HOSTILE = {
    "100,000 tracks": document(info(), element(Id.TRACKS, *MANY)),
    "64 tracks of VP9": document(
        info(), tracks(*MANY[:64]), cluster(0, *[simple_block(2, 0)] * 5000), element(Id.TAGS)
    ),
    "64 records that take long": document(
        info(),
        tracks(*[pictures(codec_id="V_MPEGH/ISO/HEVC", about=(element(Id.CODEC_PRIVATE, SLOW_HVCC),))] * 64),
    ),
    "tracks of tiny elements": document(info(), tracks(b"\xec\x80" * 500_000)),
    "one track of tiny elements": document(info(), tracks(element(Id.TRACK_ENTRY, b"\x86\x81V" * 300_000))),
    "empty tracks": document(info(), tracks(b"\xae\x80" * 500_000)),
    "a name of 1 MB": document(info(), tracks(pictures(about=(text(Id.NAME, "x" * 1_000_000),)))),
    "a record of 1 MB": document(
        info(),
        tracks(pictures(codec_id="V_MPEGH/ISO/HEVC", about=(element(Id.CODEC_PRIVATE, bytes(10**6)),))),
    ),
    "thousands of encodings": document(
        info(),
        tracks(pictures(about=(element(Id.CONTENT_ENCODINGS, stripping(980_000), stripping(1) * 2900),))),
    ),
    "tags of tiny elements": document(info(), tracks(pictures()), element(Id.TAGS, b"\x73\x73\x80" * 80_000)),
    "seeks": document(element(Id.SEEK_HEAD, b"\x4d\xbb\x80" * 80_000), info(), tracks(pictures())),
    "1,000,000 voids": document(b"\xec\x80" * 1_000_000, info(), tracks(pictures())),
    "nested segments": header() + b"".join([element(Id.SEGMENT, size=UNKNOWN)] * 10_000),
    "nested clusters": document(
        info(None), tracks(pictures()), *[element(Id.CLUSTER, size=UNKNOWN)] * 500_000, size=UNKNOWN
    ),
    "clusters that hold nothing": document(info(None), tracks(pictures()), cluster(0) * 400_000),
    "the start of clusters": document(info(None), tracks(pictures()), b"\x1f\x43\xb6" * 1_400_000),
    "blocks": document(info(None), tracks(pictures()), cluster(0, *[simple_block(1, 0, b"")] * 300_000)),
    "nested groups": document(
        info(None), tracks(pictures()), cluster(0, element(Id.BLOCK_GROUP, size=UNKNOWN) * 400_000)
    ),
    "cues": document(info(), tracks(pictures()), element(Id.CUES, cue(0, 2) * 60_000)),
    "empty cues": document(info(), tracks(pictures()), element(Id.CUES, b"\xbb\x80" * 900_000)),
    "a cue of many tracks": document(
        info(), tracks(pictures()), element(Id.CUES, element(Id.CUE_POINT, b"\xb7\x83\xf7\x81\2" * 200_000))
    ),
}


def attempt(data: bytes) -> None:
    for question in (matroska.read_media, matroska.read_keyframes):
        try:
            question(source(data))
        except MediaUnreadable:
            continue


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_little(name: str) -> None:
    for question in (matroska.read_media, matroska.read_keyframes):
        assert_bounded(question, HOSTILE[name])


def test_no_more_tracks_are_told_than_there_may_be() -> None:
    assert len(read(tracks(*MANY[:1000])).video) == MOST_TRACKS


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 8, 12, 40])
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x01", b"\x80"])
def test_rubbish_behind_the_header_is_refused(size: int, filler: bytes) -> None:
    with pytest.raises(MediaUnreadable):
        matroska.read_media(source(header() + filler * size))


SIZES = st.sampled_from([None] * 12 + [UNKNOWN, HUGE, b"\x80", b"\x81", b"\0", b"\x40\x00", b"\xff"])
LEAVES = st.binary(max_size=12) | st.sampled_from(
    [
        b"V_VP9",
        b"V_MPEG4/ISO/AVC",
        b"A_AAC",
        b"S_TEXT/UTF8",
        AVCC,
        b"\1",
        b"\2",
        b"\x11",
        bytes(8),
        b"\xff" * 8,
    ]
)
TREES = st.recursive(
    st.builds(lambda i, c, s: element(i, c, size=s), st.sampled_from(list(Id)), LEAVES, SIZES),
    lambda inner: st.builds(
        lambda i, c, s: element(i, *c, size=s), st.sampled_from(list(Id)), st.lists(inner, max_size=6), SIZES
    ),
    max_leaves=25,
)


@given(
    children=st.lists(TREES, max_size=6),
    entries=st.lists(TREES, max_size=6),
    known=st.sampled_from([b"", info(), info(None), tracks(pictures()), cluster(0, simple_block(1, 0))]),
    size=SIZES,
    cut=st.integers(0, 400),
)
def test_any_tree_of_elements_is_read_or_refused(
    children: list[bytes], entries: list[bytes], known: bytes, size: bytes | None, cut: int
) -> None:
    track = element(Id.TRACK_ENTRY, number(Id.TRACK_TYPE, VIDEO), text(Id.CODEC_ID, "V_VP9"), *entries)
    data = document(known, *children, tracks(track, *entries), *children, size=size)
    attempt(data)
    attempt(data[:cut])


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    attempt(header() + Id.SEGMENT.to_bytes(4) + UNKNOWN + content)
    attempt(document(info(), tracks(content), content))


def test_no_bytes_behind_what_was_asked_for_are_trusted() -> None:
    short = Source(lambda size, position: document(tracks(pictures()))[position : position + size][:-1], 500)
    with pytest.raises(MediaUnreadable):
        matroska.read_media(short)
