"""Where a peer answers, and HTTP/1.1 as far as the clients need it."""

import re
import socket
from dataclasses import dataclass
from typing import Any

from bench.processes import HOST

HEAD_BYTES = 16384
BUFFER_BYTES = 4 * 2**20
TIMEOUT_SECONDS = 30
SEGMENT_BYTES = 8948
DISCARD = socket.MSG_TRUNC
"""Flag of ``recv``: the kernel drops the bytes instead of copying them (tcp(7))."""

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class BadAnswer(Exception):
    """An answer that is not what was asked for."""


@dataclass(frozen=True)
class Endpoint:
    """A started peer: its port, what it serves, the fields that each request needs."""

    port: int
    video: str
    """The path of the file."""
    small: str
    """The path of a small answer."""
    fields: str = ""
    put: str = ""
    """The path that a file may be PUT to, if there is one."""
    refused: str = ""
    """The path at which an upload is refused, if there is one."""
    lists: tuple[str, ...] = ()
    """The paths of JSON documents to measure: a list and an item."""

    def request(self, method: str, path: str, *fields: str) -> bytes:
        """The head of a request, with further fields."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}:{self.port}", *fields]
        return ("\r\n".join(lines) + "\r\n" + self.fields + "\r\n").encode("latin-1")


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer: its status, the length of its body and its own length, both in bytes."""

    status: int
    length: int
    size: int
    is_last: bool


def parse_head(data: bytes) -> Head | None:
    """Read the head of an answer; None while it is incomplete. Raises BadAnswer."""
    size = data.find(b"\r\n\r\n") + 4
    if size == 3:
        if len(data) >= HEAD_BYTES or not b"HTTP/1.1 ".startswith(data[:9]):
            raise BadAnswer(f"no head of an answer: {data[:80]!r}")
        return None
    length = _LENGTH.search(data, 0, size)
    if length is None:
        raise BadAnswer(f"no Content-Length: {data[:size]!r}")
    is_last = b"\r\nconnection: close\r\n" in data[:size].lower()
    return Head(int(data[9:12]), int(length[1]), size, is_last)


def new_socket() -> socket.socket:
    """A socket whose peer sends segments as on Ethernet with jumbo frames.

    Those of the loopback device are of 64 KiB. With them, an answer that is a
    little longer waits for a delayed acknowledgement, 40 ms, under some servers
    (nginx with tcp_nopush): nothing that a network would show. Those of 1,448
    bytes would cost the client twice the processor time.
    """
    made = socket.socket()
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    return made


def connect(port: int, timeout: float = TIMEOUT_SECONDS) -> socket.socket:
    """A connection that waits for at most ``timeout`` seconds at a time."""
    connection = new_socket()
    connection.settimeout(timeout)
    try:
        connection.connect((HOST, port))
    except OSError:
        connection.close()
        raise
    return connection


def read_head(connection: socket.socket) -> tuple[Head, bytes]:
    """Wait for the head of an answer; it and the bytes of the body that came with it."""
    data = b""
    while True:
        received = connection.recv(HEAD_BYTES)
        if not received:
            raise BadAnswer(f"closed by the server after {data[:80]!r}")
        data += received
        if head := parse_head(data):
            return head, data[head.size :]


def read_body(connection: socket.socket, head: Head, body: bytes) -> bytes:
    """The whole body, of which a part has been read. Raises BadAnswer if it is cut."""
    parts, left = [body], head.length - len(body)
    while left > 0:
        part = connection.recv(min(left, 2**20))
        if not part:
            raise BadAnswer(f"the body ended {left} bytes too early")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def exchange(port: int, request: bytes) -> tuple[Head, bytes]:
    """One request on a connection of its own: head and body of the answer."""
    with connect(port) as connection:
        connection.sendall(request)
        head, body = read_head(connection)
        return head, read_body(connection, head, body)


def want(head: Head, status: int, context: Any = "") -> None:
    """Raises BadAnswer if the status is another."""
    if head.status != status:
        raise BadAnswer(f"status {head.status} instead of {status} {context!r}")
