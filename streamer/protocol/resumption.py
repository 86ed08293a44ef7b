"""What both grammars of resumable uploads, ``tus`` and ``draft``, say in the end.

Offsets and lengths count bytes.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from streamer.errors import MalformedRequest

Field = Callable[[str], str | None]
"""Gives the value of a header field of a request, or None."""


class Checksum(NamedTuple):
    """What the bytes of one request add up to."""

    algorithm: str
    """As hashlib names it."""

    digest: bytes


class Creation(NamedTuple):
    """A new upload, as its first request describes it."""

    length: int | None
    """None while the client does not know it."""

    metadata: str = ""
    """As it came, to be given back."""

    details: dict[str, str] = {}
    """What the client tells of the video, by name."""

    concat: str = ""
    """As it came, to be given back."""

    parts: tuple[str, ...] = ()
    """The URLs of the uploads that this one is put together from."""

    is_partial: bool = False
    """Whether it is to be a part of another."""

    checksum: Checksum | None = None

    is_last: bool = False
    """Whether the client says that this is the end."""


class Addition(NamedTuple):
    """More bytes of an upload, as the head of their request describes them."""

    offset: int
    length: int | None
    """Of the whole upload, where the request tells it."""

    checksum: Checksum | None
    is_last: bool = False


def parse_count(name: str, text: str) -> int:
    """A number of bytes. Raises MalformedRequest for what is not one."""
    # digits of ASCII only, and not so many that the number itself becomes work
    if not re.fullmatch("[0-9]{1,40}", text):
        raise MalformedRequest("bad_upload_field", f"{name} is not a number of bytes")
    return int(text)
