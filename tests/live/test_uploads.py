"""Uploads by real clients, clients that leave, and clients that send what they should not."""

import os
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.harness import (
    MIB,
    PROBLEM,
    Answer,
    Background,
    Server,
    eventually,
    needs_proc,
    sha256,
    stream_path,
)

Program = Callable[[str], str]

LIMIT = 2 * MIB
GIB = int(os.environ.get("STREAMER_TEST_UPLOAD_GIB", "0"))
BIG_BYTES = GIB * 1024 * MIB or 300 * MIB
GROWTH_BYTES = 16 * MIB


@pytest.fixture
def limited(start_server: StartServer) -> Server:
    """A server that takes videos of no more than 2 MiB."""
    return start_server(STREAMER_MAX_UPLOAD_BYTES=str(LIMIT))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A file that is too large for waitress to keep in memory."""
    path = tmp_path / "clip of mine.mp4"
    path.write_bytes(video_bytes(8 * MIB, seed=8))
    return path


class Curl:
    """Runs curl against a server; tells status and body, and what was on the wire."""

    def __init__(self, executable: str, server: Server, environment: dict[str, str]) -> None:
        self._command = [executable, "--silent", "--show-error", "--verbose", "--max-time", "60"]
        self._command += ["--header", f"Authorization: Bearer {server.api.token}"]
        self._environment = environment
        self.url = f"{server.url}/api/videos"

    def run(self, *arguments: str, url: str = "") -> tuple[int, bytes, str]:
        command = [*self._command, "--write-out", "\n%{http_code}", *arguments, url or self.url]
        done = subprocess.run(command, capture_output=True, env=self._environment, check=False)
        trace = done.stderr.decode(errors="replace")
        assert done.returncode == 0, trace
        body, _, status = done.stdout.rpartition(b"\n")
        return int(status), body, trace


@pytest.fixture
def curl(program: Program, clean_environment: dict[str, str]) -> Callable[[Server], Curl]:
    """Makes a curl that is signed in at a server."""
    executable = program("curl")
    return lambda server: Curl(executable, server, clean_environment)


def _form(data: bytes) -> tuple[bytes, bytes]:
    """What stands before and after a file in a form."""
    head = (
        b'--edge\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n'
        b"Content-Type: video/mp4\r\n\r\n"
    )
    return head + data, b"\r\n--edge--\r\n"


def _fields(server: Server, length: int, **more: str) -> dict[str, str]:
    return server.api.headers | {"Content-Type": "video/mp4", "Content-Length": str(length)} | more


def test_curl_uploads_a_form(server: Server, curl: Callable[[Server], Curl], clip: Path) -> None:
    status, body, _ = curl(server).run("--form", f"video=@{clip}", "--form", "title=Süß")
    assert status == 201, body
    video = server.api.get("/api/videos").json["data"][0]
    assert (video["title"], video["filename"], video["size"]) == ("Süß", clip.name, 8 * MIB)
    assert server.api.download(video["id"]) == clip.read_bytes()
    server.assert_consistent()


@pytest.mark.parametrize("how", ["--upload-file", "--data-binary"])
def test_curl_uploads_raw_bytes_after_100_continue(
    server: Server, curl: Callable[[Server], Curl], clip: Path, how: str
) -> None:
    source = str(clip) if how == "--upload-file" else f"@{clip}"
    fields = ["--header", "Content-Type: video/mp4", "--header", "Expect: 100-continue"]
    status, body, trace = curl(server).run("--request", "POST", how, source, *fields)
    assert status == 201, body
    assert "100 Continue" in trace
    [video_id] = server.api.video_ids()
    assert server.api.download(video_id) == clip.read_bytes()


def test_three_uploads_at_once_are_kept_apart(server: Server) -> None:
    videos = [video_bytes(8 * MIB, seed=seed) for seed in range(3)]
    uploads = [Background(lambda data=data: server.api.upload(data)) for data in videos]
    ids = [upload.outcome() for upload in uploads]
    assert [sha256(server.api.download(video_id)) for video_id in ids] == [sha256(data) for data in videos]
    server.assert_consistent()


@needs_proc
@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("kind", ["raw", "form"])
def test_a_client_that_vanishes_leaves_nothing(server: Server, kind: str, how: str) -> None:
    data = video_bytes(6 * MIB)
    head, tail = _form(data) if kind == "form" else (data, b"")
    more = {"Content-Type": "multipart/form-data; boundary=edge"} if kind == "form" else {}
    for sent in (0, 100_000, 2 * MIB, len(head) - 1):
        with server.wire() as wire:
            wire.request("POST", "/api/videos", _fields(server, len(head) + len(tail), **more))
            wire.send(head[:sent])
            eventually(lambda: server.incoming() != [], "the body is on its way into a file")
            if how == "reset":
                wire.reset()
        eventually(lambda: server.incoming() == [], "its file is gone")
    told = re.findall("a body was cut off: method=POST path=/api/videos length=([0-9]+)", server.log)
    assert told == [str(len(head) + len(tail))] * 4
    assert server.api.video_ids() == []
    server.assert_consistent()


@needs_proc
@pytest.mark.parametrize(
    ("begin", "status", "code"),
    [
        (
            b'--edge\r\nContent-Disposition: form-data; name="title"\r\n\r\n' + b"x" * 60_000,
            422,
            "invalid_input",
        ),
        (b"a preamble " * 30_000, 400, "malformed_multipart"),
    ],
    ids=["a title", "a preamble"],
)
def test_a_form_is_refused_by_what_stands_before_its_video(
    server: Server, begin: bytes, status: int, code: str
) -> None:
    head, _ = _form(video_bytes(MIB))
    with server.wire() as wire:
        fields = {"Content-Type": "multipart/form-data; boundary=edge"}
        wire.request("POST", "/api/videos", _fields(server, 50 * MIB, **fields))
        wire.send(begin + b"\r\n" + head)
        wire.answer().assert_problem(status, code)
    eventually(lambda: server.incoming() == [], "nothing is left of it")


@needs_proc
def test_a_body_is_in_no_file_but_the_one_that_becomes_the_video(server: Server) -> None:
    data = video_bytes(6 * MIB)
    with server.wire() as wire:
        wire.request("POST", "/api/videos", _fields(server, len(data)))
        wire.send(data[: 4 * MIB])
        eventually(lambda: [path.stat().st_size for path in server.incoming()] == [4 * MIB], "it has come")
        [staged] = server.incoming()
        files = [name for name in server.descriptors() if name.startswith("/") and "/dev/" not in name]
        others = [name for name in files if not name.startswith(f"{server.data}/streamer.db")]
        assert sorted(others) == sorted([str(server.log_path), str(staged)])
        wire.send(data[4 * MIB :])
        assert wire.answer().status == 201
    assert [path.name for path in (server.data / "videos").iterdir()] == [staged.name]


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 20 * MIB], ids=["just over", "far over"])
@pytest.mark.parametrize("kind", ["raw", "form"])
def test_a_client_that_goes_on_sending_too_much_still_reads_the_413(
    limited: Server, kind: str, size: int
) -> None:
    data = video_bytes(size)
    head, tail = _form(data) if kind == "form" else (data, b"")
    more = {"Content-Type": "multipart/form-data; boundary=edge"} if kind == "form" else {}
    for _ in range(5):  # a reset may overtake the answer, or not
        with limited.wire() as wire:
            wire.request("POST", "/api/videos", _fields(limited, len(head) + len(tail), **more))
            for first in range(0, len(head), MIB):
                wire.send(head[first : first + MIB])
            wire.send(tail)
            wire.answer().assert_problem(413, "body_too_large")
    limited.assert_consistent()
    assert limited.api.video_ids() == []


def test_a_video_of_exactly_the_limit_is_taken(limited: Server) -> None:
    data = video_bytes(LIMIT)
    assert limited.api.download(limited.api.upload(data)) == data
    head, tail = _form(data)
    fields = {"Content-Type": "multipart/form-data; boundary=edge"}
    answer = limited.api.request("POST", "/api/videos", head + tail, fields)
    assert answer.status == 201, answer


@pytest.mark.parametrize("expect", ["100-continue", ""], ids=["waits for 100", "sends at once"])
def test_curl_reads_the_413(
    limited: Server, curl: Callable[[Server], Curl], tmp_path: Path, expect: str
) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(video_bytes(40 * MIB))
    fields = ["--header", f"Expect: {expect}", "--header", "Content-Type: video/mp4"]
    for how in (["--data-binary", f"@{large}"], ["--form", f"video=@{large}"]):
        arguments = [*how, *(fields if "--data-binary" in how else fields[:2])]
        status, body, trace = curl(limited).run(*arguments)
        assert status == 413, trace
        assert b'"code": "body_too_large"' in body
    assert limited.api.get("/health").status == 200


def test_a_413_says_the_limit(limited: Server) -> None:
    for size in (LIMIT + 1, LIMIT + 20 * MIB):
        with limited.wire() as wire:
            wire.request("POST", "/api/videos", _fields(limited, size))
            if size == LIMIT + 1:  # it is the application that refuses this one, after the body
                wire.send(video_bytes(size))
            answer = wire.answer()
        answer.assert_problem(413, "body_too_large")
        assert str(LIMIT) in answer.json["detail"]
        assert answer.json["limit"] == LIMIT


def _head(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


POST = b"POST /api/auth/login HTTP/1.1"
JSON = b"Content-Type: application/json"
CHUNKED = _head(POST, b"Host: a", JSON, b"Transfer-Encoding: chunked")
GARBAGE = {
    "no http": (_head(b"hello, is there anybody?"), 400),
    "no colon": (_head(b"GET /health HTTP/1.1", b"no colon"), 400),
    "lower case method": (_head(b"get /health HTTP/1.1", b"Host: a"), 400),
    "bare newline": (_head(b"GET /health HTTP/1.1", b"Host: a\nX: b"), 400),
    "binary": (_head(bytes(range(256))), 400),
    "tls": (_head(bytes.fromhex("16030100a5010000a10303") + bytes(154)), 400),
    "uri that is no uri": (_head(b"GET http://[::1/ HTTP/1.1", b"Host: a"), 400),
    "host that is no host": (_head(b"GET /health HTTP/1.1", b"Host: a, b"), 400),
    "huge header": (_head(b"GET /health HTTP/1.1", b"Host: a", b"X: " + b"x" * 300_000), 431),
    "huge request line": (_head(b"GET /" + b"x" * 300_000 + b" HTTP/1.1", b"Host: a"), 431),
    "length is a word": (_head(POST, b"Host: a", b"Content-Length: many"), 400),
    "length is negative": (_head(POST, b"Host: a", b"Content-Length: -1"), 400),
    "two lengths": (_head(POST, b"Host: a", b"Content-Length: 1", b"Content-Length: 2"), 400),
    "length of 20 digits": (_head(POST, b"Host: a", JSON, b"Content-Length: " + b"9" * 20), 413),
    "length of 5000 digits": (_head(POST, b"Host: a", b"Content-Length: " + b"9" * 5000), 400),
    "chunk size is a word": (CHUNKED + b"many\r\nbytes\r\n0\r\n\r\n", 400),
    "chunk without end": (CHUNKED + b"2\r\nbytes\r\n0\r\n\r\n", 400),
    "unknown coding": (_head(POST, b"Host: a", b"Transfer-Encoding: gzip"), 501),
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_gets_a_problem_document(shared: Server, garbage: str) -> None:
    request, status = GARBAGE[garbage]
    with shared.wire() as wire:
        wire.send(request)
        answer = wire.answer()
        assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM)
        assert answer.json["status"] == status
        assert answer.json["code"]
    assert shared.api.get("/health").status == 200


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_refusal_of_the_server_itself_has_an_id_that_is_in_the_log(shared: Server, garbage: str) -> None:
    with shared.wire() as wire:
        wire.send(GARBAGE[garbage][0])
        request_id = wire.answer().headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", request_id)
    eventually(lambda: request_id in shared.log, "the refusal is logged under its id")
    assert len([line for line in shared.log.splitlines() if request_id in line]) == 1


@pytest.mark.parametrize("target", ["/é", "/films?q=naïve"])
@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_a_target_beyond_ascii_is_told_to_percent_encode(shared: Server, target: str, charset: str) -> None:
    with shared.wire() as wire:
        wire.send(_head(b"GET " + target.encode(charset) + b" HTTP/1.1", b"Host: a"))
        answer = wire.answer()
    answer.assert_problem(400, "bad_request")
    assert "percent-encode" in answer.json["detail"]


@pytest.fixture(scope="module")
def shared(start_shared_server: StartServer) -> Server:
    """One server for all the garbage: each request shows that it has survived the one before."""
    return start_shared_server()


def test_clients_that_send_garbage_and_vanish_are_no_error(server: Server) -> None:
    chance = random.Random(300)
    for number in range(600):
        with server.wire() as wire:
            wire.send(GARBAGE["no http"][0])
            time.sleep(chance.uniform(0, 0.001))  # before, while or after it writes its answer
            if number % 4:
                wire.reset()
    assert server.api.get("/health").status == 200
    # and that the log has no traceback is asserted when the server stops


def test_a_chunked_upload_is_asked_for_its_length_or_taken_whole(shared: Server) -> None:
    data = video_bytes(MIB)
    chunks = [data[first : first + 70_000] for first in range(0, len(data), 70_000)]
    answer = shared.api.request("POST", "/api/videos", iter(chunks), {"Content-Type": "video/mp4"})
    if answer.status != 411:
        assert answer.status == 201, answer
        assert shared.api.download(answer.json["id"]) == data


def test_a_cut_chunked_upload_makes_no_video(server: Server) -> None:
    with server.wire() as wire:
        fields = {"Content-Type": "video/mp4", "Transfer-Encoding": "chunked"}
        wire.request("POST", "/api/videos", server.api.headers | fields)
        wire.send(b"%x\r\n" % MIB + video_bytes(MIB) + b"\r\n")
    assert server.api.get("/health").status == 200
    assert server.api.video_ids() == []
    server.assert_consistent()


@needs_proc
@pytest.mark.parametrize("kind", ["raw", "form"])
def test_memory_stays_flat_while_a_large_video_is_uploaded(start_server: StartServer, kind: str) -> None:
    server = start_server(measured=True)
    server.api.video_ids()
    before = server.memory("VmRSS")
    head, tail = _form(b"") if kind == "form" else (b"", b"")
    fields = _fields(server, len(head) + BIG_BYTES + len(tail))
    if kind == "form":
        fields["Content-Type"] = "multipart/form-data; boundary=edge"
    with server.wire(timeout=600) as wire:
        wire.request("POST", "/api/videos", fields)
        wire.send(head)
        for block in _blocks(BIG_BYTES):
            wire.send(block)
        wire.send(tail)
        answer = wire.answer()
    assert answer.status == 201, answer
    assert answer.json["size"] == BIG_BYTES
    growth = server.memory("VmHWM") - before
    print(f"{kind}: {BIG_BYTES / MIB:.0f} MiB uploaded, RSS {before / MIB:.1f} MiB + {growth / MIB:.1f} MiB")  # noqa: T201
    assert growth < GROWTH_BYTES, f"{growth / MIB:.1f} MiB"
    assert re.search(
        r"sha-256=:[\w+/]{43}=:", server.api.request("HEAD", _stream_of(answer)).headers["repr-digest"]
    )


def _stream_of(answer: Answer) -> str:
    return stream_path(answer.json["id"])


def _blocks(size: int) -> Iterator[bytes]:
    """A video of so many bytes, a multiple of one MiB, without holding it in memory."""
    block = video_bytes(MIB)
    for _ in range(size // MIB):
        yield block
