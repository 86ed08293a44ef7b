"""What one client may cost: time, connections, descriptors, memory. Small settings make it short."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.harness import MIB, Server, Wire, eventually, needs_proc, stream_path

pytestmark = needs_proc

SMALL_BUFFER = 64 * 1024
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
ROOT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"  # needs no descriptor


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Closes what a test has opened."""
    with ExitStack() as stack:
        yield stack


def _answers(server: Server) -> bool:
    return server.api.get("/health", timeout=10).status == 200


def _begin_upload(server: Server, wire: Wire, size: int, **fields: str) -> None:
    given = {"Content-Type": "video/mp4", "Content-Length": str(size)}
    wire.request("POST", "/api/videos", server.api.headers | given | fields)


def _cpu_of_idleness(server: Server, seconds: float = 1) -> float:
    before = server.cpu_seconds()
    time.sleep(seconds)
    return server.cpu_seconds() - before


def _is_readable(wire: Wire) -> bool:
    """Whether something has come, or the end."""
    wire.socket.setblocking(False)
    try:
        wire.socket.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        wire.socket.settimeout(30)
    return True


def test_five_hundred_slow_heads_are_ended_and_hold_up_nobody(
    start_server: StartServer, held: ExitStack
) -> None:
    server = start_server(STREAMER_HEADER_TIMEOUT="1")
    slow = [held.enter_context(server.wire()) for _ in range(500)]
    for wire in slow:
        wire.send(b"GET /health HTTP/1.1\r\n")
    waiting = list(slow)
    for number in range(200):
        for wire in waiting:
            if not _is_readable(wire):
                wire.send(b"X" if number else b"X-Slow: ")
        waiting = [wire for wire in waiting if not _is_readable(wire)]
        assert _answers(server)
        if not waiting:
            break
        time.sleep(0.1)
    assert not waiting, f"{len(waiting)} of 500 have been let go on for 20 s"
    for wire in slow:
        wire.answer().assert_problem(408, "request_timeout")
    for wire in slow:
        wire.close()
    eventually(lambda: server.open_sockets() <= 3, "nothing is left of them")


def test_a_slow_head_behind_an_answer_is_ended(start_server: StartServer, held: ExitStack) -> None:
    server = start_server(STREAMER_HEADER_TIMEOUT="1")
    wire = held.enter_context(server.wire())
    wire.send(HEALTH + HEALTH[:-2])
    assert wire.answer().status == 200
    wire.answer().assert_problem(408, "request_timeout")
    assert wire.is_closed_by_server()


def test_idle_connections_end(start_server: StartServer, held: ExitStack) -> None:
    server = start_server(STREAMER_KEEP_ALIVE="1", STREAMER_HEADER_TIMEOUT="1")
    silent, polite = held.enter_context(server.wire()), held.enter_context(server.wire())
    polite.send(HEALTH)
    assert polite.answer().status == 200
    assert silent.is_closed_by_server()
    assert polite.is_closed_by_server()


def test_a_connection_that_is_used_lives_longer_than_its_keep_alive(
    start_server: StartServer, held: ExitStack
) -> None:
    server = start_server(STREAMER_KEEP_ALIVE="2")
    wire = held.enter_context(server.wire())
    for _ in range(6):
        wire.send(HEALTH)
        assert wire.answer().status == 200
        time.sleep(0.6)


@pytest.mark.parametrize("kind", ["video", "json", "chunked"])
def test_a_body_that_pauses_for_too_long_is_ended(
    start_server: StartServer, held: ExitStack, kind: str
) -> None:
    server = start_server(STREAMER_KEEP_ALIVE="1", STREAMER_HEADER_TIMEOUT="60")
    wire = held.enter_context(server.wire())
    if kind == "video":
        _begin_upload(server, wire, 4 * MIB)
        wire.send(video_bytes(2 * MIB))
        eventually(lambda: server.incoming() != [], "the body is on its way into a file")
    else:
        how = {"Content-Length": "1000"} if kind == "json" else {"Transfer-Encoding": "chunked"}
        wire.request("POST", "/api/auth/login", {"Content-Type": "application/json"} | how)
        wire.send(b"3e8\r\n{" if kind == "chunked" else b"{")
    wire.answer().assert_problem(408, "request_timeout")
    assert wire.is_closed_by_server()
    eventually(lambda: server.incoming() == [], "nothing is left of it")
    server.assert_consistent()


