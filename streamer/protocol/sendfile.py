"""Leaving the bytes of a file to the server in front: ``X-Accel-Redirect`` and ``X-Sendfile``.

The application answers with header fields alone, one of which names the file;
the server in front takes that field out and sends the file. No standard
describes it. nginx, Apache with mod_xsendfile, and lighttpd have in common that
they see to ranges themselves, from the request as it came to them, and do not
listen to a 206 of ours. So they get only what all of them answer as we would.
"""

import os
import re
from pathlib import Path
from urllib.parse import quote

from streamer.protocol.conditional import Preconditions, Validators
from streamer.protocol.ranges import ByteRange

OFF = "off"
X_ACCEL_REDIRECT = "x-accel-redirect"
X_SENDFILE = "x-sendfile"

INTERNAL = "/_streamer/"  # the internal location of nginx; the administrator's file names it too

# More digits overflow in nginx, which answers 416 then.
_ONE_PLAIN_RANGE = re.compile(r"bytes=(?:[0-9]{1,18}-(?:[0-9]{1,18})?|-[0-9]{1,18})")


def is_answered_alike(
    preconditions: Preconditions,
    range_field: str | None,
    if_range: str | None,
    validators: Validators,
    ranges: list[ByteRange] | None,
) -> bool:
    """Tell whether a server in front answers a GET as we do, given the whole file.

    ``ranges`` is what we have decided to send, None for the whole. The servers
    would evaluate preconditions again, each in its way: nginx does not know our
    entity tag at that point and fails every If-Match. They count and coalesce
    several ranges otherwise than we do, and answer 416 to what is to be ignored.
    A date in If-Range is weak for Apache during the first minute.
    """
    if preconditions != Preconditions():
        return False
    if range_field is None:
        return True
    is_applied = ranges is not None and if_range in (None, str(validators.etag))
    return is_applied and _ONE_PLAIN_RANGE.fullmatch(range_field) is not None


def handing_over(mechanism: str, file_path: str, path: Path) -> tuple[str, str]:
    """Name and value of the field that hands over an object: ``file_path`` in the data folder, at ``path``.

    nginx gets a URI below INTERNAL; the others get the absolute path, with
    symbolic links in it, as the administrator knows it, and its bytes unquoted.
    """
    if mechanism == X_ACCEL_REDIRECT:
        return "X-Accel-Redirect", INTERNAL + quote(file_path)
    return "X-Sendfile", os.fsencode(os.path.abspath(path)).decode("latin-1")
