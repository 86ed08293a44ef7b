"""Matroska and WebM files made by ffmpeg: what we say of them is what ffprobe says."""

import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.containers import matroska
from streamer.containers.media import Media, Source, TextTrack
from streamer.errors import MediaUnreadable
from tests.containers import ffprobe
from tests.containers.ffprobe import pictures, sound

SUBTITLES = "1\n00:00:00,100 --> 00:00:00,700\nHello\n\n2\n00:00:00,800 --> 00:00:00,900\nYou\n"
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:pools=1"]
VP8 = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-pix_fmt", "yuv420p"]
AV1 = ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-pix_fmt", "yuv420p"]
PQ = ["-vf", "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"]
HLG = ["-vf", "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc"]

# the file's name, the arguments that make it, RFC 6381 of its tracks
CORPUS: list[tuple[str, list[str], list[str | None]]] = [
    ("h264-aac.mkv", [*pictures(), *sound(), *X264, "-c:a", "aac"], ["avc1.42C00A", "mp4a.40.2"]),
    ("h264-high10.mkv", [*pictures(), "-c:v", "libx264", "-pix_fmt", "yuv420p10le"], ["avc1.6E000A"]),
    ("h264-interlaced.mkv",
     [*pictures(), "-vf", "tinterlace=interleave_top,setfield=tff", *X264, "-flags", "+ilme+ildct"],
     ["avc1.4D4015"]),
    ("hevc-ac3.mkv", [*pictures(), *sound(), *X265, "-pix_fmt", "yuv420p", "-c:a", "ac3"],
     ["hvc1.1.6.L30.90", "ac-3"]),
    ("hevc-pq.mkv", [*pictures(), *X265, "-pix_fmt", "yuv420p10le", *PQ], ["hvc1.2.4.L30.90"]),
    ("av1-opus.mkv", [*pictures(seconds=0.4), *sound(), *AV1, "-c:a", "libopus"], ["av01.0.00M.08", "opus"]),
    ("av1-hlg.mkv", [*pictures(seconds=0.4), *AV1, "-pix_fmt", "yuv420p10le", *HLG],
     ["av01.0.00M.10.0.110.09.18.09.0"]),
    ("vp8-vorbis.webm", [*pictures(), *sound(), *VP8, "-c:a", "libvorbis"], ["vp8", "vorbis"]),
    ("vp8-alpha.webm", [*pictures(), *VP8, "-pix_fmt", "yuva420p"], ["vp8"]),
    ("vp9-opus.webm", [*pictures(), *sound(), *VP9, "-c:a", "libopus"], ["vp09.00.10.08", "opus"]),
    ("vp9-alpha.webm", [*pictures(), *VP9, "-pix_fmt", "yuva420p"], ["vp09.00.10.08"]),
    ("vp9-444.webm", [*pictures(), *VP9, "-pix_fmt", "yuv444p"], ["vp09.01.10.08.03.02.02.02.00"]),
    ("vp9-gbr.webm", [*pictures(), *VP9, "-pix_fmt", "gbrp"], ["vp09.01.10.08.03.02.02.02.00"]),
    ("vp9-pq.webm", [*pictures(), *VP9, "-profile:v", "2", "-pix_fmt", "yuv420p10le", *PQ],
     ["vp09.02.10.10"]),
    ("vp9-720p.webm", [*pictures("1280x720", "50", 0.1), *VP9], ["vp09.00.40.08"]),
    ("mpeg4-mp3.mkv", [*pictures(), *sound(), "-c:v", "mpeg4", "-c:a", "libmp3lame"], ["mp4v.20.1", "mp3"]),
    ("mpeg2-mp2.mkv", [*pictures(), *sound(), "-c:v", "mpeg2video", "-c:a", "mp2"], [None, None]),
    ("ffv1-flac.mkv", [*pictures(), *sound(), "-c:v", "ffv1", "-c:a", "flac"], [None, "flac"]),
    ("theora-pcm.mkv", [*pictures(), *sound(), "-c:v", "libtheora", "-c:a", "pcm_s24le"], ["theora", None]),
    ("mjpeg-pcm.mkv", [*pictures(), *sound(), "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-c:a", "pcm_u8"],
     [None, None]),
    ("prores-alac.mkv", [*pictures(), *sound(), "-c:v", "prores_ks", "-c:a", "alac"], [None, "alac"]),
    ("huffyuv-eac3.mkv", [*pictures(), *sound(), "-c:v", "huffyuv", "-c:a", "eac3"], [None, "ec-3"]),
    ("wmv2-wma.mkv", [*pictures(), *sound(), "-c:v", "wmv2", "-c:a", "wmav2"], [None, None]),
    ("dts.mkv", [*sound(rate=48000, channels=2), "-c:a", "dca", "-strict", "-2"], ["dtsc"]),
    ("surround.mkv", [*sound(rate=48000, channels=6), "-c:a", "aac"], ["mp4a.40.2"]),
    ("sound.webm", [*sound(), "-c:a", "libopus"], ["opus"]),
    ("anamorphic.mkv", [*pictures("72x58"), *X264, "-vf", "setsar=64/45"], ["avc1.42C00A"]),
    ("narrow.mkv", [*pictures(), *X264, "-vf", "setsar=1/2"], ["avc1.42C00A"]),
    ("odd.mkv", [*pictures("63x47"), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p"],
     ["avc1.F4000A"]),
    ("ntsc.mkv", [*pictures(rate="30000/1001"), *X264], ["avc1.42C00A"]),
    ("one-frame.mkv", [*pictures(), *X264, "-frames:v", "1"], ["avc1.42C00A"]),
    ("index-first.mkv", [*pictures(), *X264, "-cues_to_front", "1", "-g", "5"], ["avc1.42C00A"]),
    ("index-reserved.mkv", [*pictures(), *X264, "-reserve_index_space", "500", "-g", "5"], ["avc1.42C00A"]),
    ("dash.webm", [*pictures(), *VP9, "-dash", "1"], ["vp09.00.10.08"]),
    ("clusters.mkv", [*pictures(seconds=3), *X264, "-cluster_time_limit", "200", "-g", "10"],
     ["avc1.42C00A"]),
    ("no-checksums.mkv", [*pictures(), *X264, "-write_crc32", "0"], ["avc1.42C00A"]),
    ("late.mkv", [*pictures(), *X264, "-output_ts_offset", "3"], ["avc1.42C00A"]),
]  # fmt: skip

WHOLE = [name for name, _, _ in CORPUS if name != "late.mkv"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matroska")


@pytest.fixture
def corpus(folder: Path) -> "Corpus":
    return Corpus(folder)


class Corpus:
    """The files, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            ffprobe.make(path, *next(arguments for row, arguments, _ in CORPUS if row == name))
        return path

    def data(self, name: str) -> bytes:
        return self.path(name).read_bytes()


def read(data: bytes) -> Media:
    return matroska.read_media(ffprobe.source(data))


def names(media: Media) -> list[str | None]:
    return [*(track.codec for track in media.video), *(track.codec for track in media.audio)]


@pytest.mark.parametrize("name", WHOLE)
def test_says_what_ffprobe_says(corpus: Corpus, name: str) -> None:
    path = corpus.path(name)
    ffprobe.assert_agrees(read(path.read_bytes()), ffprobe.probe(path))


@pytest.mark.parametrize(("name", "expected"), [(name, expected) for name, _, expected in CORPUS])
def test_names_the_codecs(corpus: Corpus, name: str, expected: list[str | None]) -> None:
    assert names(read(corpus.data(name))) == expected


@pytest.mark.parametrize("name", [name for name, _, _ in CORPUS])
def test_a_whole_file_is_not_truncated(corpus: Corpus, name: str) -> None:
    assert not read(corpus.data(name)).is_truncated


@pytest.mark.parametrize("name", ["h264-aac.mkv", "clusters.mkv", "index-first.mkv", "index-reserved.mkv"])
def test_keyframes_are_where_ffprobe_finds_them(corpus: Corpus, name: str) -> None:
    path = corpus.path(name)
    times = matroska.read_keyframes(ffprobe.source(path.read_bytes()))
    assert times == pytest.approx(ffprobe.keyframes(path), abs=0.002)


@pytest.mark.parametrize(("name", "expected"), [("h264-interlaced.mkv", True), ("vp9-opus.webm", False)])
def test_fields_are_told(corpus: Corpus, name: str, expected: bool) -> None:
    assert read(corpus.data(name)).video[0].is_interlaced is expected


def test_some_kilobytes_are_read_of_a_long_file(corpus: Corpus, tmp_path: Path) -> None:
    arguments = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=320x240:r=25:d=6",
        "-c:v",
        "rawvideo",
        "-pix_fmt",
        "yuv420p",
    ]
    path = ffprobe.make(tmp_path / "long.mkv", *arguments)
    asked: list[int] = []

    def read_at(size: int, position: int) -> bytes:
        asked.append(size)
        return data[position : position + size]

    data = path.read_bytes()
    assert len(data) > 10_000_000
    assert matroska.read_media(Source(read_at, len(data))).duration == pytest.approx(6)
    assert sum(asked) < 4096
    assert len(asked) < 64


def test_the_size_of_a_cropped_picture_is_that_of_its_rest(corpus: Corpus) -> None:
    # ffprobe 5.1 does not know the elements
    data = corpus.data("h264-aac.mkv")
    crop = b"\x54\xaa\x81\x08\x54\xbb\x81\x08"
    patched = grown(data, b"\xba\x81\x30", b"\xba\x81\x30" + crop)
    (track,) = read(patched).video
    assert (track.width, track.height) == (64, 32)


@pytest.mark.parametrize(
    ("roll", "rotation", "size"),
    [(0.0, 0, (64, 48)), (90.0, 270, (48, 64)), (-90.0, 90, (48, 64)), (180.0, 180, (64, 48)),
     (-180.0, 180, (64, 48)), (-89.7, 90, (48, 64))],
)  # fmt: skip
def test_a_rotated_picture_is_told_upright(
    corpus: Corpus, tmp_path: Path, roll: float, rotation: int, size: tuple[int, int]
) -> None:
    # ffmpeg 5.1 reads the roll but does not write it
    projection = b"\x76\x70\x8a\x76\x71\x81\x00" + b"\x76\x75\x84" + struct.pack(">f", roll)
    projection = b"\x76\x70" + bytes([0x80 + len(projection) - 3]) + projection[3:]
    patched = grown(corpus.data("h264-aac.mkv"), b"\xba\x81\x30", b"\xba\x81\x30" + projection)
    (track,) = read(patched).video
    assert (track.rotation, (track.width, track.height)) == (rotation, size)
    path = tmp_path / "rotated.mkv"
    path.write_bytes(patched)
    stream = ffprobe.probe(path)["streams"][0]
    assert round(ffprobe.rotation(stream) / 90) * 90 % 360 == rotation


def grown(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes inside of the first Video element, and mend the sizes of its parents."""
    start = data.index(b"\x16\x54\xae\x6b")
    at = data.index(old, start)
    size, more = data[at + len(old) :], len(new) - len(old)
    video = data.rindex(b"\xe0", start, at)
    head = bytearray(data[:at])
    head[video + 1] += more
    entry = data.rindex(b"\xae\x01\0\0\0\0\0", start, at)
    head[entry + 8] += more
    tracks = data[start + 4 : start + 6]
    if tracks[0] & 0x80:
        head[start + 4] += more
    else:
        head[start + 4 : start + 6] = (int.from_bytes(tracks) + more).to_bytes(2)
    # what the SeekHead points to behind it is not where it was: it is found without
    return bytes(head) + new + size


def test_tracks_of_text_are_told_with_language_title_and_flags(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text(SUBTITLES)
    inputs = [*pictures(), *sound(), *sound(channels=2), *(["-i", str(tmp_path / "a.srt")] * 3)]
    maps = [word for index in range(6) for word in ("-map", str(index))]
    codecs = [*X264, "-c:a", "aac", "-c:s:0", "srt", "-c:s:1", "ass", "-c:s:2", "webvtt"]
    tags = [
        "-metadata:s:a:0", "language=fre", "-metadata:s:a:1", "language=deu",
        "-metadata:s:s:0", "language=eng", "-metadata:s:s:0", "title=English \u202e(full)",
        "-metadata:s:s:1", "language=ger", "-disposition:a:1", "default",
        "-disposition:s:0", "default+forced", "-disposition:s:1", "0",
    ]  # fmt: skip
    path = ffprobe.make(tmp_path / "tracks.mkv", *inputs, *maps, *codecs, *tags)
    media = read(path.read_bytes())
    assert [(track.language, track.channels) for track in media.audio] == [("fre", 1), ("deu", 2)]
    assert media.text == (
        TextTrack(
            number=3, name="subrip", language="eng", label="English (full)", is_default=True, is_forced=True
        ),
        TextTrack(number=4, name="ass", language="ger"),
        TextTrack(number=5, name="webvtt", is_default=media.text[2].is_default),
    )
    unmarked = [replace(media.text[0], label="English \u202e(full)"), *media.text[1:]]
    ffprobe.assert_agrees(replace(media, text=tuple(unmarked)), ffprobe.probe(path))


def test_attachments_are_no_tracks(tmp_path: Path) -> None:
    font, cover = tmp_path / "font.ttf", tmp_path / "cover.jpg"
    font.write_bytes(bytes(3000))
    ffprobe.make(cover, *pictures(), "-frames:v", "1")
    attach = ["-attach", str(cover), "-metadata:s:t:0", "mimetype=image/jpeg"]
    attach += ["-attach", str(font), "-metadata:s:t:1", "mimetype=application/x-font-ttf"]
    path = ffprobe.make(tmp_path / "attached.mkv", *pictures(), *sound(), *X264, "-c:a", "flac", *attach)
    media = read(path.read_bytes())
    assert (len(media.video), len(media.audio), len(media.text)) == (1, 1, 0)
    ffprobe.assert_agrees(media, ffprobe.probe(path))


@pytest.mark.parametrize(
    ("codecs", "muxer"),
    [
        pytest.param(X264, ["-f", "matroska"], id="pipe"),
        pytest.param(X264, ["-f", "matroska", "-live", "1"], id="live"),
        pytest.param(
            [*VP9, "-g", "10"], ["-f", "webm", "-live", "1", "-cluster_time_limit", "300"], id="webm"
        ),
    ],
)
def test_a_recording_without_duration_ends_at_its_last_block(
    tmp_path: Path, codecs: list[str], muxer: list[str]
) -> None:
    # ffprobe tells no duration
    ffprobe.require_ffmpeg()
    command = [str(ffprobe.FFMPEG), "-v", "error", *pictures(seconds=2), *codecs, *muxer, "-"]
    data = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    path = tmp_path / "live.mkv"
    path.write_bytes(data)
    media, probed = read(data), ffprobe.probe(path)
    assert "duration" not in probed["format"]
    assert media.duration == pytest.approx(2, abs=0.04)
    assert not media.is_truncated
    ffprobe.assert_agrees(replace(media, duration=None), probed)
    assert matroska.read_keyframes(ffprobe.source(data)) == ()


def test_a_variable_frame_rate_is_the_average(tmp_path: Path) -> None:
    drop = ["-vf", "select='not(mod(n,3))+not(mod(n,5))'", "-vsync", "vfr"]
    path = ffprobe.make(tmp_path / "variable.mkv", *pictures(seconds=2), *drop, *X264)
    data = path.read_bytes()
    without = data.replace(b"\x23\xe3\x83", b"\x23\xe3\x8f")  # DefaultDuration, which says nothing here
    (track,) = read(without).video
    assert track.frame_rate is not None
    assert track.frame_rate == pytest.approx(24 / 2, rel=0.1)


def test_a_file_that_begins_late_lasts_to_its_end(corpus: Corpus) -> None:
    path = corpus.path("late.mkv")
    media, probed = read(path.read_bytes()), ffprobe.probe(path)
    assert media.duration == pytest.approx(float(probed["format"]["duration"]), abs=0.05)
    assert media.start == pytest.approx(float(probed["format"]["start_time"]), abs=0.05)
    assert media.start == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_starts_when_ffprobe_says(corpus: Corpus, name: str) -> None:
    path = corpus.path(name)
    start = float(ffprobe.probe(path)["format"].get("start_time", 0))
    assert read(path.read_bytes()).start == pytest.approx(max(0, start), abs=0.05)


@pytest.mark.parametrize(
    "mode", ["mono", "left_right", "right_left", "top_bottom", "row_interleaved_lr", "col_interleaved_rl"]
)
def test_pictures_of_both_eyes_have_the_size_of_both(tmp_path: Path, mode: str) -> None:
    stereo = ["-metadata:s:v:0", f"stereo_mode={mode}"]
    path = ffprobe.make(tmp_path / "stereo.mkv", *pictures(seconds=0.2), *X264, *stereo)
    ffprobe.assert_agrees(read(path.read_bytes()), ffprobe.probe(path))


def test_pictures_of_both_eyes_without_a_display_size_are_as_wide_as_ffprobe_says(
    corpus: Corpus, tmp_path: Path
) -> None:
    path = tmp_path / "stereo.mkv"
    path.write_bytes(grown(corpus.data("h264-aac.mkv"), b"\xba\x81\x30", b"\xba\x81\x30\x53\xb8\x81\x01"))
    (track,) = read(path.read_bytes()).video
    assert (track.width, track.height) == ffprobe.displayed(ffprobe.probe(path)["streams"][0])


# Cut files

CUT = ["h264-aac.mkv", "vp9-opus.webm", "index-first.mkv"]


def boundaries(data: bytes, start: int, end: int, depth: int) -> Iterator[int]:
    """Where elements start, where their content starts and where they end, down to a depth."""
    while start < end:
        width = 9 - data[start].bit_length()
        at = start + width
        size_width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + size_width]) & (1 << 7 * size_width) - 1
        content = at + size_width
        yield from (start, start + 1, at, content)
        if depth and data[start:at] not in (b"\xec", b"\xbf"):
            yield from boundaries(data, content, content + size, depth - 1)
        start = content + size
    yield end


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_anywhere_tells_what_is_left_or_is_refused(corpus: Corpus, name: str) -> None:
    data = corpus.data(name)
    whole = read(data)
    segment = data.index(b"\x18\x53\x80\x67") + 12
    tracks_end = data.index(b"\x16\x54\xae\x6b") + 4 + 2
    places = {*boundaries(data, 0, segment - 12, 1), *boundaries(data, segment, len(data), 1)}
    places |= {*range(0, min(len(data), 1200), 7), *range(0, len(data), 211)}
    for place in sorted(place for place in places if place < len(data)):
        try:
            media = read(data[:place])
        except MediaUnreadable:
            assert place < tracks_end + 1000, "Tracks are whole"
        else:
            assert names(media) == names(whole) or media.video[0].name == "vp9"
            assert media.duration == whole.duration
            assert media.is_truncated
        try:
            matroska.read_keyframes(ffprobe.source(data[:place]))
        except MediaUnreadable:
            continue


def test_without_its_seek_head_a_file_says_the_same(corpus: Corpus) -> None:
    data = corpus.data("clusters.mkv")
    without = data.replace(b"\x11\x4d\x9b\x74", b"\x11\x4d\x9b\x75")
    assert read(without) == replace(read(data), video=read(without).video)
    assert matroska.read_keyframes(ffprobe.source(without)) == matroska.read_keyframes(ffprobe.source(data))
