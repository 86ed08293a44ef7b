"""Fixtures of the live tests: servers as processes, programs that play and fetch, films to play."""

import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ffmpeg import clips
from tests.helpers import video_bytes
from tests.live.harness import MIB, USERNAME, Api, Server, Worker, require

StartServer = Callable[..., Server]
StartWorker = Callable[..., Worker]


class Template:
    """A data folder with one account in it, and a token of that account.

    Signing up costs two runs of bcrypt, so it is done once, on a real server, and each
    server of a test begins with a copy of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        server = Server(self.data, folder / "server.log").start()
        try:
            self.token = Api(server.address, "").sign_up(USERNAME).token
        finally:
            server.finish()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    if sys.platform == "win32":
        pytest.skip("stops servers by signals: run the live tests on Linux or macOS")
    return Template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def start_server(template: Template, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers with settings of their own: ``start_server(STREAMER_THREADS="4")``.

    ``data`` is a folder to take as it is; without it, a server has a folder of its own, in
    which ``server.api`` is signed in.
    """
    with _servers(template, tmp_path) as start:
        yield start


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server with default settings."""
    return start_server()


class _servers:
    """Starts servers in a folder; at the end of the context they are stopped and their logs judged."""

    def __init__(self, template: Template, folder: Path) -> None:
        self._template = template
        self._folder = folder
        self._started: list[Server] = []

    def __enter__(self) -> StartServer:
        return self._start

    def _start(self, data: Path | None = None, **settings: str | bool) -> Server:
        number = len(self._started)
        if data is None:
            data = self._folder / f"data-{number}"
            shutil.copytree(self._template.data, data)
        log_path = self._folder / f"server-{number}.log"
        server = Server(data, log_path, self._template.token, **settings)  # type: ignore[arg-type]
        self._started.append(server)
        return server.start()

    def __exit__(self, *details: object) -> None:
        failures = []
        for server in self._started:
            try:
                server.finish()
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failures.append(error)
        if failures:
            raise failures[0]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Starts ``streamer worker`` on the data folder of a server: ``start_worker(server)``."""
    with ExitStack() as started:
        numbers = itertools.count()

        def start(server: Server, **settings: str) -> Worker:
            log_path = tmp_path / f"worker-{next(numbers)}.log"
            worker = Worker(server.data, log_path, STREAMER_FFMPEG="auto", **settings)  # type: ignore[arg-type]
            started.callback(worker.finish)
            worker.start()
            return worker

        yield start


@pytest.fixture(scope="module")
def start_shared_server(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartServer]:
    """Starts servers that all tests of a module share."""
    with _servers(template, tmp_path_factory.mktemp("shared")) as start:
        yield start


@pytest.fixture(scope="session")
def film() -> bytes:
    """64 MiB that pass for an MP4: more than all buffers between a server and a client hold."""
    return video_bytes(64 * MIB, seed=64)


@pytest.fixture
def program() -> Callable[[str], str]:
    """Finds a program that pip cannot bring."""

    def find(name: str) -> str:
        path = shutil.which(name)
        require(path is not None, f"install {name} to run this test")
        assert path
        return path

    return find


SECONDS = 3600
WIDTH, HEIGHT = 96, 112  # makes files of some 40 MB: several times what is in flight when a player seeks
CODE_ROWS = 16  # one row of macroblocks


def frame(second: int) -> bytes:
    """The picture of a second: rows that tell it, noise below so that the file is large."""
    luma = bytes([code(second // 60)]) * (WIDTH * CODE_ROWS)
    blue = bytes([code(second % 60)]) * (WIDTH // 2 * CODE_ROWS // 2)
    red = bytes([128]) * (WIDTH // 2 * HEIGHT // 2)
    noise = random.Random(second).randbytes(WIDTH * (HEIGHT - CODE_ROWS))
    rest_of_blue = bytes([128]) * (WIDTH // 2 * (HEIGHT - CODE_ROWS) // 2)
    return luma + noise + blue + rest_of_blue + red


def code(number: int) -> int:
    """A number from 0 to 59 as a brightness."""
    return 20 + 3 * number


def shown_second(picture: bytes) -> int:
    """Read the second off a decoded picture of the whole frame (yuv420p)."""
    assert len(picture) == WIDTH * HEIGHT * 3 // 2, f"{len(picture)} bytes are no picture"
    luma = picture[: WIDTH * 8]
    blue = picture[WIDTH * HEIGHT :][: WIDTH // 2 * 4]
    minute, second = (round((sum(plane) / len(plane) - 20) / 3) for plane in (luma, blue))
    return minute * 60 + second


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films of one hour with a picture every second: MP4 with moov at its end, Matroska, WebM."""
    folder = tmp_path_factory.mktemp("films")
    made = {name: folder / f"hour.{name}" for name in ("mp4", "mkv", "webm")}
    ffmpeg = [clips.packaged_ffmpeg(), "-v", "error", "-nostdin", "-y"]
    raw = folder / "hour.yuv"
    with raw.open("wb") as file:
        file.writelines(frame(second) for second in range(SECONDS))
    pictures = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{WIDTH}x{HEIGHT}", "-r", "1", "-i", str(raw)]
    silence = ["-f", "lavfi", "-t", str(SECONDS), "-i", "anullsrc=r=8000:cl=mono"]
    h264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-g", "10", "-bf", "0"]
    vp8 = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "16", "-b:v", "200k", "-g", "10"]
    vp8 += ["-qmin", "0", "-qmax", "4", "-threads", "2"]
    subprocess.run(
        [*ffmpeg, *pictures, *silence, *h264, "-c:a", "aac", "-b:a", "8k", str(made["mkv"])], check=True
    )
    # without -movflags faststart the index comes last
    subprocess.run([*ffmpeg, "-i", str(made["mkv"]), "-c", "copy", str(made["mp4"])], check=True)
    subprocess.run([*ffmpeg, *pictures, *vp8, "-an", str(made["webm"])], check=True)
    raw.unlink()
    return made


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which programs find no settings of whoever runs the tests, and no proxies."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
