"""The threads that run the application and, one at a time, the loop."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("streamer.server")

BETWEEN_TURNS_SECONDS = 0.005  # and the time of one task
LOOK_SECONDS = 1.0  # the longest that a signal waits for its handler
LONG_AGO = float("-inf")
PATIENCE_SECONDS = 0.01  # a task that takes longer waits for something after all


class Workers:
    """Takes tasks (``service``, ``cancel``) as waitress' dispatcher does; ``is_slow`` tells what to expect.

    waitress has one thread for the loop and wakes another for every request. They all want the
    one interpreter lock and pass it on at every system call, which costs as much as the answers.
    Here the thread that leads, which is the one that turns the loop, does itself what its turn
    has brought, and then turns it again: a single thread does all the work, as long as it is quick.
    Before a task that is known to be slow it wakes another thread, which leads from then on; where
    one takes longer than PATIENCE_SECONDS unexpectedly, a thread that watches the time does. So
    the loop is never turned by two, and a task that waits keeps neither viewers nor other tasks
    waiting.
    """

    def __init__(self, count: int, turn: Callable[[bool], None]) -> None:
        """``turn`` turns the loop once, and waits for events if it is told to; then its tasks are done."""
        self._turn = turn
        self._queue: deque[Any] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._leader: int | None = None  # the thread that turns the loop
        self._led = 0.0  # when the leader has last added a task in the turn that it is at
        self._turned = 0.0  # when the last turn ended
        self._began: dict[int, float] = {}  # when each thread has begun the task that it is at
        self._idle = 0
        self._is_ending = False
        self._is_over = False
        self._has_ended = threading.Event()
        self._works = threading.Event()  # there are tasks: somebody has to watch
        self._count = count
        # one more than do tasks, so that there is always one to lead
        names = [f"worker-{number}" for number in range(count + 1)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to turn the loop."""
        for thread in [*self._threads, self._watcher]:
            thread.start()

    def add_task(self, task: Any) -> None:
        """Have a task done soon; in any thread."""
        with self._lock:
            self._queue.append(task)
            if threading.get_ident() == self._leader:
                self._led = time.monotonic()  # it does the task after this turn
                self._works.set()
            else:
                self._wake_if_needed()

    @property
    def _is_one_quick(self) -> bool:
        """Whether a thread is at something that it has just begun, and so will soon come back for more."""
        if not (self._led or self._began):
            return False
        late = time.monotonic() - PATIENCE_SECONDS
        return self._led > late or any(began > late for began in self._began.values())

    def _wake_if_needed(self) -> None:
        if self._idle and not self._is_one_quick:
            self._idle -= 1
            self._wake.notify()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                if task.is_slow:
                    self._make_way()
                task.service()
            except BaseException:  # the others still have to be served
                logger.exception("a task failed")

    def _next(self) -> Any:
        """A task; until there is one, lead or wait. None when all is over."""
        me = threading.get_ident()
        with self._lock:
            self._began.pop(me, None)
            while not self._can_take:
                if self._is_ending and not self._queue:
                    self._wake.notify_all()
                    return None
                if not (self._leader or self._is_one_quick or self._is_ending):
                    self._lead(me)
                else:
                    self._idle += 1
                    self._wake.wait()
            self._began[me] = time.monotonic()
            if not self._works.is_set():
                self._works.set()
            return self._queue.popleft()

    @property
    def _can_take(self) -> bool:
        """Whether it is time for the next task, rather than for a turn or for waiting."""
        if not self._queue or len(self._began) == self._count or self._is_one_quick:
            return False
        # tasks may be many: viewers and new clients do not wait for all of them
        is_turn_due = time.monotonic() - self._turned > BETWEEN_TURNS_SECONDS
        return self._leader is not None or self._is_ending or not is_turn_due

    def _make_way(self) -> None:
        """This thread will take a while from here on: another one leads meanwhile."""
        with self._lock:
            self._began[threading.get_ident()] = LONG_AGO
            self._wake_if_needed()

    def _lead(self, me: int) -> None:
        self._leader = me
        may_wait = not self._queue or len(self._began) == self._count
        self._lock.release()
        try:
            self._turn(may_wait)
        except BaseException:  # one connection must not end the server
            logger.exception("a turn of the loop failed")
        finally:
            self._lock.acquire()
            self._leader = None
            self._led = 0.0
            self._turned = time.monotonic()

    def _watch(self) -> None:
        """Wake a thread when those that are awake are all at something slow."""
        while not self._is_over:
            self._works.wait()
            time.sleep(PATIENCE_SECONDS)
            with self._lock:
                if self._leader is None or self._queue:
                    self._wake_if_needed()
                elif not self._began:
                    self._works.clear()

    # the end

    def end(self) -> None:
        """Turn the loop no more, and begin no task that nobody has added yet."""
        self._is_ending = True
        self._has_ended.set()

    def join(self) -> None:
        """Wait until ``end`` is called. In the main thread, signals are handled meanwhile."""
        # a signal that arrives just before the wait begins does not end it: its handler runs at the next look
        while not self._has_ended.wait(LOOK_SECONDS):
            pass

    @property
    def are_busy(self) -> bool:
        """Whether a task waits or is being done."""
        with self._lock:
            return bool(self._queue or self._began)

    def shutdown(self) -> None:
        """Cancel the tasks that wait, and let the threads end with those that they are at."""
        with self._lock:
            waiting = list(self._queue)
            self._queue.clear()
            self._is_over = True
            self._works.set()
        for task in waiting:
            task.cancel()
