"""What every piece of work for ffmpeg is about, and how ffmpeg is started for it."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.containers.media import Media, VideoTrack, chosen
from streamer.containers.signatures import Container
from streamer.errors import FfmpegFailed
from streamer.ffmpeg import fence
from streamer.ffmpeg.tools import Tools

_QUIET = ("-nostdin", "-hide_banner", "-nostats", "-v", "error", "-y")

_WALL_FACTOR = 10
"""The clock runs so much faster than the processor: the work has the lowest priority on a busy machine."""

_MEMORY_BYTES = 2 * 2**30
_MEMORY_BYTES_PER_PIXEL = 200
"""Of the pictures that decoder, filters and encoder keep: some 60 of them, at 3 bytes (4:2:0, 10 bit)."""

_LEAST_MEMORY_BYTES = 2**30
_MEMORY_SHARE = 0.5  # of that of the machine

_MOST_PIXELS = 8192 * 8192  # of a picture of a film: 8K has half of them
FULL_HD_PIXELS = 1920 * 1080


def ignore(fraction: float) -> None:
    """Where nobody asks how far the work is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An original, what is in it, and where and with what something is made of it.

    ``folder`` is scratch: results are left there, and it is the caller's to take them away.
    ``should_stop`` is asked several times a second; ``on_progress`` hears the part that is done, 0 to 1.
    """

    tools: Tools
    path: Path
    container: Container
    media: Media
    folder: Path
    threads: int = 1
    should_stop: Callable[[], bool] = fence.never
    on_progress: Callable[[float], None] = ignore

    @property
    def video(self) -> VideoTrack:
        """The video track to show. Raises FfmpegFailed (``no_video``)."""
        track = chosen(self.media.video)
        if track is None or not (track.width and track.height):
            raise FfmpegFailed("no_video", "the file has no video track")
        return track

    @property
    def seconds(self) -> float | None:
        """How long the film plays; None where that is not told."""
        return length(self.media)

    def input(self, *options: str) -> list[str]:
        """The arguments that make the original an input, whose pictures are not too large to be decoded."""
        return fence.media_input(self.path, self.container, "-max_pixels", str(_MOST_PIXELS), *options)


def length(media: Media) -> float | None:
    """How long something plays, in seconds: the times of ffmpeg, which begin with the film, go up to this."""
    duration, start = media.duration, media.start
    return duration - start if duration and start < duration else duration


def run(
    work: Work,
    arguments: Sequence[str],
    *,
    cpu_seconds: int,
    file_bytes: int,
    filter_threads: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Run ffmpeg on a piece of work; ``on_progress`` hears seconds of output.

    Raises FfmpegFailed and Stopped, as ``fence.run`` does.
    """
    pixels = max((track.width * track.height for track in work.media.video), default=0)
    start(
        work.tools,
        arguments,
        folder=work.folder,
        limits=limits(cpu_seconds, file_bytes, pixels),
        filter_threads=filter_threads,
        should_stop=work.should_stop,
        on_progress=on_progress,
    )


def limits(cpu_seconds: int, file_bytes: int, pixels: int) -> fence.Limits:
    """The limits of a run that deals with pictures of so many pixels."""
    memory_bytes = _MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * min(pixels, _MOST_PIXELS)
    return fence.Limits(
        seconds=_WALL_FACTOR * cpu_seconds,
        cpu_seconds=cpu_seconds,
        memory_bytes=min(memory_bytes, _most_memory_bytes()),
        file_bytes=file_bytes,
    )


def _most_memory_bytes() -> int:
    """What ffmpeg may take of the memory of this machine; without bound where the system does not tell it."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize
    return max(_LEAST_MEMORY_BYTES, int(machine * _MEMORY_SHARE)) if machine > 0 else sys.maxsize


def start(
    tools: Tools,
    arguments: Sequence[str],
    *,
    folder: Path,
    limits: fence.Limits,
    filter_threads: int = 1,
    should_stop: Callable[[], bool] = fence.never,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Run ffmpeg in a folder, with no words but of errors.

    Every graph of filters gets so many threads; ffmpeg would give it one for each core, and the stacks
    of those of many graphs are more than the limit of memory on a large machine.
    """
    fence.run(
        tools.ffmpeg,
        [*_QUIET, "-filter_threads", str(filter_threads), *arguments],
        folder=folder,
        limits=limits,
        should_stop=should_stop,
        on_progress=on_progress,
    )
