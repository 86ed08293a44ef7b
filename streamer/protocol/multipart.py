"""A form with files (multipart/form-data, RFC 7578) taken apart as its bytes arrive.

The grammar is that of RFC 2046, section 5.1.1. Nothing but the head of a part
and the last bytes before a possible delimiter is ever kept.
"""

from collections.abc import Callable, Iterator

from streamer.errors import MalformedRequest

HEAD_BYTES = 8192  # the longest head of a part

Head = dict[bytes, bytes]
"""The header fields of a part, their names in lower case."""

_PADDING = b" \t"


class FormParser:
    """Push in bytes, get out the heads of the parts and the bytes after each head.

    ``feed`` yields a ``Head`` where a part begins and ``memoryview``s of its content, in order.
    Both ``feed`` and ``finish`` raise MalformedRequest.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # the delimiter of the first part may stand at the very beginning
        self._kept = b"\r\n"
        self._scan: Callable[[], Head | memoryview | None] = self._scan_content
        self._in_part = False
        self._ended = False

    def feed(self, data: bytes) -> Iterator[Head | memoryview]:
        """Take the next bytes of the body."""
        if self._ended:
            return  # the epilogue
        self._kept += data
        while (found := self._scan()) is not None:
            if found:
                yield found

    def finish(self) -> None:
        """The body is over. Raises MalformedRequest unless the form is complete."""
        if not self._ended:
            raise _malformed("it ends before its last delimiter")

    # Each scan looks at one thing, and returns None when it needs more bytes for that.

    def _scan_content(self) -> memoryview | None:
        """The content of a part, or before the first one the preamble, up to a delimiter."""
        at = self._kept.find(self._delimiter)
        if at >= 0:
            self._scan = self._scan_delimiter
            return self._take(at, len(self._delimiter))
        safe = len(self._kept) - len(self._delimiter) + 1
        return self._take(safe) if safe > 0 else None

    def _take(self, size: int, skipped: int = 0) -> memoryview:
        content = memoryview(self._kept)[:size]
        self._kept = self._kept[size + skipped :]
        return content if self._in_part else memoryview(b"")

    def _scan_delimiter(self) -> memoryview | None:
        """What follows a boundary: two hyphens at the end of the form, else the end of the line."""
        if len(self._kept) < 2:
            return None
        if self._kept.startswith(b"--"):
            self._ended = True
            self._kept = b""
            return None
        line = self._kept.lstrip(_PADDING)
        if len(line) < 2 and len(self._kept) <= HEAD_BYTES:
            return None
        if not line.startswith(b"\r\n"):
            raise _malformed("a boundary is followed by something else than the end of its line")
        self._kept = line
        self._scan = self._scan_head
        return memoryview(b"")

    def _scan_head(self) -> Head | None:
        """The head of a part, which begins with the end of the line before and ends with an empty line."""
        end = self._kept.find(b"\r\n\r\n", 0, HEAD_BYTES)
        if end < 0:
            if len(self._kept) >= HEAD_BYTES:
                raise _malformed(f"the head of a part has more than {HEAD_BYTES} bytes")
            return None
        head = _parse_head(self._kept[2:end])
        self._kept = self._kept[end + 4 :]
        self._scan = self._scan_content
        self._in_part = True
        return head


def _parse_head(text: bytes) -> Head:
    head = {}
    for line in text.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise _malformed("the head of a part has a line that is no header field")
        head[name.strip().lower()] = value.strip()
    if not head.get(b"content-disposition", b"").lower().startswith(b"form-data"):
        raise _malformed("a part has no Content-Disposition of form-data")
    return head


def _malformed(reason: str) -> MalformedRequest:
    return MalformedRequest("malformed_multipart", f"the form is broken or cut off: {reason}")
