"""Uploads: of a file until it is on the disk, and of one that nobody may send."""

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import ours, pattern, wire
from bench.measure import GIB, MIB, Figures, Rows, Run, counted
from bench.wire import BadAnswer, Head

_WAYS = {"raw": ours.upload, "form": ours.upload_form}


def measure_upload(run: Run) -> Rows:
    """Every way of the peer, and ``cp`` beside nginx as what the disk can do."""
    source = run.site.folder / "upload.mp4"
    small = run.site.folder / "warm-up.mp4"
    if not source.exists():
        pattern.write(source, run.options.upload_bytes)
        pattern.write(small, min(MIB, run.options.upload_bytes))
    rows: Rows = {}
    for way in run.peer.uploads:
        send = _put if way == "put" else _post
        for path in (small, source):
            rows[f"{run.peer.name} ({way})"] = send(run, way, path)
    if "put" in run.peer.uploads:
        rows["cp (and fsync)"] = _copied(run, source)
    return rows


def _post(run: Run, way: str, path: Path) -> Figures:
    os.sync()
    with _timed(run, path) as figures:
        video_id = _WAYS[way](run.endpoint, path)
    ours.delete(run.endpoint, video_id)
    return figures


def _put(run: Run, way: str, path: Path) -> Figures:
    """By PUT, which nginx answers before the file is on the disk: bringing it there is counted."""
    stored = run.site.folder / run.endpoint.put.strip("/") / path.name
    head = run.endpoint.request("PUT", run.endpoint.put + path.name, f"Content-Length: {path.stat().st_size}")
    os.sync()
    with (
        _timed(run, path) as figures,
        wire.connect(run.endpoint.port, timeout=300) as connection,
        path.open("rb") as file,
    ):
        connection.sendall(head)
        connection.sendfile(file)
        answer, _ = wire.read_head(connection)
        wire.want(answer, 201)
        _sync(stored)
    if stored.stat().st_size != path.stat().st_size:
        raise BadAnswer(f"{stored.stat().st_size} bytes were stored of {path.stat().st_size}")
    stored.unlink()
    return figures


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _timed(run: Run, path: Path) -> Iterator[Figures]:
    size, started = path.stat().st_size, time.perf_counter()
    with counted(run) as figures:
        yield figures
        seconds = time.perf_counter() - started
    figures["MB/s"] = size / seconds / 1e6
    figures["CPU s/GiB"] = figures["server seconds"] * GIB / size
    figures["written/byte"] = figures["written"] / size


def _copied(run: Run, source: Path) -> Figures:
    copy = run.site.folder / "put" / "copy.mp4"
    size = source.stat().st_size
    os.sync()
    used, started = os.times(), time.perf_counter()
    subprocess.run(["cp", "--reflink=never", source, copy], check=True)
    _sync(copy)
    seconds, now = time.perf_counter() - started, os.times()
    copy.unlink()
    cpu_seconds = sum(now[:4]) - sum(used[:4])
    return {"MB/s": size / seconds / 1e6, "CPU s/GiB": cpu_seconds * GIB / size}


def measure_refused(run: Run) -> Rows:
    """Send without credentials, as fast as it is taken, until the whole answer is there."""
    endpoint, size = run.endpoint, run.options.refused_bytes
    method = "PUT" if endpoint.put else "POST"
    stranger = wire.Endpoint(endpoint.port, "", "")
    fields = ("Content-Type: video/mp4", f"Content-Length: {size}")
    request = stranger.request(method, endpoint.refused, *fields)
    before = _stored_bytes(run)
    with counted(run) as figures:
        started = time.perf_counter()
        head, sent = _push(endpoint.port, request, size, run.options.patience_seconds)
        figures["seconds"] = time.perf_counter() - started
    figures["sent MiB"] = sent / MIB
    figures["written MiB"] = figures["written"] / MIB
    figures["left MiB"] = (_stored_bytes(run) - before) / MIB
    figures["status"] = head.status if head else 0
    return {run.peer.name: figures}


def _stored_bytes(run: Run) -> int:
    """Disk space of the folders that peers write to, in bytes; files without a name are not seen."""
    total = 0
    for folder in (run.site.data, run.site.folder / "put", run.group.folder):
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                total += path.lstat().st_blocks * 512
    return total


def _push(port: int, request: bytes, size: int, patience_seconds: float) -> tuple[Head | None, int]:
    """The head of the answer, None without one in time; how many bytes of the body were sent until then."""
    block, sent, received = bytes(MIB), 0, b""
    deadline = time.perf_counter() + patience_seconds
    with wire.connect(port) as connection, contextlib.closing(select.epoll()) as poll:
        connection.sendall(request)
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN | select.EPOLLOUT)
        while time.perf_counter() < deadline:
            for _, events in poll.poll(1):
                if events & (select.EPOLLIN | select.EPOLLHUP):
                    received += _received(connection, received)
                    head = wire.parse_head(received)
                    if head and len(received) >= head.size + head.length:
                        return head, sent
                elif events & select.EPOLLOUT:
                    sent += connection.send(block[: size - sent])
                    if sent == size:
                        poll.modify(connection, select.EPOLLIN)
    return None, sent


def _received(connection: socket.socket, earlier: bytes) -> bytes:
    data = connection.recv(wire.HEAD_BYTES)
    if not data:
        raise BadAnswer(f"closed by the server after {earlier[:80]!r}")
    return data
