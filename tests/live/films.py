"""Short films of the kinds that people upload, and what can be told of what a server has made of them."""

import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.containers import ffprobe
from tests.ffmpeg import clips
from tests.live.harness import Server, eventually

SECONDS = 2
WIDTH, HEIGHT = 160, 120

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
UPRIGHT: list[clips.Colour] = [RED, GREEN, BLUE, WHITE]
"""The quadrants of every film, by rows."""

TURNED: list[clips.Colour] = [BLUE, RED, WHITE, GREEN]
"""The same, turned clockwise by a quarter."""

CAPTIONS = """1
00:00:00,500 --> 00:00:01,500
Grüße aus Köln
"""

WAIT_SECONDS = 120  # for work that takes one or two where nothing else is done

_TONE = f"sine=d={SECONDS}:r=48000"
_AAC = ("-c:a", "aac", "-b:a", "64k")
_H264 = (*clips.H264, "-g", "10")


def faststart(folder: Path) -> Path:
    """H.264 and AAC in an MP4 whose index is at its beginning."""
    return _film(folder / "faststart.mp4", *_H264, *_AAC, "-movflags", "+faststart")


def index_last(folder: Path) -> Path:
    """The same with the index at its end, as cameras write it."""
    return _film(folder / "camera.mp4", *_H264, *_AAC)


def phone(folder: Path) -> Path:
    """HEVC and AAC in QuickTime, to be turned clockwise by a quarter."""
    hevc = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1")
    return clips.turn(_film(folder / "phone.mov", *hevc, "-pix_fmt", "yuv420p", *_AAC), 90)


def matroska(folder: Path) -> Path:
    """H.264 and AAC in Matroska: nothing has to be encoded anew."""
    return _film(folder / "copied.mkv", *_H264, *_AAC)


def disc(folder: Path) -> Path:
    """H.264, AC-3 and captions in Matroska."""
    text = folder / "disc.srt"
    text.write_text(CAPTIONS, encoding="utf-8")
    told = ("-metadata:s:s:0", "language=ger", "-metadata:s:s:0", "title=Für alle")
    return _film(
        folder / "disc.mkv",
        "-i",
        str(text),
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        *_H264,
        "-c:a",
        "ac3",
        *told,
    )


def old(folder: Path) -> Path:
    """MPEG-4 and MP3 in AVI, which only ffprobe can read."""
    return _film(folder / "old.avi", "-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame")


def sound(folder: Path) -> Path:
    """AAC alone in an MP4."""
    source = ["-f", "lavfi", "-i", _TONE]
    return ffprobe.make(folder / "sound.mp4", *source, *_AAC, "-movflags", "+faststart")


