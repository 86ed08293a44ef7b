"""What a worker thread does with a request: run the application, or tell what is wrong with the request."""

import json
import logging
import secrets
from typing import Any

from waitress.task import ErrorTask, WSGITask

from streamer.middleware import REFUSAL
from streamer.resources.errors import MEDIA_TYPE, document
from streamer.resources.receptions import RECEPTION

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


class Task(WSGITask):
    """Runs the application.

    A body that was refused by its head leaves the application to answer as it would have
    under any other server: so the answer has all its header fields. Then the connection ends,
    because nobody knows how much of the body the client has sent.

    waitress ends the connection after every answer without Content-Length, also after 204
    and 304, where none belongs.
    """

    def execute(self) -> None:
        if self.request.refusal is not None:
            self.channel.will_linger = True
            self.set_close_on_finish()
        elif self.channel.server.is_draining:
            self.set_close_on_finish()
        super().execute()

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        if self.request.refusal is not None:
            environ[REFUSAL] = self.request.refusal
        elif self.request.large_body is not None:
            environ[RECEPTION] = self.request.large_body.reception
        return environ

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
        logger.info("refused: %s %s", error.body, line, extra={"fields": {"message": error.body, **facts}})
        detail = DETAILS.get(error.body, error.body)
        body = json.dumps(document(error.code, CODES[error.code], detail)).encode() + b"\n"
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", MEDIA_TYPE), ("X-Content-Type-Options", "nosniff")]
        self.response_headers.append(("X-Request-Id", request_id))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.will_linger = True
        self.write(b"" if self.request.command == "HEAD" else body)
