"""Posters and storyboards, made by ffmpeg and looked at."""

import dataclasses
import os
import re
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from streamer.containers import mp4, reading
from streamer.containers.media import Media
from streamer.errors import FfmpegFailed, Stopped
from streamer.ffmpeg import pictures
from streamer.ffmpeg.pictures import Picture
from streamer.ffmpeg.posters import judge, make_posters, posters_of_image
from streamer.ffmpeg.storyboards import Cue, Storyboard, make_storyboard, storyboard_vtt
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import limits
from tests.containers import ffprobe
from tests.ffmpeg import clips

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(params=["on PATH", "packaged"])
def each_tools(request: pytest.FixtureRequest) -> Tools:
    return clips.tools() if request.param == "on PATH" else clips.packaged_tools()


def test_poster_has_each_width_up_to_that_of_the_film(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.film(tmp_path / "clip.mp4", "testsrc2=s=400x300:r=5:d=1")
    posters, at = make_posters(clips.work_on(clip, tmp_path, with_tools=each_tools))
    assert [(poster.width, poster.height) for poster in posters] == [(160, 120), (320, 240), (400, 300)]
    assert [clips.rgb(poster.path)[:2] for poster in posters] == [(160, 120), (320, 240), (400, 300)]
    assert 0.1 <= at <= 0.4


@pytest.mark.parametrize(
    ("size", "widths", "largest"),
    [
        ("63x47", [63], (63, 47)),
        ("160x120", [160], (160, 120)),
        ("1920x1080", [160, 320, 640, 1280], (1280, 720)),
        ("360x1440", [160, 320], (320, 1280)),
    ],
)
def test_poster_is_never_larger_than_the_film_or_1280_pixels(
    tmp_path: Path, size: str, widths: list[int], largest: tuple[int, int]
) -> None:
    clip = clips.film(tmp_path / "clip.mkv", f"testsrc=s={size}:r=5:d=0.4", "-c:v", "mjpeg")
    posters, _ = make_posters(clips.work_on(clip, tmp_path))
    assert [poster.width for poster in posters] == widths
    assert clips.rgb(posters[-1].path)[:2] == largest == (posters[-1].width, posters[-1].height)


@pytest.mark.parametrize(
    ("degrees", "wanted"),
    [
        (90, [BLUE, RED, WHITE, GREEN]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_poster_and_storyboard_are_upright(tmp_path: Path, degrees: int, wanted: list[clips.Colour]) -> None:
    each_tools = clips.packaged_tools() if degrees == 90 else clips.tools()
    clip = clips.turn(clips.film(tmp_path / "clip.mp4", clips.QUADRANTS), degrees)
    posters, _ = make_posters(clips.work_on(clip, tmp_path, with_tools=each_tools))
    size = (160, 120) if degrees == 180 else (120, 160)
    assert clips.rgb(posters[-1].path)[:2] == size
    assert all(map(clips.are_near, clips.colours(posters[-1].path), wanted))
    storyboard = make_storyboard(clips.work_on(clip, tmp_path, with_tools=each_tools))
    assert clips.rgb(storyboard.picture.path)[:2] == (2 * size[0], size[1])


def test_poster_of_an_anamorphic_film_has_its_true_aspect(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", "testsrc2=s=180x144:r=5:d=1,setsar=64/45")
    posters, _ = make_posters(clips.work_on(clip, tmp_path))
    assert clips.rgb(posters[-1].path)[:2] == (256, 144)


@pytest.mark.parametrize(("matrix", "height"), [("bt709", 720), ("smpte170m", 120)])
@pytest.mark.parametrize("is_tagged", [True, False])
def test_colours_are_those_of_the_film(
    tmp_path: Path, each_tools: Tools, matrix: str, height: int, is_tagged: bool
) -> None:
    graph = f"color=lime:s=160x{height}:r=5:d=1,scale=out_color_matrix={matrix}"
    tags = ["-colorspace", matrix, "-color_trc", matrix, "-color_primaries", matrix] if is_tagged else []
    clip = clips.film(tmp_path / "clip.mp4", graph, *clips.H264, *tags)
    posters, _ = make_posters(clips.work_on(clip, tmp_path, with_tools=each_tools))
    storyboard = make_storyboard(clips.work_on(clip, tmp_path, with_tools=each_tools))
    for picture in (posters[-1], storyboard.picture):
        assert clips.are_near(clips.colours(picture.path)[0], GREEN)


@pytest.mark.parametrize("codec", [("mjpeg", "yuvj422p"), ("png", "rgb24"), ("libx264rgb", "rgb24")])
def test_colours_of_jpeg_and_rgb_are_those_of_the_film(
    tmp_path: Path, each_tools: Tools, codec: tuple[str, str]
) -> None:
    clip = clips.film(
        tmp_path / "clip.mkv", "color=lime:s=160x720:r=5:d=1", "-c:v", codec[0], "-pix_fmt", codec[1]
    )
    work = clips.work_on(clip, tmp_path, clips.matroska_media(clip), each_tools)
    for picture in (make_posters(work)[0][-1], make_storyboard(work).picture):
        assert clips.are_near(clips.colours(picture.path)[0], GREEN)


@pytest.mark.parametrize("dynamic_range", ["pq", "hlg"])
def test_poster_of_hdr_is_tone_mapped(tmp_path: Path, dynamic_range: str) -> None:
    each_tools = clips.packaged_tools() if dynamic_range == "pq" else clips.tools()
    clip = clips.hdr(tmp_path / "clip.mp4", "testsrc2=s=322x182:r=5:d=1", dynamic_range)
    plain = dataclasses.replace(each_tools, filters=each_tools.filters - {"zscale"})
    mapped, at = make_posters(clips.work_on(clip, tmp_path, with_tools=each_tools))
    unmapped, _ = make_posters(clips.work_on(clip, tmp_path, with_tools=plain), at)
    for posters in (mapped, unmapped):
        assert [clips.rgb(poster.path)[:2] for poster in posters] == [(160, 90), (320, 181), (322, 182)]
    assert abs(clips.brightness(mapped[-1].path) - clips.brightness(unmapped[-1].path)) > 5


@pytest.mark.parametrize(
    ("size", "degrees", "dynamic_range", "heights"),
    [
        ("960x540", 90, "hlg", [284, 569, 960]),
        ("642x362", 0, "pq", [90, 180, 361, 362]),
        ("642x362", 270, "hlg", [284, 568, 642]),
        ("960x402", 0, "pq", [67, 134, 268, 402]),
        ("106x62", 180, "pq", [62]),
    ],
)
def test_pictures_of_hdr_may_have_odd_sides(
    tmp_path: Path, each_tools: Tools, size: str, degrees: int, dynamic_range: str, heights: list[int]
) -> None:
    graph = clips.QUADRANTS.replace("d=2", "d=0.3") + f",scale={size.replace('x', ':')},setsar=1"
    clip = clips.hdr(tmp_path / "clip.mp4", graph, dynamic_range)
    if degrees:
        clips.turn(clip, degrees)
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    assert work.media.video[0].dynamic_range == dynamic_range
    posters, _ = make_posters(work)
    assert [clips.rgb(poster.path)[1] for poster in posters] == heights
    [*smaller, largest] = [clips.colours(poster.path) for poster in posters]
    assert all(all(map(clips.are_near, found, largest)) for found in smaller)
    storyboard = make_storyboard(work)
    assert clips.rgb(storyboard.picture.path)[:2] == (storyboard.picture.width, storyboard.picture.height)
    assert all(map(clips.are_near, clips.colours(storyboard.picture.path), largest))


def test_pictures_of_hdr_whose_own_sides_are_odd(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.hdr(tmp_path / "clip.mkv", "testsrc=s=163x121:r=5:d=2", "hlg", *clips.VP9, "-profile:v", "2")
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    posters, _ = make_posters(work)
    assert [clips.rgb(poster.path)[:2] for poster in posters] == [(160, 119), (163, 121)]
    assert clips.rgb(make_storyboard(work).picture.path)[:2] == (320, 119)


def test_pictures_of_interlaced_films_have_no_combs(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.film(tmp_path / "clip.ts", clips.COMBS, *clips.INTERLACED)
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    assert work.media.video[0].is_interlaced
    combed = clips.combing(clip)
    posters, _ = make_posters(work)
    assert clips.combing(posters[-1].path) < combed / 4
    for keyframes in ((), (0.0, 1.0)):
        assert clips.combing(make_storyboard(work, keyframes).picture.path) < combed / 4


def test_interlaced_film_of_one_frame_has_a_poster(tmp_path: Path, each_tools: Tools) -> None:
    clip = clips.film(tmp_path / "clip.ts", clips.COMBS, *clips.INTERLACED, "-frames:v", "1")
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    assert work.media.video[0].is_interlaced
    assert make_posters(work)[0]


def test_poster_of_a_film_that_begins_with_black_is_not_black(tmp_path: Path) -> None:
    graph = "testsrc2=s=160x120:r=10:d=4,drawbox=0:0:160:120:black:fill:enable='lt(t,1.2)'"
    clip = clips.film(tmp_path / "clip.mp4", graph)
    posters, at = make_posters(clips.work_on(clip, tmp_path))
    assert clips.brightness(posters[-1].path) > 50
    assert 1.2 <= at <= 1.6


def test_poster_comes_from_elsewhere_when_the_first_half_is_black(tmp_path: Path) -> None:
    graph = "testsrc2=s=160x120:r=10:d=4,drawbox=0:0:160:120:black:fill:enable='lt(t,2.4)'"
    clip = clips.film(tmp_path / "clip.mp4", graph)
    posters, at = make_posters(clips.work_on(clip, tmp_path))
    assert clips.brightness(posters[-1].path) > 50
    assert at > 2.4


def test_poster_of_a_fade_is_of_its_end(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", "testsrc=s=160x120:r=10:d=4,fade=in:0:16")
    _, at = make_posters(clips.work_on(clip, tmp_path))
    assert at > 1.3


def test_poster_of_a_film_that_gets_sharp_is_sharp(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", "testsrc2=s=320x240:r=10:d=4,gblur=16:enable='lt(t,1.2)'")
    _, at = make_posters(clips.work_on(clip, tmp_path))
    assert at >= 1.2


@pytest.mark.parametrize("graph", ["color=black:s=160x120:r=10:d=3", "color=black:s=160x120:r=25:d=0.04"])
def test_poster_of_nothing_but_black_is_black(tmp_path: Path, graph: str) -> None:
    posters, _ = make_posters(clips.work_on(clips.film(tmp_path / "clip.mp4", graph), tmp_path))
    assert clips.brightness(posters[-1].path) < 5


@pytest.mark.parametrize("graph", ["testsrc2=s=160x120:r=25:d=0.04", "testsrc2=s=160x120:r=10:d=0.7"])
def test_film_of_less_than_a_second_has_a_poster_and_one_tile(
    tmp_path: Path, each_tools: Tools, graph: str
) -> None:
    clip = clips.film(tmp_path / "clip.mp4", graph)
    posters, _ = make_posters(clips.work_on(clip, tmp_path, with_tools=each_tools))
    assert clips.brightness(posters[-1].path) > 50
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    storyboard = make_storyboard(work)
    assert storyboard.cues == (Cue(0, work.media.duration or 0, 0, 0, 160, 120),)
    assert clips.brightness(storyboard.picture.path) > 50


@pytest.mark.parametrize(("size", "seconds", "gop"), [("64x48", 120, 50), ("1920x1080", 16, 8)])
def test_poster_of_a_film_that_costs_much_to_decode_is_of_a_keyframe(
    tmp_path: Path, each_tools: Tools, size: str, seconds: int, gop: int
) -> None:
    graph = f"testsrc2=s={size}:r=1:d={seconds},drawbox=c=black:t=fill:enable='mod(t,{gop})'"
    clip = clips.film(tmp_path / "clip.mkv", graph, *clips.H264, "-g", str(gop), "-sc_threshold", "0")
    posters, at = make_posters(clips.work_on(clip, tmp_path, with_tools=each_tools))
    assert clips.brightness(posters[-1].path) > 50
    assert seconds * 0.1 <= at <= seconds * 0.4


def test_poster_of_a_clip_whose_key_frames_are_black_is_of_another_frame(
    tmp_path: Path, each_tools: Tools
) -> None:
    graph = "testsrc2=s=1920x1080:r=1:d=16,drawbox=c=black:t=fill:enable='not(mod(t,16))'"
    clip = clips.film(tmp_path / "clip.mkv", graph, *clips.H264, "-g", "16", "-sc_threshold", "0")
    posters, _ = make_posters(clips.work_on(clip, tmp_path, with_tools=each_tools))
    assert clips.brightness(posters[-1].path) > 50


def test_poster_can_be_of_any_time(tmp_path: Path) -> None:
    graph = "color=red:s=160x120:r=10:d=3,drawbox=0:0:160:120:blue:fill:enable='gte(t,2)'"
    clip = clips.film(tmp_path / "clip.mp4", graph)
    for wanted, colour in ((0.0, (255, 0, 0)), (1.9, (255, 0, 0)), (2.0, (0, 0, 255)), (2.9, (0, 0, 255))):
        posters, at = make_posters(clips.work_on(clip, tmp_path), wanted)
        assert at == wanted
        assert clips.are_near(clips.colours(posters[0].path)[0], colour)


def test_poster_behind_the_end_is_of_the_last_keyframe(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", clips.QUADRANTS)
    posters, _ = make_posters(clips.work_on(clip, tmp_path), 99)
    assert all(map(clips.are_near, clips.colours(posters[0].path), (RED, GREEN, BLUE, WHITE)))


def test_film_without_video_has_no_pictures(tmp_path: Path) -> None:
    clip = ffprobe.make(tmp_path / "clip.mp4", *ffprobe.sound(), *clips.AAC, "-f", "mp4")
    for make in (make_posters, make_storyboard):
        with pytest.raises(FfmpegFailed) as caught:
            make(clips.work_on(clip, tmp_path))
        assert caught.value.code == "no_video"


def test_film_whose_frames_are_noise_has_no_pictures(tmp_path: Path) -> None:
    clip = clips.film(
        tmp_path / "clip.mp4", "testsrc2=s=160x120:r=5:d=2", *clips.H264, "-movflags", "faststart"
    )
    media = clips.media_of(clip, tmp_path)
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    clip.write_bytes(data)
    with pytest.raises(FfmpegFailed):
        make_posters(clips.work_on(clip, tmp_path, media))
    for keyframes in ((), (0.0, 1.0)):
        with pytest.raises(FfmpegFailed):
            make_storyboard(clips.work_on(clip, tmp_path, media), keyframes)


def test_pictures_that_were_not_written_are_missed(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", clips.QUADRANTS)
    mute = clips.mute_tools(tmp_path)
    work = dataclasses.replace(clips.work_on(clip, tmp_path), tools=mute)
    image = _image(tmp_path / "image.png", "64x48")
    for make in (
        lambda: make_posters(work),
        lambda: make_posters(work, 1.0),
        lambda: make_storyboard(work, (0.0, 1.0)),
        lambda: posters_of_image(mute, image, tmp_path),
    ):
        with pytest.raises(FfmpegFailed) as caught:
            make()
        assert caught.value.code == "no_picture"


def test_storyboard_goes_up_to_the_end_where_pictures_begin_after_the_sound(tmp_path: Path) -> None:
    inputs = ["-itsoffset", "2", *ffprobe.pictures(seconds=2), *ffprobe.sound(4)]
    clip = ffprobe.make(tmp_path / "clip.mp4", *inputs, *clips.H264, "-fps_mode", "vfr", *clips.AAC)
    with reading.opened(clip) as source:
        media = mp4.read_media(source)
    assert make_storyboard(clips.work_on(clip, tmp_path, media)).cues[-1].end == pytest.approx(4, abs=0.1)


def test_half_of_a_film_is_enough_for_pictures(tmp_path: Path) -> None:
    graph = "testsrc2=s=160x120:r=5:d=12"
    clip = clips.film(tmp_path / "clip.mp4", graph, *clips.H264, "-g", "5", "-movflags", "faststart")
    media = clips.media_of(clip, tmp_path)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    posters, _ = make_posters(clips.work_on(clip, tmp_path, media))
    assert clips.brightness(posters[0].path) > 50
    for keyframes in ((), tuple(range(12))):
        storyboard = make_storyboard(clips.work_on(clip, tmp_path, media), keyframes)
        assert len(storyboard.cues) == 12
        assert clips.brightness(storyboard.picture.path) > 50


def test_work_that_nobody_wants_any_more_is_stopped(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", clips.QUADRANTS)
    with pytest.raises(Stopped):
        make_posters(dataclasses.replace(clips.work_on(clip, tmp_path), should_stop=lambda: True))


@pytest.mark.parametrize(
    ("duration", "keyframes", "tiles", "size"),
    [
        (3, (), 3, (480, 120)),
        (3, (0.0, 1.0, 2.0), 3, (480, 120)),
        (12, (), 12, (1600, 240)),
        (130, (), 100, (1600, 1200)),
    ],
)
def test_storyboard_has_a_tile_for_every_part_of_the_film(
    tmp_path: Path, duration: int, keyframes: tuple[float, ...], tiles: int, size: tuple[int, int]
) -> None:
    clip = clips.film(tmp_path / "clip.mp4", f"testsrc2=s=320x240:r=2:d={duration}", *clips.H264, "-g", "2")
    heard: list[float] = []
    work = dataclasses.replace(clips.work_on(clip, tmp_path), on_progress=heard.append)
    storyboard = make_storyboard(work, keyframes)
    assert clips.rgb(storyboard.picture.path)[:2] == size
    assert (storyboard.picture.width, storyboard.picture.height) == size
    assert len(storyboard.cues) == tiles
    assert (storyboard.cues[0].start, storyboard.cues[-1].end) == (0, duration)
    assert all(cue.end == following.start for cue, following in pairwise(storyboard.cues))
    assert {(cue.width, cue.height) for cue in storyboard.cues} == {(160, 120)}
    assert {cue.x + cue.width <= size[0] and cue.y + cue.height <= size[1] for cue in storyboard.cues} == {
        True
    }
    assert heard == sorted(heard)
    assert all(0 <= fraction <= 1 for fraction in heard)
    assert [path.name for path in work.folder.iterdir()] == ["storyboard.jpg"]


@pytest.mark.parametrize("keyframes", [(), tuple(range(6))], ids=["every frame", "key frames"])
def test_tile_shows_its_part_of_the_film(
    tmp_path: Path, each_tools: Tools, keyframes: tuple[float, ...]
) -> None:
    graph = (
        "color=red:s=160x120:r=10:d=6,drawbox=0:0:160:120:lime:fill:enable='gte(t,2)',"
        "drawbox=0:0:160:120:blue:fill:enable='gte(t,4)'"
    )
    clip = clips.film(tmp_path / "clip.mp4", graph, *clips.H264, "-g", "10")
    storyboard = make_storyboard(clips.work_on(clip, tmp_path, with_tools=each_tools), keyframes)
    width, _, pixels = clips.rgb(storyboard.picture.path)
    middles = [pixels[(60 * width + cue.x + 80) * 3 :][:3] for cue in storyboard.cues]
    assert all(map(clips.are_near, map(tuple, middles), [RED, RED, GREEN, GREEN, BLUE, BLUE]))


def test_film_that_begins_late_has_pictures_of_all_its_parts(tmp_path: Path, each_tools: Tools) -> None:
    graph = "color=red:s=160x120:r=10:d=6,drawbox=0:0:160:120:blue:fill:enable='gte(t,3)'"
    clip = clips.film(tmp_path / "clip.mkv", graph, *clips.H264, "-g", "10", "-output_ts_offset", "100")
    media = clips.matroska_media(clip)
    assert media.start == pytest.approx(100, abs=0.2)
    assert media.duration == pytest.approx(106, abs=0.2)
    work = clips.work_on(clip, tmp_path, media, each_tools)
    for keyframes in ((), tuple(range(100, 106))):
        storyboard = make_storyboard(work, keyframes)
        assert [round(cue.start) for cue in storyboard.cues] == list(range(len(storyboard.cues)))
        assert storyboard.cues[-1].end == pytest.approx(6, abs=0.2)
        width, _, pixels = clips.rgb(storyboard.picture.path)
        middles = [tuple(pixels[(60 * width + cue.x + 80) * 3 :][:3]) for cue in storyboard.cues]
        assert clips.are_near(middles[0], RED)
        assert clips.are_near(middles[-1], BLUE)
    assert make_posters(work)[1] < 6


@pytest.mark.parametrize(("name", "options"), [("clip.mkv", ["-live", "1"]), ("clip.flv", [])])
def test_film_without_an_index_is_not_read_again_for_every_picture(
    tmp_path: Path, name: str, options: list[str]
) -> None:
    graph = "testsrc2=s=160x120:r=4:d=120,drawbox=0:0:160:120:black:fill:enable='lt(t,20)'"
    clip = clips.film(tmp_path / name, graph, "-c:v", "flv1", "-g", "4", "-b:v", "500k", *options)
    media = dataclasses.replace(clips.media_of(clip, tmp_path), duration=120.0)
    work = clips.work_on(clip, tmp_path, media, clips.noting_tools(tmp_path))
    posters, at = make_posters(work)
    assert clips.brightness(posters[-1].path) > 50
    assert 20 <= at <= 48
    storyboard = make_storyboard(work)
    assert clips.brightness(storyboard.picture.path) > 50
    width, _, pixels = clips.rgb(storyboard.picture.path)
    middles = [sum(pixels[((cue.y + 60) * width + cue.x + 80) * 3 :][:3]) for cue in storyboard.cues]
    assert [middle > 30 for middle in middles] == [cue.end > 20.5 for cue in storyboard.cues]
    # each of which reads it once: for frames to choose from, for the poster and for the storyboard
    assert sum(arguments.count(f"file:{clip}") for arguments in clips.noted(work)) == 3


def test_film_without_an_index_and_light_at_its_end_has_a_poster_of_its_end(tmp_path: Path) -> None:
    graph = "testsrc2=s=64x48:r=4:d=80,drawbox=0:0:64:48:black:fill:enable='lt(t,70)'"
    clip = clips.film(tmp_path / "clip.mkv", graph, *clips.H264, "-g", "8", "-live", "1")
    posters, at = make_posters(clips.work_on(clip, tmp_path, clips.matroska_media(clip)))
    assert clips.brightness(posters[-1].path) > 50
    assert at > 70


def test_every_decoder_filter_and_encoder_has_one_thread_on_a_machine_of_any_size(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", "testsrc2=s=320x240:r=5:d=12", *clips.H264)
    work = clips.work_on(clip, tmp_path, with_tools=clips.noting_tools(tmp_path))
    make_posters(work)
    make_storyboard(work)
    make_storyboard(work, tuple(range(12)))
    posters_of_image(work.tools, _image(tmp_path / "image.png", "500x250"), work.folder)
    assert len(clips.noted(work)) >= 8
    for arguments in clips.noted(work):
        threads = [value for option, value in pairwise(arguments) if option == "-threads"]
        assert threads == ["1"] * (arguments.count("-i") + arguments.count("-vf"))
        assert ("-filter_threads", "1") in pairwise(arguments)


def test_clip_that_takes_too_long_to_decode_is_shown_by_its_keyframes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "slow-ffmpeg"
    program.write_text(
        "#!/usr/bin/env python3\nimport os, sys\n"
        "text = ' '.join(sys.argv)\n"
        "while '-noaccurate_seek' not in text and 'tile=' not in text: pass\n"
        f"os.execv({clips.tools().ffmpeg!r}, sys.argv)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(pictures, "_DECODE_CPU_SECONDS", 1)
    monkeypatch.setattr(pictures, "_CPU_SECONDS_PER_SECOND", 0)
    clip = clips.film(tmp_path / "clip.mp4", clips.QUADRANTS)
    tools = dataclasses.replace(clips.tools(), ffmpeg=str(program))
    work = clips.work_on(clip, tmp_path, with_tools=tools)
    posters, _ = make_posters(work)
    assert all(map(clips.are_near, clips.colours(posters[0].path), (RED, GREEN, BLUE, WHITE)))
    assert len(make_storyboard(work).cues) == 2


def test_pictures_of_a_film_may_be_too_large(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mkv", "color=gray:s=8200x8200:r=1:d=1", "-c:v", "mjpeg")
    with pytest.raises(FfmpegFailed):
        make_posters(clips.work_on(clip, tmp_path))


def test_memory_is_that_of_the_machine_at_most() -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert limits(1, 1, 10**12).memory_bytes <= max(2**30, machine // 2)


def test_storyboard_of_a_film_of_unknown_length_is_not_made(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", clips.QUADRANTS)
    media = dataclasses.replace(clips.media_of(clip, tmp_path), duration=None)
    with pytest.raises(FfmpegFailed) as caught:
        make_storyboard(clips.work_on(clip, tmp_path, media))
    assert caught.value.code == "no_duration"
    posters, _ = make_posters(clips.work_on(clip, tmp_path, media))
    assert posters


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clip.avi", ["-c:v", "mpeg4"]),
        ("clip.ts", ["-c:v", "mpeg2video"]),
        ("clip.mpg", ["-c:v", "mpeg2video"]),
        ("clip.flv", ["-c:v", "flv1"]),
        ("clip.ogv", ["-c:v", "libtheora"]),
        ("clip.webm", ["-c:v", "libvpx-vp9", "-deadline", "realtime"]),
    ],
)
def test_pictures_of_every_container(tmp_path: Path, name: str, arguments: list[str]) -> None:
    clip = clips.film(tmp_path / name, "testsrc2=s=160x120:r=25:d=2", *arguments)
    posters, _ = make_posters(clips.work_on(clip, tmp_path))
    assert clips.brightness(posters[-1].path) > 50
    storyboard = make_storyboard(clips.work_on(clip, tmp_path), (0.0, 1.0))
    assert clips.brightness(storyboard.picture.path) > 50


def test_vtt_of_a_storyboard_says_which_tile_is_for_which_time() -> None:
    cues = (Cue(0, 5.5, 0, 0, 160, 90), Cue(5.5, 3723.004, 160, 0, 160, 90))
    storyboard = Storyboard(Picture(Path("storyboard.jpg"), 320, 90), cues)
    assert storyboard_vtt(storyboard, "storyboard.jpg?v=1") == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:05.500\nstoryboard.jpg?v=1#xywh=0,0,160,90\n\n"
        "00:00:05.500 --> 01:02:03.004\nstoryboard.jpg?v=1#xywh=160,0,160,90\n"
    )


def test_detail_counts_and_darkness_rules_out() -> None:
    side = 40
    checks = bytes(255 if (x // 4 + y // 4) % 2 else 64 for y in range(side) for x in range(side))
    soft = bytes(64 + 4 * x for _ in range(side) for x in range(side))
    night = bytes(255 if x == y else 0 for y in range(side) for x in range(side))
    plain = bytes([128]) * side * side
    looks = [judge(picture, side) for picture in (night, plain, soft, checks)]
    assert looks == sorted(looks)
    assert [look.is_good for look in looks] == [False, False, False, True]


@pytest.mark.parametrize("picture", [b"\0", b"\0" * 2, b"\xff" * 9])
def test_picture_too_small_to_have_detail_is_judged(picture: bytes) -> None:
    assert judge(picture, 3).detail == 0


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_image_becomes_posters(tmp_path: Path, each_tools: Tools, suffix: str) -> None:
    image = _image(tmp_path / f"image.{suffix}", "500x250")
    posters = posters_of_image(each_tools, image, tmp_path)
    assert [(poster.width, poster.height) for poster in posters] == [(160, 80), (320, 160), (500, 250)]
    assert [clips.rgb(poster.path)[:2] for poster in posters] == [(160, 80), (320, 160), (500, 250)]
    assert not (tmp_path / "image.ppm").exists()


def test_large_image_is_made_smaller(tmp_path: Path) -> None:
    posters = posters_of_image(clips.tools(), _image(tmp_path / "image.png", "1500x3000"), tmp_path)
    assert [(poster.width, poster.height) for poster in posters] == [(160, 320), (320, 640), (640, 1280)]


def test_image_is_turned_as_its_exif_says_and_says_nothing_more(tmp_path: Path, each_tools: Tools) -> None:
    image = tmp_path / "image.jpg"
    ffprobe.make(image, "-f", "lavfi", "-i", clips.QUADRANTS, "-frames:v", "1", "-f", "mjpeg")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # orientation 6: 90° clockwise
    exif += b"\x0e\x01\x02\0\x08\0\0\0\x26\0\0\0\0\0\0\0secret!\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif
    image.write_bytes(image.read_bytes()[:2] + segment + image.read_bytes()[2:])
    posters = posters_of_image(each_tools, image, tmp_path)
    assert all(map(clips.are_near, clips.colours(posters[-1].path), [BLUE, RED, WHITE, GREEN]))
    assert clips.rgb(posters[-1].path)[:2] == (120, 160)
    for poster in posters:
        assert not re.search(rb"secret|Exif|Lav[cf]", poster.path.read_bytes())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"GIF89a" + bytes(99), "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "ffmpeg_failed"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "ffmpeg_failed"),
        (b"RIFF\x40\0\0\0WEBPVP8 " + bytes(99), "ffmpeg_failed"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, each_tools: Tools, data: bytes, code: str) -> None:
    image = tmp_path / "image"
    image.write_bytes(data)
    with pytest.raises(FfmpegFailed) as caught:
        posters_of_image(each_tools, image, tmp_path)
    assert caught.value.code in {code, "no_picture"}


def test_image_of_too_many_pixels_is_not_decoded(tmp_path: Path, each_tools: Tools) -> None:
    header = (60_000).to_bytes(4) * 2 + b"\x08\x00\0\0\0"
    chunks = b"".join(
        len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b""))
    )
    image = tmp_path / "image"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(FfmpegFailed):
        posters_of_image(each_tools, image, tmp_path)


def test_media_without_tracks_has_no_pictures(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.mp4", clips.QUADRANTS)
    with pytest.raises(FfmpegFailed):
        make_posters(clips.work_on(clip, tmp_path, Media(duration=1)))


def _image(path: Path, size: str) -> Path:
    return ffprobe.make(path, "-f", "lavfi", "-i", f"testsrc2=s={size}:r=1:d=1", "-frames:v", "1")
