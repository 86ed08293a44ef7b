"""Files made by ffmpeg, what ffprobe says about them, and whether we say the same.

Nothing here is judged tighter than a player could tell: durations to a frame or
0.05 s, rates to a hundredth; all else exactly.
"""

import json
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from streamer.containers.media import AudioTrack, Media, Source, TextTrack, VideoTrack
from tests.live.harness import require

FFMPEG = shutil.which("ffmpeg")
FFPROBE = shutil.which("ffprobe")

Probe = dict[str, Any]

_SUBSAMPLED = re.compile(r"yuva?j?(420|422|444)p(?:(\d+)[lb]e)?")
_GRAY = re.compile(r"gray(?:(\d+)[lb]e)?")
_TRANSFERS = {"smpte2084": "pq", "arib-std-b67": "hlg", "unknown": None, "unspecified": None, None: None}


def require_ffmpeg() -> None:
    require(FFMPEG is not None and FFPROBE is not None, "needs ffmpeg and ffprobe on PATH")


def pictures(size: str = "64x48", rate: str = "25", seconds: float = 1) -> list[str]:
    """The arguments for an input of moving pictures."""
    return ["-f", "lavfi", "-i", f"testsrc=s={size}:r={rate}:d={seconds}"]


def sound(seconds: float = 1, rate: int = 44100, channels: int = 1) -> list[str]:
    """The arguments for an input of sound."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    tone = f"sine=r={rate}:d={seconds},aformat=channel_layouts={layout}"
    return ["-f", "lavfi", "-i", tone]


def make(target: Path, *arguments: str, program: str | None = FFMPEG) -> Path:
    """Let ffmpeg write a file; where it has no such encoder or muxer the test is skipped, but not in CI."""
    require_ffmpeg()
    command = [str(program), "-nostdin", "-v", "error", "-y", "-threads", "1", *arguments, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    require("Unknown encoder" not in done.stderr, f"ffmpeg has no encoder: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return target


def probe(path: Path) -> Probe:
    """What ffprobe says about a file: ``format`` and ``streams``."""
    require_ffmpeg()
    command = [str(FFPROBE), "-v", "error", "-of", "json", "-show_format", "-show_streams", str(path)]
    answer: Probe = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return answer


def keyframes(path: Path) -> list[float]:
    """When the pictures that need no other are shown, by ffprobe, which decodes only them."""
    require_ffmpeg()
    command = [str(FFPROBE), "-v", "error", "-of", "json", "-select_streams", "v:0", "-skip_frame", "nokey"]
    command += ["-show_entries", "frame=pts_time,best_effort_timestamp_time", str(path)]
    frames = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)["frames"]
    return [float(frame.get("pts_time") or frame["best_effort_timestamp_time"]) for frame in frames]


def source(data: bytes) -> Source:
    """A file in memory as the readers see it; it fails the test that reads behind its end."""

    def read_at(size: int, position: int) -> bytes:
        assert size >= 0
        assert 0 <= position <= position + size <= len(data), "read outside of the file"
        return data[position : position + size]

    return Source(read_at, len(data))


def assert_agrees(media: Media, probed: Probe) -> None:
    """Compare what we say about a whole file with what ffprobe says."""
    streams = [stream for stream in probed["streams"] if not stream["disposition"]["attached_pic"]]
    by_kind = {
        kind: [stream for stream in streams if stream["codec_type"] == kind]
        for kind in ("video", "audio", "subtitle")
    }
    assert [track.number for track in media.video] == [stream["index"] for stream in by_kind["video"]]
    assert [track.number for track in media.audio] == [stream["index"] for stream in by_kind["audio"]]
    assert [track.number for track in media.text] == [stream["index"] for stream in by_kind["subtitle"]]
    _assert_same_duration(media, probed)
    for video, stream in zip(media.video, by_kind["video"], strict=True):
        assert_same_video(video, stream)
    for audio, stream in zip(media.audio, by_kind["audio"], strict=True):
        assert_same_audio(audio, stream)
    for text, stream in zip(media.text, by_kind["subtitle"], strict=True):
        assert_same_text(text, stream)


def assert_same_video(track: VideoTrack, stream: Probe) -> None:
    assert track.name == stream["codec_name"]
    assert track.rotation == rotation(stream)
    assert (track.width, track.height) == displayed(stream)
    rate = _rate(stream["avg_frame_rate"])
    assert track.frame_rate == (rate and pytest.approx(rate, rel=0.01))
    if "pix_fmt" in stream and (track.bit_depth is not None or track.chroma is not None):
        assert (track.bit_depth, track.chroma) == pixels(stream["pix_fmt"])
    transfer = stream.get("color_transfer")
    assert track.dynamic_range == _TRANSFERS.get(transfer, "sdr")
    _assert_same_disposition(track, stream)


def assert_same_audio(track: AudioTrack, stream: Probe) -> None:
    assert track.name == stream["codec_name"]
    assert track.channels == stream["channels"]
    assert track.sample_rate == int(stream["sample_rate"])
    _assert_same_disposition(track, stream)


def assert_same_text(track: TextTrack, stream: Probe) -> None:
    assert track.name == stream["codec_name"]
    assert _tag(stream, "title") in (track.label, None)  # 5.1 knows no names of tracks in MP4
    assert track.is_forced == bool(stream["disposition"]["forced"])
    _assert_same_disposition(track, stream)


def rotation(stream: Probe) -> int:
    """How far a stream is turned, clockwise."""
    sides = stream.get("side_data_list", [])
    return next((-side["rotation"] % 360 for side in sides if "rotation" in side), 0)


def displayed(stream: Probe) -> tuple[int, int]:
    """Width and height in square pixels, upright."""
    width, height = stream["width"], stream["height"]
    across, down = map(int, stream.get("sample_aspect_ratio", "1:1").split(":"))
    if across and down:
        width = round(width * Fraction(across, down))
    return (height, width) if rotation(stream) in (90, 270) else (width, height)


def pixels(pix_fmt: str) -> tuple[int, str]:
    """Bit depth and chroma subsampling of a pixel format."""
    if found := _GRAY.fullmatch(pix_fmt):
        return int(found[1] or 8), "4:0:0"
    if pix_fmt.startswith("gbrp"):
        return int(re.sub(r"\D", "", pix_fmt) or 8), "4:4:4"
    found = _SUBSAMPLED.fullmatch(pix_fmt)
    assert found is not None, pix_fmt
    return int(found[2] or 8), ":".join(found[1])


def _assert_same_duration(media: Media, probed: Probe) -> None:
    expected = probed["format"].get("duration")
    if expected is None or float(expected) == 0:
        assert not media.duration
        return
    rates = [track.frame_rate for track in media.video if track.frame_rate]
    frame = 1 / min(rates) if rates else 0
    assert media.duration == pytest.approx(float(expected), abs=max(0.05, frame))
    assert media.bit_rate == pytest.approx(int(probed["format"]["bit_rate"]), rel=0.15)


def _assert_same_disposition(track: VideoTrack | AudioTrack | TextTrack, stream: Probe) -> None:
    language = _tag(stream, "language")
    assert track.language == (None if language == "und" else language)
    assert track.is_default == bool(stream["disposition"]["default"])


def _tag(stream: Probe, name: str) -> str | None:
    value: str | None = stream.get("tags", {}).get(name)
    return value


def _rate(text: str) -> float | None:
    over, under = map(int, text.split("/"))
    return over / under if over and under else None
