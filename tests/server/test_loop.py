"""The loops alone, with real sockets, and under a storm of clients."""

import random
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from waitress import wasyncore
from waitress.trigger import trigger

from streamer.server.loop import EpollLoop, PollLoop
from tests.helpers import video_bytes
from tests.live.harness import MIB, Background, Wire, eventually, needs_proc
from tests.server.conftest import Run, open_below

Loop = EpollLoop | PollLoop
needs_epoll = pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is of Linux")
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


class Peer(wasyncore.dispatcher):
    """A socket in a loop that waits for what a test says, and notes what it is told."""

    def __init__(self, loop: Loop, connection: socket.socket) -> None:
        self.reads, self.writes = True, False
        self.events: list[str] = []
        self.asked = 0
        super().__init__(connection, map=loop)
        self.connected = True

    def readable(self) -> bool:
        self.asked += 1
        return self.reads

    def writable(self) -> bool:
        return self.writes

    def handle_read(self) -> None:
        self.events.append("read")
        self.recv(100)

    def handle_write(self) -> None:
        self.events.append("write")

    def handle_close(self) -> None:
        self.events.append("close")
        self.close()


class Pairs:
    """Makes pairs of sockets, one of each in the loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.trigger = trigger(map=loop)
        self.others: list[socket.socket] = []

    def make(self) -> tuple[Peer, socket.socket]:
        ours, theirs = socket.socketpair()
        self.others.append(theirs)
        peer = Peer(self.loop, ours)
        peer.server = self  # PollLoop pulls its trigger
        return peer, theirs

    def turn(self, timeout: float = 0) -> None:
        self.loop.turn(timeout)


@pytest.fixture(params=["epoll", "poll"])
def pairs(request: pytest.FixtureRequest) -> Iterator[Pairs]:
    if request.param == "epoll" and not hasattr(select, "epoll"):
        pytest.skip("epoll is of Linux")
    made = Pairs(EpollLoop() if request.param == "epoll" else PollLoop())
    yield made
    wasyncore.close_all(made.loop)
    assert not made.loop
    for other in made.others:
        other.close()


def test_it_tells_what_a_dispatcher_waits_for(pairs: Pairs) -> None:
    peer, other = pairs.make()
    pairs.turn()
    assert peer.events == []
    other.send(b"x")
    pairs.turn()
    assert peer.events == ["read"]
    peer.reads, peer.writes = False, True
    pairs.loop.rearm(peer)
    other.send(b"x")
    pairs.turn()
    pairs.turn()
    assert set(peer.events[1:]) == {"write"}
    peer.reads, peer.writes = True, False
    pairs.loop.rearm(peer)
    del peer.events[:]
    pairs.turn()
    assert peer.events == ["read"]


def test_a_change_in_another_thread_ends_the_wait(pairs: Pairs) -> None:
    peer, _ = pairs.make()
    peer.reads = False
    pairs.turn()

    def change() -> None:
        time.sleep(0.1)
        peer.writes = True
        pairs.loop.rearm(peer)

    changing = Background(change)
    deadline = time.monotonic() + 20
    while not peer.events and time.monotonic() < deadline:
        pairs.turn(20)
    changing.outcome()
    assert peer.events[:1] == ["write"]
    assert time.monotonic() < deadline - 10


def test_changes_from_many_threads_end_in_the_last_state(pairs: Pairs) -> None:
    peers = [pairs.make()[0] for _ in range(20)]
    pairs.turn()

    def change(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(500):
            peer = chance.choice(peers)
            peer.writes = chance.random() < 0.5
            pairs.loop.rearm(peer)

    changing = [Background(lambda seed=seed: change(seed)) for seed in range(4)]
    while any(change.is_alive() for change in changing):
        pairs.turn()
    for change_of_one in changing:
        change_of_one.outcome()
    pairs.turn()
    for number, peer in enumerate(peers):
        peer.writes = number % 2 == 0
        pairs.loop.rearm(peer)
        del peer.events[:]
    pairs.turn()
    assert ["write" in peer.events for peer in peers] == [True, False] * 10


def test_a_descriptor_that_is_used_again_belongs_to_the_new_one(pairs: Pairs) -> None:
    for _ in range(20):
        old, _ = pairs.make()
        pairs.turn()
        number = old._fileno
        old.close()
        new, other = pairs.make()
        pairs.turn()
        assert new._fileno == number, "or this test shows nothing"
        assert pairs.loop[number] is new
        old._fileno, old.reads = number, False  # as a worker thread sees it that is late
        pairs.loop.rearm(old)
        old._fileno = None
        other.send(b"x")
        pairs.turn()
        assert (old.events, new.events) == ([], ["read"])
        new.close()


def test_one_that_is_closed_before_its_first_turn_is_forgotten(pairs: Pairs) -> None:
    old, _ = pairs.make()
    old.close()
    new, other = pairs.make()
    other.send(b"x")
    pairs.turn()
    assert (old.events, new.events) == ([], ["read"])


def test_one_that_is_closed_by_an_event_of_another_gets_none(pairs: Pairs) -> None:
    peers = [pairs.make() for _ in range(2)]
    for peer, other in peers:
        peer.handle_read = lambda: [each.close() for each, _ in peers]  # type: ignore[method-assign]
        other.send(b"x")
    pairs.turn()
    assert [peer.events for peer, _ in peers] == [[], []]
    assert len(pairs.loop) == 1


def test_an_error_on_one_that_waits_for_nothing_is_not_reported(pairs: Pairs) -> None:
    peer, other = pairs.make()
    peer.reads = False
    pairs.turn()
    other.close()
    before = time.process_time()
    for _ in range(3):
        pairs.turn(0.2)
    assert time.process_time() - before < 0.1, "it spins"
    assert peer.events == []
    peer.writes = True
    pairs.loop.rearm(peer)
    pairs.turn()
    pairs.turn()
    assert "close" in peer.events


def test_an_exception_in_one_closes_it_and_no_other(pairs: Pairs) -> None:
    (one, to_one), (two, to_two) = pairs.make(), pairs.make()

    def fail() -> None:
        raise ValueError("of the test")

    one.handle_read = fail  # type: ignore[method-assign]
    to_one.send(b"x")
    to_two.send(b"x")
    pairs.turn()
    pairs.turn()
    assert (one.events, two.events) == (["close"], ["read"])


def test_it_is_the_map_that_waitress_wants(pairs: Pairs) -> None:
    peer, _ = pairs.make()
    number = peer._fileno
    assert isinstance(pairs.loop, dict)
    assert pairs.loop.get(number) is peer
    assert pairs.loop.get(-1) is None
    assert number in pairs.loop
    assert peer in list(pairs.loop.values())
    assert (number, peer) in list(pairs.loop.items())
    assert len(pairs.loop) == 2
    assert pairs.loop
    with pytest.raises(KeyError):
        del pairs.loop[-1]
    peer.close()
    assert number not in pairs.loop


@needs_epoll
def test_epoll_asks_only_those_that_something_has_happened_to() -> None:
    pairs = Pairs(EpollLoop())
    peers = [pairs.make() for _ in range(50)]
    pairs.turn()
    asked = sum(peer.asked for peer, _ in peers)
    for _ in range(20):
        peers[7][1].send(b"x")
        pairs.turn(1)
    assert sum(peer.asked for peer, _ in peers) == asked + 20
    wasyncore.close_all(pairs.loop)
    for other in pairs.others:
        other.close()


def _misbehave(running: Any, path: str, data: bytes, seed: int, until: float) -> int:
    """Ask, leave, close one half, send nonsense, in any order; what comes whole must be right."""
    chance = random.Random(seed)
    done = 0
    while time.monotonic() < until:
        done += 1
        with Wire(running.address, receive_buffer=chance.choice([0, 0, 65536])) as wire:
            for _ in range(chance.randrange(1, 5)):
                if not _misbehave_once(running, wire, path, data, chance):
                    break
            if chance.random() < 0.4:
                wire.reset()
    return done


def _misbehave_once(running: Any, wire: Wire, path: str, data: bytes, chance: random.Random) -> bool:
    first = chance.randrange(len(data))
    upload = {"Content-Type": "video/mp4", "Content-Length": "400000"}
    match chance.randrange(8):
        case 0:
            wire.request("GET", path, running.api.headers | {"Range": f"bytes={first}-"})
            assert wire.answer().body == data[first:]
        case 1:
            wire.request("GET", path, running.api.headers)
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.answer().body == data
            return False
        case 2:
            wire.request("GET", path, running.api.headers)
            wire.head()
            wire.read(chance.randrange(MIB))
            return False
        case 3:
            wire.request("GET", path, running.api.headers | {"Range": f"bytes={first}-"})
            wire.send(HEALTH * 3)
            assert wire.answer().body == data[first:]
            assert [wire.answer().status for _ in range(3)] == [200] * 3
        case 4:
            wire.request("POST", "/api/videos", running.api.headers | upload)
            wire.send(data[: chance.randrange(400_000)])
            return False
        case 5:
            wire.request("POST", "/api/videos", running.api.headers | upload | {"Expect": "100-continue"})
            if chance.random() < 0.5:
                assert wire.head().status == 100
            return False
        case 6:
            wire.send(b"garbage\r\n\r\n")
            return False
        case _:
            wire.send(HEALTH)
            assert wire.answer().status == 200
    return True


@needs_proc
def test_a_storm_of_clients_leaves_nothing_behind(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    running = run(threads=4)
    data = video_bytes(3 * MIB)
    path = running.video(data)
    until = time.monotonic() + 4
    clients = [
        Background(lambda seed=seed: _misbehave(running, path, data, seed, until))  # type: ignore[misc]
        for seed in range(8)
    ]
    assert sum(client.outcome() for client in clients) > 50
    eventually(lambda: not running.listener.active_channels, "all connections are over")
    config = running.server._config
    eventually(lambda: not list((config.data / "incoming").iterdir()), "all abandoned uploads are gone")
    assert running.api.download(1) == data
    eventually(lambda: not running.listener.active_channels, "that one is over as well")
    assert open_below(config.data / "videos") == open_below(config.data / "incoming") == []
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.3, "it spins"
    errors = [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]
    assert errors == []
    assert "exception in trigger thunk" not in caplog.text


def test_a_signal_that_comes_when_all_is_over_is_no_error(run: Run) -> None:
    running = run()
    running.stop()
    running.server.stop()
