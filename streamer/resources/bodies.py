"""Request bodies, read with care: counted against their declared length, never more than wanted."""

import json
import re
from collections.abc import Iterator
from typing import Any

import falcon
from falcon.media.multipart import BodyPart, MultipartForm, MultipartParseError, MultipartParseOptions
from falcon.util import BufferedReader

from streamer.errors import (
    BodyTooLarge,
    ClientDisconnected,
    FieldError,
    InvalidInput,
    LengthMissing,
    MalformedRequest,
    UnsupportedMediaType,
)

MAX_JSON_BYTES = 64 * 1024
READ_BYTES = 1 << 20  # one read of a large body


class Body:
    """The body of a request. Raises LengthMissing or MalformedRequest if its length is not declared."""

    def __init__(self, req: falcon.Request) -> None:
        length = req.env.get("CONTENT_LENGTH")
        if not length:
            # some servers make a chunked body that was cut off look complete
            raise LengthMissing("a request body needs a Content-Length")
        if not re.fullmatch("[0-9]{1,18}", length):  # int() would take "+1" and "1_0"
            raise MalformedRequest("bad_request", "the Content-Length is not a length")
        self.length = int(length)
        self._left = self.length
        self._stream = req.env["wsgi.input"]

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes, b"" at the end. Raises ClientDisconnected if it comes too early."""
        wanted = self._left if size < 0 else min(size, self._left)
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


def media_type(req: falcon.Request) -> str:
    """The media type of the body without its parameters, in lower case."""
    return (req.content_type or "").partition(";")[0].strip().lower()


def read_json(req: falcon.Request, *others: str) -> dict[str, Any]:
    """The JSON object that a request carries, as application/json or one of the other media types.

    Raises UnsupportedMediaType, LengthMissing, BodyTooLarge, MalformedRequest or InvalidInput.
    """
    if media_type(req) not in {"application/json", *others}:
        raise UnsupportedMediaType(req.content_type, "application/json")
    body = Body(req)
    if body.length > MAX_JSON_BYTES:
        raise BodyTooLarge(MAX_JSON_BYTES)
    try:
        value = json.loads(b"".join(body.chunks()).decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedRequest("malformed_json", "the body is not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise InvalidInput(FieldError("body", "must be a JSON object"))
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def form_parts(req: falcon.Request) -> Iterator[BodyPart]:
    """The parts of a multipart/form-data body, as they come. The form is whole only when this ends.

    Raises MalformedRequest when it is not.
    """
    body = Body(req)
    _, options = falcon.parse_header(req.content_type or "")
    boundary = options.get("boundary", "").rstrip()
    if not 1 <= len(boundary) <= 70:
        raise MalformedRequest(
            "malformed_multipart", "the Content-Type has no boundary of 1 to 70 characters"
        )
    # large reads: the form's own reader would ask the server for 32 KiB at a time
    stream = BufferedReader(body.read, body.length, READ_BYTES)
    try:
        yield from MultipartForm(stream, boundary.encode(), body.length, MultipartParseOptions())
    except MultipartParseError as error:
        raise MalformedRequest(
            "malformed_multipart", f"the form is broken or cut off: {error.description}"
        ) from error


def part_name(part: BodyPart) -> str:
    """The name of the form field. Raises MalformedRequest."""
    try:
        return part.name or ""
    except ValueError as error:
        raise MalformedRequest("malformed_multipart", "a part's name is not UTF-8") from error


def part_filename(part: BodyPart) -> str | None:
    """The file name that the client gave, if it did. Raises MalformedRequest."""
    try:
        name = part.filename
    except (ValueError, MultipartParseError) as error:
        raise MalformedRequest("malformed_multipart", "a part's file name is not UTF-8") from error
    # curl and the browsers send a quotation mark so (HTML standard, multipart form data)
    return name and name.replace("%22", '"')


def part_text(part: BodyPart) -> str:
    """The text of a form field. Raises InvalidInput."""
    data = part.stream.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise InvalidInput(FieldError(part_name(part), f"must have at most {MAX_JSON_BYTES} bytes"))
    try:
        return data.decode()
    except ValueError as error:
        raise InvalidInput(FieldError(part_name(part), "must be UTF-8")) from error


def part_chunks(part: BodyPart) -> Iterator[bytes]:
    """The bytes of a file in large pieces."""
    while data := part.stream.read(READ_BYTES):
        yield data
