"""One connection."""

import logging
import socket
from typing import Any

from streamer.admission import Reception
from streamer.server.bodies import LargeBody
from streamer.server.output import FileChannel
from streamer.server.parser import Parser, RequestTimeout
from streamer.server.settings import LARGE_READ_BYTES, SMALL_READ_BYTES, Settings
from streamer.server.tasks import ProblemTask, Task

logger = logging.getLogger("streamer.server")

QUICK_METHODS = {"GET", "HEAD", "OPTIONS"}
FORWARDED = {"FORWARDED", "VIA", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO"}
LINGER_SECONDS = 5
LINGER_BYTES = 64 * 2**20


class Lingering(FileChannel):
    """Lingers after the last answer.

    A socket that is closed over unread bytes (a body that was refused, a
    request behind the last one) sends a reset, and the reset throws away what
    has not reached the client of the answer. So only our half is closed first,
    and what the client still sends is read and dropped, until it has closed its
    half, has sent LINGER_BYTES, or LINGER_SECONDS are over (RFC 9112, section 9.6).
    """

    close_when_flushed: bool  # waitress sets it after the last request of a connection
    lingers_until = 0.0
    _dropped = 0

    def handle_write(self) -> None:
        if not self.close_when_flushed or self.will_close:
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.connected and not self.total_outbufs_len and not self.will_close:
            self.close_when_flushed = False
            self.lingers_until = self.server.now() + LINGER_SECONDS
            self._end_output()

    def _end_output(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client has left
            self.will_close = True

    def received(self, data: bytes) -> bool:
        if not self.lingers_until:
            return bool(super().received(data))
        self._dropped += len(data)
        self.will_close = self._dropped > LINGER_BYTES
        return True


class Channel(Lingering):
    """Takes requests; a large body goes past memory, and no client takes for ever.

    One request is dealt with at a time: those that are pipelined behind it wait as bytes until
    its answer has left. waitress takes them at once, and holds a worker thread for as long as
    the client does not read the answer before.
    """

    task_class = Task
    error_task_class = ProblemTask

    adj: Settings
    request: Parser | None  # the one that is on its way
    requests: list[Parser]  # the one that is being answered

    _behind = b""
    """What has come behind the request that is on its way or being answered."""

    def parser_class(self, settings: Any) -> Parser:
        """waitress calls it when the first bytes of a request have come."""
        return Parser(settings, self.server.now(), self._take, self._keep)

    def handle_read(self) -> None:
        try:
            data = self.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return  # the event was of the connection that had this descriptor before
        except OSError as error:
            logger.error("what a client sends could not be read: %s", error)
            self.handle_close()
            return
        if data:
            self.last_activity = self.server.now()
            self.received(data)
        else:
            self.connected = False  # the client has left

    def recv(self, buffer_size: int) -> bytes:
        size = LARGE_READ_BYTES if self._large_body or self.lingers_until else SMALL_READ_BYTES
        return bytes(super().recv(size))

    @property
    def _large_body(self) -> LargeBody | None:
        request = self.request  # in a worker thread: the next moment it may be another one
        return request.large_body if request is not None else None

    def _take(self, reception: Reception, length: int | None) -> LargeBody:
        """Begin to take a large body."""
        return LargeBody(
            reception, length, self.server.add_task, self.rearm, self._report_progress, self.server.now
        )

    @property
    def is_slow(self) -> bool:
        """For the threads: whether the task is likely to wait for a disk or to hash a password."""
        request = self.requests[0]
        return not request.is_refused and request.command not in QUICK_METHODS

    def readable(self) -> bool:
        body = self._large_body
        return bool(super().readable()) and not self._behind and (body is None or body.wants_more)

    def received(self, data: bytes) -> bool:
        if not self.requests:
            return super().received(data)
        self._keep(data)  # the loop was told of it before there was a request
        self._go_on()
        return True

    def _keep(self, data: bytes) -> None:
        self._behind += data

    def service(self) -> None:
        super().service()
        if self._behind and self.connected:
            self.server.trigger.pull_trigger(self._go_on)

    def handle_write(self) -> None:
        super().handle_write()
        self._go_on()

    def _go_on(self) -> None:
        """In the loop: take the next request, if it has come and the answer before has left."""
        if self._behind and self.connected and self.request is None and super().readable():
            data, self._behind = self._behind, b""
            self.received(data)
            self.rearm()

    def _report_progress(self) -> None:
        if self.connected:  # else there may be no trigger any more
            self.server.trigger.pull_trigger(self._look_at_body)

    def _look_at_body(self) -> None:
        """In the loop: a large body has been let in, or is over."""
        with self.requests_lock:
            request, body = self.request, self._large_body
            if request is None or body is None or not self.connected:
                return
            if body.is_over:
                request.finish()
                self._complete(request)
            elif body.is_open:  # not told late, of the body before
                self._announce(request, body)
                if request.awaits_continue:
                    request.awaits_continue = False
                    self.send_continue()
        self.rearm()

    def _announce(self, request: Parser, body: LargeBody) -> None:
        """Tell the client that it can go on with this body later, and where, if it knows what that means.

        Not through a proxy: nginx before 1.29, for one, takes this for the answer itself.
        """
        announcement = getattr(body.reception, "announcement", None)
        is_direct = request.version == "1.1" and not FORWARDED & request.headers.keys()
        if announcement is None or request.is_announced or not is_direct:
            return
        request.is_announced = True
        base = self.server.application.base_url(request.url_scheme, request.headers["HOST"])
        fields = announcement(base) if base else None
        if fields is not None:
            head = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
            payload = f"HTTP/1.1 104 Upload Resumption Supported\r\n{head}\r\n".encode("latin-1")
            with self.outbuf_lock:
                self.outbufs[-1].append(payload)
                self.current_outbuf_count += len(payload)
                self.total_outbufs_len += len(payload)
                self._flush_exception(self._flush_some)

    def _complete(self, request: Parser) -> None:
        """As ``received`` does with a request that has come whole."""
        self.sent_continue = False
        self.request = None
        self.requests.append(request)
        self.server.add_task(self)

    def handle_close(self) -> None:
        self._behind = b""
        super().handle_close()
        self.give_up_request()

    def give_up_request(self) -> None:
        """Nobody waits for the rest of the request that is on its way."""
        request, self.request = self.request, None
        if request is not None:
            if request.large_body is not None:
                self._log_cut(request)
            request.close()

    def _log_cut(self, request: Parser) -> None:
        """The application never sees a request whose body has not come whole, so it cannot log it."""
        facts = {
            "method": request.command,
            "path": request.path,
            "length": request.content_length,
            "bytes": request.body_bytes_received,
            "address": self.addr[0],
        }
        line = " ".join(f"{name}={value}" for name, value in facts.items())
        message = "a body was cut off"
        logger.info("%s: %s", message, line, extra={"fields": {"message": message, **facts}})

    def handle_expt(self) -> None:
        self.handle_close()  # urgent data, which HTTP has not: it would be reported on every turn

    def cancel(self) -> None:
        for request in self.requests:  # which waitress forgets without closing them
            request.close()
        super().cancel()

    # time

    def deadline(self) -> float:
        """When this connection has taken too long, if nothing happens until then."""
        config = self.adj.config
        if self.lingers_until:
            return self.lingers_until
        if self.total_outbufs_len:
            return self.last_activity + config.send_timeout
        if self.requests:
            return float("inf")  # it waits for us
        request = self.request
        if request is None:
            return self.last_activity + config.keep_alive
        if not request.headers_finished:
            return request.began + config.header_timeout
        waits_since, slowest = self.last_activity, float(config.header_timeout)
        if (body := request.large_body) is not None:
            waits_since = max(waits_since, body.idle_since) if body.waits_for_client else self.server.now()
            slowest += body.busy_seconds
        slowest += request.body_bytes_received / config.body_rate
        return min(waits_since + config.keep_alive, float(request.began + slowest))

    @property
    def is_idle(self) -> bool:
        """Whether nothing has been asked that has not been answered."""
        return not (self.requests or self.total_outbufs_len or self._behind or self.request is not None)

    @property
    def has_unread(self) -> bool:
        """Whether a request waits in the socket. Closing over it would reset what still leaves."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def end(self) -> None:
        """The deadline is over. A request that has not come whole is told so."""
        with self.requests_lock:
            request = self.request
            is_told = request is not None and not self.requests and not self.total_outbufs_len
            if request is not None and is_told:
                request.fail(RequestTimeout("the request has not come within the time for it"))
                self._complete(request)
        if is_told:
            self.rearm()
        else:
            self.handle_close()
