"""Requests, read to the letter of RFC 9112 where waitress is lax, and admitted by their head."""

import re
from collections.abc import Callable
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error

from streamer.admission import MAX_SMALL_BODY_BYTES, Head, Reception, effective_method
from streamer.errors import BodyTooLarge, StreamerError
from streamer.server.bodies import ChunkedBody, LargeBody

TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:([^\r]*)", re.IGNORECASE)


class VersionNotSupported(Error):
    """A request of another major version of HTTP."""

    code = 505
    reason = "HTTP Version Not Supported"


class RequestTimeout(Error):
    """A request that does not come to its end."""

    code = 408
    reason = "Request Timeout"


class Parser(HTTPRequestParser):
    """One request of a channel, as far as it has come."""

    # waitress sets them when it has understood the first line, and logs the path of any request
    path = ""
    command = ""
    refusal: BaseException | None = None
    """Why the body is not taken; the application answers with it."""

    large_body: LargeBody | None = None
    """Takes the body, where it does not belong into memory."""

    body_rcv: Any  # waitress' word for what takes the body

    is_announced = False
    """The client knows where it can go on with its large body."""

    awaits_continue = False
    """The client waits for "100 Continue" before it sends its large body."""

    def __init__(
        self,
        settings: Any,
        began: float,
        take: Callable[[Reception, int | None], LargeBody],
        keep: Callable[[bytes], None],
    ) -> None:
        """``began`` is the time of the first byte; ``take`` begins to take a body of so many bytes, or None.

        ``keep`` is called with what came behind this request: those after it.
        """
        super().__init__(settings)
        self.began = began
        self._take = take
        self._keep = keep

    @property
    def is_refused(self) -> bool:
        """Whether the rest of the connection is not worth reading."""
        return self.error is not None or self.refusal is not None

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        if self.is_refused:
            return len(data)
        is_small = self.large_body is None
        if self.chunked and is_small and self.body_bytes_received > MAX_SMALL_BODY_BYTES:
            self._refuse(BodyTooLarge(MAX_SMALL_BODY_BYTES))
            self.completed = True
            return len(data)
        if self._is_whole and not self.empty:
            self._keep(data[consumed:])
            return len(data)
        return consumed

    @property
    def _is_whole(self) -> bool:
        """Whether all of it has come."""
        return self.completed or (self.large_body is not None and not self.large_body.is_expecting)

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # a target such as "http://[", a Content-Length of thousands of digits
            raise ParsingError("the head of the request is malformed") from error
        self._require_version()
        if self.error is None:
            self._require_host()
            self._require_framing(header_plus)
        self._read_connection()
        if self.body_rcv is None:
            self.expect_continue = False  # nothing to wait for (RFC 9110, section 10.1.1)
        elif self.error is None:
            self._admit()

    def _require_version(self) -> None:
        if not self.version:
            raise ParsingError("the request line has no HTTP version")
        if not self.version.startswith("1."):
            self.error = VersionNotSupported(f"HTTP/{self.version} is not spoken here")
            self.body_rcv, self.content_length = None, 0

    def _require_host(self) -> None:
        """RFC 9112, section 3.2."""
        host = self.headers.get("HOST")
        if host is None and self.version != "1.0":
            raise ParsingError("a request needs a Host header field")
        if host is not None and "," in host:  # what waitress makes of two fields
            raise ParsingError("a request has one Host header field")
        if self.proxy_netloc:  # of a target in absolute form, which overrides the field
            self.headers["HOST"] = self.proxy_netloc.rpartition("@")[2]

    def _require_framing(self, head: bytes) -> None:
        """RFC 9112, sections 6.1 and 6.3: where two tell the length, somebody smuggles."""
        codings = TRANSFER_ENCODING.findall(head)
        if not codings:
            return
        if "CONTENT_LENGTH" in self.headers:
            raise ParsingError("a request has Content-Length or Transfer-Encoding, not both")
        if "TRANSFER_ENCODING" in self.headers:  # waitress removes what it understands
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        if b",".join(codings).strip(b" \t").lower() != b"chunked":  # waitress takes none for it, and two
            raise ParsingError("the Transfer-Encoding of a request is chunked, once")

    def _read_connection(self) -> None:
        """waitress knows the options of the Connection field only where one is alone."""
        options = {option.strip(" \t").lower() for option in self.headers.get("CONNECTION", "").split(",")}
        if "close" in options:
            self.headers["CONNECTION"] = "close"
            self.connection_close = True

    def _admit(self) -> None:
        length = None if self.chunked else self.content_length
        path = f"/{self.path.lstrip('/')}"  # as waitress passes it on
        try:
            method = effective_method(self.command, self._field("X-HTTP-Method-Override"))
            head = Head(method, self.query, length, self.chunked, self._field)
            reception = self.adj.admission.early(path, head)
        except StreamerError as error:
            self._refuse(error)
            return
        if reception is not None:
            self.large_body = self._take(reception, length)
            self.body_rcv = ChunkedBody(self.large_body) if self.chunked else self.large_body
            self.awaits_continue, self.expect_continue = self.expect_continue, False

    def _field(self, name: str) -> str | None:
        value: str | None = self.headers.get(name.upper().replace("-", "_"))
        return value

    def _refuse(self, error: BaseException) -> None:
        """Let the application answer at once, without the body."""
        self.refusal = error
        self.expect_continue = False
        self.chunked = False
        self.body_rcv = None
        self.content_length = 0

    def finish(self) -> None:
        """The large body is over, one way or the other."""
        assert self.large_body is not None
        self.refusal = self.large_body.failure
        self.completed = True
        self.body_rcv = None

    def fail(self, error: Error) -> None:
        """The client has taken too long."""
        self.error = error
        self.completed = True

    def close(self) -> None:
        if self.large_body is None:
            super().close()
        else:
            self.large_body.close()
