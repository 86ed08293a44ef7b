"""A server of the matrix as a process, or as many as it starts."""

import contextlib
import importlib.metadata
import importlib.util
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from tests.live.harness import ROOT, TIMEOUT_SECONDS, Answer, Api, Server, Wire, eventually, require
from tests.servers.setups import Setup

APPS = Path(__file__).parent / "apps"
CONNECTED = {"01", "03", "08"}  # established; half made; ended by the client alone (include/net/tcp_states.h)
MODULES = "/usr/lib/apache2/modules"
# Apache does not work as root, and others may not read what root keeps for itself: another
# user then, with the right to pass by the modes of files
NOT_ROOT = "setpriv --reuid=nobody --regid=nogroup --clear-groups --securebits=+no_setuid_fixup"
NOT_ROOT += " --inh-caps=+dac_override,+fowner --ambient-caps=+dac_override,+fowner"


class MountedApi(Api):
    """A client of the application where it is mounted."""

    def __init__(self, address: tuple[str, int], token: str, prefix: str) -> None:
        super().__init__(address, token)
        self._prefix = prefix

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        return super().request(method, self._prefix + path, body, headers, timeout)


class Running(Server):
    """One set-up of the matrix, with a data folder of its own."""

    def __init__(self, setup: Setup, folder: Path, data: Path, token: str) -> None:
        super().__init__(data, folder / "server.log", token)
        self.setup = setup
        self._folder = folder
        self.allow(setup.noise)

    def start(self) -> Self:
        """Start the processes and wait until they answer."""
        self.port = _free_port()
        words = {"port": self.port, "options": self.setup.options, "app": self.setup.app}
        words |= {"python": sys.executable, "bin": Path(sys.executable).parent, "apps": APPS}
        command = shlex.split(self.setup.command.format(**words))
        if self.setup.refuses_root and os.geteuid() == 0:
            command = [*shlex.split(NOT_ROOT), *command]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,  # which holds whatever processes it starts
            )
        eventually(self._is_ready, f"{self.setup.name} answers")
        return self

    def _environment(self) -> dict[str, str]:
        # what the tests measure is not what happens inside of other people's servers
        unwanted = ("STREAMER_", "COVERAGE_PROCESS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        own = {
            "STREAMER_DATA": str(self.data),
            "STREAMER_MIN_FREE_BYTES": "0",
            "STREAMER_FFMPEG": "off",
            "HOME": str(self._folder),
            "PYTHONPATH": str(ROOT),
            "PORT": str(self.port),
            "FOLDER": str(self._folder),
            "ROOT": str(ROOT),
            "PREFIX": self.setup.prefix,
            "PYTHON_HOME": sys.prefix,
            "MODULES": MODULES,
            "MOD_WSGI": _mod_wsgi(),
        }
        return kept | own | dict(self.setup.settings)

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.setup.name} ended by itself:\n{self.log[-2000:]}"
        try:
            return self.api.request("GET", "/health", timeout=5).status == 200
        except OSError:
            return False

    @property
    def api(self) -> MountedApi:
        return MountedApi(self.address, self._token, self.setup.prefix)

    def request(self, wire: Wire, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask on a connection, and read the whole answer."""
        wire.request(method, self.setup.prefix + path, self.api.headers | dict(headers or {}))
        return wire.answer(method)

    def processes(self) -> list[int]:
        """All processes of the server that have not ended; the first is the leader of their session."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit():
                    state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                    if int(session) == self.pid and state not in "ZX":
                        found.append(int(entry.name))
        return sorted(found)

    def descriptors(self) -> list[str]:
        """What each open descriptor of all its processes is of."""
        names = []
        for process in self.processes():
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(f"/proc/{process}/fd"):
                    with contextlib.suppress(FileNotFoundError):
                        names.append(os.readlink(entry.path))
        return names

    def countable(self) -> list[str]:
        """The descriptors but those of the database, which each thread opens for itself."""
        return sorted(name for name in self.descriptors() if "/streamer.db" not in name)

    def connections(self) -> int:
        """How many clients it has, those included that it has not accepted yet."""
        own = f"0100007F:{self.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return sum(row[1] == own and row[3] in CONNECTED for row in rows)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the first process to end; all the others must end with it."""
        assert self._process is not None
        try:
            self._process.send_signal(number)
            status = self._process.wait(20)
            eventually(lambda: not self.processes(), f"{self.setup.name} has left no process", 5)
        finally:
            self.end()
        assert status == self.setup.exit_status, f"exit status {status}:\n{self.log[-2000:]}"

    def end(self) -> None:
        """End whatever is still there."""
        if self._process is None:
            return
        while left := self.processes():
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
        self._process.wait(20)
        self._process = None


def require_setup(setup: Setup) -> None:
    """Skip the tests of a server that is not installed, or fail them in CI."""
    missing = [name for name in setup.needs if not _is_installed(name)]
    require(not missing, f"pip install {' '.join(missing)} (the extra 'servers') for {setup.name}")
    if setup.program:
        require(shutil.which(setup.program) is not None, f"install {setup.program} for {setup.name}")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _mod_wsgi() -> str:
    """The module for Apache that the package mod_wsgi has built."""
    package = importlib.util.find_spec("mod_wsgi")
    folders = package.submodule_search_locations if package else None
    return next((str(path) for folder in folders or [] for path in Path(folder).glob("server/*.so")), "")


def _free_port() -> int:
    """A port that nobody listens on, below those that the system gives to clients."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(12000, 30000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
