"""The program itself: how it starts, says so, shares a folder, and ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import streamer
from tests.helpers import video_bytes
from tests.live.conftest import StartServer, Template
from tests.live.harness import (
    MIB,
    ROOT,
    Answer,
    Api,
    Background,
    Server,
    needs_proc,
    paused_while_staging,
    require,
    stream_path,
)

IDLE_BYTES = 60 * MIB
PATIENCE_SECONDS = 120  # of a socket while the machine is at work; nothing here is about speed


def _run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "streamer", *arguments],
        cwd=ROOT,
        env=_environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _environment(**settings: str) -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("STREAMER_")} | settings


def test_the_ready_line_tells_version_and_url(server: Server) -> None:
    assert (
        server.ready_line == f"streamer {streamer.__version__} is ready at http://127.0.0.1:{server.port}\n"
    )
    assert server.api.get("/health").json["status"] == "ok"


def test_an_empty_folder_is_all_it_needs(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(data=tmp_path / "new" / "folder")
    api = server.api
    api.token = ""
    video_id = api.sign_up("somebody").upload(video_bytes(1000))
    assert api.download(video_id) == video_bytes(1000)
    for private in ("", "streamer.db", "secret.key", "videos", "incoming"):
        assert (server.data / private).stat().st_mode & 0o077 == 0, f"others may look into {private}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_while_a_film_is_watched(
    start_server: StartServer, film: bytes, number: signal.Signals
) -> None:
    server = start_server(STREAMER_GRACE="1")
    video_id = server.api.upload(film)
    with server.wire(receive_buffer=128 * 1024) as viewer:
        viewer.request("GET", stream_path(video_id), server.api.headers)
        assert viewer.head().status == 200
        server.stop(number)  # asserts status 0
    assert server.start().api.download(video_id) == film


def test_a_signal_in_the_middle_of_an_upload_leaves_nothing(start_server: StartServer) -> None:
    server = start_server(STREAMER_GRACE="1")
    with server.wire() as wire:
        fields = {"Content-Type": "video/mp4", "Content-Length": str(8 * MIB)}
        wire.request("POST", "/api/videos", server.api.headers | fields)
        wire.send(video_bytes(4 * MIB))
        server.restart()
    assert server.api.video_ids() == []
    server.assert_consistent()


def test_a_port_in_use_ends_it_with_status_1_and_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run("serve", "--port", str(port), "--data", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]  # it says what it migrated
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("streamer: ")
    assert str(port) in lines[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("STREAMER_PORT", "eighty"),
        ("STREAMER_THREADS", "0"),
        ("STREAMER_MAX_UPLOAD_BYTES", "20GB"),
        ("STREAMER_REGISTRATION", "maybe"),
        ("STREAMER_LOG_FORMAT", "xml"),
        ("STREAMER_TRUSTED_PROXIES", "nginx"),
        ("STREAMER_PUBLIC_URL", "video.example.org"),
    ],
)
def test_a_wrong_setting_ends_it_with_status_2_and_one_line(tmp_path: Path, name: str, text: str) -> None:
    done = _run("serve", "--data", str(tmp_path / "data"), **{name: text})
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert name in line
    assert text in line
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_a_file_ends_it_with_status_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    done = _run("serve", "--port", "0", "--data", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert f"STREAMER_DATA='{tmp_path / 'data'}': want a folder" in line


def test_the_log_can_be_json_lines(start_server: StartServer) -> None:
    server = start_server(STREAMER_LOG_FORMAT="json")
    video_id = server.api.upload(video_bytes(1000))
    server.api.get(stream_path(video_id), {"Range": "bytes=0-9", "X-Request-Id": "mine"})
    with server.wire() as wire:
        wire.send(b"garbage\r\n\r\n")
        wire.answer()
    server.stop()
    events = [json.loads(line) for line in server.log.splitlines()]
    [event] = [event for event in events if event["request_id"] == "mine"]
    assert (
        event
        | {
            "method": "GET",
            "path": stream_path(video_id),
            "status": 206,
            "bytes": 10,
            "user": "keeper",
            "address": "127.0.0.1",
            "level": "INFO",
        }
        == event
    )
    assert server.api.token not in server.log


def test_each_request_has_one_line_in_the_log(server: Server) -> None:
    server.api.get("/health")
    server.api.get("/nowhere")
    server.api.request("HEAD", "/health")
    server.stop()
    lines = [(line.method, line.path, line.status) for line in server.logged()]
    assert lines == [("GET", "/health", 200), ("GET", "/nowhere", 404), ("HEAD", "/health", 200)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_links_for_a_client_that_names_no_host_lead_to_the_listening_address(
    start_server: StartServer, host: str
) -> None:
    require(host != "::1" or _has_ipv6(), "this machine has no IPv6: enable it on the loopback interface")
    server = start_server(host=host)
    with server.wire() as wire:
        wire.send(b"GET / HTTP/1.0\r\n\r\n")
        links = wire.answer().json["links"]
    shown = f"[{host}]" if ":" in host else host
    assert links["health"] == f"http://{shown}:{server.port}/health"


def _attempt_a_login(server: Server, number: int) -> Answer:
    return Api(server.address, "").post_json(
        "/api/auth/login", {"username": f"user{number % 3}", "password": "a wrong password"}
    )


def test_a_storm_of_logins_leaves_the_others_their_answers(server: Server) -> None:
    data = video_bytes(MIB)
    path = stream_path(server.api.upload(data))
    attempts = [
        Background(lambda number=number: _attempt_a_login(server, number))  # type: ignore[misc]
        for number in range(60)
    ]
    for first in range(0, 100, 10):
        assert server.api.get("/health", timeout=PATIENCE_SECONDS).status == 200
        part = server.api.get(path, {"Range": f"bytes={first}-{first + 9}"}, timeout=PATIENCE_SECONDS)
        assert (part.status, part.body) == (206, data[first : first + 10])
    answers = [attempt.outcome() for attempt in attempts]
    assert 401 in {answer.status for answer in answers}
    for answer in answers:
        assert answer.status in {401, 429, 503}
        assert ("retry-after" in answer.headers) == (answer.status != 401)
    assert server.api.get("/api/auth/me").status == 200


def test_two_servers_share_a_folder(start_server: StartServer) -> None:
    one = start_server()
    other = start_server(data=one.data)
    assert one.port != other.port
    videos = [video_bytes(MIB, seed=seed) for seed in range(6)]
    uploads = [
        Background(lambda data=data, server=server: server.api.upload(data))
        for data, server in zip(videos, [one, other] * 3, strict=True)
    ]
    ids = [upload.outcome() for upload in uploads]
    for video_id, data in zip(ids, videos, strict=True):
        assert one.api.download(video_id) == other.api.download(video_id) == data
    for video_id in ids[:3]:
        assert other.api.delete(video_id).status == 204
        assert one.api.get(stream_path(video_id)).status == 404
    one.assert_consistent()


@needs_proc
def test_a_start_leaves_alone_what_another_server_is_storing(start_server: StartServer) -> None:
    one = start_server()
    data = video_bytes(16 * MIB)
    with paused_while_staging(one, data) as (upload, staged):
        other = start_server(data=one.data)
        assert staged.exists(), "it was taken for abandoned"
    answer = upload.outcome()
    assert answer.status == 201
    assert other.api.download(answer.json["id"]) == data
    one.assert_consistent()


def test_a_start_removes_what_a_dead_server_was_storing(server: Server) -> None:
    with paused_while_staging(server, video_bytes(16 * MIB)) as (upload, staged):
        server.kill()
        assert staged.exists()
        server.start()
        assert not staged.exists()
        with pytest.raises(ConnectionError):
            upload.outcome()
    server.assert_consistent()


@needs_proc
def test_an_idle_server_is_small(start_server: StartServer) -> None:
    server = start_server(measured=True)
    server.api.get("/health")
    server.api.video_ids()
    size = server.memory("VmRSS")
    print(f"idle: RSS {size / MIB:.1f} MiB")  # noqa: T201
    assert size < IDLE_BYTES, f"{size / MIB:.1f} MiB"


def test_the_first_health_check_after_the_ready_line_is_answered(
    template: Template, start_server: StartServer
) -> None:
    for _ in range(3):
        began = time.monotonic()
        server = start_server(measured=True)
        assert server.api.get("/health").status == 200
        print(f"start to the first answer: {time.monotonic() - began:.2f} s")  # noqa: T201


def test_the_module_and_the_console_script_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("streamer")
    require(script.exists(), "install the package (pip install -e .) to run this test")
    printed = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert printed == _run("--version").stdout == f"streamer {streamer.__version__}\n"


def test_it_listens_on_ipv6_and_writes_the_address_with_brackets(start_server: StartServer) -> None:
    require(_has_ipv6(), "needs the IPv6 loopback address ::1")
    server = start_server(host="::1")
    assert re.fullmatch(r"http://\[::1\]:\d+", server.url)
    assert server.api.get("/health").status == 200
    links = server.api.get("/").json["links"]
    assert links["health"] == f"{server.url}/health"


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
