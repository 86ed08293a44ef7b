"""Large request bodies: from the socket to the reception, through the worker threads."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

from streamer.admission import Reception

UNKNOWN = 2**63
MOST_LINE_BYTES = 4096  # of the line before a chunk, or of all lines after the last
PIECE_BYTES = 2048
MOST_PENDING_BYTES = 1024 * 1024  # what has come and is not written yet, of one body


class LargeBody:
    """Takes the body of one request; stands where waitress has a buffer.

    The loop must not wait for a disk, so what it has read is fed to the reception by a worker
    thread, and more is read only while little is pending. A worker thread is held for as long
    as there is something to feed: a client that sends slowly holds none. For the threads it is
    a task (``service``, ``cancel``), scheduled at most once at a time, so that all stays in order.
    """

    # what waitress asks of the receiver of a body; the channel tells it when a body is over
    completed = False
    error = None
    is_slow = True  # it writes to a disk, and waits until the bytes are there

    def __init__(
        self,
        reception: Reception,
        length: int | None,
        schedule: Callable[[Any], None],
        rearm: Callable[[], None],
        progress: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """``length`` is None where ``end`` will tell.

        ``schedule`` gives a task to the threads, ``now`` tells the time in seconds.

        ``progress`` is called when the body has been let in or is over, ``rearm`` when more may be
        read; both are called in a worker thread.
        """
        self.reception = reception
        self.failure: BaseException | None = None
        self.is_open = False
        self._busy_seconds = 0.0  # without the time since it was scheduled last
        self.idle_since = 0.0
        """When all that had come was fed."""
        self._now = now
        self._busy_since = now()
        self._schedule = schedule
        self._rearm = rearm
        self._progress = progress
        self._left = UNKNOWN if length is None else length  # bytes to come
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._is_closed = False
        self._is_scheduled = True
        self._lock = threading.Lock()
        schedule(self)

    # in the loop

    def received(self, data: bytes) -> int:
        """Take what has come; the number of bytes that belong to this body."""
        taken = data[: self._left]
        self._left -= len(taken)
        with self._lock:
            if taken and not self.failure:
                self._pending.append(taken)
                self._pending_bytes += len(taken)
                self._schedule_once()
        return len(taken)

    def end(self) -> None:
        """All bytes of a body without a length have come."""
        self._left = 0
        with self._lock:
            self._schedule_once()

    @property
    def is_expecting(self) -> bool:
        """Whether the client has not sent all of it."""
        return self._left > 0

    @property
    def busy_seconds(self) -> float:
        """How long the client has waited for us in all."""
        with self._lock:
            return self._busy_seconds + (self._now() - self._busy_since if self._is_scheduled else 0)

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client that keeps us waiting."""
        return self.wants_more and not self._is_scheduled

    @property
    def wants_more(self) -> bool:
        """Whether to read on."""
        return self.is_open and self._left > 0 and self._pending_bytes < MOST_PENDING_BYTES

    @property
    def is_over(self) -> bool:
        """Whether all of it has been fed, or no more will be."""
        return self.failure is not None or (self.is_open and not self._left and not self._is_scheduled)

    def getbuf(self) -> Self:
        """What waitress closes."""
        return self

    def close(self) -> None:
        """The client has gone: feed what has come, and close the reception."""
        with self._lock:
            self._is_closed = True
            self._schedule_once()

    def _schedule_once(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._busy_since = self._now()
            self._schedule(self)

    # in a worker thread

    def service(self) -> None:
        """Feed what is pending."""
        was_open = self.is_open
        try:
            self._feed_pending()
        except BaseException as error:  # noqa: BLE001 - the application raises it where it is answered
            self.failure = error
        with self._lock:
            self.idle_since = self._now()
            self._busy_seconds += self.idle_since - self._busy_since
            self._busy_since = self.idle_since
            self._is_scheduled = bool(self._pending) and self.is_open and self.failure is None
            is_abandoned = self.failure is not None or (self._is_closed and not self._is_scheduled)
            if self._is_scheduled:  # it has come in the meantime
                self._schedule(self)
        if is_abandoned:
            self.reception.close()
        if self.is_over or not was_open:
            self._progress()
        else:
            self._rearm()

    def _feed_pending(self) -> None:
        if self.failure is not None:
            return
        if not self.is_open:
            if self._is_closed:
                return
            self.reception.open()
            self.is_open = True
        while self._pending:  # also when the client has gone: an upload keeps all that has come of it
            data = self._pending.popleft()
            self.reception.feed(data)
            with self._lock:
                was_full = self._pending_bytes >= MOST_PENDING_BYTES
                self._pending_bytes -= len(data)
            if was_full and self.wants_more:
                self._rearm()

    def cancel(self) -> None:
        """The server ends, and this task will not run."""
        self.reception.close()


class ChunkedBody:
    """Takes a large body in chunks (RFC 9112, section 7.1); stands where waitress has its receiver."""

    completed = False  # it is the body that is over, and that later: all of it has to be fed

    def __init__(self, body: LargeBody) -> None:
        self.error: BadRequest | None = None
        self._body = body
        self._receiver = ChunkedReceiver(self)
        self._found = bytearray()

    def append(self, data: bytes) -> None:
        """What the receiver has found in the chunks."""
        self._found += data

    def received(self, data: bytes) -> int:
        """Take what has come; the number of bytes that belong to this body and its framing."""
        consumed = 0
        # in small pieces: for each chunk waitress copies the rest of what it has got
        while consumed < len(data) and self.error is None and not self._receiver.completed:
            consumed += int(self._receiver.received(data[consumed : consumed + PIECE_BYTES]))
            self._look()
        if self._found:
            self._body.received(bytes(self._found))
            self._found.clear()
        if self._receiver.completed:
            self._body.end()
        return consumed

    def _look(self) -> None:
        self.error = self._receiver.error
        if max(len(self._receiver.control_line), len(self._receiver.trailer)) > MOST_LINE_BYTES:
            self.error = BadRequest("a line of the chunked body is too long")
