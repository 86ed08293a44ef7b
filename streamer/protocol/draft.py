"""Resumable uploads as the IETF will have them: draft-ietf-httpbis-resumable-upload, after version 11.

The text is the editors' copy of 1 July 2026, whose interop version is 8. Its fields
are structured (RFC 9651): one whose value is of another type counts as missing.
"""

import base64
import binascii
import re

from streamer.errors import InconsistentLength, MalformedRequest
from streamer.protocol.resumption import Addition, Checksum, Creation, Field

INTEROP_VERSION = 8
MEDIA_TYPE = "application/partial-upload"
MISMATCHING_OFFSET = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
INCONSISTENT_LENGTH = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"

_PARAMETERS = r"(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=[!-:<-~]+)?)*"
_BOOLEAN = re.compile(r"\?([01])" + _PARAMETERS)
_INTEGER = re.compile(r"([0-9]{1,15})" + _PARAMETERS)
_ALGORITHMS = {"sha-512": "sha512", "sha-256": "sha256"}  # of several the strongest counts
_ITEM = r':[A-Za-z0-9+/=]*:|"(?:[ !#-\[\]-~]|\\["\\])*"|[A-Za-z0-9?*.+/_:%-]+'
_MEMBER = re.compile(
    rf"(?P<name>[a-z*][a-z0-9_.*-]*)(?:=(?P<value>{_ITEM}))?(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:{_ITEM}))?)*"
    r"[ \t]*(?:,[ \t]*(?=[a-z*])|$)"
)


def parse_complete(field: Field) -> bool | None:
    """Upload-Complete: whether the request ends the upload; None where it does not say."""
    match = _BOOLEAN.fullmatch((field("Upload-Complete") or "").strip(" \t"))
    return match and match[1] == "1"


def _parse_integer(field: Field, name: str) -> int | None:
    match = _INTEGER.fullmatch((field(name) or "").strip(" \t"))
    return match and int(match[1])


def is_interoperable(field: Field) -> bool:
    """Whether the client speaks this version of the draft, and may get a 104."""
    return _parse_integer(field, "Upload-Draft-Interop-Version") == INTEROP_VERSION


def parse_creation(field: Field, content_length: int | None, details: dict[str, str]) -> Creation:
    """A request that makes an upload. Raises InconsistentLength or MalformedRequest."""
    length = _length(field, offset=0, content_length=content_length)
    is_last = parse_complete(field) or False
    return Creation(length, details=details, checksum=_parse_digest(field), is_last=is_last)


def parse_addition(field: Field, content_length: int | None) -> Addition:
    """A request that adds bytes to an upload. Raises InconsistentLength or MalformedRequest."""
    offset, is_last = _parse_integer(field, "Upload-Offset"), parse_complete(field)
    if offset is None or is_last is None:
        raise MalformedRequest("bad_upload_field", "Upload-Offset and Upload-Complete are needed here")
    return Addition(offset, _length(field, offset, content_length), _parse_digest(field), is_last)


def _length(field: Field, offset: int, content_length: int | None) -> int | None:
    """The length of the upload, where the request tells it in one or the other way, or in both."""
    declared = _parse_integer(field, "Upload-Length")
    if not parse_complete(field) or content_length is None:
        return declared
    length = offset + content_length
    if declared not in {None, length}:
        raise InconsistentLength(f"the upload ends after {length} bytes, and Upload-Length is {declared}")
    return length


def _parse_digest(field: Field) -> Checksum | None:
    """Content-Digest (RFC 9530), as far as we know its algorithms."""
    members = _parse_dictionary(field("Content-Digest") or "")
    for name, algorithm in _ALGORITHMS.items():
        value = members.get(name, "")
        if re.fullmatch(":[A-Za-z0-9+/=]*:", value):
            try:
                return Checksum(algorithm, base64.b64decode(value.strip(":"), validate=True))
            except binascii.Error as error:
                detail = "Content-Digest has a value that is not Base64"
                raise MalformedRequest("bad_upload_field", detail) from error
    return None


def _parse_dictionary(text: str) -> dict[str, str]:
    """The members of a dictionary with their values as they stand; none where it is malformed."""
    members: dict[str, str] = {}
    position, text = 0, text.strip(" ")
    while position < len(text):
        match = _MEMBER.match(text, position)
        if match is None:
            return {}
        members[match["name"]] = match["value"] or ""
        position = match.end()
    return members


def format_complete(is_complete: bool) -> str:
    """The value of Upload-Complete."""
    return "?1" if is_complete else "?0"


def format_limits(max_size: int, max_age: int) -> str:
    """The value of Upload-Limit: bytes of an upload, and seconds that it has left."""
    # 15 digits is what an integer has at most (RFC 9651, section 3.3.1)
    return f"max-size={min(max_size, 10**15 - 1)}, max-age={min(max_age, 10**15 - 1)}"
