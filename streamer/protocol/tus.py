"""Resumable uploads as tus has them: the header fields of version 1.0.0 (https://tus.io).

Every function takes the fields of one request and raises MalformedRequest for what
the protocol does not allow.
"""

import base64
import binascii
import re
from typing import NoReturn

from streamer.errors import MalformedRequest, UnsupportedTusVersion
from streamer.protocol.resumption import Addition, Checksum, Creation, Field, parse_count

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "termination",
    "checksum",
    "concatenation",
)
ALGORITHMS = ("sha1", "sha256")
MEDIA_TYPE = "application/offset+octet-stream"
MAX_METADATA = 8192  # characters
MAX_PARTS = 100  # each is an open file; clients use less than ten
DETAILS = ("title", "description", "filename")
"""The keys of Upload-Metadata that say something about the video."""


def require_version(field: Field) -> None:
    """Raise UnsupportedTusVersion unless the request speaks this version."""
    version = field("Tus-Resumable")
    if version != VERSION:
        detail = f"Tus-Resumable is {version or 'missing'}, and has to be {VERSION}"
        other = "; a client of the IETF's draft sends Upload-Draft-Interop-Version instead"
        raise UnsupportedTusVersion(detail if version else detail + other)


def parse_creation(field: Field) -> Creation:
    """A request that makes an upload."""
    metadata = (field("Upload-Metadata") or "").strip()
    values = parse_metadata(metadata)
    concat = (field("Upload-Concat") or "").strip()
    parts = _parse_parts(concat)
    return Creation(
        length=None if parts else _parse_length(field),
        metadata=metadata,
        details={name: _text(name, values[name]) for name in DETAILS if values.get(name)},
        concat=concat,
        parts=parts,
        is_partial=concat == "partial",
        checksum=_parse_checksum(field),
    )


def _parse_length(field: Field) -> int | None:
    length, deferred = field("Upload-Length"), field("Upload-Defer-Length")
    if length is not None and deferred is None:
        return parse_count("Upload-Length", length)
    if deferred != "1" or length is not None:
        _refuse("a new upload has either Upload-Length or Upload-Defer-Length: 1")
    return None


def parse_metadata(text: str) -> dict[str, bytes]:
    """The keys and values of Upload-Metadata."""
    if len(text) > MAX_METADATA:
        _refuse(f"Upload-Metadata has more than {MAX_METADATA} characters")
    values: dict[str, bytes] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.strip(" ").partition(" ")
        if not re.fullmatch("[!-~]+", key) or key in values:
            _refuse("Upload-Metadata has a key that is empty, not ASCII, or there twice")
        values[key] = _decode("Upload-Metadata", value.strip(" "))
    return values


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        _refuse(f"the {name} in Upload-Metadata is not UTF-8")


def _parse_parts(concat: str) -> tuple[str, ...]:
    kind, semicolon, urls = concat.partition(";")
    parts = tuple(urls.split())
    if concat in {"", "partial"}:
        return ()
    if kind != "final" or not semicolon or not 1 <= len(parts) <= MAX_PARTS:
        _refuse(f"Upload-Concat is partial, or final; and the URLs of 1 to {MAX_PARTS} uploads")
    return parts


def parse_addition(field: Field) -> Addition:
    """A request that adds bytes to an upload."""
    offset, length = field("Upload-Offset"), field("Upload-Length")
    if offset is None:
        _refuse("Upload-Offset is missing")
    return Addition(
        offset=parse_count("Upload-Offset", offset),
        length=None if length is None else parse_count("Upload-Length", length),
        checksum=_parse_checksum(field),
    )


def _parse_checksum(field: Field) -> Checksum | None:
    text = field("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, digest = text.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        _refuse(f"Upload-Checksum has to be one of: {', '.join(ALGORITHMS)}")
    return Checksum(algorithm, _decode("Upload-Checksum", digest))


def _decode(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("latin-1", "replace"), validate=True)
    except binascii.Error:
        _refuse(f"{name} has a value that is not Base64")


def _refuse(detail: str) -> NoReturn:
    raise MalformedRequest("bad_upload_field", detail)
