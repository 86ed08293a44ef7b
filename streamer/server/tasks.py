"""What a worker thread does with a request: run the application, or tell what is wrong with the request."""

import json
import logging
import secrets
from functools import lru_cache
from typing import Any

from waitress.task import ErrorTask, WSGITask

from streamer import clock
from streamer.middleware import REFUSAL
from streamer.protocol.conditional import format_http_date
from streamer.resources.bodies import RECEPTION
from streamer.resources.errors import MEDIA_TYPE, document

logger = logging.getLogger("streamer.server")

CODES = {
    400: "bad_request",
    408: "request_timeout",
    431: "header_fields_too_large",
    500: "internal_error",
    501: "not_implemented",
    505: "http_version_not_supported",
}
DETAILS = {"Bad URI": "the target of the request is no URI: percent-encode what is not ASCII"}


@lru_cache(maxsize=256)
def _canonical(name: str) -> str:
    """The name of a header field as it is usually written."""
    return "-".join([word.capitalize() for word in name.split("-")])


class Task(WSGITask):
    """Runs the application.

    A body that was refused by its head leaves the application to answer as it would have
    under any other server: so the answer has all its header fields. Then the connection ends,
    because nobody knows how much of the body the client has sent.

    waitress ends the connection after every answer without Content-Length, also after 204
    and 304, where none belongs.
    """

    response_headers: list[tuple[str, str]]

    def execute(self) -> None:
        if self.request.refusal is not None or self.channel.server.is_draining:
            self.set_close_on_finish()
        super().execute()

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        if self.request.refusal is not None:
            environ[REFUSAL] = self.request.refusal
        elif self.request.large_body is not None:
            environ[RECEPTION] = self.request.large_body.reception
        return environ

    def build_response_header(self) -> bytes:
        """The head of the answer: as waitress makes it, but in the application's order and for a fourth."""
        fields = [(_canonical(name), value) for name, value in self.response_headers]
        given = {name for name, _ in fields}
        has_body: bool = self.has_body
        if not has_body:
            fields = [field for field in fields if field[0] != "Content-Length"]
        elif "Content-Length" not in given and self.content_length is not None:
            fields.append(("Content-Length", str(self.content_length)))
        self.response_headers = fields
        # where the application gives the length, waitress has read it
        self._settle_connection(has_body, has_length=has_body and self.content_length is not None)
        if "Date" not in given:
            fields.append(("Date", format_http_date(clock.now().replace(microsecond=0))))
        fields.append(("Server", self.channel.adj.ident))
        head = "".join([f"{name}: {value}\r\n" for name, value in fields])
        return f"HTTP/{self.version} {self.status}\r\n{head}\r\n".encode("latin-1")

    def _settle_connection(self, has_body: bool, has_length: bool) -> None:
        """Whether the connection is kept, and where the answer ends (RFC 9112, section 6.3)."""
        asked = self.request.headers.get("CONNECTION", "").lower()
        if self.version == "1.0":
            if asked == "keep-alive" and has_length:
                self.response_headers.append(("Connection", "Keep-Alive"))
            else:
                self.set_close_on_finish()
            return
        if not has_length and has_body:
            self.response_headers.append(("Transfer-Encoding", "chunked"))
            self.chunked_response = True
        if asked == "close" or not has_length:
            self.set_close_on_finish()

    def set_close_on_finish(self) -> None:
        asked = self.request.headers.get("CONNECTION", "").lower() == "close"
        ends = self.request.refusal is not None or self.channel.server.is_draining
        if self.has_body or asked or ends or self.version == "1.0":
            super().set_close_on_finish()


class ProblemTask(ErrorTask):
    """Tells what is wrong with a request that the application never sees."""

    def execute(self) -> None:
        error = self.request.error
        request_id = secrets.token_hex(8)
        facts = {"status": error.code, "address": self.channel.addr[0], "request_id": request_id}
        line = " ".join(f"{name}={value}" for name, value in facts.items())
        reason = error.body.partition('"')[0].strip()  # what follows came from the client: maybe a token
        logger.info("refused: %s %s", reason, line, extra={"fields": {"message": reason, **facts}})
        detail = DETAILS.get(reason, reason)
        if error.code == 431:
            detail = f"the head of the request has more than {self.channel.adj.config.header_bytes} bytes"
        body = json.dumps(document(error.code, CODES[error.code], detail)).encode() + b"\n"
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", MEDIA_TYPE), ("X-Content-Type-Options", "nosniff")]
        self.response_headers.append(("X-Request-Id", request_id))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)
