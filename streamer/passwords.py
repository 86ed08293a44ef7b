"""Password hashes: bcrypt at cost 12 over SHA-256 and base64.

bcrypt reads 72 bytes at most and stops at a NUL. Hashing first, as passlib's
bcrypt_sha256 does, makes every byte of a long password count.
"""

import base64
import hashlib
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import bcrypt

from streamer.errors import Busy

COST = 12
RUNNING = 2  # hashes computed at once in this process, whatever the number of applications in it
WAITING = 4  # requests beside them; they hold worker threads, which others need too

_places = threading.BoundedSemaphore(RUNNING + WAITING)
_turns = threading.BoundedSemaphore(RUNNING)


@contextmanager
def admission() -> Iterator[None]:
    """Take one of the few places for requests that hash. Raises Busy when all are taken.

    To be held around all that such a request does, so that a storm of them keeps
    neither the worker threads nor the database from those who watch.
    """
    if not _places.acquire(blocking=False):
        raise Busy("the server is checking as many passwords as it takes at once")
    try:
        yield
    finally:
        _places.release()


def hash_password(password: str) -> str:
    """Hash a new password."""
    with _turns:
        return bcrypt.hashpw(_digest(password), bcrypt.gensalt(COST)).decode()


def verify_password(password: str, hashed: str | None) -> bool:
    """Tell whether the password is the hashed one.

    None stands for an account that does not exist: it takes the same time as a wrong password.
    """
    with _turns:
        matches = bcrypt.checkpw(_digest(password), (hashed or _nobody()).encode())
    return matches and hashed is not None


def _digest(password: str) -> bytes:
    # one keyboard sends é as one code point, another as two
    normal = unicodedata.normalize("NFKC", password)
    return base64.b64encode(hashlib.sha256(normal.encode()).digest())


def _nobody() -> str:
    """A hash of the current cost that no known password has."""
    return f"$2b${COST:02}${'.' * 53}"
