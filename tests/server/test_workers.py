"""The threads: one turns the loop and does what is quick, and nothing slow keeps the others waiting."""

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamer.server import workers as module
from streamer.server.workers import Workers

WAIT_SECONDS = 20
NEVER = 1000.0


class Task:
    """Tells in which thread it was done; may be held up, and may fail."""

    def __init__(
        self,
        *,
        is_slow: bool = False,
        is_held: bool = False,
        seconds: float = 0.0,
        error: BaseException | None = None,
    ) -> None:
        self.is_slow = is_slow
        self.done_in: str | None = None
        self.is_canceled = False
        self.has_begun = threading.Event()
        self.is_done = threading.Event()
        self.gate = threading.Event()
        self._seconds = seconds
        self._error = error
        if not is_held:
            self.gate.set()

    def service(self) -> None:
        self.has_begun.set()
        assert self.gate.wait(WAIT_SECONDS)
        time.sleep(self._seconds)
        self.done_in = threading.current_thread().name
        self.is_done.set()
        if self._error:
            raise self._error

    def cancel(self) -> None:
        self.is_canceled = True


class Loop:
    """Stands for the loop: a turn waits for tasks that the test brings, and adds them."""

    def __init__(self, count: int) -> None:
        self.workers = Workers(count, self.turn)
        self.turned_in: list[str] = []
        self.overlaps = 0
        self.gate = threading.Event()
        self.gate.set()
        self._events: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self._turning = threading.Lock()

    def turn(self, may_wait: bool) -> None:
        if not self._turning.acquire(blocking=False):
            self.overlaps += 1
            return
        try:
            self.turned_in.append(threading.current_thread().name)
            for task in self._events.get(may_wait, timeout=0.02):
                if isinstance(task, Exception):
                    raise task
                self.workers.add_task(task)
            assert self.gate.wait(WAIT_SECONDS)
        except queue.Empty:
            pass
        finally:
            self._turning.release()

    def bring(self, *tasks: Task | Exception) -> None:
        self._events.put(list(tasks))

    def has_turned(self) -> bool:
        """Whether it turns from now on."""
        before = len(self.turned_in)
        deadline = time.monotonic() + WAIT_SECONDS
        while len(self.turned_in) < before + 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        return len(self.turned_in) >= before + 3


