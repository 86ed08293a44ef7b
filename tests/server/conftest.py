"""The server in this process, where its parts can be looked at and replaced; on loopback sockets."""

import select
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.server import Server
from tests.conftest import MakeApp
from tests.live.harness import Api, Wire, stream_path

LOOPS = ["on", "off"] if hasattr(select, "epoll") else ["off"]


class Running:
    """A server that runs in a thread."""

    def __init__(self, server: Server) -> None:
        self.server = server
        host, _, port = server.address.removeprefix("http://").rpartition(":")
        self.address = (host, int(port))
        self.api = Api(self.address, "")
        self._thread = threading.Thread(target=server.run)
        self._thread.start()

    @property
    def listener(self) -> Any:
        return self.server._listeners[0]

    def wire(self, **options: Any) -> Wire:
        return Wire(self.address, **options)

    def video(self, data: bytes) -> str:
        """Upload a video; the path of its bytes."""
        if not self.api.token:
            self.api.sign_up("keeper")
        return stream_path(self.api.upload(data))

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server does not end"


Run = Callable[..., Running]


@pytest.fixture(params=LOOPS)
def fast_paths(request: pytest.FixtureRequest) -> bool:
    """Both loops, and both ways to send a file."""
    return bool(request.param == "on")


@pytest.fixture
def run(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, fast_paths: bool) -> Iterator[Run]:
    """Runs servers with settings of their own."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    started = []

    def start(**settings: Any) -> Running:
        server = Server(make_app(port=0, fast_paths=fast_paths, **settings))
        started.append(Running(server))
        return started[-1]

    yield start
    for running in started:
        running.stop()


def open_below(folder: Path) -> list[str]:
    """The files of a folder that this process has open."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in names if name.startswith(str(folder))]
