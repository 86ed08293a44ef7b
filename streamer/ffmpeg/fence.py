"""The one place where a program is started, and the arguments that a stranger's file is given with.

Two fences stand behind each other. The first is what ffmpeg is told: one protocol, one
demuxer, no file that another one names (``media_input``). The second is what the process may do
at all, whatever it is told or made to do: ``launch`` sets limits and hides files and sockets,
and ``run`` watches it, reads what it says without keeping much, and ends it with its whole
group as soon as it is over a limit, unwanted, or nobody waits for it any more.
"""

import functools
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

from streamer.containers import signatures
from streamer.containers.signatures import Container
from streamer.errors import FfmpegFailed, Stopped

GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""

_LAUNCHER = ("-I", "-S", str(Path(__file__).with_name("launch.py")))
_CANNOT_START = (126, 127)  # the exit status, as of a shell
_TURN_SECONDS = 0.1  # at most between two looks at the clock
_SHORT_TURN_SECONDS = 0.01  # when all pipes are closed, and with them nearly always the program
_ASK_SECONDS = 0.25  # between two questions whether to stop
_READ_BYTES = 65536  # what a pipe holds on Linux
_LAST_READS = 16  # of what the pipes hold when the program has ended
_PROGRAMS = "/usr/local/bin:/usr/bin:/bin"
_WORDS_BYTES = 64 * 2**20  # of messages; a program that says more does nothing else
_TAIL_BYTES = 16 * 1024  # of messages that are kept
_LINE_BYTES = 200  # of a line of progress that is not complete
_DETAIL_LINES, _DETAIL_CHARACTERS = 8, 1000

_DEMUXERS = {
    signatures.MP4: "mov",
    signatures.QUICKTIME: "mov",
    signatures.THREE_GPP: "mov",
    signatures.THREE_GPP2: "mov",
    signatures.MATROSKA: "matroska",
    signatures.WEBM: "matroska",
    signatures.AVI: "avi",
    signatures.MPEG_TS: "mpegts",
    signatures.M2TS: "mpegts",
    signatures.MPEG_PS: "mpeg",
    signatures.FLV: "flv",
    signatures.OGG: "ogg",
}
# A data reference (ISO/IEC 14496-12, section 8.7.2) can name another file. ffmpeg follows none
# by default; said nevertheless, so that no default decides it.
_DEMUXER_OPTIONS = {"mov": ("-enable_drefs", "0", "-use_absolute_path", "0")}

_OUT_TIME = re.compile(rb"out_time_us=([0-9]{1,15})")  # microseconds
# the texts of errno, in the locale that it runs in
_SIGNS = (
    (re.compile(rb"No space left on device|Disk quota exceeded"), "disk_full"),
    (re.compile(rb"File too large"), "output_too_large"),
    (
        re.compile(rb"Cannot allocate memory|Failed to allocate|out of memory", re.IGNORECASE),
        "too_much_memory",
    ),
)

