"""Content-Disposition: whether to show or to keep, and under what name (RFC 6266)."""

import re
import unicodedata
from urllib.parse import quote

_ATTR_CHAR = "!#$&+-.^_`|~"  # besides letters and digits (RFC 8187, section 3.2.1)

# Browsers disagree on backslashes and percent signs (RFC 6266, appendix D), and compatibility
# characters such as U+2100 decompose into a slash that the name never had.
_NOT_PLAIN = re.compile(r'[^ -~]|["%/\\]')
_ALREADY_PLAIN = re.compile(r"[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def content_disposition(kind: str, filename: str) -> str:
    """Write the value of Content-Disposition; ``kind`` is "inline" or "attachment".

    Any text will do as a file name: the value is printable ASCII. ``filename``
    is as near to the name as plain ASCII comes; where they differ, ``filename*``
    follows with the whole name, in which U+FFFD stands for a lone surrogate.

    Source: RFC 6266, sections 4.1 to 4.3 and appendix D; RFC 8187, section 3.2.
    """
    plain = filename if _ALREADY_PLAIN.fullmatch(filename) else _plain_name(filename)
    value = f'{kind}; filename="{plain}"'
    if plain == filename:
        return value
    encoded = quote(_LONE_SURROGATE.sub("\ufffd", filename), safe=_ATTR_CHAR)
    return f"{value}; filename*=UTF-8''{encoded}"


def _plain_name(filename: str) -> str:
    decomposed = unicodedata.normalize("NFKD", filename)
    without_accents = "".join(char for char in decomposed if not unicodedata.combining(char))
    plain = _NOT_PLAIN.sub("_", without_accents).lstrip(" ").rstrip(" .")
    if not plain or plain.startswith("."):
        return f"video{plain}"
    return plain
