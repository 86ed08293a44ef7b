"""Which ffmpeg there is, and what it can do: asked once, when the process starts."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ConfigurationError, FfmpegFailed
from streamer.ffmpeg import fence

_LIMITS = fence.Limits(seconds=30, cpu_seconds=10, memory_bytes=2 * 2**30, file_bytes=0)
_MOST_OUTPUT = 2**20  # the lists have some 50 KiB

_VERSION = re.compile(r"ffmpeg version (\S+)")
_ENCODER = re.compile(r"^ [VAS][A-Z.]{5} ([^\s=]\S*)", re.MULTILINE)
_FILTER = re.compile(r"^ [A-Z.]{2,3} (\S+) +\S+->\S+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Tools:
    """An ffmpeg that can be run. Paths are absolute."""

    ffmpeg: str
    ffprobe: str | None
    """Not every ffmpeg comes with one: that of imageio-ffmpeg does not."""
    version: str
    """As it names itself, such as ``5.1.9-0+deb12u1``."""
    encoders: frozenset[str]
    filters: frozenset[str]


def find_tools(setting: str) -> Tools | None:
    """The ffmpeg of the setting: ``auto`` is that on PATH, else that of imageio-ffmpeg; ``off`` is none.

    Anything else names one, by a path or as it is on PATH. None where there is none that can be run, and on
    systems without the means of the fence. Raises ConfigurationError when the one that is named cannot be
    run, or is no ffmpeg.
    """
    if setting == "off" or os.name != "posix":
        return None
    if setting != "auto":
        return _configured(setting)
    for path in _candidates():
        try:
            return _examine(path)
        except FfmpegFailed:
            continue
    return None


def _configured(name: str) -> Tools:
    wanted = f"STREAMER_FFMPEG={name!r}: want the path of ffmpeg, or its name on PATH"
    path = shutil.which(name)
    if path is None:
        raise ConfigurationError([f"{wanted}; there is no such program"])
    try:
        return _examine(path)
    except FfmpegFailed as error:
        said = error.detail.splitlines()
        raise ConfigurationError([f"{wanted}; this one failed: {said[0] if said else error.code}"]) from error


def _candidates() -> Iterator[str]:
    if path := shutil.which("ffmpeg"):
        yield path
    try:
        import imageio_ffmpeg  # the extra "media"

        yield imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed, or has none for this machine
        return


def _examine(path: str) -> Tools:
    """Ask a program what it is. Raises FfmpegFailed for one that is no ffmpeg."""
    ffmpeg = os.path.abspath(path)
    version = _VERSION.match(_ask(ffmpeg, "-version"))
    if version is None:
        raise FfmpegFailed("ffmpeg_missing", "it does not say that it is ffmpeg")
    return Tools(
        ffmpeg=ffmpeg,
        ffprobe=_find_ffprobe(ffmpeg),
        version=version[1],
        encoders=frozenset(_ENCODER.findall(_ask(ffmpeg, "-hide_banner", "-encoders"))),
        filters=frozenset(_FILTER.findall(_ask(ffmpeg, "-hide_banner", "-filters"))),
    )


def _find_ffprobe(ffmpeg: str) -> str | None:
    """The one beside this ffmpeg, which is of its version, else the one on PATH."""
    path = shutil.which("ffprobe", path=os.path.dirname(ffmpeg)) or shutil.which("ffprobe")
    return os.path.abspath(path) if path else None


def _ask(program: str, *arguments: str) -> str:
    with tempfile.TemporaryDirectory(prefix="streamer-") as folder:
        answer = fence.run(program, arguments, folder=Path(folder), limits=_LIMITS, keep_output=_MOST_OUTPUT)
    return answer.decode("utf-8", "replace")