_ADDRESS = re.compile(r" @ (?:0x)?[0-9a-fA-F]+(?=\])")
_PATH = re.compile(r"(?:file:|(?<![\w:/.]))/[^\s'\":,]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use up."""

    seconds: float
    """By the clock on the wall."""

    cpu_seconds: int
    """Of all processors together."""

    memory_bytes: int
    """Of address space, which is more than is touched: each thread alone reserves 8 MiB."""

    file_bytes: int
    """In each file that it writes."""


def media_input(path: Path, container: Container, *options: str) -> list[str]:
    """The arguments that make a stranger's video an input of ffmpeg or ffprobe.

    ``options`` are further ones of this input, such as ``-ss``.
    """
    return forced_input(path, _DEMUXERS[container], *options)


def forced_input(path: Path, demuxer: str, *options: str) -> list[str]:
    """The arguments that make a local file an input which this demuxer reads, and which opens no other.

    The whitelists also hold for demuxers within the demuxer: subtitles in AVI are a file in the file.
    """
    fence = ["-protocol_whitelist", "file", "-format_whitelist", demuxer, "-f", demuxer]
    return [*fence, *_DEMUXER_OPTIONS.get(demuxer, ()), *options, "-i", f"file:{path.absolute()}"]


def never() -> bool:
    """Where nobody wants the work to end."""
    return False


def run(
    program: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    limits: Limits,
    on_progress: Callable[[float], None] | None = None,
    should_stop: Callable[[], bool] = never,
    keep_output: int = 0,
) -> bytes:
    """Run a program behind the fence until it has ended; what it wrote to standard output.

    ``program`` is an absolute path. It works in ``folder`` and can write nowhere else; besides what
    belongs to the system it can read only files that the arguments name as ``-i file:…``.
    ``on_progress`` gets the seconds of output so far, about twice a second; it is for ffmpeg only.
    ``should_stop`` is asked more often than that. ``keep_output`` is how many bytes of standard
    output are wanted: more are a failure, and with 0 they go nowhere.

    Raises Stopped when ``should_stop`` said so, and FfmpegFailed with one of the codes
    ``timed_out`` (by the clock or the processor), ``too_much_memory``, ``killed``, ``output_too_large``,
    ``disk_full``, ``ffmpeg_missing`` (not there, or cannot be run) and ``ffmpeg_failed``. However it
    ends, the program and its group are gone.
    """
    inputs = [value.removeprefix("file:") for option, value in pairwise(arguments) if option == "-i"]
    bounds = (os.getpid(), limits.cpu_seconds, limits.memory_bytes, limits.file_bytes)
    launch = [_python(), *_LAUNCHER, *map(str, bounds), *inputs, "--", program]
    words, output = _Words(), _Output(keep_output)
    try:
        started = _started(launch, arguments, folder, keep_output > 0, on_progress is not None)
        with started as (process, reports):
            takers = [(process.stderr, words.take), (process.stdout, output.take)]
            if on_progress is not None:
                takers.append((reports, _Progress(on_progress).take))
            cpu_seconds = _follow(process, takers, limits.seconds, should_stop)
        _judge(process.returncode, cpu_seconds, limits, words.tail)
    except _Failure as failure:
        if should_stop():  # whoever ends this process may have ended that one first
            raise Stopped from None
        detail = _clean(words.tail, failure.reason, [program, str(folder), *inputs])
        raise FfmpegFailed(failure.code, detail) from None
    return bytes(output.kept)


class _Failure(Exception):
    """A program has to end, or has ended badly; ``reason`` is ours, to be read after its own words."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Words:
    """What a program says on standard error, of which only the last is kept."""

    def __init__(self) -> None:
        self.tail = b""
        self._left = _WORDS_BYTES

    def take(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        self._left -= len(data)
        if self._left < 0:
            raise _Failure("ffmpeg_failed", "it wrote messages without end")


class _Output:
    """What a program writes to standard output, up to a limit in bytes."""

    def __init__(self, limit: int) -> None:
        self.kept = bytearray()
        self._limit = limit

    def take(self, data: bytes) -> None:
        self.kept += data
        if len(self.kept) > self._limit:
            raise _Failure("output_too_large", f"it wrote more than {self._limit} bytes to standard output")


class _Progress:
    """What ffmpeg writes for ``-progress``: lines of ``key=value``, of which one tells the time reached."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._rest = b""

    def take(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_LINE_BYTES:]
        times = [found[1] for line in lines if (found := _OUT_TIME.fullmatch(line))]
        if times:
            self._report(int(times[-1]) / 1e6)


@contextmanager
def _started(
    launch: list[str], arguments: Sequence[str], folder: Path, wants_output: bool, wants_progress: bool
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A program in a session of its own, and the pipe that it tells its progress through.

    At the end the pipes are closed first, so that it cannot wait for somebody to read.
    """
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as reports:
        with open(writing, "wb", buffering=0):
            options = ["-progress", f"pipe:{writing}", "-stats_period", "0.5"] if wants_progress else []
            inherited = [writing] if wants_progress else []
            process = _start([*launch, *options, *arguments], folder, wants_output, inherited)
        try:
            yield process, reports
        finally:
            for pipe in (process.stdout, process.stderr, reports):
                if pipe is not None:
                    pipe.close()
            _end(process)


def _start(
    command: list[str], folder: Path, wants_output: bool, inherited: list[int]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - a list, no shell, and the program is a setting
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if wants_output else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=inherited,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        raise _Failure("ffmpeg_failed", f"it cannot be started: {error.strerror}") from error


@functools.cache
def _python() -> str:
    """The interpreter: some servers that embed it put themselves in its place."""
    name = f"python{sys.version_info.major}"
    candidates = [Path(prefix, "bin", name) for prefix in (sys.prefix, sys.base_prefix)]
    if Path(sys.executable or "").name.startswith("python"):
        candidates.insert(0, Path(sys.executable))
    return str(next((path for path in candidates if path.exists()), name))


def _environment(folder: Path) -> dict[str, str]:
    """All of it. An arena of glibc's allocator reserves 64 MiB of address space, so there are few."""
    home = str(folder)
    return {"PATH": _PROGRAMS, "LC_ALL": "C", "HOME": home, "TMPDIR": home, "MALLOC_ARENA_MAX": "2"}


def _follow(
    process: subprocess.Popen[bytes],
    pipes: Iterable[tuple[IO[bytes] | None, Callable[[bytes], None]]],
    seconds: float,
    should_stop: Callable[[], bool],
) -> float:
    """Read what it writes until it has ended; the processor time that it took, in seconds."""
    deadline, ask_at = time.monotonic() + seconds, 0.0
    with selectors.DefaultSelector() as selector:
        for pipe, take in pipes:
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, take)
        while (cpu_seconds := _reap(process)) is None:
            _read(selector, _TURN_SECONDS if selector.get_map() else _SHORT_TURN_SECONDS)
            now = time.monotonic()
            if now > deadline:
                raise _Failure("timed_out", f"it was ended after {seconds:.0f} seconds")
            if now > ask_at:
                if should_stop():
                    raise Stopped
                ask_at = now + _ASK_SECONDS
        for _ in range(_LAST_READS):
            _read(selector, 0)
    return cpu_seconds


def _read(selector: selectors.BaseSelector, seconds: float) -> None:
    """Wait so long for the pipes, and read once from each that has something to read."""
    for key, _ in selector.select(seconds):
        if data := os.read(key.fd, _READ_BYTES):
            key.data(data)
        else:
            selector.unregister(key.fileobj)


def _reap(process: subprocess.Popen[bytes]) -> float | None:
    """Take the exit status of a program that has ended, and end what is left of its group.

    Its processor time in seconds; None while it runs.
    """
    try:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    except ChildProcessError:  # the host ignores SIGCHLD, so nobody knows; what was made is looked at anyway
        process.returncode = 0
        return 0.0
    if not pid:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    _signal(process, signal.SIGKILL)
    return usage.ru_utime + usage.ru_stime


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, and its group; kindly at first."""
    if process.returncode is not None:
        return
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while _reap(process) is None:
        if time.monotonic() > deadline:
            _signal(process, signal.SIGKILL)
        time.sleep(_SHORT_TURN_SECONDS)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the group. Its number is not given to another one before all others had their turn."""
    with suppress(ProcessLookupError, PermissionError):  # nobody left, or on macOS only a zombie
        os.killpg(process.pid, number)


def _judge(status: int, cpu_seconds: float, limits: Limits, words: bytes) -> None:
    """Raise what a program died of, if it did."""
    if status == 0:
        return
    if status in _CANNOT_START:
        raise _Failure("ffmpeg_missing", "it cannot be run")
    if status == -signal.SIGXFSZ:
        raise _Failure("output_too_large", f"a file would be larger than {limits.file_bytes} bytes")
    if status in (-signal.SIGKILL, -signal.SIGXCPU) and cpu_seconds > limits.cpu_seconds - 1:
        raise _Failure("timed_out", f"it was ended after {limits.cpu_seconds} seconds of processor time")
    if status == -signal.SIGKILL:  # not by us; when memory runs out, the kernel ends ours first
        raise _Failure("killed", "the system ended it")
    reason = f"exit status {status}" if status > 0 else f"ended by a signal: {signal.strsignal(-status)}"
    code = next((code for sign, code in _SIGNS if sign.search(words)), "ffmpeg_failed")
    raise _Failure(code, reason)


def _clean(words: bytes, reason: str, paths: Iterable[str]) -> str:
    """The last lines that it said, and why it ended, without what tells about the machine."""
    text = _ADDRESS.sub("", f"{words.decode('utf-8', 'replace')}\n{reason}")
    for path in sorted(paths, key=len, reverse=True):
        text = text.replace(f"file:{path}", "the file").replace(path, "the file")
    text = _PATH.sub("the file", text)
    lines = ("".join(c if c.isprintable() else " " for c in line).strip() for line in text.splitlines())
    return "\n".join([line for line in lines if line][-_DETAIL_LINES:])[-_DETAIL_CHARACTERS:]
