"""MP4, box by box: what each says, and that no bytes can trouble the reader."""

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.containers import fragments, mp4
from streamer.containers.media import (
    MOST_TRACKS,
    AudioTrack,
    Media,
    Source,
    TextTrack,
    VideoTrack,
    bit_rate,
)
from streamer.errors import MediaUnreadable
from tests.containers.bounds import assert_bounded
from tests.containers.ffprobe import source

UNITY = (1, 0, 0, 1)
AVCC = bytes.fromhex("0142c00affe100156742c00ada11ec0440000003004000000c83c489a801000468ce0fc8")
SELF_CONTAINED = struct.pack(">I4sI", 12, b"url ", 1)


def box(kind: bytes, *content: bytes) -> bytes:
    joined = b"".join(content)
    return (8 + len(joined)).to_bytes(4) + kind + joined


def full(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, bytes([version]), flags.to_bytes(3), *content)


def words(*values: int) -> bytes:
    return b"".join((value % 2**32).to_bytes(4) for value in values)


def matrix(a: float, b: float, c: float, d: float) -> bytes:
    return words(*(round(value * 2**16) for value in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)


def movie_header(timescale: int = 1000, duration: int = 2000, turn: tuple[float, ...] = UNITY) -> bytes:
    return full(b"mvhd", words(0, 0, timescale, duration, 1 << 16), bytes(12), matrix(*turn), bytes(28))


def wide_movie_header(timescale: int, duration: int) -> bytes:
    times = bytes(16) + words(timescale) + duration.to_bytes(8)
    return full(b"mvhd", times, words(1 << 16), bytes(12), matrix(*UNITY), bytes(28), version=1)


def track_header(
    duration: int = 2000, turn: tuple[float, ...] = UNITY, size: tuple[int, int] = (64, 48)
) -> bytes:
    edges = words(size[0] << 16, size[1] << 16)
    return full(b"tkhd", words(0, 0, 1, 0, duration, 0, 0, 0, 0), matrix(*turn), edges, flags=3)


def media_header(timescale: int = 25, duration: int = 50, language: int = 0x55C4) -> bytes:
    return full(b"mdhd", words(0, 0, timescale, duration, language << 16))


def handler(kind: bytes, name: bytes = b"VideoHandler\0") -> bytes:
    return full(b"hdlr", bytes(4), kind, bytes(12), name)


def visual(kind: bytes = b"avc1", *parts: bytes, size: tuple[int, int] = (64, 48)) -> bytes:
    return box(kind, bytes(24), struct.pack(">HH", *size), bytes(50), *parts)


def audible(kind: bytes, *parts: bytes, channels: int = 2, rate: int = 48000, version: int = 0) -> bytes:
    return box(kind, bytes(8), struct.pack(">HHIHHIHH", version, 0, 0, channels, 16, 0, rate, 0), *parts)


def tables(entry: bytes, samples: int = 50, *more: bytes) -> bytes:
    sizes = full(b"stsz", words(0, samples))
    return box(b"stbl", full(b"stsd", words(1), entry), sizes, *more)


def track(
    entry: bytes | None = None,
    *more: bytes,
    kind: bytes = b"vide",
    header: bytes | None = None,
    media: bytes | None = None,
    name: bytes = b"VideoHandler\0",
    in_media: bytes = b"",
    references: bytes = SELF_CONTAINED,
    samples: int = 50,
    in_tables: bytes = b"",
) -> bytes:
    entry = visual(b"avc1", box(b"avcC", AVCC)) if entry is None else entry
    data = box(b"dinf", full(b"dref", words(1), references))
    information = box(b"minf", data, tables(entry, samples, in_tables))
    inner = box(b"mdia", media or media_header(), handler(kind, name), in_media, information)
    return box(b"trak", header or track_header(), inner, *more)


def film(*tracks: bytes, header: bytes | None = None, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + box(b"moov", header or movie_header(), *tracks) + after


def read(data: bytes) -> Media:
    return mp4.read_media(source(data))


def only_video(data: bytes) -> VideoTrack:
    (found,) = read(data).video
    return found


def only_audio(entry: bytes) -> AudioTrack:
    (found,) = read(film(track(entry, kind=b"soun"))).audio
    return found


def only_text(entry: bytes, *more: bytes, kind: bytes = b"sbtl", name: bytes = b"") -> TextTrack:
    (found,) = read(film(track(entry, *more, kind=kind, name=name))).text
    return found


def wide_track() -> bytes:
    """A track whose headers have 64 bits."""
    edges = words(64 << 16, 48 << 16)
    times = bytes(16) + words(1, 0) + (2000).to_bytes(8)
    header = full(b"tkhd", times, bytes(16), matrix(*UNITY), edges, version=1, flags=3)
    times = bytes(16) + words(25) + (50).to_bytes(8)
    return track(header=header, media=full(b"mdhd", times, words(0x55C40000), version=1))


def descriptor(tag: int, *content: bytes) -> bytes:
    joined = b"".join(content)
    return bytes([tag, len(joined)]) + joined


def descriptors(object_type: int, specific: bytes) -> bytes:
    config = descriptor(4, bytes([object_type]), bytes(12), descriptor(5, specific))
    return descriptor(3, bytes(3), config)


def long_descriptors() -> bytes:
    """With everything that may be told of a stream, and with sizes in four bytes."""
    specific = b"\x05\x80\x80\x80\x02\x11\x90"
    config = b"\x04\x80\x80\x80" + bytes([13 + len(specific)]) + b"\x40" + bytes(12) + specific
    return descriptor(3, b"\0\1\xe0", b"\0\2", b"\3abc", b"\0\3", config)


def version_two(rate: float, channels: int, bits: int, flags: int) -> bytes:
    """What stands behind the fields of QuickTime's sound description in its version 2."""
    return struct.pack(">IdIIIIII", 72, rate, channels, 0x7F000000, bits, flags, 0, 0)


EXTENDS = box(b"mvex", full(b"trex", words(1, 1, 1, 0, 0)))


def fragment(*runs: bytes, start: int | None = 0, identifier: int = 1, defaults: int = 1) -> bytes:
    header = full(b"tfhd", words(identifier, defaults), flags=0x8)
    decoded = b"" if start is None else full(b"tfdt", start.to_bytes(8), version=1)
    return box(b"moof", full(b"mfhd", words(1)), box(b"traf", header, decoded, *runs))


def run(count: int, *rows: int, flags: int = 0, first: bytes = b"") -> bytes:
    return full(b"trun", words(count), first, words(*rows), flags=flags)


def random_access(entries: bytes) -> bytes:
    """An index at the end, of rows of eleven bytes."""
    table = full(b"tfra", words(1, 0, len(entries) // 11), entries)
    return box(b"mfra", table, full(b"mfro", words(8 + len(table) + 16)))


def test_plain_film_is_told() -> None:
    data = film(track())
    assert read(data) == Media(
        duration=2.0,
        video=(
            VideoTrack(
                number=0,
                name="h264",
                codec="avc1.42C00A",
                width=64,
                height=48,
                frame_rate=25.0,
                bit_depth=8,
                chroma="4:2:0",
                is_interlaced=False,
                duration=2.0,
            ),
        ),
        bit_rate=round(8 * len(data) / 2),
        faststart=True,
    )


@pytest.mark.parametrize(
    ("data", "duration"),
    [
        (film(track(), header=movie_header(600, 900)), 1.5),
        (film(track(), header=movie_header(duration=0)), 2.0),
        (film(track(), header=movie_header(duration=2**32 - 1)), 2.0),
        (film(track(), header=movie_header(timescale=0)), 2.0),
        (film(track(), header=movie_header(timescale=1, duration=2**32 - 2)), 2000.0),
        (film(track(header=track_header(duration=0)), header=movie_header(duration=0)), 2.0),
        (film(track(media=media_header(timescale=0)), header=movie_header(timescale=0)), None),
        (film(track(), header=wide_movie_header(1000, 2000)), 2.0),
        (film(track(), header=wide_movie_header(1000, 2**64 - 1)), 2.0),
        (film(track(), header=wide_movie_header(1, 2**64 - 2)), 2000.0),
        (film(header=movie_header(duration=0)), None),
        (film(track(), header=movie_header(1000, 1)), 0.001),
        (film(track(), header=movie_header(2**32 - 1, 1)), 2.0),
        (film(track(media=media_header(2**32 - 1, 1)), header=movie_header(2**32 - 1, 1)), None),
        (film(track(media=media_header(1000, 1)), header=movie_header(duration=0)), 2.0),
        (film(track(header=track_header(1)), header=movie_header(2**32 - 1, 1)), 2.0),
    ],
)
def test_duration_is_that_of_the_film_or_of_its_longest_track(data: bytes, duration: float | None) -> None:
    assert read(data).duration == duration


@pytest.mark.parametrize(
    ("size", "duration", "rate"),
    [(1000, 2.0, 4000), (1, 3.0, 3), (1000, None, None), (2**39, 0.001, 2**42 * 1000), (2**50, 0.001, None)],
)
def test_bit_rate_is_one_that_can_be(size: int, duration: float | None, rate: int | None) -> None:
    assert bit_rate(size, duration) == rate


def test_track_that_would_last_for_a_moment_tells_no_duration() -> None:
    short = track(media=media_header(2**32 - 1, 1), header=track_header(duration=0))
    media = read(film(short, header=movie_header(duration=0)))
    assert (media.duration, media.bit_rate, media.video[0].duration) == (None, None, None)
    assert media.video[0].frame_rate is None


def test_wide_headers_say_the_same() -> None:
    assert only_video(film(wide_track())) == only_video(film(track()))


@pytest.mark.parametrize(
    ("media", "samples", "rate"),
    [
        (media_header(30000, 60060), 60, pytest.approx(29.97, abs=0.001)),
        (media_header(0, 50), 50, None),
        (media_header(25, 0), 50, None),
        (media_header(25, 2**32 - 1), 50, None),
        (media_header(25, 50), 0, None),
        (media_header(2**32 - 1, 1), 2**32 - 1, None),
    ],
)
def test_frame_rate_is_the_average(media: bytes, samples: int, rate: object) -> None:
    assert only_video(film(track(media=media, samples=samples))).frame_rate == rate


@pytest.mark.parametrize(
    ("film_turn", "turn", "rotation"),
    [
        (UNITY, UNITY, 0),
        (UNITY, (0, 1, -1, 0), 90),
        (UNITY, (-1, 0, 0, -1), 180),
        (UNITY, (0, -1, 1, 0), 270),
        ((0, 1, -1, 0), UNITY, 90),
        ((0, 1, -1, 0), (0, 1, -1, 0), 180),
        (UNITY, (0, 0, 0, 0), 0),
        (UNITY, (0.7071, 0.7072, -0.7072, 0.7071), 90),
        (UNITY, (2, 0, 0, 2), 0),
    ],
)
def test_matrices_of_film_and_track_turn_the_picture(
    film_turn: tuple[float, ...], turn: tuple[float, ...], rotation: int
) -> None:
    found = only_video(film(track(header=track_header(turn=turn)), header=movie_header(turn=film_turn)))
    assert found.rotation == rotation
    assert (found.width, found.height) == ((48, 64) if rotation in (90, 270) else (64, 48))


@pytest.mark.parametrize(
    ("parts", "coded", "told", "displayed"),
    [
        ([box(b"pasp", words(4, 3))], (720, 576), (720, 576), (960, 576)),
        ([box(b"pasp", words(3, 4))], (96, 48), (96, 48), (72, 48)),
        ([box(b"pasp", words(0, 0))], (64, 48), (64, 48), (64, 48)),
        ([box(b"pasp", words(2**32 - 1, 1))], (64, 48), (64, 48), (64, 48)),
        ([box(b"pasp", b"\0")], (64, 48), (64, 48), (64, 48)),
        ([], (720, 576), (1024, 576), (1024, 576)),
        ([], (1440, 1080), (1920, 1080), (1920, 1080)),
        ([], (64, 48), (0, 0), (64, 48)),
        ([], (0, 0), (640, 480), (640, 480)),
        ([], (64, 48), (65535, 1), (64, 48)),
    ],
)
def test_size_is_that_of_square_pixels(
    parts: list[bytes], coded: tuple[int, int], told: tuple[int, int], displayed: tuple[int, int]
) -> None:
    found = only_video(film(track(visual(b"avc1", *parts, size=coded), header=track_header(size=told))))
    assert (found.width, found.height) == displayed


@pytest.mark.parametrize(
    ("packed", "extended", "language"),
    [
        (0x15C7, b"", "eng"),
        (0x55C4, b"", None),
        (0x1A45, b"", "fre"),
        (0, b"", "eng"),
        (94, b"", "epo"),
        (95, b"", None),
        (0x7FFF, b"", None),
        (0x0400, b"", None),
        (0x55C4, full(b"elng", b"pt-BR\0"), "pt-BR"),
        (0x15C7, full(b"elng", b"zh-Hant"), "zh-Hant"),
        (0x15C7, full(b"elng", b"und\0"), None),
        (0x15C7, full(b"elng", "\u202e".encode()), "eng"),
        (0x15C7, full(b"elng", b"x" * 1000), "eng"),
        (0x15C7, full(b"elng", b""), "eng"),
    ],
)
def test_language_is_as_in_the_file(packed: int, extended: bytes, language: str | None) -> None:
    assert (
        only_video(film(track(media=media_header(language=packed), in_media=extended))).language == language
    )


@pytest.mark.parametrize(
    ("note", "name", "label"),
    [
        (b"Commentary", b"SubtitleHandler\0", "Commentary"),
        (b"", b"Commentary\0", "Commentary"),
        (b"", b"\x0aCommentary", "Commentary"),
        (b"", b"\x19Apple Text Media Handler ", None),
        (b"", b"Core Media Text\0", None),
        (b"", b"", None),
        (b"a\0b\nc\xe2\x80\xaed\xff", b"", "abcd"),
        (b" \t ", b"Fallback\0", "Fallback"),
        ("ж".encode() * 50_000, b"", "ж" * 200),
    ],
)
def test_label_is_printable_and_short(note: bytes, name: bytes, label: str | None) -> None:
    notes = box(b"udta", box(b"name", note)) if note else b""
    assert only_text(box(b"tx3g", bytes(12)), notes, name=name).label == label


@pytest.mark.parametrize(
    ("handler_type", "entry", "name"),
    [
        (b"sbtl", box(b"tx3g", bytes(12)), "mov_text"),
        (b"text", box(b"text", bytes(12)), "mov_text"),
        (b"text", box(b"wvtt", bytes(8)), "webvtt"),
        (b"subt", box(b"stpp", bytes(8)), "ttml"),
        (b"clcp", box(b"c608", bytes(8)), "eia_608"),
        (b"subp", box(b"mp4s", bytes(8), full(b"esds", descriptors(0xE0, b""))), "dvd_subtitle"),
    ],
)
def test_text_is_named_as_by_ffmpeg(handler_type: bytes, entry: bytes, name: str) -> None:
    assert only_text(entry, kind=handler_type).name == name


@pytest.mark.parametrize(
    ("entry", "notes", "is_forced"),
    [
        (box(b"tx3g", bytes(12)), b"", False),
        (box(b"tx3g", bytes(8), words(0x40000000)), b"", True),
        (box(b"tx3g", bytes(12)), full(b"kind", b"urn:mpeg:dash:role:2011\0forced-subtitle\0"), True),
        (box(b"tx3g", bytes(12)), full(b"kind", b"urn:mpeg:dash:role:2011\0subtitle\0"), False),
    ],
)
def test_forced_text_is_told(entry: bytes, notes: bytes, is_forced: bool) -> None:
    assert only_text(entry, box(b"udta", notes)).is_forced is is_forced


@pytest.mark.parametrize("kind", [b"tmcd", b"meta", b"hint", b"mett", b"\0\0\0\0"])
def test_other_tracks_are_counted_but_not_told(kind: bytes) -> None:
    media = read(film(track(box(kind, bytes(8)), kind=kind), track()))
    assert [found.number for found in media.video] == [1]
    assert (media.audio, media.text) == ((), ())


@pytest.mark.parametrize(
    ("entry", "name", "codec", "depth"),
    [
        (visual(b"avc3", box(b"avcC", AVCC)), "h264", "avc3.42C00A", 8),
        (visual(b"avc1", box(b"avcC", b"\7")), "h264", None, None),
        (visual(b"avc1"), "h264", "avc1", None),
        (visual(b"dvh1", box(b"dvcC", bytes.fromhex("01000a2d"))), "hevc", "dvh1.05.05", None),
        (visual(b"mp4v", full(b"esds", descriptors(0x20, b"\0\0\1\xb0\xf5"))), "mpeg4", "mp4v.20.245", 8),
        (visual(b"mp4v", full(b"esds", descriptors(0x61, b""))), "mpeg2video", "mp4v.61", None),
        (visual(b"mp4v", full(b"esds", b"\4\0")), "mpeg4", None, None),
        (visual(b"vp08", full(b"vpcC", bytes(8))), "vp8", "vp08", None),
        (visual(b"ap4x"), "prores", "ap4x", 12),
        (visual(b"Zz9-"), "Zz9-", "Zz9-", None),
        (visual(b"\0\xa9 \n"), "©", None, None),
        (visual(b"encv", box(b"avcC", AVCC), box(b"sinf", box(b"frma", b"avc1"))), "h264", "avc1.42C00A", 8),
        (visual(b"encv", box(b"avcC", AVCC)), "encv", "encv.42C00A", 8),
    ],
)
def test_video_entry_names_its_codec(entry: bytes, name: str, codec: str | None, depth: int | None) -> None:
    found = only_video(film(track(entry)))
    assert (found.name, found.codec, found.bit_depth) == (name, codec, depth)


@pytest.mark.parametrize(
    ("parts", "dynamic_range", "is_interlaced"),
    [
        ([box(b"colr", b"nclx", struct.pack(">HHHB", 9, 16, 9, 0))], "pq", False),
        ([box(b"colr", b"nclc", struct.pack(">HHH", 9, 18, 9))], "hlg", False),
        ([box(b"colr", b"nclx", struct.pack(">HHHB", 1, 1, 1, 0))], "sdr", False),
        ([box(b"colr", b"nclx", struct.pack(">HHHB", 2, 2, 2, 0))], None, False),
        ([box(b"colr", b"prof", b"\0" * 20)], None, False),
        ([box(b"fiel", b"\2\x0e")], None, True),
        ([box(b"fiel", b"\1\0")], None, False),
    ],
)
def test_container_overrides_colours_and_fields(
    parts: list[bytes], dynamic_range: str | None, is_interlaced: bool
) -> None:
    found = only_video(film(track(visual(b"avc1", box(b"avcC", AVCC), *parts))))
    assert (found.dynamic_range, found.is_interlaced) == (dynamic_range, is_interlaced)


AAC = full(b"esds", descriptors(0x40, bytes.fromhex("1190")))


@pytest.mark.parametrize(
    ("entry", "name", "codec", "channels", "rate"),
    [
        (audible(b"mp4a", AAC, channels=1, rate=1), "aac", "mp4a.40.2", 2, 48000),
        (audible(b"mp4a", bytes(16), box(b"wave", AAC), version=1), "aac", "mp4a.40.2", 2, 48000),
        (audible(b"mp4a", full(b"esds", descriptors(0x6B, b""))), "mp3", "mp4a.6B", 2, 48000),
        (audible(b"mp4a", full(b"esds", b"\3\x80\x80\x80")), "aac", "mp4a", 2, 48000),
        (audible(b"mp4a", full(b"esds", descriptors(0x40, b""))), "aac", "mp4a", 2, 48000),
        (audible(b"mp4a", full(b"esds", long_descriptors())), "aac", "mp4a.40.2", 2, 48000),
        (audible(b"enca", AAC, box(b"sinf", box(b"frma", b"mp4a"))), "aac", "mp4a.40.2", 2, 48000),
        (audible(b"Opus", box(b"dOps", bytes([0, 6])), channels=2), "opus", "opus", 6, 48000),
        (audible(b".mp3", channels=2), "mp3", None, 2, 48000),
        (audible(b"samr", channels=1, rate=8000), "amr_nb", "samr", 1, 8000),
        (audible(b"ipcm", full(b"pcmC", b"\1\x18")), "pcm_s24le", "ipcm", 2, 48000),
        (audible(b"fpcm", full(b"pcmC", b"\0\x40")), "pcm_f64be", "fpcm", 2, 48000),
        (audible(b"lpcm", version_two(96000.0, 6, 24, 0xC), version=2), "pcm_s24le", "lpcm", 6, 96000),
        (audible(b"lpcm", version_two(44100.0, 2, 32, 0x3), version=2), "pcm_f32be", "lpcm", 2, 44100),
        (audible(b"lpcm", version_two(float("nan"), 2**31, 8, 0), version=2), "pcm_u8", "lpcm", None, None),
        (audible(b"twos", version=1), "pcm_s16be", "twos", 2, 48000),
        (audible(b"\xffq\0z", channels=0, rate=0), "ÿqz", None, None, None),
    ],
)
def test_audio_entry_names_its_codec(
    entry: bytes, name: str, codec: str | None, channels: int | None, rate: int | None
) -> None:
    found = only_audio(entry)
    assert (found.name, found.codec) == (name, codec)
    assert (found.channels, found.sample_rate) == (channels, rate)


@pytest.mark.parametrize(
    ("references", "is_external"),
    [
        (SELF_CONTAINED, False),
        (full(b"url ", b"file:///etc/passwd\0"), True),
        (full(b"alis", flags=1), False),
        (full(b"alis", b"x"), True),
        (SELF_CONTAINED + full(b"urn ", b"x"), True),
        (box(b"url "), True),
        (b"", False),
    ],
)
def test_data_of_other_files_is_told(references: bytes, is_external: bool) -> None:
    assert read(film(track(references=references))).has_external_data is is_external


@pytest.mark.parametrize(
    ("kind", "is_told"),
    [(b"vide", True), (b"soun", True), (b"sbtl", True), (b"tmcd", False), (b"meta", False), (b"hint", False)],
)
def test_data_of_other_files_matter_to_what_is_shown(kind: bytes, is_told: bool) -> None:
    other = track(box(b"tx3g", bytes(12)), kind=kind, references=full(b"url ", b"file:///a\0"))
    assert read(film(track(), other)).has_external_data is is_told


def edit_list(*edits: int) -> bytes:
    """Of length and beginning of each edit."""
    rows = b"".join(words(*edits[at : at + 2], 1 << 16) for at in range(0, len(edits), 2))
    return box(b"edts", full(b"elst", words(len(edits) // 2), rows))


@pytest.mark.parametrize(
    ("tracks", "start"),
    [
        ([track()], 0.0),
        ([track(None, edit_list(2000, 0))], 0.0),
        ([track(None, edit_list(2000, 5))], 0.0),
        ([track(None, edit_list(500, -1, 2000, 0))], 0.5),
        ([track(None, edit_list(500, -1, 250, -1, 2000, 5))], 0.75),
        ([track(None, edit_list(5000, -1, 2000, 0))], 0.0),  # when all is over
        ([track(None, edit_list(2**32 - 1, -1, 2000, 0), kind=b"tmcd")], 0.0),
        ([track(audible(b"mp4a"), edit_list(700, -1, 2000, 0), kind=b"soun")], 0.7),
        ([track(audible(b"mp4a"), edit_list(700, -1, 2000, 0), kind=b"soun"), track()], 0.0),
        ([track(None, edit_list(500, -1, 2000, 0)), track(audible(b"mp4a"), kind=b"soun")], 0.0),
        ([track(None, edit_list(500, -1, 2000, 0)), track(audible(b"mp4a"), samples=0, kind=b"soun")], 0.5),
        ([track(None, edit_list(500, -1, 2000, 0)), track(None, edit_list(300, -1, 2000, 0))], 0.3),
        ([track(None, edit_list(500, -1, 2000, 0)), track(kind=b"text")], 0.5),
        ([track(None, edit_list(500, -1), header=full(b"tkhd", bytes(80))), track()], 0.0),
    ],
)
def test_film_starts_behind_the_empty_edits_of_pictures_and_sound(tracks: list[bytes], start: float) -> None:
    assert read(film(*tracks)).start == start


@pytest.mark.parametrize(
    ("edits", "times"),
    [
        ((), (0.0, 1.0)),
        ((2000, 0), (0.0, 1.0)),
        ((500, -1, 2000, 0), (0.5, 1.5)),
        ((2000, 5), (0.8,)),
        ((2000, 2), (0.92,)),
        ((500, -1, 500, -1, 2000, 25), (1.0,)),
        ((500, -1) * 20, (4.0, 5.0)),
    ],
)
def test_keyframes_are_on_the_timeline_of_the_edits(edits: tuple[int, ...], times: tuple[float, ...]) -> None:
    sync = full(b"stts", words(1, 50, 1)) + full(b"stss", words(2, 1, 26))
    assert mp4.read_keyframes(source(film(track(None, edit_list(*edits), in_tables=sync)))) == times


@pytest.mark.parametrize(
    ("in_tables", "samples", "times"),
    [
        (full(b"stts", words(1, 3, 5)), 3, (0.0, 0.2, 0.4)),
        (full(b"stts", words(2, 1, 5, 2, 10)), 3, (0.0, 0.2, 0.6)),
        (full(b"stts", words(1, 2, 5)) + full(b"stss", words(4, 0, 1, 2, 9)), 3, (0.0, 0.2)),
        (full(b"stts", words(1, 3, 5)) + full(b"ctts", words(1, 3, 5)), 3, (0.2, 0.4, 0.6)),
        (full(b"stts", words(1, 3, 5)) + full(b"stss", words(0)), 3, ()),
        (full(b"stts", words(0)), 3, ()),
        (b"", 3, ()),
    ],
)
def test_keyframes_are_the_sync_samples(in_tables: bytes, samples: int, times: tuple[float, ...]) -> None:
    assert mp4.read_keyframes(source(film(track(in_tables=in_tables, samples=samples)))) == times


def test_keyframes_are_thinned_evenly() -> None:
    data = film(track(samples=100_000, in_tables=full(b"stts", words(1, 100_000, 25))))
    times = mp4.read_keyframes(source(data))
    assert 2000 < len(times) <= fragments.MOST_KEYFRAMES
    assert {round(after - before, 3) for before, after in pairwise(times)} == {25.0}


@pytest.mark.parametrize(
    ("parts", "duration", "rate"),
    [
        ([fragment(run(25)), fragment(run(25), start=25)], 2.0, 25),
        ([fragment(run(25), start=None), fragment(run(25), start=None)], 2.0, 25),
        ([fragment(run(25), start=100)], 5.0, 25),
        ([fragment(run(2, 1, 9, flags=0x100))], 0.4, 5),
        ([fragment(run(2, flags=0x100)), fragment(run(25))], None, None),
        ([fragment(run(1), run(1), defaults=5)], 0.4, 5),
        ([fragment(run(25), identifier=9)], None, None),
        ([], None, None),
        ([fragment(run(1), start=at, defaults=1) for at in range(100)], 4.0, 25),
        ([fragment(run(1), start=at) for at in range(fragments.MOST_WALKED + 100)], None, None),
    ],
)
def test_fragments_make_the_film_longer(
    parts: list[bytes], duration: float | None, rate: float | None
) -> None:
    beginning = track(samples=0, media=media_header(25, 0), header=track_header(duration=0))
    media = read(film(beginning, EXTENDS, header=movie_header(duration=0), after=b"".join(parts)))
    assert media.is_fragmented
    assert (media.duration, media.video[0].frame_rate) == (duration, rate)


def test_header_of_fragments_tells_the_duration() -> None:
    extends = box(b"mvex", full(b"mehd", words(5000)), full(b"trex", words(1, 1, 1, 0, 0)))
    beginning = track(samples=0, media=media_header(25, 0), header=track_header(duration=0))
    assert read(film(beginning, extends, header=movie_header(duration=0))).duration == 5.0


def test_index_leads_past_fragments_that_are_too_many() -> None:
    parts = [fragment(run(1), start=at) for at in range(fragments.MOST_WALKED + 100)]
    last = len(film(track(), EXTENDS, after=b"".join(parts[:-1])))
    entry = words(0, last, 0x01010100)[:-1]
    data = film(track(), EXTENDS, after=b"".join(parts)) + random_access(entry)
    assert read(data).video[0].duration == len(parts) / 25
    segments = words(len(parts[0]), 25, 1 << 31) * len(parts)
    index = full(b"sidx", words(1, 25, 0, 0, len(parts)), segments)
    data = film(track(), EXTENDS, after=index + b"".join(parts))
    assert read(data).video[0].duration == len(parts) / 25
    assert mp4.read_keyframes(source(data)) == tuple(float(at) for at in range(len(parts)))


@pytest.mark.parametrize(
    ("runs", "times"),
    [
        ([run(3)], (0.0, 0.04, 0.08)),
        ([run(3, first=words(0), flags=0x4)], (0.0, 0.04, 0.08)),
        ([run(3, 0, 0x10000, 0, flags=0x400)], (0.0, 0.08)),
        ([run(2, 0x10000, 0, first=words(0x10000), flags=0x404)], (0.04,)),
        ([run(2, 1, 2, 0, 0, 3, 4, 0x10000, 0, flags=0xF00)], (0.0,)),
        ([run(1), run(1)], (0.0, 0.04)),
    ],
)
def test_keyframes_of_fragments_are_the_sync_samples(runs: list[bytes], times: tuple[float, ...]) -> None:
    data = film(track(samples=0), EXTENDS, after=fragment(*runs))
    assert mp4.read_keyframes(source(data)) == times


@pytest.mark.parametrize(("fragments_", "samples"), [(1, 10**6), (10, 5000), (96, 250), (500, 100)])
def test_keyframes_of_fragments_are_thinned_evenly(fragments_: int, samples: int) -> None:
    parts = b"".join(fragment(run(samples), start=samples * at) for at in range(fragments_))
    times = mp4.read_keyframes(source(film(track(samples=0), EXTENDS, after=parts)))
    assert fragments.MOST_KEYFRAMES / 3 < len(times) <= fragments.MOST_KEYFRAMES
    assert times[0] == 0.0
    assert max(after - before for before, after in pairwise(times)) < 0.01 * samples * fragments_ / 25 + 1
    assert times[-1] > 0.95 * samples * fragments_ / 25


def test_sound_of_many_samples_does_not_keep_keyframes_from_being_told() -> None:
    tones = full(b"tfhd", words(2, 1), flags=0x8) + run(2**20) + run(2**14, *[9] * 2**14, flags=0x200)
    part = fragment(run(25)) + box(b"moof", box(b"traf", tones))
    times = mp4.read_keyframes(source(film(track(samples=0), EXTENDS, after=part * 40)))
    assert len(times) == 25


def test_film_of_fifty_gigabytes_costs_some_kilobytes() -> None:
    samples = 2**20
    offsets = full(b"stts", bytes(4 + 8 * samples)) + full(b"stco", bytes(4 + 4 * samples))
    moov = film(track(samples=samples, in_tables=offsets))
    hole = 50 * 10**9
    asked: list[int] = []

    def read_at(size: int, position: int) -> bytes:
        asked.append(size)
        head = (words(1) + b"mdat" + hole.to_bytes(8))[position : position + size]
        return head or moov[position - hole : position - hole + size]

    media = mp4.read_media(Source(read_at, hole + len(moov)))
    assert (media.duration, media.faststart) == (2.0, False)
    assert sum(asked) < 4096
    assert len(asked) < 64


def cut(kind: bytes, missing: int = 1) -> bytes:
    """A box of ten bytes of content, so many of which are behind the end of the file."""
    return box(kind, bytes(10))[:-missing]


@pytest.mark.parametrize(
    ("after", "is_truncated"),
    [
        (b"", False),
        (box(b"mdat", bytes(10)), False),
        (cut(b"mdat"), True),
        (cut(b"mdat", missing=10), True),
        (box(b"free") + box(b"mdat") + cut(b"mdat"), True),
        (words(0) + b"mdat" + bytes(10), False),
        (words(1) + b"mdat" + (26).to_bytes(8) + bytes(10), False),
        (words(1) + b"mdat" + (27).to_bytes(8) + bytes(10), True),
        (words(1) + b"mdat" + (2**64 - 1).to_bytes(8) + bytes(10), True),
        (box(b"mdat", bytes(10)) + cut(b"free"), False),
        (box(b"mdat", bytes(10)) + cut(b"moof"), True),
        (box(b"mdat", bytes(10)) + bytes(50), False),
        (box(b"mdat", bytes(10)) + b"\xff" * 50, False),
        (box(b"mdat", bytes(10)) + b"a few words at the end", False),
        (box(b"mdat", bytes(10)) + b"\0\0\0", False),
        (box(b"free") * 5000 + cut(b"mdat"), False),  # nobody walks as far
    ],
)
def test_film_whose_media_data_reach_behind_the_file_is_truncated(after: bytes, is_truncated: bool) -> None:
    assert read(film(track(), after=after)).is_truncated is is_truncated


def test_what_is_before_the_film_is_all_there() -> None:
    media_data = box(b"mdat", bytes(1000))
    assert not read(film(track(), before=media_data)).is_truncated
    assert read(film(track(), before=media_data, after=cut(b"mdat"))).is_truncated


PART = fragment(run(1)) + box(b"mdat", bytes(10))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40, 1000])
@pytest.mark.parametrize(
    ("last", "is_truncated"),
    [
        (PART, False),
        (PART[:-1], True),
        (PART[:-10], True),
        (fragment(run(1))[:-1], True),
        (PART + cut(b"free"), False),
        (fragment(run(1)) + words(0) + b"mdat" + bytes(10), False),
        (PART + random_access(words(1, 2, 0x01010100)[:11]), False),
    ],
)
def test_film_in_fragments_is_truncated_where_the_last_one_is(
    count: int, last: bytes, is_truncated: bool
) -> None:
    assert read(film(track(), EXTENDS, after=PART * (count - 1) + last)).is_truncated is is_truncated


@pytest.mark.parametrize(("missing", "is_truncated"), [(0, False), (1, True), (500, True)])
def test_index_of_segments_tells_how_far_the_file_should_reach(missing: int, is_truncated: bool) -> None:
    count = 2000  # more than are walked by
    index = full(b"sidx", words(1, 1, 0, 0, count), words(len(PART), 1, 1 << 31) * count)
    data = film(track(), EXTENDS, after=index + PART * count)
    assert read(data[: len(data) - missing]).is_truncated is is_truncated


def test_film_in_more_fragments_than_can_be_walked_by_is_not_called_truncated() -> None:
    assert not read(film(track(), EXTENDS, after=PART * 2000 + PART[:-1])).is_truncated


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        box(b"ftyp", b"isom"),
        box(b"moov"),
        box(b"moov", full(b"mvhd")[:9]),
        film(track())[:-1],
        words(1) + b"moov",
        film(
            box(
                b"trak",
                box(b"tkhd"),
                box(b"mdia", box(b"mdhd"), handler(b"vide"), box(b"minf", box(b"stbl"))),
            )
        ),
    ],
)
def test_broken_film_is_refused(data: bytes) -> None:
    with pytest.raises(MediaUnreadable):
        read(data)


def test_tracks_are_told_up_to_a_number() -> None:
    assert len(read(film(*[track()] * (MOST_TRACKS + 1))).video) == MOST_TRACKS


def hostile_sps() -> bytes:
    """An HEVC record with as many numbers to read as there can be."""
    sps = bytes.fromhex("4201") + bytes([0x01]) + bytes(12) + b"\xff" * 60000
    return bytes([1]) + bytes(21) + bytes([1, 33]) + struct.pack(">HH", 1, len(sps)) + sps


HOSTILE: dict[str, Callable[[], bytes]] = {
    "boxes without end": lambda: film(track(), *(box(b"free") for _ in range(100_000))),
    "boxes before the film": lambda: box(b"free") * 100_000,
    "a chain of large boxes": lambda: (words(1) + b"free" + (16).to_bytes(8)) * 100_000 + film(track()),
    "tracks without end": lambda: film(*(track() for _ in range(500))),
    "tracks with long records": lambda: film(
        *(track(visual(b"hvc1", box(b"hvcC", hostile_sps()))) for _ in range(MOST_TRACKS))
    ),
    "long names": lambda: film(
        *(track(None, box(b"udta", box(b"name", b"x" * 100_000)), kind=b"sbtl") for _ in range(MOST_TRACKS))
    ),
    "user data without end": lambda: film(track(None, box(b"udta", *(box(b"kind") for _ in range(50_000))))),
    "long edit lists": lambda: film(
        *(track(None, box(b"edts", full(b"elst", words(2**32 - 1), b"\1" * 10**6))) for _ in range(16))
    ),
    "references without end": lambda: film(track(references=box(b"url ", words(1)) * 50_000)),
    "chapters without end": lambda: film(track(None, box(b"tref", box(b"chap", b"\0\0\0\7" * 10**6)))),
    "long tables": lambda: film(
        track(
            samples=2**32 - 1,
            in_tables=full(b"stts", words(2**16), words(1, 1) * 2**17)
            + full(b"stss", words(2**20), b"".join(words(at) for at in range(1, 2**18))),
        )
    ),
    "a table of durations that is too long": lambda: film(
        track(samples=2**31, in_tables=full(b"stts", words(2**32 - 1), words(1, 1) * 2**17))
    ),
    "samples without end": lambda: film(
        track(samples=2**32 - 1, in_tables=full(b"stts", words(1, 2**32 - 1, 2**32 - 1)))
    ),
    "fragments without end": lambda: film(track(), EXTENDS, after=fragment(run(1)) * 5000),
    "runs without end": lambda: film(track(), EXTENDS, after=fragment(*[run(1)] * 5000) * 10),
    "samples of a run without end": lambda: film(
        track(), EXTENDS, after=fragment(run(2**32 - 1), defaults=2**32 - 1)
    ),
    "runs without rows": lambda: film(track(), EXTENDS, after=crowded(run(2**32 - 1)) * 8),
    "runs of keyframes": lambda: film(
        track(), EXTENDS, after=crowded(run(1000, first=words(0), flags=4)) * 96
    ),
    "a run without rows": lambda: film(track(), EXTENDS, after=fragment(run(2**32 - 1)) * 1000),
    "rows of runs": lambda: film(
        track(), EXTENDS, after=fragment(run(2**15, *[1, 2] * 2**15, flags=0x500)) * 32
    ),
    "an index of segments": lambda: film(
        track(),
        EXTENDS,
        after=full(b"sidx", words(1, 1, 0, 0), b"\0\0\xff\xff", words(8, 1, 1 << 31) * 0xFFFF),
    ),
    "an index at the end": lambda: (
        film(track(), EXTENDS, after=fragment(run(1)) * 20)
        + random_access(words(1, 2, 0x01010100)[:11] * 2**17)
    ),
    "deep boxes": lambda: film(nested(10_000)),
}


def crowded(runs: bytes) -> bytes:
    """A fragment that has as many runs as are looked at."""
    return box(b"moof", *[box(b"traf", full(b"tfhd", words(1)), runs * 15)] * 8)


def nested(depth: int) -> bytes:
    sizes = range(8 * depth, 0, -8)
    return b"".join(size.to_bytes(4) + b"trak" for size in sizes)


@pytest.mark.parametrize("read_all", [mp4.read_media, mp4.read_keyframes])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_takes_little_time_and_memory(name: str, read_all: Callable[[Source], object]) -> None:
    assert_bounded(read_all, HOSTILE[name]())


KINDS = re.findall(
    rb"....",
    b"moovmvhdtraktkhdmdiamdhdhdlrminfstblstsdsttsstssstszcttsedtselstudtanamekinddinfdreftrefchapmvextrexmehd"
    b"mooftraftfhdtfdttrunsidxmfratframfromdatavc1avcChvc1hvcCav01av1Cvp09vpcCmp4aesdswaveOpusdOpsfLaCdfLaalac"
    b"ac-3dac3ec-3dec3tx3gencvsinffrmacolrpaspfielelngfree",
)
trees = st.recursive(
    st.binary(max_size=60),
    lambda inner: st.lists(st.tuples(st.sampled_from(KINDS), inner), max_size=6).map(
        lambda children: b"".join(box(kind, content) for kind, content in children)
    ),
    max_leaves=20,
)


@given(trees, trees, trees, trees)
def test_any_tree_of_boxes_is_read_or_refused(moov: bytes, trak: bytes, entry: bytes, after: bytes) -> None:
    inner = track(audible(b"mp4a", entry), trak, kind=b"soun")
    for data in (moov + after, film(track(visual(b"avc1", entry), trak), inner, moov, EXTENDS, after=after)):
        for read_all in (mp4.read_media, mp4.read_keyframes):
            with suppress(MediaUnreadable):
                read_all(source(data))
