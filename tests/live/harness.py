"""A server that runs as a process, and clients that speak to it: REST, and one that sees every byte.

Nothing here is mocked: ``python -m streamer serve`` listens on a loopback
address, and what a test knows about it comes from its sockets, its log, its data
folder and ``/proc``.
"""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
USERNAME = "keeper"
PASSWORD = "correct horse battery"
TIMEOUT_SECONDS = 30  # of every socket; none of the tests is about speed
PROBLEM = "application/problem+json"
MIB = 2**20

# what the log of a healthy server never holds
UNEXPECTED = re.compile(r"Traceback|\bERROR\b|\bCRITICAL\b|Exception ignored|ResourceWarning|\bWarning:")

needs_proc = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc, which only Linux has: run this test on Linux"
)


def eventually(condition: Callable[[], bool], claim: str, seconds: float = 20) -> None:
    """Wait until a condition holds; fail with the claim when it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    assert condition(), f"in {seconds} s never true: {claim}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def require(available: bool, reason: str) -> None:
    """Skip a test whose means are missing on this machine; in CI, where all must run, fail it."""
    if available:
        return
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Answer:
    """One answer: status, header fields with names in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def assert_problem(self, status: int, code: str) -> None:
        assert (self.status, self.headers.get("content-type")) == (status, PROBLEM), self
        assert (self.json["status"], self.json["code"]) == (status, code)


