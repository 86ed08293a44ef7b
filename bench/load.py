"""The client that asks as fast as it is answered, on one or more connections, in one thread.

All but a sample of the bodies are thrown away inside the kernel; the sample is
compared with what should have come, byte for byte.
"""

import contextlib
import random
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench import pattern, wire
from bench.wire import BadAnswer, Endpoint

CHECKED_EVERY = 64
"""One request of so many is compared byte for byte."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, the status it must get, and the position and length of its body in the file.

    ``length`` is -1 for a body that is not of the file: any length, never compared.
    """

    request: bytes
    status: int
    first: int = 0
    length: int = -1


@dataclass
class Tally:
    """What came back: bytes of bodies, seconds that each request took, how many were compared."""

    seconds: float = 0.0
    body_bytes: int = 0
    latencies: list[float] = field(default_factory=list)
    checked: int = 0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    def quantile_ms(self, share: float) -> float:
        return quantile(self.latencies, share) * 1000


def quantile(values: list[float], share: float) -> float:
    """The value that a ``share`` (0 to 1) of all values do not exceed; 0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def random_ranges(endpoint: Endpoint, size: int, length: int) -> Iterator[Ask]:
    """Ranges of ``length`` bytes at random positions: the same ones for each peer."""
    chosen = random.Random(length)
    before, _, after = endpoint.request("GET", endpoint.video, "Range: bytes=\0").partition(b"\0")
    while True:
        first = chosen.randrange(size - length + 1)
        request = b"%s%d-%d%s" % (before, first, first + length - 1, after)
        yield Ask(request, 206, first, length)


def whole(endpoint: Endpoint, size: int) -> Iterator[Ask]:
    """The whole file again and again."""
    request = endpoint.request("GET", endpoint.video)
    while True:
        yield Ask(request, 200, 0, size)


def same(endpoint: Endpoint, path: str) -> Iterator[Ask]:
    """The same small document again and again."""
    request = endpoint.request("GET", path)
    while True:
        yield Ask(request, 200)


class _Connection:
    """One connection and the request that it is at."""

    def __init__(self, port: int) -> None:
        self.socket = wire.connect(port)
        self.socket.settimeout(None)  # only read when there is something: no further system call to wait
        self.left = 0
        self._checked: list[bytes] | None = None
        self._head = b""
        self.is_closing = False
        self._started = 0.0

    def ask(self, ask: Ask, is_checked: bool) -> None:
        self._ask = ask
        self._checked = [] if is_checked and ask.length >= 0 else None
        self._head = b""
        self._started = time.perf_counter()
        self.socket.sendall(ask.request)

    def receive(self, buffer: bytearray, tally: Tally) -> bool:
        """Take what has arrived; True when the answer is complete."""
        if not self.left:
            if not self._receive_head():
                return False
        elif self._checked is not None:
            part = self.socket.recv(min(self.left, len(buffer)))
            self._checked.append(part)
            self._take(len(part))
        else:
            self._take(self.socket.recv_into(buffer, min(self.left, len(buffer)), wire.DISCARD))
        if self.left:
            return False
        tally.latencies.append(time.perf_counter() - self._started)
        tally.body_bytes += self._length
        if self._checked is not None:
            self._compare(b"".join(self._checked))
            tally.checked += 1
        return True

    def _receive_head(self) -> bool:
        data = self.socket.recv(wire.HEAD_BYTES if self._checked is not None else 2048)
        if not data:
            raise BadAnswer(f"closed by the server after {self._head!r}")
        self._head += data
        head = wire.parse_head(self._head)
        if head is None:
            return False
        wire.want(head, self._ask.status, self._head)
        if self._ask.length not in {-1, head.length}:
            raise BadAnswer(f"{head.length} bytes instead of {self._ask.length}")
        body = self._head[head.size :]
        self._length, self.is_closing = head.length, head.is_last
        self.left = head.length - len(body)
        if self._checked is not None:
            self._checked.append(body)
        return True

    def _take(self, count: int) -> None:
        if not count:
            raise BadAnswer(f"the body ended {self.left} bytes too early")
        self.left -= count

    def _compare(self, body: bytes) -> None:
        if body != pattern.expected(self._ask.first, self._ask.length):
            raise BadAnswer(f"wrong bytes in {self._ask.length} from position {self._ask.first}")


class _Load:
    """Connections that are kept busy by an endless row of requests."""

    def __init__(self, port: int, asks: Iterator[Ask], checked_every: int) -> None:
        self.tally = Tally()
        self._port = port
        self._asks = asks
        self._checked_every = checked_every
        self._begun = 0
        self._buffer = bytearray(wire.BUFFER_BYTES)
        self._poll = select.epoll()
        self._busy: dict[int, _Connection] = {}

    def run(self, connections: int, seconds: float) -> None:
        started = time.perf_counter()
        deadline = started + seconds
        for _ in range(connections):
            self._admit(_Connection(self._port))
        while self._busy:
            now = time.perf_counter()
            if now > deadline + wire.TIMEOUT_SECONDS:
                raise BadAnswer(f"{len(self._busy)} requests without an answer in {now - started:.0f} s")
            for descriptor, _ in self._poll.poll(1):
                connection = self._busy[descriptor]
                if connection.receive(self._buffer, self.tally):
                    self._go_on(connection, is_last=now >= deadline)
        self.tally.seconds = time.perf_counter() - started

    def _admit(self, connection: _Connection) -> None:
        self._busy[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        self._ask(connection)

    def _ask(self, connection: _Connection) -> None:
        self._begun += 1
        connection.ask(next(self._asks), is_checked=self._begun % self._checked_every == 0)

    def _go_on(self, connection: _Connection, *, is_last: bool) -> None:
        if not (is_last or connection.is_closing):
            self._ask(connection)
            return
        del self._busy[connection.socket.fileno()]
        connection.socket.close()
        if not is_last:
            self._admit(_Connection(self._port))

    def close(self) -> None:
        self._poll.close()
        for connection in self._busy.values():
            connection.socket.close()


def run(
    port: int,
    asks: Iterator[Ask],
    connections: int,
    seconds: float,
    *,
    checked_every: int = CHECKED_EVERY,
) -> Tally:
    """Keep so many connections busy for so many seconds, and until what was begun has been answered.

    Every connection gets one answer at least. Raises BadAnswer or OSError for the
    first answer that is wrong or missing.
    """
    with contextlib.closing(_Load(port, asks, checked_every)) as load:
        load.run(connections, seconds)
    return load.tally
