"""Listening sockets: they take connections, and end those that have taken too long."""

import errno
import logging
import socket
import time
from itertools import islice

from waitress import wasyncore
from waitress.server import TcpWSGIServer

from streamer.server.channel import Channel
from streamer.server.loop import PollLoop
from streamer.server.settings import LARGE_SEND_BUFFER_BYTES, SEND_BUFFERS_BYTES, SMALL_SEND_BUFFER_BYTES

logger = logging.getLogger("streamer.server")

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
PAUSE_SECONDS = 0.5  # between tries to take a connection
IDLE_SECONDS = 1.0  # after which a connection without a request makes room for another


class Listener(TcpWSGIServer):
    """One listening socket and its connections.

    waitress takes one connection a turn, fails to take any on every turn while the process has
    no descriptors left, lets connections that do nothing keep others out, and never ends the
    connection of a client that has stopped to read.
    """

    channel_class = Channel
    is_draining = False
    active_channels: dict[int, Channel]
    _accepts_after = 0.0

    @staticmethod
    def now() -> float:
        """The clock of all deadlines, in seconds."""
        return time.monotonic()

    def pull_trigger(self) -> None:
        if isinstance(self._map, PollLoop):  # in the other one, channels change their interest themselves
            super().pull_trigger()

    def set_socket_options(self, connection: socket.socket) -> None:
        super().set_socket_options(connection)
        share = SEND_BUFFERS_BYTES // len(self._map)
        if share < LARGE_SEND_BUFFER_BYTES:  # else the kernel finds the right size by itself
            size = max(share, SMALL_SEND_BUFFER_BYTES)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def readable(self) -> bool:
        return bool(self.accepting) and self.now() >= self._accepts_after

    def handle_accept(self) -> None:
        while self._has_room():
            try:
                accepted = self.accept()
                if accepted is None:
                    return
                connection, address = accepted
                self.set_socket_options(connection)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._pause(str(error))
                    return
                continue  # the client has left
            self.channel_class(self, connection, self.fix_addr(address), self.adj, map=self._map)
            if self._is_full:
                return  # room is made when somebody is known to wait for it

    @property
    def _is_full(self) -> bool:
        return bool(len(self._map) >= self.adj.connection_limit)

    def _has_room(self) -> bool:
        if not self._is_full:
            return True
        before = self.now() - IDLE_SECONDS
        idle = [channel for channel in self.active_channels.values() if channel.is_idle]
        idle = [channel for channel in idle if channel.last_activity < before]
        idle.sort(key=lambda channel: channel.last_activity)
        unused = (channel for channel in idle if not channel.has_unread)
        closed = list(islice(unused, max(1, self.adj.connection_limit // 50)))
        for channel in closed:
            channel.handle_close()
        if not closed:
            self._pause("all connections are in use")
        return bool(closed)

    def _pause(self, reason: str) -> None:
        self._accepts_after = self.now() + PAUSE_SECONDS
        logger.warning("no more connections for a moment: %s", reason)

    def maintenance(self, now: float) -> None:
        """End the connections whose time is over."""
        for channel in list(self.active_channels.values()):
            if channel.deadline() < now:
                channel.end()

    def stop_accepting(self) -> None:
        """Let nobody in any more, and tell those who get an answer that it is the last."""
        self.is_draining = True
        wasyncore.dispatcher.close(self)

    def close_channels(self) -> None:
        """End all connections, with whatever they are at."""
        for channel in list(self.active_channels.values()):
            channel.handle_close()

    def close_idle(self) -> None:
        """End the connections on which nothing happens."""
        for channel in list(self.active_channels.values()):
            if channel.is_idle and not channel.lingers_until and not channel.has_unread:
                channel.handle_close()
