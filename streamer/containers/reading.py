"""Which reader looks into which container."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from streamer.containers import matroska, mp4
from streamer.containers.media import Media, Source
from streamer.storage.slices import pread


class Reader(NamedTuple):
    """The two questions that a container is asked."""

    read_media: Callable[[Source], Media]
    read_keyframes: Callable[[Source], tuple[float, ...]]


_MP4 = Reader(mp4.read_media, mp4.read_keyframes)
_MATROSKA = Reader(matroska.read_media, matroska.read_keyframes)

READERS = {
    "video/mp4": _MP4,
    "video/quicktime": _MP4,
    "video/3gpp": _MP4,
    "video/3gpp2": _MP4,
    "video/x-matroska": _MATROSKA,
    "video/webm": _MATROSKA,
}
"""By the media types of the containers that are read here."""


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """A file as the readers see it, for as long as the block runs. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        yield Source(lambda size, position: pread(descriptor, size, position), os.fstat(descriptor).st_size)


def read_media(mime_type: str, source: Source) -> Media | None:
    """What is in a file; None if it is of a container that is not read here. Raises MediaUnreadable."""
    reader = READERS.get(mime_type)
    return reader and reader.read_media(source)


def read_keyframes(mime_type: str, source: Source) -> tuple[float, ...]:
    """When the pictures begin that need no other one, in seconds, as far as it is known.

    Raises MediaUnreadable.
    """
    reader = READERS.get(mime_type)
    return reader.read_keyframes(source) if reader else ()
