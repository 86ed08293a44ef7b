"""How answers leave: by which calls, in how many pieces, and what happens where the kernel says no."""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from streamer.resources.receptions import VideoReception
from streamer.server import channel as channels
from streamer.server import output
from streamer.server.settings import LARGE_SEND_BUFFER_BYTES, SEND_BUFFERS_BYTES
from tests.helpers import video_bytes
from tests.live.harness import MIB, Background, eventually, needs_proc
from tests.server.conftest import Run, open_below

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"

Sent = tuple[str, int, bool]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Sent]:
    """What leaves: by which call, how many bytes, and whether they may wait for more."""
    calls: list[Sent] = []
    send_bytes, sendfile = output.FileChannel._send_bytes, getattr(os, "sendfile", None)

    def spy_send(self: Any, data: bytes, flags: int) -> int:
        waits = bool(flags & socket.MSG_MORE) or _is_corked(self.socket.fileno())
        calls.append(("send", len(data), waits))
        return send_bytes(self, data, flags)

    def spy_sendfile(to: int, *arguments: int) -> int:
        assert sendfile
        calls.append(("sendfile", arguments[-1], _is_corked(to)))
        return int(sendfile(to, *arguments))

    monkeypatch.setattr(output.FileChannel, "_send_bytes", spy_send)
    monkeypatch.setattr(os, "sendfile", spy_sendfile, raising=False)
    return calls


def _is_corked(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as same:
        return bool(same.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))


def test_a_small_answer_leaves_in_one_piece(run: Run, sent: list[Sent]) -> None:
    with run().wire() as wire:
        for _ in range(3):
            sent.clear()
            wire.send(HEALTH)
            assert wire.answer().status == 200
            assert [(name, waits) for name, _, waits in sent] == [("send", False)]


def test_a_head_waits_for_the_file_behind_it(run: Run, sent: list[Sent], fast_paths: bool) -> None:
    running = run()
    path = running.video(video_bytes(1000))
    with running.wire() as wire:
        for _ in range(2):
            sent.clear()
            wire.request("GET", path, running.api.headers)
            assert wire.answer().body == video_bytes(1000)
            (head, _, waits), *others = sent
            assert (head, waits) == ("send", True)
            assert others == [("sendfile" if fast_paths else "send", 1000, False)]
        wire.send(HEALTH)
        assert wire.answer().status == 200
        assert not sent[-1][2], "what comes after a file is not kept back"


def test_a_greedy_viewer_leaves_the_others_their_turn(run: Run, sent: list[Sent]) -> None:
    running = run()
    data = video_bytes(12 * MIB)
    path = running.video(data)
    with running.wire() as wire:
        wire.request("GET", path, running.api.headers)
        assert wire.answer().body == data
    sizes = [size for _, size, _ in sent]
    assert len(sizes) > 3
    assert max(sizes) <= 4 * MIB


def test_a_large_file_leaves_in_full_segments(run: Run, sent: list[Sent]) -> None:
    running = run()
    data = video_bytes(MIB)
    path = running.video(data)
    with running.wire() as wire:
        for _ in range(2):
            sent.clear()
            wire.request("GET", path, running.api.headers)
            assert wire.answer().body == data
            assert all(waits for _, _, waits in sent), "corked to its end"
        sent.clear()
        wire.send(HEALTH)
        assert wire.answer().status == 200
        assert [(name, waits) for name, _, waits in sent] == [("send", False)], "and not longer"


@pytest.mark.parametrize("number", sorted(output.NO_SENDFILE))
def test_a_file_that_the_kernel_cannot_send_is_read(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: int, fast_paths: bool
) -> None:
    tries = []

    def fail(*arguments: Any) -> int:
        tries.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "sendfile", fail, raising=False)
    running = run()
    data = video_bytes(3 * MIB)
    path = running.video(data)
    with running.wire() as wire:
        for _ in range(2):
            wire.request("GET", path, running.api.headers)
            assert wire.answer().body == data
    assert len(tries) == fast_paths, "a connection that has been refused it does not ask again"


