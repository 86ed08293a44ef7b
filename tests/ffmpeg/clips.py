"""Small films made by ffmpeg, what is to be done with them, and what can be seen in the results."""

import dataclasses
import functools
import shutil
import subprocess
from pathlib import Path

from streamer.containers import signatures
from streamer.containers.media import Media
from streamer.ffmpeg import tools as ffmpeg_tools
from streamer.ffmpeg.probe import probe
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import Work
from tests.containers import ffprobe
from tests.live.harness import require

Colour = tuple[int, ...]

QUADRANTS = (
    "color=red:s=160x120:r=10:d=2,drawbox=80:0:80:60:lime:fill,drawbox=0:60:80:60:blue:fill,"
    "drawbox=80:60:80:60:white:fill"
)
"""Red, green, blue and white, by rows."""

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "32k")

_MATRIX = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
_UNITY = 0x10000


@functools.cache
def tools() -> Tools:
    """The ffmpeg on PATH."""
    ffprobe.require_ffmpeg()
    found = ffmpeg_tools.find_tools(str(ffprobe.FFMPEG))
    assert found is not None
    return found


@functools.cache
def packaged_tools() -> Tools:
    """That of imageio-ffmpeg."""
    try:
        import imageio_ffmpeg
    except ImportError:
        require(False, "needs imageio-ffmpeg, of the extra media")
    found = ffmpeg_tools.find_tools(imageio_ffmpeg.get_ffmpeg_exe())
    assert found is not None
    return found


def mute_tools(folder: Path, does: str = "") -> Tools:
    """A program that claims success as ffmpeg, and has written nothing or what this line of Python does."""
    program = folder / "mute-ffmpeg"
    program.write_text(f"#!/usr/bin/env python3\n{does}\n")
    program.chmod(0o755)
    return dataclasses.replace(tools(), ffmpeg=str(program))


def film(path: Path, picture: str, *arguments: str, sound: str = "") -> Path:
    """Encode a graph of filters as a film, by default as H.264 without sound."""
    inputs = ["-f", "lavfi", "-i", picture]
    if sound:
        inputs += ["-f", "lavfi", "-i", sound]
    return ffprobe.make(path, *inputs, *(arguments or H264))


def media_of(path: Path, folder: Path) -> Media:
    """What ffprobe says is in it."""
    media = probe(tools(), path, _container(path), folder)
    assert media is not None
    return media


def work_on(path: Path, folder: Path, media: Media | None = None, with_tools: Tools | None = None) -> Work:
    """A piece of work on a film, in a new folder below this one."""
    scratch = folder / f"work-{sum(1 for _ in folder.iterdir())}"
    scratch.mkdir()
    return Work(
        tools=with_tools or tools(),
        path=path,
        container=_container(path),
        media=media or media_of(path, scratch),
        folder=scratch,
    )


def turn(path: Path, degrees: int) -> Path:
    """Let an MP4 say that it has to be turned clockwise (ISO/IEC 14496-12, section 8.3.2: ``matrix``)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value * _UNITY for value in _MATRIX[degrees])
    matrix = (a, b, 0, c, d, 0, 0, 0, _UNITY * 2**14)
    data[at : at + 36] = b"".join(value.to_bytes(4, signed=True) for value in matrix)
    path.write_bytes(data)
    return path


def rgb(path: Path, at: float = 0) -> tuple[int, int, bytes]:
    """Width, height and pixels of a picture, or of the frame of a film at this time, upright."""
    seek = ["-ss", str(at)] if at else []
    command = [str(shutil.which("ffmpeg")), "-v", "error", *seek, "-i", str(path)]
    command += ["-frames:v", "1", "-c:v", "ppm", "-f", "image2pipe", "-"]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    _, size, _, pixels = answer.split(b"\n", 3)
    width, height = map(int, size.split())
    return width, height, pixels


def colours(path: Path, at: float = 0) -> list[Colour]:
    """The colours in the middles of the four quadrants, by rows."""
    width, height, pixels = rgb(path, at)
    middles = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(pixels[(y * width + x) * 3 :][:3]) for x, y in middles]


def are_near(found: Colour, wanted: Colour, most: int = 12) -> bool:
    return all(abs(one - other) <= most for one, other in zip(found, wanted, strict=True))


def brightness(path: Path) -> float:
    """The mean of all samples, 0 to 255."""
    _, _, pixels = rgb(path)
    return sum(pixels) / len(pixels)


def _container(path: Path) -> signatures.Container:
    with path.open("rb") as file:
        container = signatures.recognise(file.read(signatures.HEAD_BYTES))
    assert container is not None
    return container
