"""A client that asks for something small at a steady pace while others load the server.

A process of its own (``python -m bench.probe PORT REQUEST``, the request in
hexadecimal digits), so that what the other clients do in Python does not delay
its clock. It prints a line when it is ready, begins when it gets one, ends when
it gets SIGTERM, and then prints what it saw as JSON.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from bench import wire
from bench.load import quantile

PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 5
LATE_SECONDS = 1
"""What has waited so long when the probe is stopped counts as not answered."""
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Seen:
    """Seconds that each answer took (PATIENCE_SECONDS for none in time), and how many did not come."""

    latencies: list[float]
    errors: int

    def quantile_ms(self, share: float) -> float:
        return quantile(self.latencies, share) * 1000


class Probe:
    """The process, from the side of the one who starts it."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.probe", str(self._port), self._request.hex()],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def begin(self) -> None:
        """Let it ask from now on."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdout.readline()
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> Seen:
        """Stop it and take what it saw."""
        self._process.terminate()
        said, _ = self._process.communicate(timeout=4 * PATIENCE_SECONDS)
        return Seen(**json.loads(said))

    def __exit__(self, *details: object) -> None:
        self._process.kill()
        self._process.communicate()


class _Stop(Exception):
    """SIGTERM came."""


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _ask(connection: socket.socket, request: bytes) -> bool:
    """One request and its answer; whether the connection can be used again."""
    connection.sendall(request)
    head, body = wire.read_head(connection)
    wire.read_body(connection, head, body)
    wire.want(head, 200)
    return not head.is_last


def _measure(port: int, request: bytes) -> Seen:
    """Ask until ``_Stop`` is raised, which can happen between any two of these lines."""
    latencies: list[float] = []
    errors = 0
    asked: float | None = None
    connection: socket.socket | None = None
    try:
        while True:
            asked = time.perf_counter()
            is_kept = False
            try:
                connection = connection or wire.connect(port, PATIENCE_SECONDS)
                is_kept = _ask(connection, request)
                waited = time.perf_counter() - asked
            except (OSError, wire.BadAnswer):
                errors += 1
                waited = PATIENCE_SECONDS
            asked = None
            latencies.append(waited)
            if connection and not is_kept:
                connection.close()
                connection = None
            time.sleep(PAUSE_SECONDS)
    except _Stop:
        if asked is not None:  # a request is under way, which has waited for so long at least
            latencies.append(time.perf_counter() - asked)
            errors += latencies[-1] > LATE_SECONDS
    return Seen(latencies, errors)


def main() -> None:
    """Measure until SIGTERM; print the result."""
    with contextlib.suppress(PermissionError):
        os.nice(-10)  # the wait for a processor beside the other clients is not the server's
    signal.signal(signal.SIGTERM, _raise_stop)
    print(flush=True)
    sys.stdin.readline()
    seen = _measure(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
    print(json.dumps(asdict(seen)))


if __name__ == "__main__":
    main()
