"""Request bodies, read with care: counted against their declared length, never more than wanted."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import falcon

from streamer.admission import MAX_SMALL_BODY_BYTES, Head
from streamer.errors import (
    BodyTooLarge,
    ClientDisconnected,
    FieldError,
    InvalidInput,
    LengthMissing,
    MalformedRequest,
    UnsupportedMediaType,
)

RECEPTION = "streamer.reception"
"""Where in the WSGI environment a server of ours puts a body that it has taken."""

READ_BYTES = 1 << 20  # one read of a large body


def head_of(req: falcon.Request) -> Head:
    """The head of a request. Raises MalformedRequest if the length in it is none."""
    length = _declared_length(req)
    return Head(req.method, req.query_string, length, length is None and _is_chunked(req), req.get_header)


def _is_chunked(req: falcon.Request) -> bool:
    """Whether the server tells where a body without a declared length ends: not all of them do."""
    if RECEPTION in req.env:
        return True
    is_told = bool(req.env.get("wsgi.input_terminated"))
    return is_told and req.get_header("Transfer-Encoding") is not None


def _declared_length(req: falcon.Request) -> int | None:
    length = req.env.get("CONTENT_LENGTH")
    if not length:
        return None
    if not re.fullmatch("[0-9]{1,40}", length):  # int() would take "+1" and "1_0"
        raise MalformedRequest("bad_request", "the Content-Length is not a length")
    return int(length)


class Body:
    """The body of a request. Raises LengthMissing or MalformedRequest if its length is not declared."""

    def __init__(self, req: falcon.Request) -> None:
        length = _declared_length(req)
        if length is None:
            raise no_length()
        self.length = self._left = length
        self._stream = req.env["wsgi.input"]

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes, b"" at the end. Raises ClientDisconnected if it comes too early."""
        wanted = min(size, self._left)
        if not wanted:
            return b""
        try:
            data: bytes = self._stream.read(wanted)
        except Exception as error:
            # each server raises something else here, always because the client left
            raise ClientDisconnected(self.length - self._left, self.length) from error
        if not data:
            raise ClientDisconnected(self.length - self._left, self.length)
        self._left -= len(data)
        return data

    def chunks(self) -> Iterator[bytes]:
        """All bytes in large pieces."""
        while data := self.read(READ_BYTES):
            yield data


def chunks_of(req: falcon.Request, head: Head) -> Iterator[bytes]:
    """The body of an admitted request in large pieces. Raises ClientDisconnected."""
    if head.content_length:
        yield from Body(req).chunks()
    elif head.is_chunked:
        yield from _chunked(req)


def _chunked(req: falcon.Request) -> Iterator[bytes]:
    received = 0
    while True:
        try:
            data: bytes = req.env["wsgi.input"].read(READ_BYTES)
        except Exception as error:
            raise ClientDisconnected(received) from error
        if not data:
            return
        received += len(data)
        yield data


def no_length() -> LengthMissing:
    """The error for a body of undeclared length: some servers make a chunked one that was cut look whole."""
    return LengthMissing("a request body needs a Content-Length")


def require_media_type(head: Head, *wanted: str) -> None:
    """Raise UnsupportedMediaType unless the body has one of these types; ``video/*`` is any of its kind."""
    kind = head.media_type
    if kind not in wanted and f"{kind.partition('/')[0]}/*" not in wanted:
        *others, last = wanted
        raise UnsupportedMediaType(head.content_type, f"{', '.join(others)} or {last}" if others else last)


@dataclass(frozen=True)
class Json:
    """The rule for a JSON body, as application/json or one of the other media types."""

    others: tuple[str, ...] = ()

    def check(self, head: Head) -> None:
        """Raise UnsupportedMediaType or BodyTooLarge."""
        require_media_type(head, "application/json", *self.others)
        if (head.content_length or 0) > MAX_SMALL_BODY_BYTES:
            raise BodyTooLarge(MAX_SMALL_BODY_BYTES)


JSON = Json()


def read_json(req: falcon.Request) -> dict[str, Any]:
    """The JSON object of an admitted request. Raises LengthMissing, MalformedRequest or InvalidInput."""
    try:
        value = json.loads(b"".join(Body(req).chunks()).decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest("malformed_json", "the body is not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise InvalidInput(FieldError("body", "must be a JSON object"))
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
