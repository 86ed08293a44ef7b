"""How it ends: what is in flight gets its time, everybody else is sent home."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.harness import MIB, Server, Wire, eventually, needs_proc, stream_path

pytestmark = needs_proc

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
SMALL_BUFFER = 128 * 1024
SOON = 5  # seconds; an end without a wait takes a fraction of one


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


def _watch(server: Server, held: ExitStack, film: bytes) -> Wire:
    path = stream_path(server.api.upload(film))
    wire = held.enter_context(server.wire(receive_buffer=SMALL_BUFFER))
    wire.request("GET", path, server.api.headers)
    assert wire.head().status == 200
    return wire


def _begin_upload(server: Server, held: ExitStack, data: bytes) -> Wire:
    wire = held.enter_context(server.wire())
    fields = {"Content-Type": "video/mp4", "Content-Length": str(len(data))}
    wire.request("POST", "/api/videos", server.api.headers | fields)
    wire.send(data[: len(data) // 2])
    eventually(lambda: [path.stat().st_size for path in server.incoming()] == [len(data) // 2], "it has come")
    return wire


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_nothing_to_do_it_ends_at_once(
    start_server: StartServer, held: ExitStack, number: signal.Signals
) -> None:
    server = start_server(STREAMER_GRACE="60")
    idle = [held.enter_context(server.wire()) for _ in range(50)]
    for wire in idle[:25]:
        wire.send(HEALTH)
        assert wire.answer().status == 200
    began = time.monotonic()
    server.stop(number)
    assert time.monotonic() - began < SOON
    assert all(wire.is_closed_by_server() for wire in idle)
    assert "Traceback" not in server.log


def test_what_is_in_flight_comes_to_its_end(start_server: StartServer, held: ExitStack, film: bytes) -> None:
    server = start_server(STREAMER_GRACE="60")
    viewer = _watch(server, held, film)
    data = video_bytes(4 * MIB)
    uploader = _begin_upload(server, held, data)
    idle = held.enter_context(server.wire())
    idle.send(HEALTH)
    assert idle.answer().status == 200
    asking = held.enter_context(server.wire())
    asking.send(HEALTH[:-2])
    eventually(lambda: server.open_sockets() == 5, "all of them are connected")

    server.signal()
    assert idle.is_closed_by_server()
    eventually(lambda: not server.is_accepting(), "nobody is let in any more")
    asking.send(b"\r\n")
    answer = asking.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert asking.is_closed_by_server()
    assert viewer.read(len(film)) == film
    assert viewer.is_closed_by_server()
    uploader.send(data[len(data) // 2 :])
    answer = uploader.answer()
    assert (answer.status, answer.headers["connection"]) == (201, "close")
    assert uploader.is_closed_by_server()
    for wire in (idle, asking, viewer, uploader):
        wire.close()
    began = time.monotonic()
    server.wait()
    assert time.monotonic() - began < SOON
    server.assert_consistent()
    assert server.start().api.download(answer.json["id"]) == data


def test_requests_behind_the_one_in_flight_do_not_cut_its_answer(
    start_server: StartServer, held: ExitStack, film: bytes
) -> None:
    server = start_server(STREAMER_GRACE="60")
    viewer = _watch(server, held, film)
    viewer.send(HEALTH)
    server.signal()
    eventually(lambda: not server.is_accepting(), "nobody is let in any more")
    assert viewer.read(len(film)) == film
    assert viewer.answer().headers["connection"] == "close"
    assert viewer.is_closed_by_server()
    viewer.close()
    server.wait()


@pytest.mark.parametrize("how", ["the grace is over", "a second signal", "no grace"])
def test_at_last_it_cuts(start_server: StartServer, held: ExitStack, film: bytes, how: str) -> None:
    server = start_server(STREAMER_GRACE={"the grace is over": "1", "no grace": "0"}.get(how, "60"))
    viewer = _watch(server, held, film)
    watched = f"/api/videos/{server.api.video_ids()[0]}/stream"
    uploader = _begin_upload(server, held, video_bytes(4 * MIB))
    slow = held.enter_context(server.wire())
    slow.send(HEALTH[:20])
    eventually(lambda: server.open_sockets() == 4, "all of them are connected")
    began = time.monotonic()
    server.signal()
    if how == "a second signal":
        eventually(lambda: not server.is_accepting(), "it has begun to end")
        time.sleep(0.2)
        server.signal(signal.SIGINT)
    server.wait()
    passed = time.monotonic() - began
    assert passed < SOON + 2
    assert how != "the grace is over" or passed > 0.9
    assert len(viewer.read(len(film))) < len(film)
    assert uploader.is_closed_by_server()
    assert slow.is_closed_by_server()
    server.start()  # which puts right what was cut in the middle
    server.assert_consistent()  # nothing is left in incoming/
    assert [line.status for line in server.logged(watched)] == [200], "also what was cut is logged"
    assert "Traceback" not in server.log


def test_a_storm_of_signals_is_no_error(start_server: StartServer, held: ExitStack, film: bytes) -> None:
    server = start_server(STREAMER_GRACE="60")
    _watch(server, held, film)
    _begin_upload(server, held, video_bytes(4 * MIB))
    for number in [signal.SIGTERM, signal.SIGINT] * 3:
        server.signal(number)
    server.wait()
    server.start()  # which puts right what was cut in the middle
    server.assert_consistent()


def test_a_refused_client_that_goes_on_does_not_hold_it_up_for_long(
    start_server: StartServer, held: ExitStack
) -> None:
    server = start_server(STREAMER_GRACE="60")
    wire = held.enter_context(server.wire())
    wire.send(b"garbage\r\n\r\n")
    wire.answer().assert_problem(400, "bad_request")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10, "it lingers for 5 s at most"
