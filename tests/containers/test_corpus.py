"""MP4 and QuickTime files as ffmpeg writes them: we say of each what ffprobe says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from streamer.containers import mp4
from streamer.containers.boxes import Box, boxes
from streamer.containers.media import Media, TextTrack
from streamer.errors import MediaUnreadable
from tests.containers import ffprobe
from tests.containers.ffprobe import make, pictures, sound
from tests.ffmpeg import clips

X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:pools=1", "-pix_fmt"]
AV1 = ["-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]
AAC = ["-c:a", "aac", "-b:a", "32k"]
PQ = ["-vf", "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"]
HLG = ["-vf", "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc"]
REC_709 = ["-vf", "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709"]
BOTH = [*pictures(), *sound()]

RECIPES: dict[str, list[str]] = {
    # H.264
    "h264-baseline.mp4": [*pictures(), *X264, "-profile:v", "baseline"],
    "h264-main.mp4": [
        *pictures(),
        *X264[:2],
        "-preset",
        "veryfast",
        "-pix_fmt",
        "yuv420p",
        "-profile:v",
        "main",
    ],
    "h264-high.mp4": [*BOTH, *X264[:2], "-preset", "veryfast", "-pix_fmt", "yuv420p", *AAC],
    "h264-high10.mp4": [*pictures(), *X264[:4], "-pix_fmt", "yuv420p10le"],
    "h264-high422.mp4": [*pictures(), *X264[:4], "-pix_fmt", "yuv422p10le"],
    "h264-high444.mp4": [*pictures(), *X264[:4], "-pix_fmt", "yuv444p"],
    "h264-gray.mp4": [*pictures(), *X264[:4], "-pix_fmt", "gray"],
    "h264-rec709.mp4": [*pictures(), *X264, *REC_709],
    "h264-interlaced.mp4": [*pictures("64x64"), *X264, "-x264-params", "interlaced=1"],
    "h264-interlaced.mov": [*pictures("64x64"), *X264, "-x264-params", "tff=1"],
    "odd-size.mp4": [*pictures("63x47"), *X264[:4], "-pix_fmt", "yuv444p"],
    # HEVC
    "hevc-main.mp4": [*pictures(), *X265, "yuv420p", "-tag:v", "hvc1"],
    "hevc-hev1.mp4": [*pictures(), *X265, "yuv420p", "-tag:v", "hev1"],
    "hevc-main10.mp4": [*pictures(), *X265, "yuv420p10le", "-tag:v", "hvc1"],
    "hevc-444.mp4": [*pictures(), *X265, "yuv444p", "-tag:v", "hvc1"],
    "hevc-hdr10.mp4": [*pictures(), *X265, "yuv420p10le", "-tag:v", "hvc1", *PQ],
    "hevc-hlg.mov": [*pictures(), *X265, "yuv420p10le", "-tag:v", "hvc1", *HLG],
    # AV1, VP9 and older ones
    "av1.mp4": [*pictures("64x64"), *AV1, "-pix_fmt", "yuv420p"],
    "av1-10.mp4": [*pictures("64x64"), *AV1, "-pix_fmt", "yuv420p10le", *PQ],
    "vp9.mp4": [*pictures(), *VP9, "-pix_fmt", "yuv420p"],
    "vp9-profile1.mp4": [*pictures(), *VP9, "-pix_fmt", "yuv444p"],
    "vp9-profile2.mp4": [*pictures(), *VP9, "-pix_fmt", "yuv420p10le", "-profile:v", "2", *HLG],
    "mpeg4.mp4": [*pictures(), "-c:v", "mpeg4"],
    "mpeg2.mp4": [*pictures(), "-c:v", "mpeg2video"],
    "mjpeg.mov": [*pictures(), "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
    "prores.mov": [*pictures(), "-c:v", "prores_ks", "-profile:v", "standard", "-pix_fmt", "yuv422p10le"],
    "prores-4444.mov": [*pictures(), "-c:v", "prores_ks", "-profile:v", "4444"],
    "dnxhd.mov": [*pictures("256x120"), "-c:v", "dnxhd", "-profile:v", "dnxhr_sq", "-pix_fmt", "yuv422p"],
    "png.mov": [*pictures(), "-c:v", "png"],
    "rle.mov": [*pictures(), "-c:v", "qtrle"],
    "raw.mov": [*pictures(), "-c:v", "rawvideo", "-pix_fmt", "uyvy422"],
    "h263.3gp": [*pictures("176x144"), "-c:v", "h263"],
    # sound
    "aac.mp4": [*sound(), *AAC],
    "aac-stereo-48k.m4v": [*sound(rate=48000, channels=2), *AAC],
    "aac-surround.mp4": [*sound(rate=48000, channels=6), "-c:a", "aac"],
    "opus.mp4": [*sound(rate=48000, channels=2), "-c:a", "libopus"],
    "flac.mp4": [*sound(rate=96000, channels=2), "-c:a", "flac", "-strict", "-2"],
    "alac.mp4": [*sound(channels=2), "-c:a", "alac"],
    "alac-96k.mov": [*sound(rate=96000), "-c:a", "alac"],
    "mp3.mp4": [*sound(), "-c:a", "libmp3lame"],
    "mp3.mov": [*sound(), "-c:a", "libmp3lame"],
    "ac3.mp4": [*sound(rate=48000, channels=6), "-c:a", "ac3"],
    "ac3-mono.mov": [*sound(rate=32000), "-c:a", "ac3"],
    "eac3.mp4": [*sound(rate=48000, channels=6), "-c:a", "eac3"],
    "vorbis.mp4": [*sound(), "-c:a", "libvorbis"],
    "mp2.mp4": [*sound(), "-c:a", "mp2"],
    **{
        f"pcm_{kind}.mov": [*sound(0.2), "-c:a", f"pcm_{kind}"]
        for kind in (
            *("s8", "u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be"),
            *("f32le", "f32be", "f64le", "f64be", "mulaw", "alaw"),
        )
    },
    "adpcm.mov": [*sound(0.2), "-c:a", "adpcm_ima_qt"],
    # the film
    "audio-only.mp4": [*sound(2), *AAC],
    "moov-last.mp4": [*BOTH, *X264, *AAC],
    "faststart.mp4": [*BOTH, *X264, *AAC, "-movflags", "+faststart"],
    "anamorphic.mp4": [*pictures("72x48"), *X264, "-vf", "setsar=32/27"],
    "narrow.mov": [*pictures("96x48"), *X264, "-vf", "setsar=3/4"],
    "ntsc.mp4": [*pictures(rate="30000/1001"), *X264],
    "variable.mp4": [
        *pictures(seconds=2),
        *X264,
        "-vf",
        "select='not(mod(n\\,3))+lt(n\\,12)'",
        "-fps_mode",
        "vfr",
    ],
    "one-frame.mp4": [*pictures(), *X264, "-frames:v", "1"],
    "audio-late.mp4": [*pictures(), "-itsoffset", "0.5", *sound(), *X264, *AAC],
    "video-late.mp4": ["-itsoffset", "0.5", *pictures(), *sound(), *X264, *AAC],
    "fragmented.mp4": [*BOTH, *X264, *AAC, "-g", "10", "-movflags", "frag_keyframe+empty_moov"],
    "fragmented-base.mp4": [
        *BOTH,
        *X264,
        *AAC,
        "-g",
        "10",
        "-movflags",
        "frag_keyframe+empty_moov+default_base_moof",
    ],
    "fragmented-first-in-moov.mp4": [*BOTH, *X264, *AAC, "-g", "10", "-movflags", "frag_keyframe"],
    "fragmented-trailer.mp4": [
        *BOTH,
        *X264,
        *AAC,
        "-g",
        "5",
        "-movflags",
        "frag_keyframe+empty_moov+skip_trailer",
    ],
    "fragmented-b.mp4": [
        *pictures(seconds=2),
        *X264[:2],
        "-preset",
        "veryfast",
        "-pix_fmt",
        "yuv420p",
        "-g",
        "12",
        "-movflags",
        "frag_keyframe+empty_moov",
    ],
    "dash.mp4": [*BOTH, *X264, *AAC, "-g", "10", "-movflags", "dash+frag_keyframe"],
    "global-sidx.mp4": [*pictures(), *X264, "-g", "5", "-movflags", "dash+frag_keyframe+global_sidx"],
    "cmaf.mp4": [*pictures(), *X264, "-g", "10", "-movflags", "cmaf+frag_keyframe"],
    "global-sidx-many.mp4": [*pictures(), *X264, "-g", "1", "-movflags", "dash+frag_keyframe+global_sidx"],
    "many-fragments.mp4": [*pictures(seconds=6), *X264, "-g", "2", "-movflags", "frag_keyframe+empty_moov"],
    "zero-length.mp4": [*pictures(), *X264, "-frames:v", "0", "-movflags", "empty_moov"],
}


# Their entries have a fixed number of channels (ISO/IEC 14496-14, 5.6), which ffprobe finds in the samples.
CHANNELS_UNTOLD = ("mp3.mp4", "mp2.mp4", "vorbis.mp4")
CONTAINERS = (
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"dinf",
    b"edts",
    b"mvex",
    b"moof",
    b"traf",
    b"udta",
)


@dataclass(frozen=True)
class Corpus:
    """Files that are made when they are asked for first."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        path = self.folder / name
        return path if path.exists() else make(path, *RECIPES[name])


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