Start = Callable[..., Loop]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts workers of a certain patience."""
    loops = []

    def begin(count: int = 4, patience: float = NEVER) -> Loop:
        monkeypatch.setattr(module, "PATIENCE_SECONDS", patience)
        loops.append(Loop(count))
        loops[-1].workers.start()
        return loops[-1]

    yield begin
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)  # also for those that are at something slow
    for loop in loops:
        loop.workers.end()
        loop.workers.shutdown()
        for thread in loop.workers._threads:
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()
        assert not loop.overlaps, "never do two threads turn the loop"


def _are_done(*tasks: Task) -> bool:
    return all(task.is_done.wait(WAIT_SECONDS) for task in tasks)


def test_one_thread_does_all_that_is_quick(start: Start) -> None:
    loop = start()
    tasks = [Task() for _ in range(60)]
    for number in range(0, 60, 3):
        loop.bring(*tasks[number : number + 3])
    assert _are_done(*tasks)
    assert {task.done_in for task in tasks} == set(loop.turned_in)
    assert len(set(loop.turned_in)) == 1


def test_what_is_known_to_be_slow_keeps_nothing_waiting(start: Start) -> None:
    loop = start()
    slow, behind = Task(is_slow=True, is_held=True), Task()
    loop.bring(slow, behind)
    assert slow.has_begun.wait(WAIT_SECONDS)
    assert _are_done(behind)
    assert loop.has_turned()
    later = Task()
    loop.bring(later)
    assert _are_done(later)
    assert not slow.is_done.is_set()
    slow.gate.set()
    assert _are_done(slow)


def test_what_proves_to_be_slow_keeps_nothing_waiting_for_long(start: Start) -> None:
    loop = start(patience=0.01)
    slow, behind = Task(is_held=True), Task()
    loop.bring(slow, behind)
    assert slow.has_begun.wait(WAIT_SECONDS)
    assert _are_done(behind)
    assert loop.has_turned()
    slow.gate.set()
    assert _are_done(slow)


@pytest.mark.parametrize("count", [1, 4])
def test_the_loop_turns_while_all_threads_are_at_something_slow(start: Start, count: int) -> None:
    loop = start(count)
    slow = [Task(is_slow=True, is_held=True) for _ in range(count)]
    waiting = [Task() for _ in range(3)]
    loop.bring(*slow, *waiting)
    assert all(task.has_begun.wait(WAIT_SECONDS) for task in slow)
    assert loop.has_turned()
    assert not any(task.has_begun.is_set() for task in waiting), "no more are done at once than was said"
    slow[0].gate.set()
    assert _are_done(*waiting)
    for task in slow:
        task.gate.set()


def test_a_turn_that_takes_long_does_not_hold_up_what_it_has_brought(start: Start) -> None:
    loop = start(patience=0.01)
    assert loop.has_turned()
    loop.gate.clear()
    tasks = [Task() for _ in range(3)]
    loop.bring(*tasks)
    assert _are_done(*tasks)
    loop.gate.set()
    assert loop.has_turned()


def test_the_loop_turns_between_tasks_where_they_are_many(start: Start) -> None:
    loop = start()
    tasks = [Task(seconds=0.001) for _ in range(200)]
    loop.bring(*tasks)
    assert tasks[0].has_begun.wait(WAIT_SECONDS)
    before = len(loop.turned_in)
    assert _are_done(*tasks)
    assert len(loop.turned_in) - before >= 10, "in 0.2 s"


def test_another_thread_adds_a_task_while_the_loop_waits(start: Start) -> None:
    loop = start()
    assert loop.has_turned()
    tasks = [Task() for _ in range(20)]
    for task in tasks:
        loop.workers.add_task(task)
        assert _are_done(task)


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(1)])
def test_a_task_that_fails_is_told_and_the_others_go_on(
    start: Start, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    loop = start(1)
    loop.bring(Task(error=error))
    tasks = [Task() for _ in range(3)]
    loop.bring(*tasks)
    assert _are_done(*tasks)
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


def test_a_turn_that_fails_is_told_and_the_next_one_goes_on(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    loop = start(1)
    before, after = Task(), Task()
    loop.bring(before, ValueError("a bug"))
    loop.bring(after)
    assert _are_done(before, after)
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


@pytest.mark.parametrize("patience", [0.0, 0.001, NEVER])
def test_every_task_is_done_once_whoever_adds_it(start: Start, patience: float) -> None:
    loop = start(4, patience)
    tasks = [Task(is_slow=number % 7 == 0) for number in range(400)]

    def add(mine: list[Task]) -> None:
        for task in mine:
            loop.workers.add_task(task)

    adders = [threading.Thread(target=add, args=[tasks[number:200:4]]) for number in range(4)]
    for thread in adders:
        thread.start()
    for task in tasks[200:]:
        loop.bring(task)
    assert _are_done(*tasks)
    for thread in adders:
        thread.join()
    assert loop.has_turned()


def test_at_the_end_what_was_added_is_done_and_what_waits_is_canceled(start: Start) -> None:
    loop = start(1)
    slow, waiting = Task(is_slow=True, is_held=True), Task()
    loop.bring(slow, waiting)
    assert slow.has_begun.wait(WAIT_SECONDS)
    assert loop.has_turned()
    loop.workers.end()
    loop.workers.join()
    assert loop.workers.are_busy
    loop.workers.shutdown()
    slow.gate.set()
    assert _are_done(slow)
    assert waiting.is_canceled
    assert not waiting.has_begun.is_set()
    assert not slow.is_canceled


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Windows has no signals between threads")
def test_a_signal_that_another_thread_gets_is_handled_while_the_main_thread_waits(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one is that comes in the moment before the wait: it does not end the wait by itself."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    loop = start(1)
    handled: list[int] = []

    def handle(number: int, frame: object) -> None:
        handled.append(number)
        loop.workers.end()

    before = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
    last_resort = threading.Timer(10, loop.workers.end)
    try:
        sender.start()
        last_resort.start()
        loop.workers.join()
        assert handled == [signal.SIGUSR1]
    finally:
        last_resort.cancel()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
