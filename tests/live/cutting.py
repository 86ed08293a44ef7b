"""A line between clients and a server that breaks where a test says."""

import contextlib
import random
import select
import socket
import socketserver
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Self

from tests.live.harness import MIB, TIMEOUT_SECONDS

READ_BYTES = 256 * 1024
UNREADABLE_BYTES = 10  # "HTTP/1.1 2": more than that, some clients take for a whole answer

Act = Callable[["Connection"], None]


@dataclass(frozen=True)
class Event:
    """What happens when clients have sent so many bytes, on all connections together."""

    position: int
    act: Act


class Line(socketserver.ThreadingTCPServer):
    """Passes on what clients and a server send, and lets the events of a plan happen on the way.

    Its own address stays, also when the server comes back at another one.
    """

    daemon_threads = True
    block_on_close = False  # whoever hangs is no reason to wait

    def __init__(self, target: Callable[[], tuple[str, int]], plan: Iterable[Event] = ()) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.target = target
        self.plan = deque(sorted(plan, key=lambda event: event.position))
        """What has not happened yet."""

        self.answer_cuts: deque[tuple[Act, int]] = deque()
        """How the next answers are cut, and how many of their bytes come through."""

        self.silent: list[socket.socket] = []
        """Connections to the server on which nothing comes any more."""

        self.sent = 0
        """How many bytes of clients have been passed on."""

        self._failures: list[BaseException | None] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.server_address)

    def advance(self, size: int) -> tuple[int, Event | None]:
        """How many of the next bytes may be passed on, and what happens then."""
        with self._lock:
            event = None
            if self.plan and self.plan[0].position <= self.sent + size:
                event = self.plan.popleft()
                size = max(0, event.position - self.sent)
            self.sent += size
            return size, event

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep what went wrong in the thread of a connection for the end of the test."""
        self._failures.append(sys.exception())

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self.shutdown()
        self.server_close()
        for upstream in self.silent:
            upstream.close()
        for failure in self._failures:
            assert failure is not None
            raise failure


class Connection(socketserver.BaseRequestHandler):
    """A connection of a client, and the one to the server that belongs to it."""

    server: Line
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(TIMEOUT_SECONDS)
        with contextlib.suppress(OSError):  # the server is not up, or one of the two has gone
            with socket.create_connection(self.server.target(), TIMEOUT_SECONDS) as self.upstream:
                self._relay()
            return
        _reset(self.request)

    def _relay(self) -> None:
        while readable := select.select([self.request, self.upstream], [], [], TIMEOUT_SECONDS)[0]:
            for side in readable:
                data = side.recv(READ_BYTES)
                if not data:
                    return
                if side is self.request:
                    self._pass_on(data)
                else:
                    self._answer(data)

    def _pass_on(self, data: bytes) -> None:
        while data:
            size, event = self.server.advance(len(data))
            self.upstream.sendall(data[:size])
            data = data[size:]
            if event is not None:
                event.act(self)

    def _answer(self, data: bytes) -> None:
        if self.server.answer_cuts:
            cut, passed = self.server.answer_cuts.popleft()
            self.request.sendall(data[:passed])
            cut(self)
        self.request.sendall(data)

    # how a line breaks

    def send_rst(self) -> None:
        """Both get RST."""
        _reset(self.upstream)
        raise ConnectionResetError

    def send_fin(self) -> None:
        """Both get FIN, as if the other had ended the connection."""
        self.upstream.shutdown(socket.SHUT_WR)
        self.request.shutdown(socket.SHUT_WR)
        while self.request.recv(READ_BYTES):  # closed with bytes unread, it would get RST
            pass
        raise ConnectionAbortedError

    def fall_silent(self) -> None:
        """The client gets RST, the server never hears of the connection again."""
        self.server.silent.append(self.upstream.dup())
        raise ConnectionResetError


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has gone already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def in_answer(cut: Act, passed: int) -> Act:
    """The next answer is cut, after so many of its bytes."""
    return lambda connection: connection.server.answer_cuts.append((cut, passed))


def random_cuts(chance: random.Random, count: int, size: int) -> list[Event]:
    """Cuts of all kinds, anywhere in ``size`` bytes that clients send, except among the first."""
    often = [Connection.send_rst, Connection.send_fin]
    kinds: list[Act] = [*often * 4, Connection.fall_silent]  # which takes time: the server has to notice
    for cut in often * 3:
        kinds.append(in_answer(cut, chance.randrange(UNREADABLE_BYTES + 1)))
    positions = chance.sample(range(MIB, size), count)
    return [Event(*pair) for pair in zip(positions, islice(cycle(kinds), count), strict=True)]
