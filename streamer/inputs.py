"""Untrusted text to values.

Each parser takes one raw value and returns the clean one, or raises ValueError
with a message for the person who sent it. ``parse_fields`` runs the parsers
over a whole input and reports all that is wrong with it at once.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, NoReturn

from streamer.errors import FieldError, InvalidInput

Parser = Callable[[object], Any]

MAX_TITLE = 200  # characters
MAX_DESCRIPTION = 5000  # characters
MAX_FILENAME = 255  # characters
MAX_LABEL = 100  # characters
MAX_ID = 2**63 - 1  # SQLite's largest integer
MAX_PAGE = 1_000_000_000


def parse_fields(
    values: Mapping[str, object], required: Mapping[str, Parser], optional: Mapping[str, Parser]
) -> dict[str, Any]:
    """Parse every field of an input; fields that were not sent are not in the result.

    Raises InvalidInput that names each field that is missing, unknown or wrong.
    """
    errors = [FieldError(name, "is required") for name in required if name not in values]
    parsed = {}
    for name, value in values.items():
        parser = required.get(name) or optional.get(name)
        if parser is None:
            errors.append(FieldError(name, "is not a field of this request"))
            continue
        try:
            parsed[name] = parser(value)
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
    if errors:
        raise InvalidInput(*errors)
    return parsed


def text(value: object) -> str:
    """Any text that can be encoded as UTF-8."""
    if not isinstance(value, str):
        raise ValueError("must be a single string")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not have lone surrogates")
    return value


def credential(value: object) -> str:
    """A name, password or token to be compared with a stored one, in any form but of bounded size."""
    given = text(value)
    if len(given) > 1000:
        raise ValueError("must have at most 1000 characters")
    return given


def username(value: object) -> str:
    """A name for a new account."""
    given = text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{3,32}", given):
        raise ValueError("must have 3 to 32 of the characters A-Z a-z 0-9 _ . -")
    return given


def password(value: object) -> str:
    """A password for a new credential."""
    given = text(value)
    if not 8 <= len(given) <= 128:
        raise ValueError("must have 8 to 128 characters")
    return given


def title(value: object) -> str:
    """The title of a video, in Unicode normal form C."""
    given = _printable(value, MAX_TITLE).strip()
    if not given:
        raise ValueError("must not be empty")
    return given


def label(value: object) -> str:
    """What captions are called where one chooses between them, in Unicode normal form C."""
    given = _printable(value, MAX_LABEL).strip()
    if not given:
        raise ValueError("must not be empty")
    return given


def description(value: object) -> str:
    """The description of a video: several lines, in Unicode normal form C."""
    return _printable(value, MAX_DESCRIPTION, allowed="\t\n\r").strip()


def filename(value: object) -> str:
    """The last part of the path that a client gives, for display and downloads only."""
    name = PurePosixPath(_printable(value, 16 * MAX_FILENAME).replace("\\", "/")).name.strip()
    if not name:
        raise ValueError("must not be empty")
    if len(name) > MAX_FILENAME:
        raise ValueError(f"must have at most {MAX_FILENAME} characters")
    return name


def title_of(file_name: str) -> str:
    """The title of a video that was sent without one: its file name without the ending."""
    return PurePosixPath(file_name).stem.strip()[:MAX_TITLE].strip() or file_name[:MAX_TITLE]


def _printable(value: object, most: int, allowed: str = "") -> str:
    given = unicodedata.normalize("NFC", text(value))
    if len(given) > most:
        raise ValueError(f"must have at most {most} characters")
    # Cc is control characters; Zl and Zp are the line and paragraph separators
    if any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} and c not in allowed for c in given):
        raise ValueError("must not have control characters")
    # they can make gpj.exe look like exe.jpg (Unicode TR 36)
    if any("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" for c in given):
        raise ValueError("must not have characters that turn the direction of the text")
    return given


def byte_count(value: object) -> int:
    """The size of a file in JSON, in bytes."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number of bytes from 1 on")
    return value


def seconds(value: object, most: float) -> float:
    """A position in a video in JSON, in seconds."""
    # NaN is not between any two numbers
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"must be a number of seconds from 0 to {most}")
    return float(value)


def sha256(value: object) -> str:
    """A SHA-256, in lower case."""
    given = text(value).lower()
    if not re.fullmatch("[0-9a-f]{64}", given):
        raise ValueError("must be 64 hexadecimal digits")
    return given


def identifier(value: str) -> int | None:
    """The id in a path, or None for what cannot be one."""
    if not re.fullmatch(r"[1-9][0-9]{0,18}", value) or int(value) > MAX_ID:
        return None
    return int(value)


def page(value: object) -> int:
    """A page number, from 1."""
    return _number(value, 1, MAX_PAGE)


def limit(value: object) -> int:
    """How many items a page has."""
    return _number(value, 1, 100)


def search(value: object) -> str:
    """Part of a title."""
    return _printable(value, MAX_TITLE).strip()


def one_of(*choices: str) -> Parser:
    """A parser of one word of a fixed set."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return str(value)

    return parse


def _number(value: object, low: int, high: int) -> int:
    if not isinstance(value, str):
        _refuse_number(low, high)
    # digits of ASCII only: int() alone would take "+1", "1_0" and foreign digits
    digits = re.fullmatch(r"0*([0-9]{1,19})", value)
    if not digits or not low <= int(digits[1]) <= high:
        _refuse_number(low, high)
    return int(digits[1])


def _refuse_number(low: int, high: int) -> NoReturn:
    raise ValueError(f"must be one whole number from {low} to {high}")
