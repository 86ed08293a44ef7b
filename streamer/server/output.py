"""How the bytes of an answer leave: from file to socket inside the kernel, where it can."""

import errno
import logging
import os
import socket
from typing import Any

from waitress.channel import HTTPChannel

from streamer.storage.slices import FileSlice

logger = logging.getLogger("streamer.server")

PASS_BYTES = 4 * 2**20  # the most that one viewer gets before the others have their turn
HELD_BYTES = 16 * 1024  # so little waits for more, or for the end of the answer
CORKED_BYTES = 128 * 1024  # so large a file leaves in many pieces, of which each would wake the client
TCP_CORK = getattr(socket, "TCP_CORK", None)  # Linux
MSG_MORE = getattr(socket, "MSG_MORE", 0)  # Linux
NO_SENDFILE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EOVERFLOW}
DISCONNECTED = {
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}


class FileChannel(HTTPChannel):
    """Sends slices of files by ``os.sendfile``, and does not spin.

    waitress reads from a file into memory all that a socket might take, sends what it does
    take, and reads the rest again. Here the kernel takes the pages from its cache itself. The
    head of an answer leaves in one packet with the first bytes of its body.

    While a worker thread is at work on an answer, waitress' loop finds the socket ready, fails
    to get the lock of the buffers and tries again without end. Here the channel says that it
    waits for nothing until the worker thread has done what it can.

    Whoever finds that the client has left only says so: it is the loop that closes, from
    ``handle_write``, so that nobody's channel is closed under their hands.
    """

    _is_corked = False
    _last_activity: float
    _workers = 0
    """Worker threads that write answers: for a moment two, when the loop without epoll brings the next
    request before the thread of the last one has let go."""

    def __init__(self, server: Any, connection: socket.socket, address: Any, settings: Any, map: Any) -> None:  # noqa: A002 - waitress' word
        super().__init__(server, connection, address, settings, map=map)
        self._uses_sendfile = hasattr(os, "sendfile") and settings.config.fast_paths

    @property
    def last_activity(self) -> float:
        """When something was read or sent, by the clock of all deadlines."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, moment: float) -> None:
        self._last_activity = self.server.now()  # waitress has the wall clock, which somebody may set

    def writable(self) -> bool:
        return not self._workers and bool(super().writable())

    def service(self) -> None:
        self._count_worker(1)
        try:
            super().service()
            self._send_held()
        finally:
            self._count_worker(-1)
            self.rearm()

    def _count_worker(self, step: int) -> None:
        with self.outbuf_lock:
            self._workers += step

    def _send_held(self) -> None:
        with self.outbuf_lock:
            if self.connected and 0 < self.total_outbufs_len < HELD_BYTES:
                self._flush_exception(self._flush_held, do_close=False)

    def _flush_held(self, do_close: bool) -> bool:
        return self._send_pending()

    def rearm(self) -> None:
        """Let the loop look at what this channel waits for now; in any thread."""
        self._map.rearm(self)

    def _flush_outbufs_below_high_watermark(self) -> None:
        # this waits for the loop to send
        if self.total_outbufs_len <= self.adj.outbuf_high_watermark:
            return
        self._count_worker(-1)
        try:
            self.rearm()
            super()._flush_outbufs_below_high_watermark()
        finally:
            self._count_worker(1)

    def _flush_some(self, do_close: bool = True) -> bool:
        if self._workers and self.total_outbufs_len < HELD_BYTES:
            return False
        with self.outbuf_lock:  # waitress' loop does without where it sees no request
            return self._send_pending()

    def _send_pending(self) -> bool:
        """Send what the socket takes, at most PASS_BYTES. Tells whether it took something."""
        room = PASS_BYTES
        if len(self.outbufs) > 2 and self.total_outbufs_len > CORKED_BYTES:  # a head and its file
            self._cork(True)
        while (buffer := self._next_buffer()) is not None and room > 0:
            sent = self._send_from(buffer, min(room, buffer.__len__()))
            if not sent:
                break
            buffer.skip(sent, True)
            self.total_outbufs_len -= sent
            room -= sent
        if not self.total_outbufs_len:
            self._cork(False)
        if room == PASS_BYTES:
            return False
        self.last_activity = self.server.now()
        return True

    def _cork(self, corked: bool) -> None:
        """Let only full segments leave, or all that is there: a file costs a quarter less so."""
        if TCP_CORK is not None and corked != self._is_corked and self.connected:
            self._is_corked = corked
            self.socket.setsockopt(socket.IPPROTO_TCP, TCP_CORK, corked)

    def _next_buffer(self) -> Any:
        """The first buffer that holds something; those before it are closed."""
        while not self.outbufs[0].__len__():
            if len(self.outbufs) == 1:
                return None
            self.outbufs.pop(0).close()
        return self.outbufs[0]

    def _send_from(self, buffer: Any, size: int) -> int:
        file = getattr(buffer, "file", None)
        if self._uses_sendfile and isinstance(file, FileSlice):
            sent = self._send_file(file, size)
            if sent is not None:
                return sent
        data = buffer.get(size)
        if not data:
            self._give_up_on_file()
            return 0
        return self._send_bytes(data, MSG_MORE if len(data) < self.total_outbufs_len else 0)

    def _send_file(self, file: FileSlice, size: int) -> int | None:
        """The number of bytes sent; None where this file has to be read."""
        try:
            sent = os.sendfile(self.socket.fileno(), file.descriptor, file.tell(), size)
        except OSError as error:
            if error.errno in NO_SENDFILE:
                self._uses_sendfile = False
                return None
            return self._not_sent(error)
        if not sent:
            self._give_up_on_file()
        return sent

    def _send_bytes(self, data: bytes, flags: int) -> int:
        try:
            return int(self.socket.send(data, flags))
        except OSError as error:
            return self._not_sent(error)

    def _not_sent(self, error: OSError) -> int:
        if isinstance(error, BlockingIOError | InterruptedError) or error.errno == errno.EBUSY:
            return 0  # macOS says EBUSY
        if error.errno not in DISCONNECTED:
            logger.error("what was to leave could not be sent: %s", error)
        self.will_close = True
        return 0

    def _give_up_on_file(self) -> None:
        """The file has become shorter than the answer says, which no padding could mend."""
        logger.error("a stored file has become shorter while it was sent: the connection is closed")
        self.will_close = True
