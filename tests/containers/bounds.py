"""What reading a file may cost: time of the processor, and memory."""

import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

from streamer.containers.media import Source
from streamer.errors import MediaUnreadable
from tests.containers.ffprobe import source

MOST_SECONDS = 0.05
MOST_MEMORY = 16 * 2**20

_TRIES = 3  # the machine may be busy

Read = Callable[[Source], object]


def assert_bounded(read: Read, data: bytes, *, with_memory: bool = True) -> None:
    """Read a file, which ends well or with our own error, soon, and in little memory beside the file's."""
    assert any(_seconds(read, data) <= MOST_SECONDS for _ in range(_TRIES)), "takes too long"
    if with_memory:
        assert _memory(read, data) <= MOST_MEMORY


def _seconds(read: Read, data: bytes) -> float:
    """How long the processor works on it, without what coverage takes."""
    file = source(data)
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        before = time.process_time()
        with suppress(MediaUnreadable):
            read(file)
        return time.process_time() - before
    finally:
        sys.settrace(trace)


def _memory(read: Read, data: bytes) -> int:
    """How many bytes it takes at most."""
    file = source(data)
    tracemalloc.start()
    try:
        with suppress(MediaUnreadable):
            read(file)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