class Wire:
    """One connection, on which nothing happens that the test did not ask for."""

    def __init__(
        self, address: tuple[str, int], receive_buffer: int = 0, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer:  # before connecting: it limits the window that is offered
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self._host = address[0]
        self._received = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        """Send the head of a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: streamer.test"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes, or fewer when the server closes the connection."""
        parts, left = [self._received[:size]], size
        self._received = self._received[size:]
        left -= len(parts[0])
        while left and (data := self.socket.recv(min(left, MIB))):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def head(self) -> Answer:
        """Read the head of an answer; the body is left on the wire."""
        while b"\r\n\r\n" not in self._received:
            data = self.socket.recv(65536)
            assert data, f"the connection was closed after {self._received!r}"
            self._received += data
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in fields, f"{name} is given twice"
            fields[name.lower()] = value.strip()
        return Answer(int(status_line.split()[1]), fields, b"")

    def answer(self, method: str = "GET") -> Answer:
        """Read a whole answer, not a byte more: what else comes belongs to the next one."""
        head = self.head()
        has_body = method != "HEAD" and head.status not in {204, 304} and head.status >= 200
        length = int(head.headers["content-length"]) if has_body else 0
        body = self.read(length)
        assert len(body) == length, f"{len(body)} of {length} bytes before the connection was closed"
        return Answer(head.status, head.headers, body)

    def is_closed_by_server(self) -> bool:
        """Wait for the end of what the server sends; False when something else comes."""
        try:
            return not self._received and self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Close without a goodbye: the server gets RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


class Api:
    """A REST client that has signed in; a connection for each request."""

    def __init__(self, address: tuple[str, int], token: str) -> None:
        self.address = address
        self.token = token

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Answer:
        with contextlib.closing(self.connect(timeout)) as connection:
            connection.request(method, path, body=body, headers=self.headers | dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            assert len(fields) == len(response.getheaders()), f"a field twice in {response.getheaders()}"
            return Answer(response.status, fields, response.read())

    def get(self, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> Answer:
        return self.request("GET", path, None, headers, **options)

    def post_json(self, path: str, value: object) -> Answer:
        return self.request("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def sign_up(self, username: str, password: str = PASSWORD) -> Self:
        """Make an account and begin a session."""
        credentials = {"username": username, "password": password}
        assert self.post_json("/api/auth/register", credentials).status == 201
        session = self.post_json("/api/auth/login", credentials)
        assert session.status == 200
        self.token = session.json["access_token"]
        return self

    def send_video(
        self, body: bytes | Iterable[bytes], size: int, query: str = "", timeout: float = TIMEOUT_SECONDS
    ) -> Answer:
        """Upload the bytes as the body of a request, whatever the answer is."""
        headers = {"Content-Type": "video/mp4", "Content-Length": str(size)}
        return self.request("POST", f"/api/videos{query}", body, headers, timeout)

    def upload(self, data: bytes, query: str = "") -> int:
        """Upload a video; its id."""
        answer = self.send_video(data, len(data), query)
        assert answer.status == 201, answer
        return int(answer.json["id"])

    def delete(self, video_id: int) -> Answer:
        return self.request("DELETE", f"/api/videos/{video_id}")

    def download(self, video_id: int) -> bytes:
        answer = self.get(stream_path(video_id))
        assert answer.status == 200, answer.status
        return answer.body

    def video_ids(self) -> list[int]:
        """The ids of all videos of the account."""
        ids: list[int] = []
        for page in range(1, 1000):
            answer = self.get(f"/api/videos?limit=100&page={page}")
            assert answer.status == 200, answer
            ids += [video["id"] for video in answer.json["data"]]
            if page >= answer.json["meta"]["total_pages"]:
                return ids
        raise AssertionError("the pages do not end")


def stream_path(video_id: int) -> str:
    return f"/api/videos/{video_id}/stream"


@dataclass(frozen=True)
class Logged:
    """One line of the access log: what was answered and how many bytes left."""

    method: str
    path: str
    status: int
    sent: int


_ACCESS = re.compile(r" streamer\.access ([A-Z]+) (\S+) (\d+) length=\d+ bytes=(\d+) ")


class Server:
    """``streamer serve`` as a process of its own, which can be stopped, killed and started again.

    Started with the test's environment, so coverage follows it where the ``[coverage:run]``
    section has ``patch = subprocess`` (coverage 7.10 and later, which then passes its settings on in
    COVERAGE_PROCESS_CONFIG) or where COVERAGE_PROCESS_START is set and a .pth file calls
    ``coverage.process_startup()``. ``parallel`` and ``sigterm`` are set already. What is
    killed with SIGKILL reports nothing. ``measured=True`` keeps coverage out of processes whose
    memory is measured. ``descriptors`` is how many it may have open, as the soft and the hard limit.

    Of the settings of whoever runs the tests only STREAMER_FAST_PATHS counts: a run with ``off`` shows
    what systems without sendfile and epoll get.
    """

    def __init__(
        self,
        data: Path,
        log_path: Path,
        token: str = "",
        *,
        host: str = "127.0.0.1",
        measured: bool = False,
        descriptors: tuple[int, int] | None = None,
        **settings: str,
    ) -> None:
        self.data = data
        self.log_path = log_path
        self.host = host
        self.port = 0
        self.ready_line = ""
        self._token = token
        self._settings = settings
        self._measured = measured
        self._limits = descriptors
        self._allowed: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process and wait until it says that it is ready."""
        assert self._process is None
        # STREAMER_FAST_PATHS=off runs all tests on what every system has
        foreign = [
            name for name in os.environ if name.startswith("STREAMER_") and name != "STREAMER_FAST_PATHS"
        ]
        environment = {name: value for name, value in os.environ.items() if name not in foreign}
        if self._measured:
            environment = {k: v for k, v in environment.items() if not k.startswith("COVERAGE_PROCESS")}
        environment |= {name: os.environ[name] for name in {"STREAMER_FAST_PATHS"} & os.environ.keys()}
        # the disk of the tests may be fuller than the reserve allows
        environment |= {"STREAMER_MIN_FREE_BYTES": "0", "STREAMER_FFMPEG": "off", **self._settings}
        command = [sys.executable, "-m", "streamer", *self.arguments(), "--data", str(self.data)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=self._limit_descriptors if self._limits else None,
            )
        assert self._process.stdout is not None
        self.ready_line = self._process.stdout.readline()
        assert self._reads_ready_line(), f"printed {self.ready_line!r} and logged:\n{self.log}"
        return self

    def arguments(self) -> list[str]:
        """The command, and what comes before the data folder."""
        return ["serve", "--host", self.host, "--port", "0"]

    def _reads_ready_line(self) -> bool:
        ready = re.fullmatch(r"streamer (\S+) is ready at (http://\S+)\n", self.ready_line)
        if ready:
            self.url = ready[2]
            self.port = urlsplit(self.url).port or 0
        return ready is not None

    def _limit_descriptors(self) -> None:
        import resource  # which Windows has not

        assert self._limits is not None
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def api(self) -> Api:
        """A client that is signed in as the user of the template."""
        return Api(self.address, self._token)

    def wire(self, **options: Any) -> Wire:
        return Wire(self.address, **options)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask the process to end, as an administrator does; it must do so, with exit status 0."""
        assert self._process is not None
        self._process.send_signal(number)
        status = self._wait()
        assert status == 0, f"exit status {status} after signal {number}:\n{self.log}"

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, and go on."""
        os.kill(self.pid, number)

    def wait(self) -> None:
        """Wait for the end of a process that a signal was sent to."""
        status = self._wait()
        assert status == 0, f"exit status {status}:\n{self.log}"

    def kill(self) -> None:
        """End the process at once, as a power cut does."""
        assert self._process is not None
        self._process.kill()
        assert self._wait() == -signal.SIGKILL, f"it had ended by itself:\n{self.log}"

    def _wait(self) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
            raise
        finally:
            assert process.stdout is not None
            process.stdout.close()

    def pause(self) -> None:
        """Stop the process in the middle of whatever it does, until ``resume``."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)  # not all of its threads are at once

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> Self:
        """Stop the process if it runs, and start it on the same folder."""
        if self._process is not None:
            self.stop()
        return self.start()

    def finish(self) -> None:
        """Stop the process and judge its log."""
        if self._process is not None:
            self.resume()
            self.stop()
        surprises = [
            line
            for line in self.log.splitlines()
            if UNEXPECTED.search(line) and not any(re.search(allowed, line) for allowed in self._allowed)
        ]
        assert not surprises, f"{surprises[0]} in the log:\n{self.log}"

    def allow(self, pattern: str) -> None:
        """Say that lines of the log that match are expected in this test."""
        self._allowed.append(pattern)

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def logged(self, path: str = "") -> list[Logged]:
        """The access log, or its lines about one path."""
        lines = [Logged(m[1], m[2], int(m[3]), int(m[4])) for m in _ACCESS.finditer(self.log)]
        return [line for line in lines if not path or line.path == path]

    # what the kernel knows about the process

    def cpu_seconds(self) -> float:
        """Processor time used so far, in user mode and for it in the kernel."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, name: str) -> int:
        """``VmRSS`` or ``VmHWM`` (the most that VmRSS has ever been), in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found
        return int(found[1]) * 1024

    def descriptors(self) -> list[str]:
        """What each open descriptor is of."""
        names = []
        for entry in os.scandir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                names.append(os.readlink(entry.path))
        return names

    def open_media(self) -> list[str]:
        """The files of ``videos/`` that are open, removed ones too."""
        return [name for name in self.descriptors() if name.startswith(f"{self.data}/videos/")]

    def is_accepting(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(self.address).close()
        except ConnectionError:
            return False
        return True

    def open_sockets(self) -> int:
        return sum(name.startswith("socket:") for name in self.descriptors())

    # what is in the data folder

    def incoming(self) -> list[Path]:
        return list((self.data / "incoming").iterdir())

    def stored(self) -> set[str]:
        return {f"videos/{path.name}" for path in (self.data / "videos").iterdir()}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database behind the server's back."""
        with contextlib.closing(
            sqlite3.connect(self.data / "streamer.db", timeout=TIMEOUT_SECONDS)
        ) as database:
            return database.execute(sql).fetchall()

    def assert_consistent(self) -> None:
        """A row for each file and a file for each row, the right sums, and nothing left over.

        What is not finished and waits for its next bytes is nothing left over.
        """
        # of an upload that cannot go on the file goes first: a full disk needs its room for the rest
        dead = "SELECT id FROM upload WHERE video_id IS NULL AND kind IN ('direct', 'final')"
        eventually(lambda: self.query(dead) == [], "no row is left of an upload that ended")
        assert self.query("PRAGMA integrity_check") == [("ok",)]
        assert self.query("PRAGMA foreign_key_check") == []
        # what has been replaced goes after what replaces it is there
        orphans = "SELECT file_path FROM orphan"
        eventually(lambda: self.query(orphans) == [], "no object is left that nobody needs")
        rows = self.query("SELECT file_path, size FROM video")
        unfinished = dict(self.query("SELECT id, offset FROM upload WHERE video_id IS NULL"))
        # where a crash came between the name and the row, the name is the final one
        waiting = {
            *self.incoming(),
            *(self.data / path for path in self.stored() - {path for path, _ in rows}),
        }
        assert {path.name for path in waiting} == unfinished.keys()
        assert all(path.stat().st_size >= unfinished[path.name] for path in waiting)
        assert self.stored() >= {path for path, _ in rows}
        assert {path: (self.data / path).stat().st_size for path, _ in rows} == dict(rows)
        sums = (
            "SELECT username, video_count, bytes_used FROM user",
            "SELECT username, count(video.id), coalesce(sum(video.size), 0) FROM user "
            "LEFT JOIN video ON uploader_id = user.id GROUP BY user.id",
        )
        assert sorted(self.query(sums[0])) == sorted(self.query(sums[1]))


class Worker(Server):
    """``streamer worker`` as a process of its own, on the data folder of a server; it has no address."""

    def arguments(self) -> list[str]:
        """The command, and what comes before the data folder."""
        return ["worker"]

    def _reads_ready_line(self) -> bool:
        return re.fullmatch(r"streamer \S+ works on .+\n", self.ready_line) is not None


class Background(threading.Thread):
    """Runs a function beside the test; ``outcome()`` gives what it returned or raises what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the test waits
            self._error = error

    def outcome(self, seconds: float = 120) -> Any:
        self.join(seconds)
        assert not self.is_alive(), f"still at work after {seconds} s"
        if self._error is not None:
            raise self._error
        return self._value


@contextlib.contextmanager
def paused_while_staging(server: Server, data: bytes) -> Iterator[tuple[Background, Path]]:
    """Upload a video and stop the process when it has written a part of the staged file.

    Gives the upload and the staged file; the process goes on when the context ends.
    The window is short, so a missed one is tried again.
    """
    for _ in range(50):
        upload = Background(lambda: server.api.send_video(data, len(data)))
        staged = _pause_in_the_middle(server, upload, len(data))
        if staged is not None:
            try:
                yield upload, staged
            finally:
                server.resume()
            return
        server.resume()
        answer = upload.outcome()
        assert answer.status == 201, answer
        assert server.api.delete(answer.json["id"]).status == 204
    raise AssertionError("in 50 uploads the staged file was never seen growing")


def _pause_in_the_middle(server: Server, upload: Background, size: int) -> Path | None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while upload.is_alive() and time.monotonic() < deadline:
        for path in server.incoming():
            server.pause()
            with contextlib.suppress(FileNotFoundError):
                if 0 < path.stat().st_size < size:
                    return path
            server.resume()
    return None
