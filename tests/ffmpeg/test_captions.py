"""The text tracks of films come out as captions, and those that cannot be read harm no other."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamer.containers.media import TextTrack
from streamer.errors import FfmpegFailed, Stopped
from streamer.ffmpeg import fence
from streamer.ffmpeg.captions import extract_captions
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import Work
from streamer.protocol.captions import to_webvtt
from tests.containers import ffprobe
from tests.ffmpeg import clips

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=2")
TIMES = "00:00:00,500 --> 00:00:01,500"


@pytest.fixture(params=["on PATH", "packaged"])
def each_tools(request: pytest.FixtureRequest) -> Tools:
    return clips.tools() if request.param == "on PATH" else clips.packaged_tools()


def film(path: Path, *texts: str, codec: str = "srt") -> Path:
    """A film with a track of one cue for each of these texts."""
    picture = ["-c:v", "libvpx", "-deadline", "realtime"] if path.suffix == ".webm" else clips.H264
    inputs, maps = [*PICTURE], ["-map", "0:v"]
    for number, text in enumerate(texts, 1):
        source = path.with_name(f"text-{number}.srt")
        source.write_text(f"1\n{TIMES}\n{text}\n", encoding="utf-8")
        inputs += ["-i", str(source)]
        maps += ["-map", f"{number}:s"]
    return ffprobe.make(path, *inputs, *maps, *picture, "-c:s", codec)


def with_unknown_track(path: Path) -> Path:
    """A film whose second track of mov_text says to be of a kind that no ffmpeg can decode."""
    data = path.read_bytes()
    first = data.index(b"tx3g") + 4
    path.write_bytes(data[:first] + data[first:].replace(b"tx3g", b"none"))
    return path


def with_text(work: Work, *tracks: TextTrack) -> Work:
    return dataclasses.replace(work, media=dataclasses.replace(work.media, text=tracks))


def webvtt(path: Path) -> list[str]:
    """The lines of the cues, by way of WebVTT."""
    return to_webvtt(path.read_bytes()).split("\n")[2:-1]


@pytest.mark.parametrize(
    ("name", "codec", "track", "text", "wanted"),
    [
        ("clip.mkv", "copy", "subrip", "Grüße & <i>mehr</i>", "Grüße &amp; <i>mehr</i>"),
        ("clip.mkv", "copy", "subrip", "<sigh> x<y z> &amp;", "&lt;sigh&gt; x&lt;y z&gt; &amp;amp;"),
        ("clip.mkv", "copy", "subrip", "A --> B\nC", "A --&gt; B\nC"),
        ("clip.mkv", "ass", "ass", "Grüße & <i>mehr</i>", "Grüße &amp; <i>mehr</i>"),
        ("clip.mkv", "ass", "ass", "A --> B\nC", "A --&gt; B\nC"),
        ("clip.mp4", "mov_text", "mov_text", "Grüße & mehr", "Grüße &amp; mehr"),
        ("clip.mp4", "mov_text", "mov_text", "A --> B\nC", "A --&gt; B\nC"),
        ("clip.mkv", "webvtt", "webvtt", "A --> B\nC", "A --&gt; B\nC"),
        ("clip.webm", "webvtt", "webvtt", "Grüße & mehr", "Grüße &amp; mehr"),
    ],
)
def test_text_of_every_kind_comes_out_as_it_is(
    tmp_path: Path, each_tools: Tools, name: str, codec: str, track: str, text: str, wanted: str
) -> None:
    work = clips.work_on(film(tmp_path / name, text, codec=codec), tmp_path, with_tools=each_tools)
    [found] = work.media.text
    assert found.name == track
    assert webvtt(extract_captions(work)[1]) == ["00:00:00.500 --> 00:00:01.500", *wanted.split("\n")]


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm"])
def test_voices_and_positions_of_webvtt_stay(tmp_path: Path, each_tools: Tools, name: str) -> None:
    cue = "00:00:00.500 --> 00:00:01.500 line:0 align:start\n<v Ada>Hi &lt;3</v>"
    (tmp_path / "text.vtt").write_text(f"WEBVTT\n\n{cue}\n", encoding="utf-8")
    inputs = [*PICTURE, "-i", str(tmp_path / "text.vtt"), *clips.VP9, "-c:s", "copy"]
    work = clips.work_on(ffprobe.make(tmp_path / name, *inputs), tmp_path, with_tools=each_tools)
    assert webvtt(extract_captions(work)[1]) == cue.split("\n")


def test_text_in_another_encoding_comes_out(tmp_path: Path, each_tools: Tools) -> None:
    clip = film(tmp_path / "clip.mkv", "Gr__e")
    clip.write_bytes(clip.read_bytes().replace(b"Gr__e", "Grüße".encode("cp1252")))
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    assert webvtt(extract_captions(work)[1])[1:] == ["Grüße"]


@pytest.mark.parametrize(("name", "codec"), [("clip.mkv", "copy"), ("clip.mp4", "mov_text")])
def test_empty_line_in_a_text_is_not_its_end(tmp_path: Path, name: str, codec: str) -> None:
    work = clips.work_on(film(tmp_path / name, "Line one\n\nLine two", codec=codec), tmp_path)
    assert webvtt(extract_captions(work)[1])[1:] == ["Line one", "Line two"]


def test_each_track_comes_out_in_one_pass_over_the_film(
    tmp_path: Path, each_tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    run = fence.run

    def count(program: str, arguments: Sequence[str], **options: Any) -> bytes:
        runs.append(arguments.count("-map"))
        return run(program, arguments, **options)

    monkeypatch.setattr(fence, "run", count)
    words = [f"word {number}" for number in range(1, 21)]
    work = clips.work_on(film(tmp_path / "clip.mkv", *words), tmp_path, with_tools=each_tools)
    runs.clear()
    made = extract_captions(work)
    assert [webvtt(path)[1] for path in made.values()] == words
    assert list(made) == list(range(1, 21))
    assert runs == [16, 4]


def test_progress_is_told(tmp_path: Path, each_tools: Tools) -> None:
    told: list[float] = []
    clip = film(tmp_path / "clip.mkv", *["text"] * 18)
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    extract_captions(dataclasses.replace(work, on_progress=told.append))
    assert told == sorted(told)
    assert 0.5 < told[-1] <= 1


def test_track_that_cannot_be_converted_is_left_out(
    tmp_path: Path, each_tools: Tools, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clip = film(tmp_path / "clip.mp4", "one", "two", "three", codec="mov_text")
    work = clips.work_on(clip, tmp_path, with_tools=each_tools)
    with_unknown_track(clip)
    made = extract_captions(work)
    assert {number: webvtt(path)[1] for number, path in made.items()} == {1: "one"}
    left_out = [message.splitlines()[0] for message in caplog.messages]
    assert [message.partition(":")[0] for message in left_out] == [
        f"text track {number} of clip.mp4 is left out" for number in (2, 3)
    ]


def test_tracks_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    work = clips.work_on(film(tmp_path / "clip.mkv", "text"), tmp_path)
    assert extract_captions(with_text(work, TextTrack(number=7, name="subrip"))) == {}
    there = extract_captions(with_text(work, TextTrack(number=7, name="subrip"), *work.media.text))
    assert list(there) == [1]


def test_captions_that_are_pictures_are_left_out(tmp_path: Path) -> None:
    work = clips.work_on(film(tmp_path / "clip.mkv", "text"), tmp_path)
    assert extract_captions(with_text(work, TextTrack(number=1, name="dvd_subtitle"))) == {}


@pytest.mark.parametrize(
    ("does", "made"), [("", []), ("open('captions-1.txt', 'w')", [1]), ("raise SystemExit(1)", [])]
)
def test_what_ffmpeg_does_not_write_is_left_out(tmp_path: Path, does: str, made: list[int]) -> None:
    work = clips.work_on(film(tmp_path / "clip.mkv", "text"), tmp_path)
    work = dataclasses.replace(work, tools=clips.mute_tools(tmp_path, does))
    work = with_text(work, *work.media.text, TextTrack(number=2, name="subrip"))
    assert list(extract_captions(work)) == made


def test_limit_is_a_failure(tmp_path: Path) -> None:
    work = clips.work_on(film(tmp_path / "clip.mkv", "text"), tmp_path)
    does = "with open('captions-1.txt', 'wb') as file:\n    while True: file.write(bytes(2**20))"
    with pytest.raises(FfmpegFailed) as caught:
        extract_captions(dataclasses.replace(work, tools=clips.mute_tools(tmp_path, does)))
    assert caught.value.code == "output_too_large"


def test_work_that_nobody_wants_any_more_is_stopped(tmp_path: Path) -> None:
    work = clips.work_on(film(tmp_path / "clip.mkv", "text"), tmp_path)
    with pytest.raises(Stopped):
        extract_captions(dataclasses.replace(work, should_stop=lambda: True))


def test_film_without_text_has_no_captions(tmp_path: Path) -> None:
    work = clips.work_on(ffprobe.make(tmp_path / "clip.mp4", *PICTURE, *clips.H264), tmp_path)
    assert extract_captions(work) == {}
