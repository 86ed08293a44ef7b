"""Large bodies between the loop and the worker threads: in order, bounded, and given up exactly once."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import InsufficientStorage, NotAVideo
from streamer.server.bodies import MOST_PENDING_BYTES, ChunkedBody, LargeBody
from streamer.server.workers import Workers
from tests.live.harness import eventually

MIB = 2**20
WAIT_SECONDS = 20


class Recorder:
    """A reception that keeps what it gets, notices misuse, and can be held up or made to fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.misuse: list[str] = []
        self.failing: dict[str, BaseException] = {}
        self.gates: dict[str, threading.Event] = {}
        self.entered = {name: threading.Event() for name in ("open", "feed", "close")}
        self._inside = threading.Lock()

    def open(self) -> None:
        if self.calls:
            self.misuse.append(f"open after {self.calls[-1]}")
        self._do("open")

    def feed(self, data: bytes) -> None:
        if "open" not in self.calls or "close" in self.calls:
            self.misuse.append(f"feed after {self.calls}")
        self._do("feed")
        self.data += data

    def close(self) -> None:
        self._do("close")

    def _do(self, name: str) -> None:
        if not self._inside.acquire(blocking=False):
            self.misuse.append(f"{name} during another call")
            return
        try:
            self.calls.append(name)
            self.entered[name].set()
            if gate := self.gates.get(name):
                assert gate.wait(WAIT_SECONDS)
            if error := self.failing.get(name):
                raise error
        finally:
            self._inside.release()

    @property
    def is_closed(self) -> bool:
        return "close" in self.calls


