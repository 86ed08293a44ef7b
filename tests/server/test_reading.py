"""What the server reads, and when; in this process, where a test can hold up what it likes."""

import errno
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamer.admission import MAX_SMALL_BODY_BYTES
from streamer.app import Application
from streamer.errors import InsufficientStorage
from streamer.resources.receptions import VideoReception
from streamer.server import Server
from streamer.server.channel import Channel
from streamer.server.listener import Listener
from streamer.server.settings import SMALL_READ_BYTES
from tests.conftest import MakeApp
from tests.helpers import Client, video_bytes
from tests.live.harness import MIB, Wire, eventually

WAIT_SECONDS = 20
HEADER_SECONDS = 20
HEAD_BYTES = 1024  # more than any head here


class Running:
    """A server in a thread."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.server = Server(app)
        self.token = Client(app).sign_up("alice").session["access_token"]
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()

    def wire(self) -> Wire:
        host, _, port = self.server.address.removeprefix("http://").rpartition(":")
        return Wire((host, int(port)))

    def fields(self, length: int, **more: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "video/mp4",
            "Content-Length": str(length),
        } | more

    def stop(self) -> None:
        self.server._stops = 1  # stop() is for signals, which come in the thread of the loop
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()

    def busy_threads(self) -> int:
        """The worker threads that have not ended."""
        return sum(thread.is_alive() for thread in self.server._workers._threads)

    def incoming(self) -> list[Any]:
        return list((self.app.config.data / "incoming").iterdir())


@pytest.fixture(params=["fast paths", "no fast paths"])
def running(
    request: pytest.FixtureRequest, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    monkeypatch.setattr(tempfile, "tempdir", None)  # which the server sets
    monkeypatch.setattr("streamer.server.TURN_SECONDS", 0.1)
    level = logging.getLogger("waitress.queue").level
    app = make_app(
        host="127.0.0.1",
        port=0,
        threads=2,
        grace=0,
        keep_alive=86_400,
        header_timeout=HEADER_SECONDS,
        fast_paths=request.param == "fast paths",
    )
    one = Running(app)
    yield one
    one.stop()
    logging.getLogger("waitress.queue").setLevel(level)


class Time:
    """The clock of all deadlines, which a test sets forward."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ahead = 0.0

    def now(self) -> float:
        return self._now() + self._ahead

    def forward(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time(Listener.now)
    monkeypatch.setattr(Listener, "now", staticmethod(time.now))
    return time


def head_of(path: str, fields: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: streamer.test", *(f"{k}: {v}" for k, v in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class Gate:
    """Holds up a method of the receptions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        original = getattr(VideoReception, name)

        def held(*arguments: Any) -> Any:
            self.entered.release()
            assert self.opened.wait(WAIT_SECONDS)
            return original(*arguments)

        monkeypatch.setattr(VideoReception, name, held)

    def wait(self) -> None:
        assert self.entered.acquire(timeout=WAIT_SECONDS)


# --- how much of the body of a stranger


HEADS = {
    "upload without a token": ("POST", "/api/videos", {"Content-Length": str(10 * MIB)}),
    "upload in chunks": ("POST", "/api/videos", {"Transfer-Encoding": "chunked"}),
    "login": (
        "POST",
        "/api/auth/login",
        {"Content-Length": str(10 * MIB), "Content-Type": "application/json"},
    ),
    "login in chunks": (
        "POST",
        "/api/auth/login",
        {"Transfer-Encoding": "chunked", "Content-Type": "application/json"},
    ),
    "a body of GET": ("GET", "/health", {"Content-Length": str(10 * MIB)}),
    "a small body": ("GET", "/health", {"Content-Length": str(MAX_SMALL_BODY_BYTES)}),
    "nothing there": ("PUT", "/nothing", {"Content-Length": str(10 * MIB)}),
}


@pytest.mark.parametrize("name", HEADS)
def test_no_more_than_64_kib_are_read_of_a_stranger(
    running: Running, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    read: list[int] = []
    at_answer: list[int] = []
    recv, application = Channel.recv, running.server._listeners[0].application

    def counting(channel: Channel, size: int) -> bytes:
        data = recv(channel, size)
        read.append(len(data))
        return data

    def answering(*arguments: Any) -> Any:
        at_answer.append(sum(read))
        return application(*arguments)

    monkeypatch.setattr(Channel, "recv", counting)
    monkeypatch.setattr(running.server._listeners[0], "application", answering)
    method, path, fields = HEADS[name]
    block = b"%x\r\n%b\r\n" % (MIB, bytes(MIB)) if "Transfer-Encoding" in fields else bytes(MIB)
    with running.wire() as wire:
        wire.request(method, path, fields)
        for _ in range(1 if name == "a small body" else 10):
            wire.send(block)
        assert wire.answer().status in {200, 401, 404, 413}
    assert at_answer[0] <= HEAD_BYTES + MAX_SMALL_BODY_BYTES + SMALL_READ_BYTES


# --- time


def _maintained(running: Running) -> None:
    """Wait until the server has looked at all deadlines."""
    rounds: list[int] = []
    listener = running.server._listeners[0]
    original = listener.maintenance

    def counting(now: float) -> None:
        original(now)
        rounds.append(1)

    listener.maintenance = counting  # type: ignore[method-assign]
    eventually(lambda: len(rounds) >= 2, "the deadlines were looked at")
    listener.maintenance = original  # type: ignore[method-assign]


@pytest.mark.parametrize("held", ["open", "feed"])
def test_a_client_that_waits_for_us_is_not_blamed(
    running: Running, monkeypatch: pytest.MonkeyPatch, deadlines: Time, held: str
) -> None:
    gate = Gate(monkeypatch, held)
    data = video_bytes(MIB)
    with running.wire() as wire:
        wire.request("POST", "/api/videos", running.fields(len(data)))
        if held == "feed":
            wire.send(data[:1000])
        gate.wait()
        deadlines.forward(10 * HEADER_SECONDS)
        _maintained(running)
        gate.opened.set()
        if held == "open":
            eventually(lambda: running.incoming() != [], "it has been let in")
        else:
            eventually(lambda: [p.stat().st_size for p in running.incoming()] == [1000], "it was written")
        _maintained(running)
        wire.send(data if held == "open" else data[1000:])
        assert wire.answer().status == 201


def test_a_client_that_keeps_us_waiting_is_told_so(running: Running, deadlines: Time) -> None:
    with running.wire() as wire:
        wire.request("POST", "/api/videos", running.fields(MIB))
        eventually(lambda: running.incoming() != [], "it has been let in")
        deadlines.forward(10 * HEADER_SECONDS)
        wire.answer().assert_problem(408, "request_timeout")
        assert wire.is_closed_by_server()
    eventually(lambda: running.incoming() == [], "nothing stays")


# --- order


def test_only_who_was_let_in_is_told_to_go_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress of one body may be told twice, and then the next is on its way."""
    report, opening = Channel._report_progress, VideoReception.open
    second = threading.Event()

    def twice(channel: Channel) -> None:
        report(channel)
        report(channel)

    def held(reception: VideoReception) -> None:
        if reception.details:
            assert second.wait(WAIT_SECONDS)
            raise InsufficientStorage(0)
        opening(reception)

    monkeypatch.setattr(Channel, "_report_progress", twice)
    monkeypatch.setattr(VideoReception, "open", held)
    data = video_bytes(1000)
    one = head_of("/api/videos", running.fields(len(data))) + data
    with running.wire() as wire:
        wire.send(one + head_of("/api/videos?title=second", running.fields(10, Expect="100-continue")))
        assert wire.answer().status == 201
        _maintained(running)
        second.set()
        assert wire.answer().status == 507


@pytest.mark.parametrize("moment", ["open", "feed"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_vanishes_while_a_thread_is_at_work_leaves_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch, moment: str, how: str
) -> None:
    gate = Gate(monkeypatch, moment)
    wire = running.wire()
    wire.request("POST", "/api/videos", running.fields(10 * MIB))
    wire.send(video_bytes(MIB))
    gate.wait()
    getattr(wire, how)()
    gate.opened.set()
    eventually(lambda: running.incoming() == [], "nothing stays")
    eventually(lambda: not running.server._listeners[0].active_channels, "the connection is closed")


@pytest.mark.parametrize("moment", ["open", "feed"])
def test_a_server_that_ends_while_a_thread_is_at_work_leaves_nothing(
    running: Running, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    gate = Gate(monkeypatch, moment)
    with running.wire() as wire:
        wire.request("POST", "/api/videos", running.fields(10 * MIB))
        wire.send(video_bytes(MIB))
        gate.wait()
        gate.opened.set()
        running.stop()
    assert running.incoming() == []


@pytest.mark.parametrize("moment", ["open", "feed"])
def test_a_thread_that_is_late_is_no_error_when_the_server_has_ended(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    gate = Gate(monkeypatch, moment)
    with running.wire() as wire:
        wire.request("POST", "/api/videos", running.fields(10 * MIB))
        wire.send(video_bytes(MIB))
        gate.wait()
        running.stop()
        gate.opened.set()
        eventually(lambda: running.incoming() == [], "what it has made is gone")
        eventually(lambda: not running.busy_threads(), "the thread has ended")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_signal_after_the_end_is_no_error(running: Running) -> None:
    running.stop()
    running.server.stop()


def test_a_disk_that_fails_is_told_while_the_client_still_sends(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(VideoReception, "feed", fail)
    with running.wire() as wire:
        wire.request("POST", "/api/videos", running.fields(100 * MIB))
        wire.send(video_bytes(MIB))
        answer = wire.answer()
        answer.assert_problem(500, "internal_error")
        assert "broken" not in answer.json["detail"]
        assert answer.headers["connection"] == "close"
    eventually(lambda: running.incoming() == [], "nothing stays")