@needs_proc
def test_a_file_is_closed_with_its_last_byte(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that byte is the last that a viewer gets in its turn."""
    running = run()
    path = running.video(video_bytes(200))
    monkeypatch.setattr(output, "PASS_BYTES", 10)
    with running.wire() as wire:
        for _ in range(10):
            wire.request("GET", path, running.api.headers)
            assert wire.answer().body == video_bytes(200)
            folder = running.server._config.data / "videos"
            eventually(lambda folder=folder: not open_below(folder), "the file is closed")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EIO])
def test_a_client_that_leaves_at_any_send_is_closed_by_the_loop(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    running = run()
    path = running.video(video_bytes(1000))
    closed_in = []
    handle_close = channels.Channel.handle_close

    def spy_close(self: Any) -> None:
        closed_in.append(threading.current_thread().name)
        handle_close(self)

    def fail(self: Any, data: bytes, flags: int) -> int:
        return int(self._not_sent(OSError(number, os.strerror(number))))

    monkeypatch.setattr(output.FileChannel, "_send_bytes", fail)
    monkeypatch.setattr(channels.Channel, "handle_close", spy_close)
    token = f"Authorization: Bearer {running.api.token}\r\n".encode()
    get = b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path.encode(), token)
    login = b"POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    upload = b"POST /api/videos HTTP/1.1\r\nHost: a\r\nContent-Type: video/mp4\r\n" + token
    expect = b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n"
    for request in (HEALTH, get, get + HEALTH, login + expect, upload + expect, b"garbage\r\n\r\n"):
        with running.wire() as wire:
            wire.send(request)
            assert wire.is_closed_by_server(), request
    eventually(lambda: not running.listener.active_channels, "all are closed")
    assert not {name for name in closed_in if name.startswith("waitress")}, "a worker thread has closed one"
    told = {record.getMessage() for record in caplog.records if record.levelname == "ERROR"}
    wanted = f"what was to leave could not be sent: [Errno {errno.EIO}] Input/output error"
    assert told == ({wanted} if number == errno.EIO else set())
    assert "exception in trigger thunk" not in caplog.text
    monkeypatch.undo()


def test_the_loop_and_a_worker_thread_never_send_at_once(run: Run) -> None:
    running = run()
    path = running.video(video_bytes(24 * MIB))
    eventually(lambda: not running.listener.active_channels, "nobody else is connected")
    with running.wire(receive_buffer=128 * 1024) as wire:
        wire.request("GET", path, running.api.headers)
        assert wire.head().status == 200
        [channel] = running.listener.active_channels.values()
        with channel.outbuf_lock:  # as a worker thread that writes
            sending = Background(channel._flush_some)
            sending.join(0.1)
            assert sending.is_alive()
        sending.outcome()
        assert len(wire.read(24 * MIB)) == 24 * MIB


@needs_proc
def test_a_worker_thread_at_work_costs_the_loop_nothing(run: Run) -> None:
    """Also while what it has written so far waits for more, and the socket would take it."""
    running = run()
    may_end = threading.Event()

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "200")])
        yield bytes(100)
        assert may_end.wait(20)
        yield bytes(100)

    running.listener.application = application
    with running.wire() as wire:
        wire.send(HEALTH)
        eventually(lambda: len(running.listener.active_channels) == 1, "it is connected")
        [channel] = running.listener.active_channels.values()
        eventually(lambda: channel.total_outbufs_len > 100, "the first half is written")
        channel.rearm()
        before = time.process_time()
        time.sleep(1)
        assert time.process_time() - before < 0.3
        may_end.set()
        assert wire.answer().body == bytes(200)


class Generated:
    """A WSGI application whose body is no file: it holds its thread while the client reads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.closed = 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", str(self.size * MIB))])
        return self._body()

    def _body(self) -> Iterator[bytes]:
        try:
            for number in range(self.size):
                yield bytes([number]) * MIB
        finally:
            self.closed += 1


def test_a_generated_body_waits_for_its_reader(run: Run) -> None:
    running = run(threads=2)
    running.listener.application = application = Generated(64)
    with running.wire(receive_buffer=128 * 1024) as wire:
        wire.send(HEALTH)
        assert wire.head().status == 200
        [channel] = running.listener.active_channels.values()
        eventually(lambda: channel.total_outbufs_len > channel.adj.outbuf_high_watermark, "it has to wait")
        for number in range(64):
            assert wire.read(MIB) == bytes([number]) * MIB
        eventually(lambda: not channel.total_outbufs_len, "all of it is counted as sent")
    assert application.closed == 1


def test_a_generated_body_ends_when_its_reader_leaves(run: Run) -> None:
    running = run(threads=2)
    running.listener.application = application = Generated(64)
    for number in range(6):  # more than there are threads
        with running.wire(receive_buffer=128 * 1024) as wire:
            wire.send(HEALTH)
            assert wire.head().status == 200
            if number % 2:
                wire.reset()
        eventually(lambda number=number: application.closed == number + 1, "its thread is free")


def test_the_buffers_of_all_sockets_share_what_there_is(run: Run) -> None:
    running = run()
    with ExitStack() as wires:
        for _ in range(60):
            wires.enter_context(running.wire())
        eventually(lambda: len(running.listener.active_channels) == 60, "all are connected")
        channels = list(running.listener.active_channels.values())
        sizes = [channel.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for channel in channels]
    # Linux doubles what it is told; the first ones are left to the kernel, which begins small
    assert max(sizes) <= 2 * LARGE_SEND_BUFFER_BYTES
    assert sizes[50:] == sorted(sizes[50:], reverse=True)
    assert sizes[-1] <= 2 * SEND_BUFFERS_BYTES // 60


def test_a_client_that_waits_for_us_is_not_the_one_that_is_slow(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(header_timeout=2, keep_alive=2)
    data = video_bytes(300_000)
    running.video(data)
    may_open = threading.Event()
    opening = VideoReception.open

    def slow(self: Any) -> None:
        assert may_open.wait(20)
        opening(self)

    monkeypatch.setattr(VideoReception, "open", slow)
    fields = {"Content-Type": "video/mp4", "Content-Length": str(len(data)), "Expect": "100-continue"}
    eventually(lambda: not running.listener.active_channels, "nobody else is connected")
    with running.wire() as wire:
        wire.request("POST", "/api/videos", running.api.headers | fields)
        eventually(lambda: len(running.listener.active_channels) == 1, "it is connected")
        [channel] = running.listener.active_channels.values()
        eventually(lambda: channel.request is not None, "its head has come")
        channel.request.began -= 60
        channel._last_activity -= 60
        channel.request.large_body._busy_since -= 60
        assert channel.deadline() > running.listener.now()
        may_open.set()
        assert wire.head().status == 100
        assert channel.deadline() > running.listener.now()
        wire.send(data)
        assert wire.answer().status == 201


def _application(status: str, fields: list[tuple[str, str]], chunks: list[bytes]) -> Any:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, fields)
        return chunks

    return application


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_of_unknown_length_ends_with_its_connection(run: Run, version: str) -> None:
    running = run()
    running.listener.application = _application("200 OK", [("x-kind", "any")], [b"one", b"", b"two"])
    with running.wire() as wire:
        wire.send(f"GET / HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())
        head = wire.head()
        assert (head.headers["connection"], head.headers["x-kind"]) == ("close", "any")
        assert head.headers.get("transfer-encoding") == ("chunked" if version == "1.1" else None)
        body = wire.read(MIB)
    assert body == (b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" if version == "1.1" else b"onetwo")


def test_an_answer_in_one_piece_gets_its_length(run: Run) -> None:
    running = run()
    running.listener.application = _application("200 OK", [], [b"whole"])
    with running.wire() as wire:
        for _ in range(2):
            wire.send(HEALTH)
            assert wire.answer().body == b"whole"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_has_no_length(run: Run, status: str) -> None:
    running = run()
    dated = [("Content-Length", "5"), ("Date", "Sat, 21 Nov 2026 12:00:00 GMT")]
    running.listener.application = _application(status, dated, [])
    with running.wire() as wire:
        for _ in range(2):
            wire.send(HEALTH)
            answer = wire.answer()
            assert answer.status == int(status[:3])
            assert "content-length" not in answer.headers
            assert answer.headers["date"] == dated[1][1]
