"""Viewers who watch at a steady pace, all in one thread, and some who stop reading for good.

A viewer is visited every 50 ms and takes what it is due by then, as a player does
that keeps its buffer full; the visits are spread evenly over that time. Nobody
waits for a socket: what is due is nearly always there, so asking epoll first
would only cost a system call more.
"""

import contextlib
import random
import socket
import time
from dataclasses import dataclass
from typing import Self

from bench import pattern, wire
from bench.processes import HOST
from bench.wire import BadAnswer, Endpoint, Head

BYTES_PER_SECOND = 1_000_000
VISITS_PER_SECOND = 20
GROUPS = 10
"""Viewers are visited in so many groups, one after the other."""
RECEIVE_BUFFER_BYTES = 128 * 1024
"""Enough for two visits. On one machine it counts, like what the server sends, against net.ipv4.tcp_mem."""
LEAST_PACE = 0.95
CHECKED = 4
"""So many of the viewers compare every byte."""


@dataclass(frozen=True)
class Seen:
    """What the viewers saw: how many fell behind, what failed, bytes.

    ``visited`` is the share of the visits for which there was time: with much less
    than 1, the client was too slow and not the server.
    """

    slow: int
    errors: list[str]
    body_bytes: int
    seconds: float
    visited: float


class Viewer:
    """One connection that takes BYTES_PER_SECOND from some position of the file to its end."""

    def __init__(self, endpoint: Endpoint, first: int, *, stalls: bool, checks: bool) -> None:
        self.error = ""
        self.received = 0
        self.stalls = stalls
        self._checks = checks and not stalls
        self._first = first
        self._request = endpoint.request("GET", endpoint.video, f"Range: bytes={first}-")
        self._head: Head | None = None
        self._unread = b""
        self._started = 0.0
        self.socket = wire.new_socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.socket.connect((HOST, endpoint.port))

    def visit(self, now: float, buffer: bytearray) -> None:
        """Take what is due by ``now``, in seconds, and there."""
        if self.error:
            return
        try:
            if self._request:
                self._request = self._request[self.socket.send(self._request) :]
            elif self._head is None:
                self._receive_head(now)
            elif not self.stalls:
                self._receive(int((now - self._started) * BYTES_PER_SECOND) - self.received, buffer)
        except BlockingIOError:
            pass
        except (OSError, BadAnswer) as error:
            self.error = str(error) or type(error).__name__

    def _receive_head(self, now: float) -> None:
        received = self.socket.recv(wire.HEAD_BYTES)
        if not received:
            raise BadAnswer("closed by the server before it answered")
        self._unread += received
        self._head = wire.parse_head(self._unread)
        if self._head:
            wire.want(self._head, 206)
            self._started = now
            self._account(self._unread[self._head.size :])

    def _receive(self, due: int, buffer: bytearray) -> None:
        if due <= 0:
            return
        size = min(due, len(buffer))
        if self._checks:
            part = self.socket.recv(size)
            count = len(part)
            self._account(part)
        else:
            count = self.socket.recv_into(buffer, size, wire.DISCARD)
            self.received += count
        if not count:
            raise BadAnswer(f"the body ended after {self.received} bytes")

    def _account(self, part: bytes) -> None:
        if self._checks and part != pattern.expected(self._first + self.received, len(part)):
            raise BadAnswer(f"wrong bytes from position {self._first + self.received}")
        self.received += len(part)


class Audience:
    """``count`` viewers, every tenth of them stalling; a context that ends with their connections."""

    def __init__(self, endpoint: Endpoint, size: int, count: int, seconds: float) -> None:
        """``size`` of the file in bytes; ``seconds`` that they will be counted for."""
        self._endpoint = endpoint
        self._count = count
        self._arrival_seconds = 0.5 + count / 250
        self._chosen = random.Random(count)
        needed = int((seconds + self._arrival_seconds + 5) * BYTES_PER_SECOND)
        self._latest = max(0, size - needed)
        self._checked = set(self._chosen.sample(range(1, count), min(CHECKED, count - 1)))
        self._viewers: list[Viewer] = []
        self._buffer = bytearray(8 * BYTES_PER_SECOND // VISITS_PER_SECOND)
        self._turn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        for viewer in self._viewers:
            viewer.socket.close()

    def arrive(self) -> None:
        """Connect, in ten steps, and let everybody find the pace."""
        for step in range(10):
            for number in range(step, self._count, 10):
                self._add(number)
            self._play(self._arrival_seconds / 20)
        self._play(self._arrival_seconds / 2)

    def _add(self, number: int) -> None:
        first = self._chosen.randrange(self._latest + 1)
        stalls = number % 10 == 9
        self._viewers.append(Viewer(self._endpoint, first, stalls=stalls, checks=number in self._checked))

    def watch(self, seconds: float) -> Seen:
        """Let them watch for so long and tell what they saw meanwhile."""
        before = [viewer.received for viewer in self._viewers]
        started, turns = time.perf_counter(), self._turn
        self._play(seconds)
        elapsed = time.perf_counter() - started
        received = [viewer.received - earlier for viewer, earlier in zip(self._viewers, before, strict=True)]
        least = LEAST_PACE * BYTES_PER_SECOND * elapsed
        pairs = zip(self._viewers, received, strict=True)
        return Seen(
            slow=sum(count < least for viewer, count in pairs if not viewer.stalls),
            errors=[viewer.error for viewer in self._viewers if viewer.error],
            body_bytes=sum(received),
            seconds=elapsed,
            visited=(self._turn - turns) / (seconds * VISITS_PER_SECOND * GROUPS),
        )

    def _play(self, seconds: float) -> None:
        """Visit one group of viewers after the other; a client that is late does not hurry afterwards."""
        pause = 1 / VISITS_PER_SECOND / GROUPS
        due = now = time.perf_counter()
        end = due + seconds
        while now < end:
            if now < due:
                time.sleep(due - now)
            for viewer in self._viewers[self._turn % GROUPS :: GROUPS]:
                viewer.visit(time.perf_counter(), self._buffer)
            self._turn += 1
            now = time.perf_counter()
            due = max(due + pause, now - pause)