class Threads:
    """Runs tasks when the test says so."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def run(self) -> None:
        """Run all tasks, also those that these add."""
        while self.tasks:
            self.tasks.pop(0).service()


class Watched:
    """A body, its reception, and what the channel is told."""

    def __init__(
        self, length: int | None, schedule: Callable[[Any], None], *, fails: str = "", holds: str = ""
    ) -> None:
        self.reception = Recorder()
        self.reception.failing[fails] = OSError("disk")
        self.gate = self.reception.gates[holds] = threading.Event()
        self.told: list[str] = []
        self.time = 1000.0
        self.body = LargeBody(
            self.reception, length, schedule, lambda: self.told.append("rearm"), self._progress, self.now
        )
        self.is_over = threading.Event()

    def now(self) -> float:
        return self.time

    def _progress(self) -> None:
        self.told.append("progress")
        if self.body.is_over:
            self.is_over.set()


@pytest.fixture
def threads() -> Threads:
    return Threads()


def watched(threads: Threads, length: int = 10) -> Watched:
    return Watched(length, threads.tasks.append)


# --- step by step


def test_a_body_is_opened_before_more_is_read(threads: Threads) -> None:
    one = watched(threads)
    assert not one.body.wants_more
    threads.run()
    assert one.reception.calls == ["open"]
    assert one.body.wants_more
    assert one.told == ["progress"]
    assert not one.body.is_over


def test_what_came_with_the_head_is_fed_after_opening(threads: Threads) -> None:
    one = watched(threads)
    assert one.body.received(b"abc") == 3
    threads.run()
    assert one.reception.calls == ["open", "feed"]
    assert bytes(one.reception.data) == b"abc"
    assert one.told == ["progress"]


def test_a_body_that_came_whole_with_its_head_is_over_at_once(threads: Threads) -> None:
    one = watched(threads)
    one.body.received(b"0123456789")
    threads.run()
    assert one.body.is_over
    assert one.body.failure is None
    assert one.told == ["progress"]
    assert not one.reception.is_closed, "the application takes it"


def test_only_what_belongs_to_it_is_taken(threads: Threads) -> None:
    one = watched(threads)
    assert one.body.received(b"01234") == 5
    assert one.body.is_expecting
    assert one.body.received(b"56789GET / HTTP/1.1") == 5
    assert not one.body.is_expecting
    assert one.body.received(b"GET / HTTP/1.1") == 0
    threads.run()
    assert bytes(one.reception.data) == b"0123456789"
    assert one.body.is_over


def test_the_end_is_told_after_the_last_byte_was_fed(threads: Threads) -> None:
    one = watched(threads)
    threads.run()
    one.body.received(b"01234")
    threads.run()
    assert one.told == ["progress", "rearm"]
    one.body.received(b"56789")
    assert not one.body.is_over
    assert not one.body.wants_more
    threads.run()
    assert one.body.is_over
    assert one.told == ["progress", "rearm", "progress"]


def test_it_is_scheduled_once_however_much_comes(threads: Threads) -> None:
    one = watched(threads, 100)
    for _ in range(5):
        one.body.received(b"x")
    assert len(threads.tasks) == 1
    threads.run()
    for _ in range(5):
        one.body.received(b"x")
    one.body.close()
    assert len(threads.tasks) == 1


def test_little_is_pending(threads: Threads) -> None:
    one = watched(threads, 100 * MIB)
    threads.run()
    while one.body.wants_more:
        one.body.received(bytes(MIB // 4))
    assert one.body._pending_bytes <= MOST_PENDING_BYTES + MIB // 4
    threads.run()
    assert one.body.wants_more
    assert len(one.reception.data) == MOST_PENDING_BYTES
    assert one.told[-1] == "rearm", "somebody reads on"


def test_a_body_that_is_not_let_in_is_over(threads: Threads) -> None:
    one = watched(threads)
    one.reception.failing["open"] = error = InsufficientStorage(0)
    one.body.received(b"abc")
    threads.run()
    assert one.reception.calls == ["open", "close"]
    assert one.body.failure is error
    assert one.body.is_over
    assert not one.body.wants_more
    assert one.told == ["progress"]


@pytest.mark.parametrize("error", [NotAVideo("no"), OSError(5, "disk"), MemoryError(), SystemExit()])
def test_a_failure_ends_it_and_what_comes_then_is_dropped(threads: Threads, error: BaseException) -> None:
    one = watched(threads, 100)
    threads.run()
    one.reception.failing["feed"] = error
    one.body.received(b"abc")
    one.body.received(b"def")
    threads.run()
    assert one.body.failure is error
    assert one.body.is_over
    assert one.reception.calls == ["open", "feed", "close"]
    assert one.body.received(b"more") == 4
    assert threads.tasks == []
    assert not one.reception.misuse


@pytest.mark.parametrize("came", [b"", b"abc", b"0123456789"])
def test_closed_before_it_was_opened_it_never_is(threads: Threads, came: bytes) -> None:
    one = watched(threads)
    one.body.received(came)
    one.body.close()
    threads.run()
    assert set(one.reception.calls) == {"close"}


@pytest.mark.parametrize("came", [b"", b"abc", b"0123456789"])
def test_closed_when_open_it_feeds_what_has_come(threads: Threads, came: bytes) -> None:
    one = watched(threads)
    threads.run()
    one.body.received(came)
    one.body.close()
    threads.run()
    assert one.reception.calls == ["open", *(["feed"] if came else []), "close"]


def test_close_may_be_called_again(threads: Threads) -> None:
    one = watched(threads)
    threads.run()
    for _ in range(3):
        one.body.close()
        threads.run()
    assert not one.reception.misuse
    assert one.reception.is_closed


class Interrupted:
    """A lock before which something else happens, once."""

    def __init__(self, before: Callable[[], object]) -> None:
        self._before: Callable[[], object] | None = before
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            before()
        self._lock.acquire()

    def __exit__(self, *details: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("late", [b"abc", b"0123456789"])
def test_what_comes_when_a_thread_has_just_finished_is_fed(threads: Threads, late: bytes) -> None:
    one = watched(threads)
    one.body._lock = Interrupted(lambda: one.body.received(late))  # type: ignore[assignment]
    threads.run()
    assert bytes(one.reception.data) == late
    assert one.body.is_over == (len(late) == 10)


def test_closed_when_a_thread_has_just_finished_it_is_closed(threads: Threads) -> None:
    one = watched(threads)
    one.body._lock = Interrupted(one.body.close)  # type: ignore[assignment]
    threads.run()
    assert one.reception.calls == ["open", "close"]


def test_a_task_that_will_not_run_gives_the_reception_up(threads: Threads) -> None:
    one = watched(threads)
    threads.tasks.pop().cancel()
    assert one.reception.calls == ["close"]


def test_it_knows_who_waits_for_whom_and_how_long(threads: Threads) -> None:
    one = watched(threads)
    assert not one.body.waits_for_client
    one.time += 5
    threads.run()
    assert one.body.waits_for_client
    assert (one.body.busy_seconds, one.body.idle_since) == (5, 1005)
    one.time += 100
    one.body.received(b"abc")
    assert one.body.wants_more
    assert not one.body.waits_for_client
    one.time += 2
    one.body.received(b"abc")
    threads.run()
    assert (one.body.busy_seconds, one.body.idle_since) == (7, 1107)
    one.body.received(b"0123")
    threads.run()
    assert not one.body.waits_for_client


# --- with threads


@pytest.fixture
def pool() -> Iterator[Workers]:
    """Worker threads, with a loop that has nothing to do."""
    workers = Workers(4, lambda may_wait: time.sleep(0.005 if may_wait else 0))
    workers.start()
    yield workers
    workers.end()
    workers.shutdown()


class Busy:
    """Waits until the threads have nothing to do."""

    def __init__(self, pool: Workers) -> None:
        self._pool = pool

    def __call__(self) -> None:
        eventually(lambda: not self._pool.are_busy, "the threads have nothing to do")


@pytest.mark.parametrize("held", ["open", "feed"])
@pytest.mark.parametrize("fails", [False, True])
def test_close_while_a_thread_is_inside_closes_when_it_comes_out(
    pool: Workers, held: str, fails: bool
) -> None:
    one = Watched(10, pool.add_task, holds=held)
    one.body.received(b"abc")
    if held == "feed":
        one.body.received(b"def")
    assert one.reception.entered[held].wait(WAIT_SECONDS)
    if fails:
        one.reception.failing[held] = OSError("disk")
    one.body.close()
    assert not one.reception.is_closed
    one.gate.set()
    assert one.reception.entered["close"].wait(WAIT_SECONDS)
    Busy(pool)()
    feeds = {"open": 0 if fails else 1, "feed": 1 if fails else 2}[held]
    assert one.reception.calls == ["open", *["feed"] * feeds, "close"]
    assert not one.reception.misuse


def test_a_slow_disk_holds_the_client_and_not_the_bytes(pool: Workers) -> None:
    block = bytes(MIB // 4)
    bodies = [Watched(64 * MIB, pool.add_task, holds="feed") for _ in range(4)]  # as many as threads
    for one in bodies:
        one.body.received(block)
    for one in bodies:
        assert one.reception.entered["feed"].wait(WAIT_SECONDS)
        while one.body.wants_more:
            one.body.received(block)
        assert one.body._pending_bytes == MOST_PENDING_BYTES
    others = [Watched(64 * MIB, pool.add_task) for _ in range(4)]
    for one in others:
        one.body.received(block)
        assert not one.body.wants_more, "no thread has let it in"
    bodies += others
    for one in bodies:
        one.gate.set()
    Busy(pool)()
    assert all(one.body.wants_more for one in bodies)
    assert [len(one.reception.data) for one in bodies] == [MOST_PENDING_BYTES] * 4 + [len(block)] * 4
    for one in bodies:
        one.body.close()


@pytest.mark.parametrize("seed", range(6))
def test_many_bodies_on_few_threads_arrive_as_they_were_sent(pool: Workers, seed: int) -> None:
    chance = random.Random(seed)
    size = 200_000
    sent = [chance.randbytes(size) for _ in range(12)]
    failing = [chance.choice(["open", "feed"]) if number % 4 == 3 else "" for number in range(12)]
    bodies = [Watched(size, pool.add_task, fails=name) for name in failing]
    position = [0] * 12
    closed = {number for number in range(12) if number % 4 == 2}
    moment = {number: chance.randrange(size) for number in closed}
    while left := [number for number in range(12) if position[number] < size]:
        number = chance.choice(left)
        piece = sent[number][position[number] : position[number] + chance.choice([1, 500, 5000, 60_000])]
        position[number] += bodies[number].body.received(piece)
        if number in closed and position[number] >= moment[number]:
            bodies[number].body.close()
            position[number] = size  # a channel that is closed reads no more
    Busy(pool)()
    for number, one in enumerate(bodies):
        assert one.reception.misuse == []
        if number % 4 == 3:
            assert one.body.is_over
            assert one.reception.is_closed
        elif number in closed:
            assert one.reception.is_closed
            assert sent[number].startswith(one.reception.data)
        else:
            assert one.is_over.wait(WAIT_SECONDS)
            assert not one.reception.is_closed
            assert bytes(one.reception.data) == sent[number]


def test_no_end_is_missed(pool: Workers) -> None:
    """The last bytes come while a thread is just about to find nothing pending."""
    for _ in range(2000):
        one = Watched(3, pool.add_task)
        for byte in (b"a", b"b", b"c"):
            one.body.received(byte)
        assert one.is_over.wait(WAIT_SECONDS)
        assert bytes(one.reception.data) == b"abc"
        assert one.body.failure is None


@pytest.mark.parametrize("is_begun", [False, True])
def test_when_the_threads_are_stopped_what_they_have_not_done_is_given_up(is_begun: bool) -> None:
    workers = Workers(1, lambda may_wait: time.sleep(0.005 if may_wait else 0))
    one = Watched(10, workers.add_task)
    if is_begun:
        workers.start()
        assert one.reception.entered["open"].wait(WAIT_SECONDS)
        Busy(workers)()
        workers.end()
        for thread in workers._threads:
            thread.join(WAIT_SECONDS)
    one.body.received(b"abc")
    one.body.close()
    workers.shutdown()
    assert one.reception.is_closed
    assert not one.reception.misuse


# --- chunks


@given(
    st.lists(st.binary(max_size=300), max_size=30),
    st.lists(st.integers(1, 4000), min_size=1, max_size=10),
)
def test_chunks_are_put_together_however_they_arrive(pieces: list[bytes], cuts: list[int]) -> None:
    threads = Threads()
    one = Watched(None, threads.tasks.append)
    threads.run()
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    wire = framed + b"0\r\n\r\nnext"
    chunked = ChunkedBody(one.body)
    consumed = 0
    while consumed < len(wire) - 4:
        size = cuts[consumed % len(cuts)]
        taken = chunked.received(wire[consumed : consumed + size])
        assert taken > 0
        consumed += taken
    threads.run()
    assert consumed == len(wire) - 4, "what is behind the last chunk is not of this body"
    assert chunked.error is None
    assert not one.body.is_expecting
    assert one.reception.data == b"".join(pieces)


def test_many_small_chunks_are_fed_together(threads: Threads) -> None:
    one = Watched(None, threads.tasks.append)
    threads.run()
    ChunkedBody(one.body).received(b"1\r\nx\r\n" * 40_000)
    threads.run()
    assert one.reception.calls == ["open", "feed"]
    assert one.reception.data == b"x" * 40_000


def test_nothing_is_fed_after_a_failure(threads: Threads) -> None:
    one = Watched(None, threads.tasks.append)
    threads.run()
    one.reception.failing["feed"] = OSError("disk")
    one.body.received(b"abc")
    threads.run()
    one.body.received(b"def")
    one.body.end()
    threads.run()
    assert one.reception.calls.count("feed") == 1
    assert not one.reception.misuse
    assert str(one.body.failure) == "disk"
