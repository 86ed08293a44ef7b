"""What is made for browsers, by ffmpeg, and asked about by ffprobe."""

import dataclasses
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from streamer.containers import matroska
from streamer.containers.media import AudioTrack, Media, VideoTrack
from streamer.errors import FfmpegFailed, Stopped
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.variants import Remedy, estimate_bytes, make
from streamer.ffmpeg.work import Work
from streamer.playability import judge
from tests.containers import ffprobe
from tests.ffmpeg import clips

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
PICTURE = "testsrc2=s=160x120:r=10:d=2"
SOUND = "sine=r=44100:d=2"
CUES, CLUSTER = bytes.fromhex("1C53BB6B"), bytes.fromhex("1F43B675")
EXACT = ("-fps_mode", "passthrough", "-enc_time_base", "-1")
"""Frames with the times that they have in the graph."""

REMEDIES: tuple[Remedy, ...] = ("faststart", "remux", "audio", "transcode")


@pytest.fixture(params=["on PATH", "packaged"])
def each_tools(request: pytest.FixtureRequest) -> Tools:
    return clips.tools() if request.param == "on PATH" else clips.packaged_tools()


def streams(path: Path) -> dict[str, Any]:
    """The streams of a file by kind, and not two of a kind."""
    found = ffprobe.probe(path)["streams"]
    kinds = [stream["codec_type"] for stream in found]
    assert len(kinds) == len(set(kinds)), kinds
    return dict(zip(kinds, found, strict=True))