def long(folder: Path, seconds: int, size: str = "640x360") -> Path:
    """MPEG-4 in Matroska, which takes long to be encoded anew, and is made at once."""
    pictures = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=30:d=2"]
    part = ffprobe.make(folder / "part.mkv", *pictures, "-c:v", "mpeg4", "-q:v", "3", "-g", "30")
    loop = ["-stream_loop", str(seconds // 2 - 1), "-i", str(part), "-c", "copy"]
    return ffprobe.make(folder / f"long-{seconds}.mkv", *loop)


def _film(path: Path, *arguments: str) -> Path:
    path.write_bytes(_encoded(path.name, *arguments))
    return path


@functools.cache
def _encoded(name: str, *arguments: str) -> bytes:
    """A film of the quadrants and a tone, which is made once."""
    inputs = ["-f", "lavfi", "-i", clips.QUADRANTS, "-f", "lavfi", "-i", _TONE]
    with tempfile.TemporaryDirectory() as folder:
        return ffprobe.make(Path(folder) / name, *inputs, *arguments).read_bytes()


@functools.cache
def data_of(make: Callable[[Path], Path], folder: Path) -> bytes:
    """The bytes of a film, which is made once."""
    return make(folder).read_bytes()


# what a server has made of it


def video(server: Server, video_id: int) -> dict[str, Any]:
    """The video as the server tells of it."""
    answer = server.api.get(f"/api/videos/{video_id}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


def finished(server: Server, video_id: int, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
    """Wait until nothing is to be done with a video any more."""
    deadline = time.monotonic() + seconds
    while (found := video(server, video_id))["status"] == "processing":
        assert time.monotonic() < deadline, f"still {found['processing']}"
        time.sleep(0.1)
    return found


def saved(server: Server, link: str, path: Path) -> Path:
    """A file with what is behind a link of the server."""
    answer = server.api.get(link[link.index("/api/") :])
    assert answer.status == 200, answer
    path.write_bytes(answer.body)
    return path


def jobs_of(server: Server, video_id: int) -> dict[str, str]:
    """The state of each step of the work on a video."""
    return dict(server.query(f"SELECT step, state FROM job WHERE video_id = {video_id}"))


def leftovers(server: Server) -> list[str]:
    """The files in the folders where nothing stays."""
    return [str(path) for name in ("incoming", "scratch") for path in (server.data / name).iterdir()]


def programs(folder: Path, name: str = "ffmpeg") -> list[int]:
    """The processes of this program that work below a folder, or are about to become one that does."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _works_in(folder, name, entry)]


def _works_in(folder: Path, name: str, process: str) -> bool:
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        working_folder = os.readlink(f"/proc/{process}/cwd")
    except OSError:  # it has ended, or was never ours
        return False
    is_meant = any(Path(os.fsdecode(word)).name.startswith(name) for word in command[:12])
    return is_meant and Path(working_folder).is_relative_to(folder)


def assert_whole(server: Server) -> None:
    """What was made of the videos is there, each a row and a whole file, and nothing else is."""
    server.assert_consistent()
    rows = server.query("SELECT file_path, size, mime_type FROM derived")
    found = {f"derived/{path.name}": path.stat().st_size for path in (server.data / "derived").iterdir()}
    assert found == {path: size for path, size, _ in rows}
    eventually(lambda: leftovers(server) == [], "no scratch folder is left")
    by_type: dict[str, list[Path]] = {}
    for path, _, mime_type in rows:
        by_type.setdefault(mime_type, []).append(server.data / path)
    for path in by_type.get("text/vtt", []):
        assert path.read_bytes().startswith(b"WEBVTT"), path
    _assert_decodes([*by_type.get("image/jpeg", []), *by_type.get("video/mp4", [])])


def _assert_decodes(paths: list[Path]) -> None:
    """Let ffmpeg decode all of these files, every frame, and find no fault."""
    for first in range(0, len(paths), 20):
        some = paths[first : first + 20]
        inputs = [word for path in some for word in ("-i", str(path))]
        maps = [word for number in range(len(some)) for word in ("-map", str(number))]
        command = [str(ffprobe.FFMPEG), "-nostdin", "-v", "error", "-threads", "1", *inputs, *maps]
        command += ["-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, ""), (some, done.stderr)


def cropped(picture: Path, part: tuple[int, ...], path: Path) -> Path:
    """A part of a picture, told by x, y, width and height."""
    x, y, width, height = part
    crop = ["-i", str(picture), "-vf", f"crop={width}:{height}:{x}:{y}:exact=1"]
    return ffprobe.make(path, *crop, "-frames:v", "1", "-c:v", "png", "-f", "image2", "-update", "1")


def packets(path: Path, stream: str) -> str:
    """A digest of the packets of a stream, which is the same where they were only copied."""
    ffprobe.require_ffmpeg()
    command = [str(ffprobe.FFMPEG), "-nostdin", "-v", "error", "-i", str(path), "-map", f"0:{stream}"]
    command += ["-c", "copy", "-f", "streamhash", "-"]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout


def wait_for_ffmpeg(server: Server, step: str) -> int:
    """Wait until ffmpeg works on this step of some video; its process id."""
    running = f"SELECT id FROM job WHERE state = 'running' AND step = '{step}'"
    found: list[int] = []  # a step may run it several times, with nothing between two of them

    def is_made() -> bool:
        found[:] = programs(server.data)
        return bool(found and server.query(running))

    eventually(is_made, f"{step} is made", WAIT_SECONDS)
    return found[0]