@pytest.mark.parametrize("pause", [0.1, 0.4])
@pytest.mark.parametrize("kind", ["video", "json"])
def test_a_body_that_is_too_slow_is_ended(
    start_server: StartServer, held: ExitStack, kind: str, pause: float
) -> None:
    server = start_server(STREAMER_HEADER_TIMEOUT="1", STREAMER_BODY_RATE="100000", STREAMER_KEEP_ALIVE="60")
    wire = held.enter_context(server.wire())
    if kind == "video":
        _begin_upload(server, wire, 4 * MIB)
        wire.send(video_bytes(100))
    else:
        wire.request("POST", "/api/auth/login", {"Content-Type": "application/json", "Content-Length": "900"})
    for _ in range(30):  # a byte now and then, and nothing else that happens
        if _is_readable(wire):
            break
        wire.send(b" ")
        time.sleep(pause)
    assert _is_readable(wire), "it is told in time"
    wire.answer().assert_problem(408, "request_timeout")
    assert wire.is_closed_by_server()
    eventually(lambda: server.incoming() == [], "nothing is left of it")
    assert server.api.video_ids() == []


def test_a_body_that_is_fast_enough_may_take_its_time(start_server: StartServer, held: ExitStack) -> None:
    server = start_server(STREAMER_HEADER_TIMEOUT="1", STREAMER_BODY_RATE="10000", STREAMER_KEEP_ALIVE="2")
    data = video_bytes(100_000)
    wire = held.enter_context(server.wire())
    _begin_upload(server, wire, len(data))
    for first in range(0, len(data), 10_000):
        wire.send(data[first : first + 10_000])
        time.sleep(0.3)
    assert wire.answer().status == 201


def test_room_is_made_among_those_who_want_nothing(start_server: StartServer, held: ExitStack) -> None:
    server = start_server(STREAMER_CONNECTIONS="2")
    busy, idle = (held.enter_context(server.wire()) for _ in range(2))
    for wire in (busy, idle):
        wire.send(HEALTH)
        assert wire.answer().status == 200
    time.sleep(1.2)
    server.pause()  # so that both come at the same moment, in this order
    new = held.enter_context(server.wire())
    new.send(HEALTH)
    busy.send(HEALTH)
    server.resume()
    assert new.answer().status == 200
    assert busy.answer().status == 200
    assert idle.is_closed_by_server()


@pytest.mark.parametrize(
    "fields", [{}, {"Range": "bytes=0-30000000,34000000-64000000"}], ids=["whole", "parts"]
)
def test_a_viewer_that_reads_nothing_is_ended_and_a_slow_one_is_not(
    start_server: StartServer, held: ExitStack, film: bytes, fields: dict[str, str]
) -> None:
    server = start_server(STREAMER_SEND_TIMEOUT="2", STREAMER_KEEP_ALIVE="1")
    path = stream_path(server.api.upload(film))
    stalled, slow = (held.enter_context(server.wire(receive_buffer=SMALL_BUFFER)) for _ in range(2))
    for wire in (stalled, slow):
        wire.request("GET", path, server.api.headers | fields)
        assert wire.head().status == (206 if fields else 200)
    assert len(server.open_media()) == 2
    for _ in range(45):
        assert len(slow.read(200_000)) == 200_000
        time.sleep(0.1)
    assert len(server.open_media()) == 1, "the file of the one that reads nothing is closed"
    assert len(stalled.read(64 * MIB)) < 60_000_000
    slow.read(30 * MIB)
    assert len(server.open_media()) == 1


