"""The bytes that are served: an MP4 by its first bytes, and checkable at any position.

A block begins with its own number and goes on with the same noise as the others,
so that each block is unlike every other, and any slice is made again by joining.
"""

import random
import struct
from pathlib import Path

BLOCK_BYTES = 4096
MIB = 2**20

_NOISE = random.Random(9110).randbytes(BLOCK_BYTES - 8)
_FILE_TYPE = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp42")
_FIRST_BLOCK = _FILE_TYPE + _NOISE[len(_FILE_TYPE) - 8 :]


def _block(number: int) -> bytes:
    return number.to_bytes(8) + _NOISE if number else _FIRST_BLOCK


def expected(first: int, length: int) -> bytes:
    """What stands at ``length`` bytes from the position ``first``, counted from 0."""
    start, skipped = divmod(first, BLOCK_BYTES)
    end = -(-(first + length) // BLOCK_BYTES)
    return b"".join(map(_block, range(start, end)))[skipped : skipped + length]


def write(path: Path, size: int) -> None:
    """Write a file of ``size`` bytes, readable by everybody, and bring it to the disk."""
    with path.open("wb") as file:
        for first in range(0, size, MIB):
            file.write(expected(first, min(MIB, size - first)))
    path.chmod(0o644)
