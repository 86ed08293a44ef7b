"""Connections that have been answered once and are kept, without another request."""

import contextlib
import select
import socket
import time
from typing import Self

from bench import wire
from bench.processes import HOST

ARRIVAL_SECONDS = 5


class Crowd:
    """``count`` connections; a context that ends with them."""

    def __init__(self, port: int, request: bytes, count: int) -> None:
        self._address = (HOST, port)
        self._request = request
        self._count = count
        self._sockets: dict[int, socket.socket] = {}
        self.answered = 0

    def __enter__(self) -> Self:
        """Connect all, ask on each, and wait for the answers for ARRIVAL_SECONDS at most."""
        with contextlib.closing(select.epoll()) as poll:
            for _ in range(self._count):
                connection = wire.new_socket()
                connection.setblocking(False)
                self._sockets[connection.fileno()] = connection
                with contextlib.suppress(BlockingIOError):
                    connection.connect(self._address)
                poll.register(connection, select.EPOLLOUT)
            deadline = time.monotonic() + ARRIVAL_SECONDS
            while self.answered < self._count and time.monotonic() < deadline:
                for descriptor, events in poll.poll(0.1):
                    self._step(poll, descriptor, events)
        return self

    def _step(self, poll: "select.epoll", descriptor: int, events: int) -> None:
        with contextlib.suppress(OSError):
            if events & select.EPOLLOUT:
                self._sockets[descriptor].send(self._request)
                poll.modify(descriptor, select.EPOLLIN)
                return
            self.answered += self._sockets[descriptor].recv(65536).startswith(b"HTTP/1.1 200")
        poll.unregister(descriptor)

    def still_open(self) -> int:
        """How many connections the server has not closed."""
        count = 0
        for connection in self._sockets.values():
            try:
                count += bool(connection.recv(65536))
            except BlockingIOError:
                count += 1
            except OSError:
                pass
        return count

    def __exit__(self, *details: object) -> None:
        for connection in self._sockets.values():
            connection.close()
