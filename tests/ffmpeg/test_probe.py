"""What ffprobe says, and what is made of nonsense that it says."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.containers import signatures
from streamer.containers.media import AudioTrack, Media, TextTrack, VideoTrack
from streamer.ffmpeg.probe import probe, read_answer
from tests.ffmpeg import clips

PICTURE = "testsrc2=s=160x120:r=25:d=2"
SOUND = "sine=r=44100:d=2"
VIDEO = {"index": 0, "codec_type": "video", "codec_name": "h264", "width": 160, "height": 120}
AUDIO = {"index": 1, "codec_type": "audio", "codec_name": "aac"}
TEXT = {"index": 2, "codec_type": "subtitle", "codec_name": "subrip"}


def video_of(**members: Any) -> VideoTrack:
    media = read_answer({"streams": [VIDEO | members]}, 1000)
    assert media is not None
    return media.video[0]


def test_transport_stream_is_described(tmp_path: Path) -> None:
    high = ["-c:v", "libx264", "-profile:v", "high", "-level", "3.1", "-pix_fmt", "yuv420p"]
    clip = clips.film(tmp_path / "clip.ts", PICTURE, *high, *clips.AAC, sound=SOUND)
    media = clips.media_of(clip, tmp_path)
    assert media.duration == pytest.approx(2, abs=0.1)
    assert media.bit_rate == pytest.approx(clip.stat().st_size * 4, rel=0.1)
    [video], [audio] = media.video, media.audio
    assert dataclasses.replace(video, duration=None, is_default=True) == VideoTrack(
        number=0,
        name="h264",
        codec="avc1.64001F",
        width=160,
        height=120,
        frame_rate=25,
        bit_depth=8,
        chroma="4:2:0",
        is_interlaced=False,
    )
    assert (audio.name, audio.codec, audio.channels, audio.sample_rate) == ("aac", "mp4a.40.2", 1, 44100)


@pytest.mark.parametrize(
    ("name", "arguments", "codecs"),
    [
        ("clip.avi", ["-c:v", "mpeg4", "-c:a", "libmp3lame"], ("mpeg4", None, "mp3", "mp3")),
        ("clip.mpg", ["-c:v", "mpeg2video", "-c:a", "mp2"], ("mpeg2video", None, "mp2", None)),
        ("clip.flv", [*clips.H264, *clips.AAC], ("h264", "avc1.42C00B", "aac", "mp4a.40.2")),
        ("clip.ogv", ["-c:v", "libtheora", "-c:a", "libvorbis"], ("theora", "theora", "vorbis", "vorbis")),
        ("clip.m2ts", ["-c:v", "libx265", "-x265-params", "log-level=error", "-c:a", "ac3"],
         ("hevc", "hvc1.4.10.L30.B0", "ac3", "ac-3")),
    ],
)  # fmt: skip
def test_every_container_is_described(
    tmp_path: Path, name: str, arguments: list[str], codecs: tuple[str | None, ...]
) -> None:
    media = clips.media_of(clips.film(tmp_path / name, PICTURE, *arguments, sound=SOUND), tmp_path)
    [video], [audio] = media.video, media.audio
    assert (video.name, audio.name) == (codecs[0], codecs[2])
    assert (video.width, video.height, video.frame_rate) == (160, 120, 25)
    assert media.duration == pytest.approx(2, abs=0.15)


def test_without_ffprobe_nothing_is_told(tmp_path: Path) -> None:
    clip = clips.film(tmp_path / "clip.avi", PICTURE, "-c:v", "mpeg4")
    tools = dataclasses.replace(clips.tools(), ffprobe=None)
    assert probe(tools, clip, signatures.AVI, tmp_path) is None


@pytest.mark.parametrize("data", [b"", b"RIFF\0\0\0\0AVI LIST", bytes(10_000), b"G" * 10_000])
def test_of_nonsense_nothing_is_told(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    for container in (signatures.AVI, signatures.MPEG_TS, signatures.MPEG_PS, signatures.FLV, signatures.OGG):
        assert probe(clips.tools(), file, container, tmp_path) is None


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"streams": None}, {"streams": [None, 3, {}]}, {"streams": [TEXT]}]
)
def test_answer_without_a_track_to_play_tells_nothing(answer: Any) -> None:
    assert read_answer(answer, 1000) is None


def test_whole_answer_is_read() -> None:
    tags = {"language": "eng", "title": " The\0 title\u202e "}
    flags = {"default": 1, "forced": 1}
    streams = [
        VIDEO,
        AUDIO | {"channels": 6, "sample_rate": "48000"},
        TEXT | {"tags": tags, "disposition": flags},
    ]
    assert read_answer({"streams": streams, "format": {"duration": "8.000"}}, 1000) == Media(
        duration=8,
        bit_rate=1000,
        video=(VideoTrack(number=0, name="h264", codec=None, width=160, height=120, is_default=False),),
        audio=(
            AudioTrack(number=1, name="aac", codec=None, channels=6, sample_rate=48000, is_default=False),
        ),
        text=(
            TextTrack(
                number=2, name="subrip", language="eng", label="The title", is_default=True, is_forced=True
            ),
        ),
    )


def test_picture_of_a_cover_is_no_track() -> None:
    cover = VIDEO | {"disposition": {"attached_pic": 1}}
    assert read_answer({"streams": [cover]}, 1000) is None


@pytest.mark.parametrize(
    "value", ["N/A", "", "-1", -1, "0", 0, 10**30, "1e30", "nan", "inf", True, None, [], {}]
)
def test_duration_that_makes_no_sense_is_unknown(value: Any) -> None:
    answer = {"streams": [VIDEO | {"duration": value}], "format": {"duration": value}}
    media = read_answer(answer, 1000)
    assert media is not None
    assert (media.duration, media.bit_rate, media.video[0].duration) == (None, None, None)


@pytest.mark.parametrize("value", ["N/A", "-160", 0, -160, 160.5, 10**30, float("nan"), True, None, "1e400"])
def test_video_whose_size_makes_no_sense_is_no_track(value: Any) -> None:
    assert read_answer({"streams": [VIDEO | {"width": value}]}, 1000) is None


@pytest.mark.parametrize(
    ("value", "rate"),
    [("25/1", 25), ("30000/1001", pytest.approx(29.97, abs=0.01)), ("0/0", None), ("1/0", None),
     ("0/1", None),
     ("-25/1", None), ("N/A", None), ("90000000/1", None), ("1/99999999", None), (25, None), ("٢٥/1", None)],
)  # fmt: skip
def test_frame_rate_is_a_sensible_ratio_or_unknown(value: Any, rate: float | None) -> None:
    assert video_of(avg_frame_rate=value).frame_rate == rate


@pytest.mark.parametrize(
    ("members", "shown"),
    [
        ({}, (160, 120, 0)),
        ({"sample_aspect_ratio": "0:1"}, (160, 120, 0)),
        ({"sample_aspect_ratio": "3:2"}, (240, 120, 0)),
        ({"sample_aspect_ratio": "99999:1"}, (160, 120, 0)),
        ({"side_data_list": [{"rotation": -90}]}, (120, 160, 90)),
        ({"side_data_list": [{}, {"rotation": 90}]}, (120, 160, 270)),
        ({"side_data_list": [{"rotation": -180}]}, (160, 120, 180)),
        ({"side_data_list": [{"rotation": 45}]}, (160, 120, 0)),
        ({"side_data_list": [None, {"rotation": "90"}]}, (160, 120, 0)),
        ({"side_data_list": [{"rotation": -90}], "sample_aspect_ratio": "3:2"}, (120, 240, 90)),
    ],
)
def test_size_is_that_of_the_upright_picture(members: dict[str, Any], shown: tuple[int, int, int]) -> None:
    video = video_of(**members)
    assert (video.width, video.height, video.rotation) == shown


@pytest.mark.parametrize(
    ("name", "facts"),
    [("yuv420p", (8, "4:2:0")), ("yuvj422p", (8, "4:2:2")), ("yuv444p12le", (12, "4:4:4")),
     ("gbrp10be", (10, "4:4:4")),
     ("yuva420p", (8, "4:2:0")), ("gray", (8, "4:0:0")), ("gray10le", (10, "4:0:0")), ("gbrp", (8, "4:4:4")),
     ("pal8", (None, None)), ("", (None, None)), (7, (None, None))],
)  # fmt: skip
def test_pixel_format_says_depth_and_chroma(name: Any, facts: tuple[int | None, str | None]) -> None:
    video = video_of(pix_fmt=name)
    assert (video.bit_depth, video.chroma) == facts


@pytest.mark.parametrize(
    ("members", "codec"),
    [
        ({"profile": "Constrained Baseline", "level": 30}, "avc1.42E01E"),
        ({"profile": "High 10", "level": 51}, "avc1.6E0033"),
        ({"profile": "High", "level": -99}, None),
        ({"profile": "High"}, None),
        ({"profile": "Unheard Of", "level": 30}, None),
        ({"codec_name": "hevc", "profile": "Main 10", "level": 153}, "hvc1.2.4.L153.B0"),
        ({"codec_name": "hevc", "profile": "Rext", "level": 93}, None),
        ({"codec_name": "vp8"}, "vp8"),
        ({"codec_name": "mpeg2video", "profile": "Main", "level": 8}, None),
        ({"codec_name": 8}, None),
    ],
)
def test_codec_is_named_where_profile_and_level_are_told(members: dict[str, Any], codec: str | None) -> None:
    assert video_of(**members).codec == codec


@pytest.mark.parametrize(
    ("transfer", "dynamic_range"),
    [("smpte2084", "pq"), ("arib-std-b67", "hlg"), ("bt709", "sdr"), ("unknown", None), (None, None)],
)
def test_transfer_says_the_dynamic_range(transfer: str | None, dynamic_range: str | None) -> None:
    assert video_of(color_transfer=transfer).dynamic_range == dynamic_range


@pytest.mark.parametrize(
    ("order", "is_interlaced"),
    [("progressive", False), ("tt", True), ("bt", True), ("unknown", None), (1, None)],
)
def test_field_order_says_whether_it_is_interlaced(order: Any, is_interlaced: bool | None) -> None:
    assert video_of(field_order=order).is_interlaced == is_interlaced


@pytest.mark.parametrize(
    ("text", "language"),
    [("eng", "eng"), ("de-CH", "de-CH"), ("und", None), ("", None), ("x" * 999, None), ("e\0", None)],
)
def test_language_is_a_tag_or_unknown(text: str, language: str | None) -> None:
    assert video_of(tags={"language": text}).language == language


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["N/A", "0/0", "90", "1:1", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rotation", "default"]), inner)
    ),
)
members = [
    "index",
    "codec_type",
    "width",
    "height",
    "pix_fmt",
    "level",
    "side_data_list",
    "disposition",
    "tags",
]
members += ["sample_aspect_ratio", "avg_frame_rate", "duration", "channels", "sample_rate", "profile"]


@given(st.lists(st.dictionaries(st.sampled_from(members), values), max_size=3), values)
def test_any_answer_is_survived(streams: list[dict[str, Any]], duration: Any) -> None:
    answer = {"streams": [VIDEO | stream for stream in streams] + [AUDIO], "format": {"duration": duration}}
    media = read_answer(answer, 1000)
    assert media is not None
    assert all(track.width > 0 and track.height > 0 for track in media.video)