def times(path: Path) -> list[float]:
    """When the pictures of a film are shown."""
    command = [str(ffprobe.FFPROBE), "-v", "error", "-select_streams", "v"]
    command += ["-show_entries", "packet=pts_time", "-of", "csv=p=0", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return sorted(float(line.strip(",")) for line in answer.split())


def assert_plays(path: Path, work: Work) -> None:
    """That it is whole, has its index first, and can be decoded without a complaint."""
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert_decodes(path, work)


def assert_decodes(path: Path, work: Work) -> None:
    data = path.read_bytes()
    assert len(data) <= estimate_bytes(work.media, "transcode", work.path.stat().st_size)
    command = [work.tools.ffmpeg, "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(ffprobe.probe(path)["format"]["duration"]) == pytest.approx(work.media.duration, abs=0.3)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_each_remedy_makes_a_whole_mp4(tmp_path: Path, each_tools: Tools, remedy: Remedy) -> None:
    clip = clips.film(tmp_path / "clip.mp4", PICTURE, *clips.H264, *clips.AAC, sound=SOUND)
    heard: list[float] = []
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    path = make(dataclasses.replace(work, on_progress=heard.append), remedy).path
    assert_plays(path, work)
    assert {kind: stream["codec_name"] for kind, stream in streams(path).items()} == {
        "video": "h264",
        "audio": "aac",
    }
    assert all(0 <= fraction <= 1 for fraction in heard)
    assert [path.name for path in work.folder.iterdir()] == ["web.mp4"]


@pytest.mark.parametrize("remedy", ["faststart", "audio"])
def test_copied_video_is_the_same_and_still_turned(tmp_path: Path, each_tools: Tools, remedy: Remedy) -> None:
    clip = clips.turn(clips.film(tmp_path / "clip.mp4", clips.QUADRANTS), 90)
    path = make(clips.work_on(clip, tmp_path, with_tools=each_tools), remedy).path
    assert ffprobe.rotation(streams(path)["video"]) == 90
    assert _hash(path) == _hash(clip)


@pytest.mark.parametrize(
    ("degrees", "wanted"),
    [(90, [BLUE, RED, WHITE, GREEN]), (180, [WHITE, BLUE, GREEN, RED]), (270, [GREEN, WHITE, RED, BLUE])],
)
def test_transcoded_video_is_turned_already(tmp_path: Path, degrees: int, wanted: list[clips.Colour]) -> None:
    clip = clips.turn(clips.film(tmp_path / "clip.mp4", clips.QUADRANTS), degrees)
    path = make(clips.work_on(clip, tmp_path), "transcode").path
    assert ffprobe.rotation(streams(path)["video"]) == 0
    assert all(clips.are_near(*pair, most=30) for pair in zip(clips.colours(path), wanted, strict=True))


@pytest.mark.parametrize(
    ("graph", "size"),
    [
        ("testsrc=s=63x47:r=10:d=1", (62, 46)),
        ("testsrc=s=1x1:r=10:d=1", (2, 2)),
        ("testsrc2=s=180x144:r=10:d=1,setsar=64/45", (256, 144)),
        ("testsrc2=s=2400x1200:r=5:d=0.4", (1920, 960)),
        ("testsrc2=s=600x2400:r=5:d=0.4", (480, 1920)),
        ("testsrc2=s=1080x1920:r=5:d=0.2", (1080, 1920)),
        ("testsrc2=s=2704x2028:r=5:d=0.2", (1440, 1080)),
        ("testsrc2=s=1400x1400:r=5:d=0.2", (1080, 1080)),
    ],
)
def test_transcoded_video_is_even_and_no_larger_than_full_hd(
    tmp_path: Path, graph: str, size: tuple[int, int]
) -> None:
    ffv1 = ["-c:v", "ffv1", "-pix_fmt", "yuv444p"]
    clip = clips.film(tmp_path / "clip.mkv", graph, *ffv1)
    video = streams(make(clips.work_on(clip, tmp_path), "transcode").path)["video"]
    assert (video["width"], video["height"]) == size
    assert video.get("sample_aspect_ratio", "1:1") == "1:1"
    assert (video["pix_fmt"], video["profile"]) == ("yuv420p", "High")


def test_transcoded_video_has_a_keyframe_every_two_seconds(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mkv", "testsrc2=s=64x48:r=10:d=7", "-c:v", "mpeg4", "-g", "300")
    path = make(clips.work_on(clip, tmp_path), "transcode").path
    assert ffprobe.keyframes(path) == pytest.approx([0, 2, 4, 6])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize(
    ("rate", "wanted"), [(25, 25), (50, 50), (60, 60), (75, 38), (90, 45), (100, 50), (120, 60), (240, 60)]
)
def test_transcoded_video_has_at_most_60_frames_a_second(
    tmp_path: Path, name: str, rate: int, wanted: int
) -> None:
    clip = clips.film(tmp_path / name, f"testsrc2=s=64x48:r={rate}:d=1", "-c:v", "mpeg4")
    path = make(clips.work_on(clip, tmp_path), "transcode").path
    assert int(streams(path)["video"]["nb_frames"]) == pytest.approx(wanted, abs=1)


@pytest.mark.parametrize(
    ("name", "rate", "jitter"),
    [("clip.mkv", "60", 0), ("clip.mkv", "60000/1001", 0), ("clip.mp4", "60", 36), ("clip.mp4", "60", 100)],
)
@pytest.mark.parametrize("is_told", [True, False])
def test_60_frames_a_second_stay_though_they_are_not_quite_even(
    tmp_path: Path, each_tools: Tools, name: str, rate: str, jitter: int, is_told: bool
) -> None:
    graph = f"testsrc2=s=64x48:r={rate}:d=1,settb=1/90000,setpts='N*90000/({rate})+mod(N,2)*{jitter}'"
    clip = clips.film(tmp_path / name, graph, *EXACT, *clips.H264)
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    told = work.media.video[0].frame_rate
    assert told == pytest.approx(60, abs=1)
    track = dataclasses.replace(work.media.video[0], frame_rate=told if is_told else None)
    media = dataclasses.replace(work.media, video=(track,))
    path = make(dataclasses.replace(work, media=media), "transcode").path
    assert len(times(path)) == len(times(clip)) == 60


@pytest.mark.parametrize("timescale", [600, 1000, 90000])
def test_frames_stay_where_there_were_fewer_before(tmp_path: Path, each_tools: Tools, timescale: int) -> None:
    one_a_second = f"N*{timescale}+random(1)*{timescale}/20"
    many = f"8*{timescale}+(N-8)*{timescale}/30+random(1)*{timescale}/200"
    graph = f"testsrc2=s=64x48:r=30:d=2.2,settb=1/{timescale},setpts='if(lt(N,8),{one_a_second},{many})'"
    clip = clips.film(
        tmp_path / "clip.mp4", graph, *EXACT, "-video_track_timescale", str(timescale), *clips.H264
    )
    before = times(clip)
    assert len(before) == 66
    after = times(make(clips.work_on(clip, tmp_path, with_tools=each_tools), "transcode").path)
    assert [time - after[0] for time in after] == pytest.approx([t - before[0] for t in before], abs=0.001)


@pytest.mark.parametrize(
    ("graph", "level"),
    [
        ("testsrc2=s=1280x720:r=30:d=0.1", 31),
        ("testsrc2=s=1280x720:r=60:d=0.1", 40),
        ("testsrc2=s=1920x1080:r=30:d=0.1", 40),
        ("testsrc2=s=1920x1080:r=60:d=0.1", 42),
        ("testsrc2=s=1920x1080:r=240:d=0.1", 42),
        ("testsrc2=s=1920x1080:r=30:d=0.5,settb=1/1000,setpts='N*33+random(1)*12'", 42),
    ],
)
def test_level_is_that_of_the_size_and_the_frame_rate(
    tmp_path: Path, each_tools: Tools, graph: str, level: int
) -> None:
    clip = clips.film(tmp_path / "clip.mkv", graph, *EXACT, "-c:v", "mjpeg", "-huffman", "default")
    path = make(clips.work_on(clip, tmp_path, with_tools=each_tools), "transcode").path
    assert streams(path)["video"]["level"] == level


@pytest.mark.parametrize(("height", "matrix"), [(720, "bt709"), (120, "smpte170m")])
@pytest.mark.parametrize(
    ("codec", "is_tagged"),
    [
        (("libx264rgb", "rgb24"), False),
        (("png", "rgb24"), False),
        (("ffv1", "gbrp10le"), False),
        (("mjpeg", "yuvj422p"), False),
        (("libx264", "yuv420p"), False),
        (("libx264", "yuv420p"), True),
        (("libx264", "yuv444p"), False),
        (("libx264", "yuv444p"), True),
    ],
)
def test_transcoded_video_has_the_colours_of_the_film(
    tmp_path: Path, each_tools: Tools, codec: tuple[str, str], is_tagged: bool, height: int, matrix: str
) -> None:
    name, pixel_format = codec
    made_of = matrix if name == "libx264" else "smpte170m"
    graph = f"color=0x20C040:s=160x{height}:r=5:d=0.4,scale=out_color_matrix={made_of}"
    tags = ["-colorspace", matrix, "-color_trc", matrix, "-color_primaries", matrix] if is_tagged else []
    clip = clips.film(tmp_path / "clip.mkv", graph, "-c:v", name, "-pix_fmt", pixel_format, *tags)
    path = make(clips.work_on(clip, tmp_path, with_tools=each_tools), "transcode").path
    assert clips.are_near(clips.colours(path)[0], (0x20, 0xC0, 0x40), most=8)


def test_variable_frame_rate_stays_variable(tmp_path: Path, each_tools: Tools) -> None:
    graph = "testsrc2=s=64x48:r=30:d=4,select='lt(t,1)+not(mod(n,15))'"
    clip = clips.film(tmp_path / "clip.mkv", graph, "-fps_mode", "vfr", "-c:v", "mpeg4")
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    path = make(work, "transcode").path
    assert_plays(path, work)
    assert int(streams(path)["video"]["nb_frames"]) == pytest.approx(36, abs=1)


def test_film_of_one_frame_is_transcoded(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.film(tmp_path / "clip.mp4", "testsrc2=s=160x120:r=25:d=0.04", "-c:v", "mpeg4")
    path = make(clips.work_on(clip, tmp_path, with_tools=each_tools), "transcode").path
    assert streams(path)["video"]["nb_frames"] == "1"


def test_interlaced_film_becomes_progressive(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.film(tmp_path / "clip.ts", clips.COMBS, *clips.INTERLACED)
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    assert work.media.video[0].is_interlaced
    path = make(work, "transcode").path
    assert_plays(path, work)
    assert streams(path)["video"]["field_order"] == "progressive"
    assert clips.combing(path, 1) < clips.combing(clip, 1) / 4


@pytest.mark.parametrize(
    ("codec", "size", "degrees", "wanted"),
    [
        ((), "160x120", 0, (160, 120)),
        ((), "162x90", 90, (90, 162)),
        ((), "2400x1006", 0, (1920, 804)),
        ((), "1202x2402", 180, (960, 1920)),
        ((*clips.VP9, "-profile:v", "2"), "163x121", 0, (162, 120)),
    ],
)
def test_hdr_becomes_sdr(
    tmp_path: Path,
    each_tools: Tools,
    codec: tuple[str, ...],
    size: str,
    degrees: int,
    wanted: tuple[int, int],
) -> None:
    clip = clips.hdr(tmp_path / "clip.mp4", f"testsrc=s={size}:r=5:d=0.4", "hlg", *codec)
    if degrees:
        clips.turn(clip, degrees)
    video = streams(make(clips.work_on(clip, tmp_path, with_tools=each_tools), "transcode").path)["video"]
    assert (video["width"], video["height"]) == wanted
    assert (video["pix_fmt"], video["color_transfer"], video["color_space"]) == ("yuv420p", "bt709", "bt709")


def test_hevc_is_copied_under_the_name_that_all_players_take(tmp_path: Path, each_tools: Tools) -> None:
    hevc = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"]
    clip = clips.film(tmp_path / "clip.mkv", PICTURE, *hevc)
    path = make(clips.work_on(clip, tmp_path, with_tools=each_tools), "remux").path
    assert streams(path)["video"]["codec_tag_string"] == "hvc1"


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [
        ("clip.mkv", clips.H264, clips.AAC),
        ("clip.mkv", clips.H264, ("-c:a", "flac")),
        ("clip.ts", (*clips.H264, "-bf", "2"), clips.AAC),
        ("clip.flv", clips.H264, clips.AAC),
        ("clip.mov", clips.H264, clips.AAC),
    ],
)
def test_tracks_are_moved_into_an_mp4(
    tmp_path: Path, name: str, video: tuple[str, ...], audio: tuple[str, ...]
) -> None:
    clip = clips.film(tmp_path / name, PICTURE, *video, *audio, sound=SOUND)
    work = clips.work_on(clip, tmp_path)
    path = make(work, "remux").path
    assert_plays(path, work)
    before, after = streams(clip), streams(path)
    assert {kind: before[kind]["codec_name"] for kind in before} == {
        kind: after[kind]["codec_name"] for kind in after
    }


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [
        ("clip.mkv", clips.VP9, clips.OPUS),
        ("clip.mkv", clips.VP9, ()),
        ("clip.mkv", (), ("-c:a", "libvorbis")),
        ("clip.mkv", ("-c:v", "libvpx", "-deadline", "realtime"), ("-c:a", "libvorbis")),
        ("clip.ogv", ("-c:v", "libvpx", "-deadline", "realtime"), ("-c:a", "libvorbis")),
        ("clip.mp4", clips.VP9, clips.OPUS),
    ],
)
def test_tracks_that_play_only_there_are_moved_into_a_webm(
    tmp_path: Path, each_tools: Tools, name: str, video: tuple[str, ...], audio: tuple[str, ...]
) -> None:
    inputs = ["-f", "lavfi", "-i", PICTURE] if video else []
    inputs += ["-f", "lavfi", "-i", SOUND] if audio else []
    clip = ffprobe.make(tmp_path / name, *inputs, *video, *audio, "-metadata", "title=secret")
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    verdict = judge(work.container.mime_type, work.media)
    assert verdict is not None
    assert verdict.remedy == "remux"
    variant = make(work, "remux")
    assert (variant.path.name, variant.mime_type) == ("web.webm", "video/webm")
    assert list(work.folder.iterdir()) == [variant.path]
    data = variant.path.read_bytes()
    assert data.index(CUES) < data.index(CLUSTER)
    assert b"secret" not in data
    assert_decodes(variant.path, work)
    result = judge(variant.mime_type, matroska.read_media(ffprobe.source(data)))
    assert result is not None
    assert (result.direct, result.remedy) == (True, "none")
    before, after = streams(clip), streams(variant.path)
    assert {kind: before[kind]["codec_name"] for kind in before} == {
        kind: after[kind]["codec_name"] for kind in after
    }


def test_webm_that_breaks_off_is_not_made(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.film(tmp_path / "clip.mkv", "testsrc2=s=160x120:r=10:d=12", *clips.VP9)
    media = clips.media_of(clip, tmp_path)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(FfmpegFailed) as caught:
        make(clips.work_on(clip, tmp_path, media, each_tools), "remux")
    assert caught.value.code in {"cut_short", "ffmpeg_failed"}


def test_video_out_of_avi_is_shown_in_the_right_order(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.film(tmp_path / "clip.avi", PICTURE, *clips.H264, "-bf", "2", *clips.AAC, sound=SOUND)
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    verdict = judge(work.container.mime_type, work.media)
    assert verdict is not None
    assert verdict.remedy == "transcode"
    path = make(work, "transcode").path
    assert_plays(path, work)
    pairs = zip(clips.colours(path, 1), clips.colours(clip, 1), strict=True)
    assert all(clips.are_near(*pair, most=30) for pair in pairs)


@pytest.mark.parametrize(
    ("audio", "remedy", "wanted"),
    [
        (["-c:a", "ac3", "-ac", "6"], "audio", ("aac", 2, "48000")),
        (["-c:a", "pcm_s16le", "-ar", "8000", "-ac", "1"], "audio", ("aac", 1, "48000")),
        (["-c:a", "ac3", "-ac", "6"], "transcode", ("aac", 2, "48000")),
        (["-c:a", "aac", "-ac", "2"], "transcode", ("aac", 2, "44100")),
        (["-c:a", "aac", "-ac", "6"], "transcode", ("aac", 2, "48000")),
    ],
)
def test_audio_becomes_aac_where_it_is_something_else(
    tmp_path: Path, audio: list[str], remedy: Remedy, wanted: tuple[str, int, str]
) -> None:
    clip = clips.film(tmp_path / "clip.mkv", PICTURE, *clips.H264, *audio, sound=SOUND)
    work = clips.work_on(clip, tmp_path)
    path = make(work, remedy).path
    assert_plays(path, work)
    found = streams(path)["audio"]
    assert (found["codec_name"], found["channels"], found["sample_rate"]) == wanted


@pytest.mark.parametrize("channels", [8, 10, 16])
def test_sound_of_many_channels_becomes_stereo(tmp_path: Path, each_tools: Tools, channels: int) -> None:
    sound = f"aevalsrc={'|'.join(['sin(440*t)'] * channels)}:d=2"
    clip = clips.film(tmp_path / "clip.mov", PICTURE, *clips.H264, "-c:a", "pcm_s16le", sound=sound)
    path = make(clips.work_on(clip, tmp_path, with_tools=each_tools), "audio").path
    assert streams(path)["audio"]["channels"] == 2


@pytest.mark.parametrize("remedy", REMEDIES)
@pytest.mark.parametrize(
    "arguments", [("clip.mkv",), ("clip.mp4", "-movflags", "empty_moov+frag_keyframe")], ids=["mkv", "mp4"]
)
def test_audio_track_without_sound_is_left_out(
    tmp_path: Path, each_tools: Tools, arguments: tuple[str, ...], remedy: Remedy
) -> None:
    clip = without_sound(tmp_path, *arguments)
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    assert work.media.audio
    path = make(work, remedy).path
    assert_plays(path, work)
    assert streams(path).keys() == {"video"}
    assert list(work.folder.iterdir()) == [path]


def test_sound_that_may_be_missing_at_the_end_of_the_file_is_missed(tmp_path: Path) -> None:
    work = clips.work_on(without_sound(tmp_path, "clip.mkv"), tmp_path)
    media = dataclasses.replace(work.media, is_truncated=True)
    with pytest.raises(FfmpegFailed) as caught:
        make(dataclasses.replace(work, media=media), "remux")
    assert caught.value.code == "result_unreadable"


def without_sound(folder: Path, name: str, *arguments: str) -> Path:
    """A film with an audio track that has no packet."""
    inputs = ["-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND]
    coding = [*clips.H264, *clips.AAC, "-bsf:a", "noise=drop=1", *arguments]
    return ffprobe.make(folder / name, *inputs, *coding, program=clips.packaged_ffmpeg())


def test_sound_that_begins_late_stays_late(tmp_path: Path) -> None:
    inputs = ["-f", "lavfi", "-i", PICTURE, "-itsoffset", "0.8", "-f", "lavfi", "-i", "sine=d=1.2"]
    clip = ffprobe.make(tmp_path / "clip.mkv", *inputs, *clips.H264, "-c:a", "pcm_s16le")
    path = make(clips.work_on(clip, tmp_path), "audio").path
    command = [
        str(ffprobe.FFMPEG),
        "-v",
        "error",
        "-i",
        str(path),
        "-af",
        "aresample=8000:async=1:first_pts=0",
    ]
    command += ["-f", "u8", "-ac", "1", "-"]
    samples = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    first = next(at for at, sample in enumerate(samples) if abs(sample - 128) > 8)
    assert first / 8000 == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_default_tracks_are_taken_and_nothing_else(tmp_path: Path, remedy: Remedy) -> None:
    captions = tmp_path / "captions.srt"
    captions.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    notes = tmp_path / "notes.txt"
    notes.write_text(";FFMETADATA1\ntitle=secret\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=secret\n")
    inputs = [*ffprobe.pictures("64x48", "10"), *ffprobe.pictures("160x120", "10")]
    inputs += [*ffprobe.sound(), *ffprobe.sound(channels=2), "-i", str(captions), "-i", str(notes)]
    maps = [word for number in range(5) for word in ("-map", str(number))]
    dispositions = ["-disposition:v:1", "default", "-disposition:a:1", "default"]
    dispositions += ["-disposition:v:0", "0", "-disposition:a:0", "0", "-attach", str(notes)]
    dispositions += ["-metadata:s:t", "mimetype=text/plain", "-map_metadata", "5"]
    titles = ["-metadata:s:v", "title=secret", "-metadata:s:a", "title=secret"]
    clip = ffprobe.make(
        tmp_path / "clip.mkv", *inputs, *maps, *clips.H264, *clips.AAC, "-c:s", "srt", *dispositions, *titles
    )
    path = make(clips.work_on(clip, tmp_path), remedy).path
    found = streams(path)
    assert found.keys() == {"video", "audio"}
    assert (found["video"]["width"], found["audio"]["channels"]) == (160, 2)
    assert b"secret" not in path.read_bytes()


@pytest.mark.parametrize("remedy", REMEDIES)
def test_sound_alone_is_enough(tmp_path: Path, remedy: Remedy) -> None:
    clip = ffprobe.make(tmp_path / "clip.mp4", *ffprobe.sound(), *clips.AAC)
    assert streams(make(clips.work_on(clip, tmp_path), remedy).path).keys() == {"audio"}


def test_file_without_tracks_makes_nothing(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", PICTURE)
    with pytest.raises(FfmpegFailed) as caught:
        make(clips.work_on(clip, tmp_path, Media(duration=2)), "remux")
    assert caught.value.code == "no_tracks"


@pytest.mark.parametrize("remedy", REMEDIES)
def test_film_that_breaks_off_is_not_made(tmp_path: Path, remedy: Remedy) -> None:
    graph = "testsrc2=s=160x120:r=10:d=12"
    clip = clips.film(tmp_path / "clip.mp4", graph, *clips.H264, "-movflags", "faststart", "-g", "5")
    media = clips.media_of(clip, tmp_path)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(FfmpegFailed) as caught:
        make(clips.work_on(clip, tmp_path, media), remedy)
    assert caught.value.code in {"cut_short", "ffmpeg_failed"}


@pytest.mark.parametrize("remedy", REMEDIES)
def test_film_that_begins_late_is_whole_when_it_begins_at_once(
    tmp_path: Path, each_tools: Tools, remedy: Remedy
) -> None:
    late = ["-output_ts_offset", "100"]
    clip = clips.film(tmp_path / "clip.mkv", PICTURE, *clips.H264, *clips.AAC, *late, sound=SOUND)
    heard: list[float] = []
    work = clips.work_on(clip, tmp_path, clips.matroska_media(clip), each_tools)
    path = make(dataclasses.replace(work, on_progress=heard.append), remedy).path
    assert float(ffprobe.probe(path)["format"]["duration"]) == pytest.approx(2, abs=0.3)
    assert all(0 <= fraction <= 1 for fraction in heard)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 48), (64, 0)])
def test_pictures_without_a_size_are_not_transcoded(tmp_path: Path, width: int, height: int) -> None:
    work = clips.work_on(clips.film(tmp_path / "clip.mkv", PICTURE), tmp_path)
    track = dataclasses.replace(work.media.video[0], width=width, height=height)
    media = dataclasses.replace(work.media, video=(track,))
    for attempt in (
        lambda: make(dataclasses.replace(work, media=media), "transcode"),
        lambda: estimate_bytes(media, "transcode", 10**6),
    ):
        with pytest.raises(FfmpegFailed) as caught:
            attempt()
        assert caught.value.code == "no_video"


def test_transcoding_uses_as_many_threads_as_it_may(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mkv", PICTURE, *clips.H264, *clips.AAC, sound=SOUND)
    work = clips.work_on(clip, tmp_path, with_tools=clips.noting_tools(tmp_path))
    make(dataclasses.replace(work, threads=3), "transcode")
    [arguments] = clips.noted(work)
    assert [value for option, value in pairwise(arguments) if option.endswith("threads")] == ["3"] * 3


@pytest.mark.parametrize("does", ["", "open('web.mp4', 'w')", "open('web.mp4', 'w').write('x' * 99)"])
def test_result_that_is_no_film_is_refused(tmp_path: Path, does: str) -> None:
    clip = clips.film(tmp_path / "clip.mp4", PICTURE)
    work = dataclasses.replace(clips.work_on(clip, tmp_path), tools=clips.mute_tools(tmp_path, does))
    with pytest.raises(FfmpegFailed) as caught:
        make(work, "remux")
    assert caught.value.code == "result_unreadable"


@pytest.mark.parametrize("answers", [True, False])
def test_result_without_the_sound_is_refused(tmp_path: Path, answers: bool) -> None:
    clip = clips.film(tmp_path / "clip.mp4", PICTURE, *clips.H264, *clips.AAC, sound=SOUND)
    silent = clips.film(tmp_path / "silent.mp4", PICTURE)
    does = f"open('web.mp4', 'wb').write(bytes.fromhex({silent.read_bytes().hex()!r}))"
    if answers:  # when it is asked for a packet
        does = f"import os, sys\n'data' in sys.argv and os.execv({clips.tools().ffmpeg!r}, sys.argv)\n{does}"
    work = dataclasses.replace(clips.work_on(clip, tmp_path), tools=clips.mute_tools(tmp_path, does))
    with pytest.raises(FfmpegFailed) as caught:
        make(work, "remux")
    assert caught.value.code == "result_unreadable"


@pytest.mark.parametrize(("remedy", "missing"), [("transcode", "libx264"), ("audio", "aac")])
def test_without_its_encoder_nothing_is_made(tmp_path: Path, remedy: Remedy, missing: str) -> None:
    clip = clips.film(tmp_path / "clip.mkv", PICTURE, *clips.H264, "-c:a", "flac", sound=SOUND)
    work = clips.work_on(clip, tmp_path)
    tools = dataclasses.replace(work.tools, encoders=work.tools.encoders - {missing})
    with pytest.raises(FfmpegFailed) as caught:
        make(dataclasses.replace(work, tools=tools), remedy)
    assert (caught.value.code, list(work.folder.iterdir())) == ("encoder_missing", [])


def test_work_that_nobody_wants_any_more_is_stopped(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", PICTURE)
    with pytest.raises(Stopped):
        make(dataclasses.replace(clips.work_on(clip, tmp_path), should_stop=lambda: True), "transcode")


def test_transcoding_of_noise_stays_within_its_estimate(tmp_path: Path) -> None:
    graph = "nullsrc=s=320x240:r=30:d=4,noise=alls=100:allf=t+u"
    clip = clips.film(tmp_path / "clip.mp4", graph, *clips.H264, "-qp", "40")
    work = clips.work_on(clip, tmp_path)
    path = make(work, "transcode").path
    assert path.stat().st_size <= estimate_bytes(work.media, "transcode", clip.stat().st_size)


@pytest.mark.parametrize(
    ("media", "remedy", "size", "least", "most"),
    [
        (Media(duration=10, video=(VideoTrack(number=0, name="h264", codec=None, width=640, height=480),)),
         "remux", 10**8, 10**8, 1.2 * 10**8),
        (Media(duration=3600, audio=(AudioTrack(number=0, name="flac", codec=None),)),
         "audio", 10**6, 7 * 10**7, 10**8),
        (Media(duration=600, video=(VideoTrack(number=0, name="av1", codec=None, width=7680, height=4320),)),
         "transcode", 10**6, 10**8, 1.2 * 10**9),
        (Media(duration=None, video=(VideoTrack(number=0, name="vp8", codec=None, width=64, height=48),)),
         "transcode", 10**7, 10**7, 4 * 10**7),
        (Media(duration=None, video=(VideoTrack(number=0, name="vp8", codec=None, width=1920, height=1080),)),
         "transcode", 5 * 10**9, 5 * 10**9, 25 * 10**9),
    ],
)  # fmt: skip
def test_estimate_is_of_the_right_order(
    media: Media, remedy: Remedy, size: int, least: float, most: float
) -> None:
    assert least <= estimate_bytes(media, remedy, size) <= most


def test_film_with_long_pauses_has_the_bit_rate_of_its_stretches() -> None:
    track = VideoTrack(number=0, name="hevc", codec=None, width=1920, height=1080)
    paused, steady, fast = (
        estimate_bytes(
            Media(duration=600, video=(dataclasses.replace(track, frame_rate=rate),)), "transcode", 1
        )
        for rate in (0.997, 30, 60)
    )
    assert paused == steady < fast


def _hash(path: Path) -> bytes:
    """Of the packets of the video."""
    command = [str(ffprobe.FFMPEG), "-v", "error", "-i", str(path), "-map", "0:v", "-c", "copy"]
    command += ["-f", "streamhash", "-"]
    return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
