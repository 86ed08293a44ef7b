"""waitress, set up for video: its limits, its temporary files, and what it refuses by itself."""

import contextlib
import errno
import json
import logging
import secrets
import socket
import tempfile
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest, Error

from streamer.app import Application
from streamer.errors import CannotListen, ConfigurationError
from streamer.resources.errors import MEDIA_TYPE, document
from streamer.resources.videos import FORM_OVERHEAD_BYTES
from streamer.storage.local import INCOMING

logger = logging.getLogger("streamer.server")

CODES = {
    400: "bad_request",
    413: "body_too_large",
    431: "header_fields_too_large",
    500: "internal_error",
    501: "not_implemented",
    507: "insufficient_storage",
}
DETAILS = {"Bad URI": "the target of the request is no URI: percent-encode what is not ASCII"}
LINGER_BYTES = 64 * 2**20


class DiskFull(Error):
    """waitress could not store a request body."""

    code = 507
    reason = "Insufficient Storage"


class Parser(HTTPRequestParser):
    """Answers a full disk, where waitress would drop the connection."""

    path = ""  # waitress logs it when a client leaves, also where what it sent had none

    def received(self, data: bytes) -> int:
        try:
            return int(super().received(data))
        except ValueError:  # a target such as "http://[", a Content-Length of thousands of digits
            self.error = BadRequest("the head of the request is malformed")
            self.completed = True
            return len(data)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            self.error = DiskFull("there is no room for this request body")
            self.completed = True
            return len(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what did not fit is tried again before the file is closed
            super().close()


class Task(WSGITask):
    """Keeps the connection after 204 and 304.

    waitress ends it after every answer without Content-Length, also where none belongs.
    """

    def set_close_on_finish(self) -> None:
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.has_body or asked or self.version == "1.0":
            super().set_close_on_finish()


class ProblemTask(ErrorTask):
    """Tells a refusal as a problem document."""

    def execute(self) -> None:
        error = self.request.error
        request_id = secrets.token_hex(8)
        facts = {"status": error.code, "address": self.channel.addr[0], "request_id": request_id}
        line = " ".join(f"{name}={value}" for name, value in facts.items())
        logger.info("refused: %s %s", error.body, line, extra={"fields": {"message": error.body, **facts}})
        limit = self.channel.server.application.config.max_upload_bytes
        members = {413: {"limit": limit}, 507: {"available": 0}}.get(error.code, {})
        # waitress tells its own limit, which has room for a form around the file
        detail = {413: f"the limit is {limit} bytes"}.get(error.code, DETAILS.get(error.body, error.body))
        body = json.dumps(document(error.code, CODES[error.code], detail, **members)).encode() + b"\n"
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", MEDIA_TYPE), ("X-Content-Type-Options", "nosniff")]
        self.response_headers.append(("X-Request-Id", request_id))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.will_linger = True
        self.write(body)


class Channel(HTTPChannel):
    """Lingers after a refusal.

    A socket that is closed over unread bytes sends a reset, and the reset can
    overtake the answer. So only our half is closed first, and what the client
    still sends is read and dropped, until it has closed its half, has sent
    LINGER_BYTES, or the time limit of idle connections is over.
    """

    parser_class = Parser
    task_class = Task
    error_task_class = ProblemTask

    close_when_flushed: bool  # waitress sets it after the last request of a connection
    will_linger = False
    _lingering = False
    _dropped = 0

    def handle_write(self) -> None:
        if not (self.will_linger and self.close_when_flushed) or self.will_close:
            super().handle_write()
            return
        self._flush_exception(self._flush_some)
        if self.connected and not self.total_outbufs_len and not self.will_close:
            self.close_when_flushed = False
            self._lingering = True
            self._end_output()

    def _end_output(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the client has left
            self.will_close = True

    def received(self, data: bytes) -> bool:
        if not self._lingering:
            return bool(super().received(data))
        self._dropped += len(data)
        self.will_close = self._dropped > LINGER_BYTES
        return True


class Server(TcpWSGIServer):
    """One listening socket."""

    channel_class = Channel


def create_servers(app: Application) -> list[Server]:
    """Listen on all addresses of the configured host. Raises CannotListen or ConfigurationError."""
    sockets: dict[int, Any] = {}
    dispatcher = ThreadedTaskDispatcher()
    try:
        adjustments = Adjustments(**_settings(app))
        servers = [
            Server(app, map=sockets, dispatcher=dispatcher, adj=adjustments, sockinfo=address)
            for address in adjustments.listen
        ]
    except (ValueError, socket.gaierror) as error:
        mistake = f"STREAMER_HOST={app.config.host!r}: want an address or a name of this machine"
        raise ConfigurationError([mistake]) from error
    except OSError as error:
        raise CannotListen(app.config.host, app.config.port, str(error)) from error
    dispatcher.set_thread_count(adjustments.threads)
    return servers


def _settings(app: Application) -> dict[str, Any]:
    config = app.config
    return {
        "host": config.host,
        "port": config.port,
        "threads": config.threads,
        "ident": "streamer",
        "server_name": _in_url(config.host),  # for links in answers to requests without a Host
        # a viewer has two descriptors, and many systems allow a process 1024
        "connection_limit": 400,
        "asyncore_use_poll": True,
        "channel_timeout": 60,
        "cleanup_interval": 10,
        "recv_bytes": 256 * 1024,
        # waitress refuses a body of exactly this size; the application tells the true limit
        "max_request_body_size": config.max_upload_bytes + FORM_OVERHEAD_BYTES + 1,
        # the application resolves X-Forwarded-* itself, under every server alike
        "clear_untrusted_proxy_headers": False,
    }


def serve(servers: list[Server]) -> None:
    """Answer requests until SystemExit or KeyboardInterrupt is raised in this thread."""
    # bodies that waitress stores for us belong to the data folder like everything else
    tempfile.tempdir = str(servers[0].application.config.data / INCOMING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits
    servers[0].run()


def address(servers: list[Server]) -> str:
    """The URL that the server can be reached at on this machine."""
    return f"http://{_in_url(servers[0].effective_host)}:{servers[0].effective_port}"


def _in_url(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host