@needs_proc
def test_stalled_viewers_hold_little_memory_and_cost_no_processor(
    start_server: StartServer, held: ExitStack, film: bytes
) -> None:
    server = start_server(STREAMER_THREADS="4", measured=True)
    path = stream_path(server.api.upload(film))
    eventually(lambda: not server.open_media(), "the upload is over")
    before = server.memory("VmRSS")
    for _ in range(200):
        wire = held.enter_context(server.wire(receive_buffer=SMALL_BUFFER))
        wire.request("GET", path, server.api.headers)
        assert wire.head().status == 200
    eventually(lambda: len(server.open_media()) == 200, "all of them are watching")
    assert _cpu_of_idleness(server) < 0.3
    assert server.memory("VmRSS") - before < 24 * MIB
    assert _answers(server)
    port = f":{server.port:04X}"
    queued = [
        int(line.split()[4].partition(":")[0], 16)
        for line in Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(port) and line.split()[3] == "01"
    ]
    assert len(queued) >= 200
    assert queued.count(0) == 0
    assert sum(queued) < 300 * MIB, "they share what there is; by itself the kernel gives 4 MiB to each"
    assert sorted(queued)[100] < MIB


def test_idle_connections_make_room_for_new_ones(start_server: StartServer, held: ExitStack) -> None:
    server = start_server(STREAMER_CONNECTIONS="20")
    wires = []
    for _ in range(20):
        wires.append(held.enter_context(server.wire()))
        wires[-1].send(HEALTH)
        assert wires[-1].answer().status == 200
    for _ in range(10):
        wire = held.enter_context(server.wire())
        wire.send(HEALTH)
        assert wire.answer().status == 200
        wires.append(wire)
    assert sum(map(_is_readable, wires)) == 10
    assert not any(map(_is_readable, wires[20:])), "it is those that have been idle for longest"
    assert server.open_sockets() <= 20 + 1


@pytest.mark.parametrize("connections", [1, 2, 20])
def test_as_many_connections_as_set_are_open_at_once(
    start_server: StartServer, held: ExitStack, connections: int, film: bytes
) -> None:
    """Active ones are not cut, others wait without a cost, and get in when there is room."""
    server = start_server(STREAMER_CONNECTIONS=str(connections))
    path = stream_path(server.api.upload(film))
    eventually(lambda: server.open_sockets() == 1, "the uploader is gone")
    active = [held.enter_context(server.wire(receive_buffer=SMALL_BUFFER)) for _ in range(connections)]
    for wire in active:
        wire.request("GET", path, server.api.headers)
        assert wire.head().status == 200
    waiting = [held.enter_context(server.wire()) for _ in range(10 if connections > 9 else 3)]
    for wire in waiting:
        wire.send(HEALTH)
    assert _cpu_of_idleness(server, 2) < 0.5
    assert not any(map(_is_readable, waiting))
    assert server.open_sockets() == connections + 1
    assert "connections are in use" in server.log
    for wire in active:
        assert len(wire.read(64 * MIB)) == 64 * MIB
        wire.close()
    for wire in waiting:
        assert wire.answer().status == 200
        wire.close()


@pytest.mark.parametrize(("soft", "hard", "fitting"), [(300, 300, 100), (256, 4096, 0), (256, 400, 150)])
def test_too_few_descriptors_are_told_and_lead_to_fewer_connections(
    start_server: StartServer, soft: int, hard: int, fitting: int
) -> None:
    """The soft limit is raised as far as the hard one lets it."""
    server = start_server(descriptors=(soft, hard), STREAMER_CONNECTIONS="1000")
    assert _answers(server)
    assert (f"WARNING streamer.server {fitting} connections instead of 1000" in server.log) == bool(fitting)
    assert ("connections instead of" in server.log) == bool(fitting)
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    assert limits == (min(hard, 1000 * 2 + 100), hard)


def test_a_process_without_descriptors_waits_and_recovers(start_server: StartServer, held: ExitStack) -> None:
    server = start_server()
    first = held.enter_context(server.wire())
    first.send(ROOT)
    assert first.answer().status == 200
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (len(server.descriptors()), limits[1]))
    waiting = [held.enter_context(server.wire()) for _ in range(30)]
    for wire in waiting:
        wire.send(ROOT)  # which needs no file: one of them may find a gap
    eventually(lambda: "no more connections for a moment" in server.log, "it says so")
    assert _cpu_of_idleness(server, 2) < 0.5
    assert len(server.log.splitlines()) < 60, "it says so now and then"
    first.send(ROOT)
    assert first.answer().status == 200
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    for wire in waiting:
        assert wire.answer().status == 200