def read(path: Path) -> Media:
    return mp4.read_media(ffprobe.source(path.read_bytes()))


def assert_agrees(path: Path) -> None:
    ffprobe.assert_agrees(read(path), ffprobe.probe(path))


def all_boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes of a file and those in them, from the outside to the inside."""
    for box in boxes(ffprobe.source(data), start, len(data) if end is None else end):
        yield box
        if box.kind in CONTAINERS:
            yield from all_boxes(data, box.start, box.end)


def rebuilt(data: bytes, changed: Callable[[bytes, bytes], bytes | None]) -> bytes:
    """A file with other boxes for those for whose type and content ``changed`` gives some."""
    parts = []
    for box in boxes(ffprobe.source(data), 0, len(data)):
        content = data[box.start : box.end]
        if box.kind in CONTAINERS:
            content = rebuilt(content, changed)
        replaced = changed(box.kind, content)
        parts.append((len(content) + 8).to_bytes(4) + box.kind + content if replaced is None else replaced)
    return b"".join(parts)


@pytest.mark.parametrize("name", RECIPES)
def test_says_what_ffprobe_says(corpus: Corpus, name: str) -> None:
    media, probed = read(corpus[name]), ffprobe.probe(corpus[name])
    if name in CHANNELS_UNTOLD:
        probed["streams"][0]["channels"] = media.audio[0].channels
    if name == "h264-gray.mp4":  # ffprobe adds the colours that are missing
        probed["streams"][0]["pix_fmt"] = "gray"
    ffprobe.assert_agrees(media, probed)


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPES["h264-high.mp4"],
        RECIPES["hevc-hdr10.mp4"],
        RECIPES["av1-10.mp4"],
        RECIPES["vp9-profile2.mp4"],
        RECIPES["opus.mp4"],
        RECIPES["fragmented.mp4"],
        RECIPES["dash.mp4"],
        [*BOTH, *X264, *AAC, "-g", "5", "-movflags", "hybrid_fragmented"],
    ],
)
def test_newer_ffmpeg_is_understood_as_well(tmp_path: Path, recipe: list[str]) -> None:
    path = make(tmp_path / "new.mp4", *recipe, program=clips.packaged_ffmpeg())
    assert_agrees(path)
    assert not read(path).is_truncated


def test_sound_without_compression_may_be_in_mp4(tmp_path: Path) -> None:
    arguments = [*sound(0.2), "-c:a", "pcm_s24le"]
    path = make(tmp_path / "new.mp4", *arguments, program=clips.packaged_ffmpeg())
    assert read(path).audio[0].name == "pcm_s24le"  # which ffprobe 5.1 takes for pcm_s16le


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("h264-baseline.mp4", "avc1.42C00A"),
        ("h264-main.mp4", "avc1.4D400A"),
        ("h264-high.mp4", "avc1.64000A"),
        ("h264-high10.mp4", "avc1.6E000A"),
        ("h264-high422.mp4", "avc1.7A000A"),
        ("h264-high444.mp4", "avc1.F4000A"),
        ("hevc-main.mp4", "hvc1.1.6.L30.90"),
        ("hevc-hev1.mp4", "hev1.1.6.L30.90"),
        ("hevc-main10.mp4", "hvc1.2.4.L30.90"),
        ("hevc-444.mp4", "hvc1.4.10.L30.9E.8"),
        ("av1.mp4", "av01.0.00M.08"),
        ("av1-10.mp4", "av01.0.00M.10.0.110.09.16.09.0"),
        ("vp9.mp4", "vp09.00.10.08"),
        ("vp9-profile1.mp4", "vp09.01.10.08.03.02.02.02.00"),
        ("vp9-profile2.mp4", "vp09.02.10.10.01.09.18.09.00"),
        ("mpeg4.mp4", "mp4v.20.1"),
        ("mpeg2.mp4", "mp4v.61"),
        ("prores.mov", "apcn"),
        ("mjpeg.mov", "jpeg"),
        ("aac.mp4", "mp4a.40.2"),
        ("opus.mp4", "opus"),
        ("flac.mp4", "flac"),
        ("alac.mp4", "alac"),
        ("mp3.mp4", "mp4a.6B"),
        ("ac3.mp4", "ac-3"),
        ("eac3.mp4", "ec-3"),
        ("pcm_s16le.mov", "sowt"),
    ],
)
def test_codec_is_named_as_in_rfc_6381(corpus: Corpus, name: str, codec: str) -> None:
    media = read(corpus[name])
    assert codec in [track.codec for track in media.video] + [track.codec for track in media.audio]


@pytest.mark.parametrize(
    ("name", "dynamic_range"), [("hevc-hdr10.mp4", "pq"), ("hevc-hlg.mov", "hlg"), ("h264-rec709.mp4", "sdr")]
)
def test_dynamic_range_is_that_of_the_transfer(corpus: Corpus, name: str, dynamic_range: str) -> None:
    assert read(corpus[name]).video[0].dynamic_range == dynamic_range
    uncoloured = rebuilt(corpus[name].read_bytes(), lambda kind, content: without_colours(kind, content))
    assert mp4.read_media(ffprobe.source(uncoloured)).video[0].dynamic_range == dynamic_range, "by the SPS"


def without_colours(kind: bytes, content: bytes) -> bytes | None:
    if kind != b"stsd":
        return None
    content = content.replace(b"colrnc", b"freenc")
    return (len(content) + 8).to_bytes(4) + kind + content


@pytest.mark.parametrize(
    ("name", "is_interlaced"),
    [
        ("h264-high.mp4", False),
        ("h264-interlaced.mp4", True),
        ("h264-interlaced.mov", True),
        ("av1.mp4", False),
        ("hevc-main.mp4", False),
        ("mpeg4.mp4", None),
    ],
)
def test_fields_are_told(corpus: Corpus, name: str, is_interlaced: bool | None) -> None:
    assert read(corpus[name]).video[0].is_interlaced is is_interlaced


@pytest.mark.parametrize(
    ("name", "faststart", "is_fragmented"),
    [
        ("moov-last.mp4", False, False),
        ("faststart.mp4", True, False),
        ("fragmented.mp4", True, True),
        ("dash.mp4", True, True),
        ("fragmented-first-in-moov.mp4", True, True),
    ],
)
def test_order_of_the_boxes_is_told(corpus: Corpus, name: str, faststart: bool, is_fragmented: bool) -> None:
    media = read(corpus[name])
    assert (media.faststart, media.is_fragmented) == (faststart, is_fragmented)


@pytest.mark.parametrize(
    ("rotation", "matrix"),
    [(0, (1, 0, 0, 1)), (90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))],
)
def test_rotation_turns_width_and_height(
    corpus: Corpus, tmp_path: Path, rotation: int, matrix: tuple[int, int, int, int]
) -> None:
    data = bytearray(corpus["anamorphic.mp4"].read_bytes())
    header = next(box for box in all_boxes(bytes(data)) if box.kind == b"tkhd")
    for at, value in zip((40, 44, 52, 56), matrix, strict=True):
        data[header.start + at : header.start + at + 4] = (value << 16).to_bytes(4, signed=True)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    assert_agrees(path)
    track = read(path).video[0]
    assert track.rotation == rotation
    assert (track.width, track.height) == ((48, 85) if rotation in (90, 270) else (85, 48))


def test_boxes_may_have_64_bits(corpus: Corpus, tmp_path: Path) -> None:
    def widened(kind: bytes, content: bytes) -> bytes | None:
        if kind == b"free" and not content:
            return b""  # its bytes become the size of mdat
        if kind == b"mdat":
            return b"\0\0\0\x01mdat" + (len(content) + 16).to_bytes(8) + content
        if kind == b"stco":
            offsets = b"".join(b"\0" * 4 + content[at : at + 4] for at in range(8, len(content), 4))
            return (16 + len(offsets)).to_bytes(4) + b"co64" + content[:8] + offsets
        return None

    path = tmp_path / "wide.mp4"
    path.write_bytes(rebuilt(corpus["moov-last.mp4"].read_bytes(), widened))
    assert b"co64" in path.read_bytes()
    assert_agrees(path)
    assert read(path) == replace(read(corpus["moov-last.mp4"]), bit_rate=read(path).bit_rate)


def test_last_box_may_have_no_size(corpus: Corpus, tmp_path: Path) -> None:
    data = corpus["faststart.mp4"].read_bytes()
    media_data = next(box for box in all_boxes(data) if box.kind == b"mdat")
    path = tmp_path / "open.mp4"
    path.write_bytes(data[: media_data.position] + bytes(4) + data[media_data.position + 4 :])
    assert_agrees(path)
    assert read(path) == read(corpus["faststart.mp4"])


def test_cut_out_part_lasts_as_long_as_its_edits(corpus: Corpus, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mp4", *pictures(seconds=3), *sound(3), *X264, *AAC, "-g", "25")
    part = make(tmp_path / "part.mp4", "-ss", "1.4", "-i", str(whole), "-t", "1", "-c", "copy")
    assert_agrees(part)
    assert mp4.read_keyframes(ffprobe.source(part.read_bytes())) == pytest.approx(
        [time for time in ffprobe.keyframes(part) if time >= 0], abs=0.002
    )


def test_every_track_has_its_number_language_and_name(tmp_path: Path) -> None:
    lines = tmp_path / "lines.srt"
    lines.write_text("1\n00:00:00,000 --> 00:00:00,500\nHello\n\n", encoding="utf-8")
    inputs = [*pictures(), *sound(), *sound(), "-i", str(lines), "-i", str(lines)]
    maps = [part for number in range(5) for part in ("-map", str(number))]
    names = ["-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"]
    names += ["-metadata:s:s:0", "language=fra", "-metadata:s:s:1", "language=spa"]
    names += ["-metadata:s:s:1", "title=Para sordos ☂", "-disposition:s:1", "forced"]
    arguments = [*inputs, *maps, *X264, *AAC, "-c:s", "mov_text", *names]
    path = make(tmp_path / "tracks.mp4", *arguments)
    assert_agrees(path)
    media = read(path)
    assert [(track.number, track.language) for track in media.audio] == [(1, "eng"), (2, "deu")]
    assert media.text == (
        TextTrack(number=3, name="mov_text", language="fra", is_default=True),
        TextTrack(number=4, name="mov_text", language="spa", label="Para sordos ☂", is_forced=True),
    )
    assert_agrees(make(tmp_path / "tracks.mov", *arguments))


def test_pictures_and_names_of_chapters_and_covers_are_no_tracks(tmp_path: Path) -> None:
    cover = make(tmp_path / "cover.png", *pictures(), "-frames:v", "1")
    chapters = tmp_path / "chapters.txt"
    titles = "".join(f"[CHAPTER]\nTIMEBASE=1/10\nSTART={n}\nEND={n + 5}\ntitle=n\n" for n in (0, 5))
    chapters.write_text(f";FFMETADATA1\n{titles}", encoding="utf-8")
    inputs = [*pictures(), *sound(), "-i", str(cover), "-f", "ffmetadata", "-i", str(chapters)]
    maps = ["-map", "0", "-map", "1", "-map", "2", "-map_chapters", "3"]
    copied = [
        "-c:v:0",
        "libx264",
        "-preset",
        "ultrafast",
        "-c:v:1",
        "copy",
        "-disposition:v:1",
        "attached_pic",
    ]
    path = make(tmp_path / "covered.mp4", *inputs, *maps, *copied, *AAC)
    assert len(ffprobe.probe(path)["streams"]) == 4
    assert_agrees(path)
    media = read(path)
    assert (len(media.video), len(media.audio), len(media.text)) == (1, 1, 0)


def test_time_code_is_no_track_but_has_a_number(tmp_path: Path) -> None:
    path = make(tmp_path / "timecode.mov", *BOTH, *X264, *AAC, "-timecode", "01:00:00:00")
    assert len(ffprobe.probe(path)["streams"]) == 3
    assert_agrees(path)


def test_encrypted_film_says_what_it_was_before(tmp_path: Path) -> None:
    key = "00112233445566778899aabbccddeeff"
    scheme = ["-encryption_scheme", "cenc-aes-ctr", "-encryption_key", key, "-encryption_kid", key]
    plain = read(make(tmp_path / "plain.mp4", *BOTH, *X264, *AAC))
    media = read(make(tmp_path / "encrypted.mp4", *BOTH, *X264, *AAC, *scheme))
    assert not plain.is_encrypted
    assert media.is_encrypted
    assert (media.video, media.audio) == (plain.video, plain.audio)


def test_data_in_another_file_is_told(corpus: Corpus) -> None:
    def external(kind: bytes, content: bytes) -> bytes | None:
        url = b"\0\0\0\x0curl \0\0\0\x01"
        name = b"\0" * 4 + b"file:///etc/passwd\0"
        if kind != b"dref":
            return None
        content = content.replace(url, (len(name) + 8).to_bytes(4) + b"url " + name)
        return (len(content) + 8).to_bytes(4) + kind + content

    data = corpus["moov-last.mp4"].read_bytes()
    assert not mp4.read_media(ffprobe.source(data)).has_external_data
    assert mp4.read_media(ffprobe.source(rebuilt(data, external))).has_external_data


@pytest.mark.parametrize(
    "name",
    [
        "h264-high.mp4",
        "moov-last.mp4",
        "variable.mp4",
        "video-late.mp4",
        "prores.mov",
        "hevc-main.mp4",
        "fragmented.mp4",
        "fragmented-first-in-moov.mp4",
        "fragmented-trailer.mp4",
        "fragmented-b.mp4",
        "global-sidx.mp4",
        "many-fragments.mp4",
        "audio-only.mp4",
    ],
)
def test_keyframes_are_where_ffprobe_finds_them(corpus: Corpus, name: str) -> None:
    times = mp4.read_keyframes(ffprobe.source(corpus[name].read_bytes()))
    assert times == pytest.approx(ffprobe.keyframes(corpus[name]), abs=0.002)


@pytest.mark.parametrize("name", RECIPES)
def test_file_cut_anywhere_tells_what_is_known_or_nothing(corpus: Corpus, name: str) -> None:
    data = corpus[name].read_bytes()
    film = next(box for box in all_boxes(data) if box.kind == b"moov")
    whole = mp4.read_media(ffprobe.source(data))
    edges = sorted({edge for box in all_boxes(data) for edge in (box.position, box.start, box.end)})
    for edge in [edge for edge in edges if edge < film.end] + edges[:-40:-1]:
        for length in {edge - 1, edge, edge + 1, edge + 7} & set(range(len(data))):
            part = data[:length]
            if length < film.end:
                with pytest.raises(MediaUnreadable):
                    mp4.read_media(ffprobe.source(part))
                continue
            media = mp4.read_media(ffprobe.source(part))
            assert [track.codec for track in media.video] == [track.codec for track in whole.video]
            mp4.read_keyframes(ffprobe.source(part))


@pytest.mark.parametrize("name", RECIPES)
def test_whole_file_is_not_truncated(corpus: Corpus, name: str) -> None:
    assert not read(corpus[name]).is_truncated


@pytest.mark.parametrize(
    "name",
    [
        "faststart.mp4",
        "fragmented.mp4",
        "fragmented-first-in-moov.mp4",
        "fragmented-trailer.mp4",
        "dash.mp4",
        "global-sidx.mp4",
        "global-sidx-many.mp4",
        "cmaf.mp4",
        "many-fragments.mp4",
    ],
)
def test_file_that_ends_within_its_media_data_or_a_fragment_is_truncated(corpus: Corpus, name: str) -> None:
    data = corpus[name].read_bytes()
    top = list(boxes(ffprobe.source(data), 0, len(data)))
    film = next(box for box in top if box.kind == b"moov")
    cut = [box for box in top if box.kind in (b"mdat", b"moof") and box.position > film.position]
    for box in cut:
        for length in (box.start, (box.start + box.end) // 2, box.end - 1):
            assert mp4.read_media(ffprobe.source(data[:length])).is_truncated, (box.kind, length)


@pytest.mark.parametrize("inputs", [pictures(), sound(), [*pictures(), *sound()]])
@pytest.mark.parametrize("offset", ["0", "0.5", "7"])
def test_film_starts_late_when_its_pictures_and_sound_do(
    tmp_path: Path, inputs: list[str], offset: str
) -> None:
    path = make(tmp_path / "late.mp4", *inputs, *X264, *AAC, "-output_ts_offset", offset)
    stream = ffprobe.probe(path)["streams"][0]
    assert read(path).start == pytest.approx(float(stream["start_time"]), abs=0.03)
    assert read(path).start == pytest.approx(float(offset), abs=0.03)


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+delay_moov"])
@pytest.mark.parametrize(("pictures_at", "sound_at"), [("5", "0"), ("0", "5"), ("0.7", "0.3")])
def test_film_starts_with_its_first_picture_or_sound(
    tmp_path: Path, flags: str, pictures_at: str, sound_at: str
) -> None:
    inputs = ["-itsoffset", pictures_at, *pictures(), "-itsoffset", sound_at, *sound()]
    coding = [*X264, "-fps_mode", "vfr", *AAC]  # else the first picture is there from the beginning
    path = make(tmp_path / "clip.mp4", *inputs, *coding, "-movflags", flags)
    told = float(ffprobe.probe(path)["format"]["start_time"])
    assert told == pytest.approx(min(float(pictures_at), float(sound_at)), abs=0.03)
    assert read(path).start == pytest.approx(told, abs=0.03)
