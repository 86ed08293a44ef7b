"""The machine and the versions that figures come from."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_COMMANDS = {
    "nginx": ["nginx", "-v"],
    "Apache": ["apache2", "-v"],
    "lighttpd": ["lighttpd", "-v"],
    "Go": ["go", "version"],
    "Node": ["node", "--version"],
}
_TCP_MEMORY = "/proc/sys/net/ipv4/tcp_mem"
_PACKAGES = (
    "streamer",
    "falcon",
    "waitress",
    "gunicorn",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "whitenoise",
)


def describe(folder: Path) -> dict[str, str]:
    """What a reader must know to compare, by name; ``folder`` is where peers keep their files."""
    memory = re.search(r"^MemTotal:\s+(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": model[1] if model else platform.machine(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
        "TCP memory": _tcp_memory(),
        "file system": _file_system(folder),
        "Python": platform.python_version(),
        "commit": _output(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]),
        "versions": ", ".join(_versions()),
    }


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _tcp_memory() -> str:
    """What all connections together may hold: the kernel begins to save at the first, drops at the second."""
    _, pressure, most = (int(word) * os.sysconf("SC_PAGE_SIZE") for word in _read(_TCP_MEMORY).split())
    return f"{pressure / 2**30:.1f} GiB, at most {most / 2**30:.1f} GiB"


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on: of the longest mount point above it."""
    mounts = [line.split()[1:3] for line in _read("/proc/mounts").splitlines()]
    above = {str(folder.resolve()), *map(str, folder.resolve().parents)}
    found = [(len(point), kind) for point, kind in mounts if point in above]
    return max(found)[1] if found else "unknown"


def _versions() -> list[str]:
    programs = [
        f"{name} {version[0]}"
        for name, command in _COMMANDS.items()
        if shutil.which(command[0]) and (version := re.search(r"\d+(\.\d+)+", _output(command)))
    ]
    installed = {distribution.name: distribution.version for distribution in metadata.distributions()}
    packages = [f"{name} {installed[name]}" for name in _PACKAGES if name in installed]
    return programs + packages


def _output(command: list[str]) -> str:
    """What a command says, on either stream; empty if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""
