"""Which ffmpeg there is, and what it can do: asked once, when the process starts."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streamer.errors import ConfigurationError, FfmpegFailed
from streamer.ffmpeg import fence

_LIMITS = fence.Limits(seconds=30, cpu_seconds=10, memory_bytes=2 * 2**30, file_bytes=0)
_MOST_OUTPUT = 2**20  # the lists have some 50 KiB

_LEAST_VERSION = (5, 1)  # the first with -fps_mode
# builds of what is being developed are called N-109468-g… or git-…, or begin with a date
_RELEASE = re.compile(r"n?([0-9]{1,9}(?:\.[0-9]{1,9})*)")

_VERSION = re.compile(r"ffmpeg version (\S+)")
_ENCODER = re.compile(r"^ [VAS][A-Z.]{5} ([^\s=]\S*)", re.MULTILINE)
_FILTER = re.compile(r"^ [A-Z.]{2,3} (\S+) +\S+->\S+", re.MULTILINE)


logger = logging.getLogger("streamer")


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


def find_tools(setting: str, folder: Path) -> Tools | None:
    """The ffmpeg of the setting: ``auto`` is that on PATH, else that of imageio-ffmpeg; ``off`` is none.

    Anything else names one, by a path or as it is on PATH. ``folder`` is where it is run. None where there
    is none that can be run and is recent enough, and on systems without the means of the fence. Raises
    ConfigurationError when the one that is named cannot be run, is no ffmpeg, or one that is too old.
    """
    if setting == "off" or os.name != "posix":
        return None
    if setting != "auto":
        return _configured(setting, folder)
    for path in _candidates():
        try:
            tools = _examine(path, folder)
        except FfmpegFailed as failure:
            logger.warning("%s is passed over: %s", path, failure)
            continue
        if complaint := _too_old(tools.version):
            logger.warning("%s is passed over: %s", path, complaint)
            continue
        return tools
    return None


def _configured(name: str, folder: Path) -> Tools:
    wanted = f"STREAMER_FFMPEG={name!r}: want the path of ffmpeg, or its name on PATH"
    path = shutil.which(name)
    if path is None:
        raise ConfigurationError([f"{wanted}; there is no such program"])
    try:
        tools = _examine(path, folder)
    except FfmpegFailed as error:
        said = error.detail.splitlines()
        raise ConfigurationError([f"{wanted}; this one failed: {said[0] if said else error.code}"]) from error
    if complaint := _too_old(tools.version):
        raise ConfigurationError([f"STREAMER_FFMPEG={name!r}: {complaint}"])
    return tools


def _candidates() -> Iterator[str]:
    if path := shutil.which("ffmpeg"):
        yield path
    try:
        import imageio_ffmpeg  # the extra "media"

        yield imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed, or has none for this machine
        return


def _examine(path: str, folder: Path) -> Tools:
    """Ask a program what it is. Raises FfmpegFailed for one that is no ffmpeg."""
    ffmpeg = os.path.abspath(path)
    questions = (["-version"], ["-hide_banner", "-encoders"], ["-hide_banner", "-filters"])
    with ThreadPoolExecutor(len(questions)) as pool:  # each takes a tenth of a second, on a small box a half
        answers = pool.map(lambda question: _ask(ffmpeg, question, folder), questions)
        said, encoders, filters = answers
    version = _VERSION.match(said)
    if version is None:
        raise FfmpegFailed("ffmpeg_missing", "it does not say that it is ffmpeg")
    return Tools(
        ffmpeg=ffmpeg,
        ffprobe=_find_ffprobe(ffmpeg),
        version=version[1],
        encoders=frozenset(_ENCODER.findall(encoders)),
        filters=frozenset(_FILTER.findall(filters)),
    )


def _too_old(version: str) -> str | None:
    """What is wrong with a release that lacks what we tell ffmpeg to do."""
    release = _RELEASE.match(version)
    if release is None or tuple(map(int, release[1].split("."))) >= _LEAST_VERSION:
        return None
    return f"want ffmpeg {'.'.join(map(str, _LEAST_VERSION))} or later; this is {release[1]}"


def _find_ffprobe(ffmpeg: str) -> str | None:
    """The one beside this ffmpeg, which is of its version, else the one on PATH."""
    path = shutil.which("ffprobe", path=os.path.dirname(ffmpeg)) or shutil.which("ffprobe")
    return os.path.abspath(path) if path else None


def _ask(program: str, arguments: list[str], folder: Path) -> str:
    answer = fence.run(program, arguments, folder=folder, limits=_LIMITS, keep_output=_MOST_OUTPUT)
    return answer.decode("utf-8", "replace")
