"""What leaves when files, clients and the kernel do not behave."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.live.conftest import StartServer
from tests.live.harness import MIB, Server, eventually, needs_proc, stream_path

pytestmark = needs_proc

SMALL_BUFFER = 128 * 1024
TWO_RANGES = {"Range": "bytes=0-30000000,34000000-64000000"}


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["on", "off"])
def cinema(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    """A server, once with and once without what only some systems have."""
    return start_server(STREAMER_FAST_PATHS=request.param, STREAMER_THREADS="4")


@pytest.mark.parametrize("fields", [{}, TWO_RANGES], ids=["whole", "parts"])
def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(
    cinema: Server, held: ExitStack, film: bytes, fields: dict[str, str]
) -> None:
    cinema.allow("ERROR streamer.server a stored file has become shorter while it was sent")
    path = stream_path(cinema.api.upload(film))
    viewers = [held.enter_context(cinema.wire(receive_buffer=SMALL_BUFFER)) for _ in range(3)]
    for viewer in viewers:
        viewer.request("GET", path, cinema.api.headers | fields)
        assert viewer.head().status == (206 if fields else 200)
    [stored] = (cinema.data / "videos").iterdir()
    os.truncate(stored, 8 * MIB)
    for viewer in viewers:
        body = viewer.read(64 * MIB)
        assert len(body) < 10 * MIB
        assert fields or body == film[: len(body)]
    eventually(lambda: not cinema.open_media(), "nobody has the file open")
    before = cinema.cpu_seconds()
    time.sleep(1)
    assert cinema.cpu_seconds() - before < 0.3
    assert cinema.log.count("has become shorter") == 3
    assert cinema.api.get("/health").status == 200


def test_clients_that_reset_in_the_middle_leave_no_descriptor(
    cinema: Server, held: ExitStack, film: bytes
) -> None:
    path = stream_path(cinema.api.upload(film))
    for number in range(300):
        with cinema.wire(receive_buffer=SMALL_BUFFER) as viewer:
            viewer.request("GET", path, cinema.api.headers | (TWO_RANGES if number % 3 == 0 else {}))
            if number % 4:
                viewer.head()
            viewer.reset()
    eventually(lambda: not cinema.open_media(), "nobody has the film open")
    eventually(lambda: cinema.open_sockets() == 1, "nobody is connected")


def test_expecting_clients_that_vanish_are_no_error(cinema: Server) -> None:
    """The 100 goes to nobody: that is no error, and nothing is left."""
    fields = {"Content-Type": "video/mp4", "Content-Length": "300000", "Expect": "100-continue"}
    small = {"Content-Type": "application/json", "Content-Length": "100", "Expect": "100-continue"}
    for number in range(300):
        with cinema.wire() as wire:
            if number % 2:
                wire.request("POST", "/api/videos", cinema.api.headers | fields)
            else:
                wire.request("POST", "/api/auth/login", small)
            wire.reset()
    eventually(lambda: cinema.open_sockets() == 1, "nobody is connected")
    eventually(lambda: cinema.incoming() == [], "nothing is left of the uploads")
    assert "exception in trigger thunk" not in cinema.log
