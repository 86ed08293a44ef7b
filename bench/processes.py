"""Servers as processes: started in sessions of their own, counted by ``/proc``, stopped by their own ids."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"
START_SECONDS = 30
STOP_SECONDS = 10
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start, ended too early, or said what it should not."""


@dataclass(frozen=True)
class Usage:
    """What processes have used since they began: processor seconds, bytes sent to the disk."""

    cpu_seconds: float
    written_bytes: int

    def __sub__(self, earlier: "Usage") -> "Usage":
        return Usage(self.cpu_seconds - earlier.cpu_seconds, self.written_bytes - earlier.written_bytes)


def free_port() -> int:
    """A port of the loopback address that nobody listens on at the moment."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


class Group:
    """The processes of one set-up: what was spawned, and all that came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "server.log"
        self._leaders: list[subprocess.Popen[str]] = []

    def spawn(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        *,
        reads_output: bool = False,
    ) -> subprocess.Popen[str]:
        """Start a process in a session of its own; what it says goes to the log of the group."""
        with self._log.open("ab") as log:
            leader = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.folder,
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if reads_output else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._leaders.append(leader)
        return leader

    def wait_for(self, port: int) -> None:
        """Wait until the port answers. Raises ServerFailed if a process ends or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                return
            time.sleep(0.02)
        raise ServerFailed(f"port {port} did not answer in {START_SECONDS} s; log: {self.log_tail}")

    def check(self) -> None:
        """Raises ServerFailed if one of the processes has ended."""
        for leader in self._leaders:
            if leader.poll() is not None:
                raise ServerFailed(f"ended with status {leader.returncode}; log: {self.log_tail}")

    @property
    def log_tail(self) -> str:
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return " / ".join(text.split("\n")[-6:])[-600:]

    def _pids(self) -> Iterator[int]:
        sessions = {leader.pid for leader in self._leaders}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(_stat(int(entry.name))[3]) in sessions:
                yield int(entry.name)

    def usage(self) -> Usage:
        """The sums over all processes, those that have ended included."""
        ticks = written = 0
        for pid in self._pids():
            fields = _stat(pid)
            ticks += sum(map(int, fields[11:15]))  # user, system, and both of children that were waited for
            written += _field(pid, "io", "write_bytes:")
        return Usage(ticks / _TICKS_PER_SECOND, written)

    def forget_peak(self) -> None:
        """Let the kernel begin anew with the most memory that each process has had."""
        for pid in self._pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_rss_bytes(self) -> int:
        """The most resident memory that each process has had, summed; shared pages count in each."""
        return sum(1024 * _field(pid, "status", "VmHWM:") for pid in self._pids())

    def stop(self) -> None:
        """End all processes: by request, and those that stay after that at once."""
        for leader in reversed(self._leaders):
            _signal_group(leader.pid, signal.SIGTERM)
        for leader in self._leaders:
            with contextlib.suppress(subprocess.TimeoutExpired):
                leader.wait(STOP_SECONDS)
        for pid in list(self._pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for leader in self._leaders:
            leader.wait(STOP_SECONDS)
            if leader.stdout:
                leader.stdout.close()
        self._leaders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the name; zeros if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 50


def _field(pid: int, file: str, name: str) -> int:
    try:
        words = Path(f"/proc/{pid}/{file}").read_text().split()
    except OSError:  # gone, or of another user
        return 0
    return int(words[words.index(name) + 1]) if name in words else 0
