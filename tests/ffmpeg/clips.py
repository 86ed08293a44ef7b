"""Small films made by ffmpeg, what is to be done with them, and what can be seen in the results."""

import dataclasses
import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from streamer.containers import matroska, signatures
from streamer.containers.media import Media
from streamer.ffmpeg import tools as ffmpeg_tools
from streamer.ffmpeg.probe import probe
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import Work
from tests.containers import ffprobe
from tests.live.harness import require

FOLDER = Path(tempfile.gettempdir())

Colour = tuple[int, ...]

QUADRANTS = (
    "color=red:s=160x120:r=10:d=2,drawbox=80:0:80:60:lime:fill,drawbox=0:60:80:60:blue:fill,"
    "drawbox=80:60:80:60:white:fill"
)
"""Red, green, blue and white, by rows."""

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-b:a", "32k")

# a bar that is elsewhere in the other field, which shows as a comb
COMBS = (
    "color=black:s=160x120:r=50:d=2[black];color=white:s=40x120:r=50:d=2[bar];"
    "[black][bar]overlay=x='mod(n*8,120)',interlace"
)
INTERLACED = ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
OPUS = ("-c:a", "libopus")

TRANSFERS = {"pq": "smpte2084", "hlg": "arib-std-b67"}

_MATRIX = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
_UNITY = 0x10000


@functools.cache
def tools() -> Tools:
    """The ffmpeg on PATH."""
    ffprobe.require_ffmpeg()
    found = ffmpeg_tools.find_tools(str(ffprobe.FFMPEG), FOLDER)
    assert found is not None
    return found


def packaged_ffmpeg() -> str:
    """The program of imageio-ffmpeg."""
    try:
        import imageio_ffmpeg
    except ImportError:
        require(False, "needs imageio-ffmpeg, of the extra media")
    program: str = imageio_ffmpeg.get_ffmpeg_exe()
    return program


@functools.cache
def packaged_tools() -> Tools:
    """That of imageio-ffmpeg."""
    found = ffmpeg_tools.find_tools(packaged_ffmpeg(), FOLDER)
    assert found is not None
    return found


def mute_tools(folder: Path, does: str = "") -> Tools:
    """A program that claims success as ffmpeg, and has written nothing or what this line of Python does."""
    program = folder / "mute-ffmpeg"
    program.write_text(f"#!/usr/bin/env python3\n{does}\n")
    program.chmod(0o755)
    return dataclasses.replace(tools(), ffmpeg=str(program))


def noting_tools(folder: Path) -> Tools:
    """The ffmpeg on PATH, which leaves its arguments in the folder that it works in: see ``noted``."""
    program = folder / "noting-ffmpeg"
    program.write_text(
        "#!/usr/bin/env python3\n"
        "import json, os, sys\n"
        "with open(f'run-{os.getpid()}.json', 'w') as file:\n"
        "    json.dump(sys.argv[1:], file)\n"
        f"os.execv({tools().ffmpeg!r}, sys.argv)\n"
    )
    program.chmod(0o755)
    return dataclasses.replace(tools(), ffmpeg=str(program))


def noted(work: Work) -> list[list[str]]:
    """The arguments of each run of ffmpeg."""
    return [json.loads(path.read_bytes()) for path in work.folder.glob("run-*.json")]


def film(path: Path, picture: str, *arguments: str, sound: str = "") -> Path:
    """Encode a graph of filters as a film, by default as H.264 without sound."""
    inputs = ["-f", "lavfi", "-i", picture]
    if sound:
        inputs += ["-f", "lavfi", "-i", sound]
    return ffprobe.make(path, *inputs, *(arguments or H264))


def hdr(path: Path, picture: str, dynamic_range: str, *codec: str) -> Path:
    """Encode a graph of filters as a film that says that it is HDR, by default as HEVC."""
    transfer = TRANSFERS[dynamic_range]
    tags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"]
    parameters = f"log-level=error:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    hevc = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", parameters, "-tag:v", "hvc1")
    return film(path, picture, *(codec or hevc), "-pix_fmt", "yuv420p10le", *tags)


def media_of(path: Path, folder: Path) -> Media:
    """What ffprobe says is in it."""
    media = probe(tools(), path, _container(path), folder)
    assert media is not None
    return media


def matroska_media(path: Path) -> Media:
    """What our own reader says is in it."""
    return matroska.read_media(ffprobe.source(path.read_bytes()))


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
    """Width, height and pixels of a picture, or of the frame of a film at this time, upright.

    They are as players show them: what is not tagged and is of high definition is BT.709.
    """
    seek = ["-ss", str(at)] if at else []
    video = next(each for each in ffprobe.probe(path)["streams"] if each["codec_type"] == "video")
    matrix = "bt709" if "color_space" not in video and video["height"] >= 720 else "auto"
    command = [str(shutil.which("ffmpeg")), "-v", "error", *seek, "-i", str(path)]
    command += ["-vf", f"scale=in_color_matrix={matrix}"]
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


def combing(path: Path, at: float = 0) -> float:
    """How much neighbouring lines differ more than lines of the same field do."""
    width, height, pixels = rgb(path, at)
    rows = [pixels[start : start + 3 * width : 3] for start in range(0, 3 * width * height, 3 * width)]
    return sum(
        abs(here - below) - abs(here - further)
        for row, lower, lowest in zip(rows, rows[1:], rows[2:], strict=False)
        for here, below, further in zip(row, lower, lowest, strict=True)
    ) / (width * height)


def brightness(path: Path) -> float:
    """The mean of all samples, 0 to 255."""
    _, _, pixels = rgb(path)
    return sum(pixels) / len(pixels)


def _container(path: Path) -> signatures.Container:
    with path.open("rb") as file:
        container = signatures.recognise(file.read(signatures.HEAD_BYTES))
    assert container is not None
    return container
