"""The files of ``deploy/``: real servers run with them, and clients see what the README promises."""

import contextlib
import http.client
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.fronts import NAME, Front, make_certificate, running
from tests.live.harness import (
    MIB,
    TIMEOUT_SECONDS,
    Server,
    eventually,
    needs_proc,
    sha256,
    stream_path,
)

LIMIT = 32 * MIB
CLIENT = "127.0.0.2"  # not the address of the front itself
SPOOFED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
}


@pytest.fixture(scope="module", params=["nginx", "apache2", "caddy", "lighttpd"])
def front(
    request: pytest.FixtureRequest, start_shared_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp(request.param)
    server = start_shared_server(STREAMER_TRUSTED_PROXIES="127.0.0.1", STREAMER_MAX_UPLOAD_BYTES=str(LIMIT))
    with running(request.param, folder / "front", server, make_certificate(folder)) as started:
        yield started


@pytest.fixture
def server(front: Front) -> Server:
    return front.upstream


def test_a_visitor_signs_up_uploads_seeks_and_deletes(front: Front) -> None:
    api = front.api("").sign_up(f"visitor-{front.port}")
    data = video_bytes(3 * MIB, seed=3)  # more than nginx takes by default
    answer = api.send_video(data, len(data), "?title=Holiday")
    assert answer.status == 201
    video = answer.json
    address = f"{front.url}/api/videos/{video['id']}"
    links = {"self": "", "stream": "/stream", "poster": "/poster.svg"}
    assert video["links"] == {name: address + path for name, path in links.items()}
    assert answer.headers["location"] == address
    assert sha256(api.download(video["id"])) == sha256(data)
    part = api.get(stream_path(video["id"]), {"Range": "bytes=1000000-1000099"})
    assert (part.status, part.body) == (206, data[1_000_000:1_000_100])
    assert part.headers["content-range"] == f"bytes 1000000-1000099/{len(data)}"
    several = api.get(stream_path(video["id"]), {"Range": "bytes=0-9,-10"})
    assert several.headers["content-type"].startswith("multipart/byteranges")
    etag = {"If-None-Match": part.headers["etag"]}
    assert api.get(stream_path(video["id"]), etag).status == 304
    assert api.delete(video["id"]).status == 204


def test_links_and_addresses_are_those_of_the_client_whatever_it_pretends(
    front: Front, server: Server
) -> None:
    connection = front.connect()
    connection.source_address = (CLIENT, 0)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers=SPOOFED)
        links = json.load(connection.getresponse())["links"]
    assert links["videos"] == f"{front.url}/api/videos"
    assert f"address={CLIENT} " in server.log.splitlines()[-1]


def test_plain_http_leads_to_https(front: Front) -> None:
    connection = http.client.HTTPConnection(NAME, front.plain_port, timeout=TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/api/videos?page=2", headers={"Host": NAME})
        response = connection.getresponse()
        response.read()
    assert response.status in {301, 308}
    # the port of this test is known to Caddy alone
    target = (response.getheader("Location") or "").replace(f":{front.port}", "")
    assert target == f"https://{NAME}/api/videos?page=2"


def test_an_upload_goes_on_after_its_client_was_cut(front: Front) -> None:
    data = video_bytes(8 * MIB, seed=8)
    api, tus = front.api(), {"Tus-Resumable": "1.0.0"}
    created = api.request("POST", "/api/uploads", None, tus | {"Upload-Length": str(len(data))})
    assert created.status == 201, created
    location = created.headers["location"]
    assert location.startswith(f"{front.url}/api/uploads/")
    path = location.removeprefix(front.url)
    append = tus | {"Content-Type": "application/offset+octet-stream"}
    connection = front.connect()
    connection.putrequest("PATCH", path)
    for name, value in (api.headers | append | {"Upload-Offset": "0"}).items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[: 3 * MIB])
    # a front may hold back the last bytes, until more of them come
    eventually(lambda: api.get(path).json["received"] > 2 * MIB, "they have come")
    connection.close()
    offsets: list[int] = []

    def is_released() -> bool:
        offsets.append(int(api.request("HEAD", path, None, tus).headers["upload-offset"]))
        return offsets[-1] > 2 * MIB

    eventually(is_released, "what has come counts")
    rest = append | {"Upload-Offset": str(offsets[-1])}
    answer = api.request("PATCH", path, data[offsets[-1] :], rest)
    assert answer.status == 204, answer
    video_id = int(answer.headers["video-location"].rpartition("/")[2])
    assert sha256(api.download(video_id)) == sha256(data)
    assert api.delete(video_id).status == 204


def begin_upload(front: Front, size: int) -> http.client.HTTPSConnection:
    connection = front.connect()
    connection.putrequest("POST", "/api/videos")
    for name, value in (front.api().headers | {"Content-Type": "video/mp4"}).items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    return connection


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_what_is_too_large_is_refused_by_the_application(
    front: Front, program: Callable[[str], str], tmp_path: Path, version: str
) -> None:
    film = tmp_path / "film.mp4"
    film.touch()
    os.truncate(film, LIMIT + 8 * MIB)
    command = [
        program("curl"),
        "-sS",
        version,
        "-m",
        "60",
        "-X",
        "POST",
        "-T",
        str(film),
        f"{front.url}/api/videos",
    ]
    command += ["--cacert", str(front.certificate.certificate), "-w", "%{stderr}%{http_code}"]
    headers = front.api().headers | {"Content-Type": "video/mp4"}
    command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    for _ in range(10):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if not result.returncode:
            break
        # they ask for the body, pass our 413 on, and soon after end who still sends: a client that was
        # busy sending has lost the answer
        assert front.program in {"caddy", "lighttpd"}, result
        assert re.match(r"(413)?curl: \((18|55|56|92)\)", result.stderr), result
    assert (result.stderr, json.loads(result.stdout)["limit"]) == ("413", LIMIT)


def received_bytes(server: Server) -> int:
    """The size of the largest file that the server has open."""
    sizes = [0]
    for entry in os.scandir(f"/proc/{server.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(os.stat(entry.path).st_size)
    return max(sizes)


@needs_proc
def test_an_upload_passes_through_and_is_not_stored_on_the_way(front: Front, server: Server) -> None:
    data = video_bytes(16 * MIB, seed=16)
    with contextlib.closing(begin_upload(front, len(data))) as connection:
        connection.send(data[: 12 * MIB])
        eventually(lambda: received_bytes(server) >= 8 * MIB, "the application has what was sent")
        connection.send(data[12 * MIB :])
        assert connection.getresponse().status == 201
