"""Uploads that can be resumed, on a real server: clients that vanish, servers that die, disks that fill."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer, Template
from tests.live.disks import data_on_disk, free_bytes
from tests.live.harness import MIB, Answer, Api, Server, Wire, eventually, needs_proc

TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_STREAM = {"Content-Type": "application/offset+octet-stream"}
JSON = {"Content-Type": "application/json"}


def create(api: Api, length: int, **fields: str) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return api.request("POST", "/api/uploads", None, {**TUS, "Upload-Length": str(length), **headers})


def created(api: Api, length: int, **fields: str) -> str:
    answer = create(api, length, **fields)
    assert answer.status == 201, answer
    return urlsplit(answer.headers["location"]).path


def append(api: Api, path: str, offset: int, data: bytes) -> Answer:
    return api.request("PATCH", path, data, {**TUS, **OFFSET_STREAM, "Upload-Offset": str(offset)})


def head(api: Api, path: str) -> Answer:
    answer = api.request("HEAD", path, None, TUS)
    assert answer.status == 200, answer
    return answer


def offset_of(api: Api, path: str) -> int:
    return int(head(api, path).headers["upload-offset"])


def begin_append(server: Server, path: str, offset: int, length: int, **fields: str) -> Wire:
    """Send the head of a PATCH."""
    wire = server.wire()
    more = {"Upload-Offset": str(offset), "Content-Length": str(length), **OFFSET_STREAM, **TUS}
    wire.request("PATCH", path, server.api.headers | more | fields)
    return wire


def received(server: Server, path: str) -> int:
    return int(server.api.get(path).json["received"])


def written_bytes(server: Server) -> int:
    """What the process has sent to the disk, so far."""
    counts = dict(line.split(": ") for line in Path(f"/proc/{server.pid}/io").read_text().splitlines())
    return int(counts["write_bytes"])


# --- clients


@pytest.mark.parametrize("leave", [Wire.reset, Wire.close], ids=["reset", "end"])
def test_what_a_client_sent_before_it_vanished_is_kept(server: Server, film: bytes, leave: object) -> None:
    path = created(server.api, len(film))
    wire = begin_append(server, path, 0, len(film))
    wire.send(film[: 5 * MIB + 17])
    eventually(lambda: received(server, path) == 5 * MIB + 17, "all that was sent has come")
    leave(wire)  # type: ignore[operator]
    eventually(lambda: offset_of(server.api, path) == 5 * MIB + 17, "all that has come counts")
    answer = append(server.api, path, 5 * MIB + 17, film[5 * MIB + 17 :])
    assert answer.status == 204, answer
    assert server.api.download(int(answer.headers["video-location"].rpartition("/")[2])) == film


def test_progress_is_seen_while_the_bytes_come(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    with begin_append(server, path, 0, len(film)) as wire:
        seen = set()
        for first in range(0, 6 * MIB, MIB):
            wire.send(film[first : first + MIB])
            eventually(lambda stop=first + MIB: received(server, path) >= stop, "it has come")  # type: ignore[misc]
            progress = server.api.get(path)
            assert progress.headers["retry-after"] == "1"
            seen.add(progress.json["received"])
        assert len(seen) == 6


def test_a_second_request_is_told_at_once_that_the_upload_is_held(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    with begin_append(server, path, 0, len(film)) as wire:
        wire.send(film[:MIB])
        eventually(lambda: received(server, path) == MIB, "it has come")
        append(server.api, path, 0, film).assert_problem(423, "upload_locked")
        assert offset_of(server.api, path) == 0
        wire.send(film[MIB:])
        assert wire.answer().status == 204


def test_a_client_that_comes_back_does_not_wait_for_its_own_ghost(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    with begin_append(server, path, 0, len(film)) as ghost:
        ghost.send(film[:MIB])
        # the connection stays open: nobody tells the server that the phone has changed its network
        eventually(lambda: offset_of(server.api, path) == MIB, "the server lets go of it")
        assert append(server.api, path, MIB, film[MIB:]).status == 204


def test_a_drip_of_bytes_reaches_the_disk_now_and_then(server: Server) -> None:
    data = video_bytes(200_000)
    path = created(server.api, len(data))
    with begin_append(server, path, 0, len(data)) as wire:
        began = time.monotonic()
        for first in range(0, len(data), 2000):
            wire.send(data[first : first + 2000])
            if server.api.get(path).json["offset"]:
                break
            time.sleep(0.1)
        assert 0 < server.api.get(path).json["offset"] < len(data)
        assert time.monotonic() - began > 3, "not for every piece"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"Authorization": "Bearer x"}, 401, "not_authenticated"),
        ({"Tus-Resumable": "0.1"}, 412, "unsupported_tus_version"),
        ({"Content-Type": "video/mp4"}, 415, "unsupported_media_type"),
        ({"Content-Length": str(2**60)}, 413, "body_too_large"),
        ({"Content-Length": str(30 * 2**20 + 1)}, 413, "body_too_large"),
        ({"Upload-Offset": "1"}, 409, "offset_mismatch"),
        ({"Upload-Offset": "x"}, 400, "bad_upload_field"),
    ],
)
@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["at once", "expecting"])
def test_what_will_not_be_kept_is_refused_before_it_is_sent(
    start_server: StartServer, change: dict[str, str], status: int, code: str, expect: dict[str, str]
) -> None:
    server = start_server()
    path = created(server.api, 30 * MIB)
    fields = {"Upload-Offset": "0", "Content-Length": str(30 * MIB), **OFFSET_STREAM, **TUS}
    with server.wire() as wire:
        wire.request("PATCH", path, server.api.headers | fields | change | expect)
        wire.answer().assert_problem(status, code)  # no byte of the body has left
        assert wire.is_closed_by_server()
    assert offset_of(server.api, path) == 0


def test_a_refused_client_that_goes_on_sending_reads_the_answer(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    append(server.api, path, 5, film[: 20 * MIB]).assert_problem(409, "offset_mismatch")


# --- bodies in chunks, as the client for Android sends them

CHUNKED = {"Transfer-Encoding": "chunked"}


def chunks(data: bytes, size: int = 70_000) -> Iterator[bytes]:
    for first in range(0, len(data), size):
        yield data[first : first + size]


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def begin_chunked(server: Server, path: str, offset: int = 0, **fields: str) -> Wire:
    """Send the head of a PATCH whose length is not known."""
    wire = server.wire()
    more = {"Upload-Offset": str(offset), **CHUNKED, **OFFSET_STREAM, **TUS}
    wire.request("PATCH", path, server.api.headers | more | fields)
    return wire


def test_a_body_in_chunks_goes_up(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    fields = {**TUS, **OFFSET_STREAM}
    for first, last in ((0, 100), (100, 20 * MIB), (20 * MIB, len(film))):
        body = chunks(film[first:last])
        answer = server.api.request("PATCH", path, body, fields | {"Upload-Offset": str(first)})
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(last)), answer
    assert server.api.download(1) == film


def test_a_client_waits_for_the_word_before_it_sends_chunks(server: Server) -> None:
    data = video_bytes(100_000)
    path = created(server.api, len(data))
    with begin_chunked(server, path, Expect="100-continue") as wire:
        assert wire.head().status == 100
        wire.send(framed(data) + b"0\r\n\r\n")
        assert wire.answer().status == 204
        wire.request("HEAD", path, server.api.headers | TUS)
        assert wire.answer("HEAD").headers["upload-offset"] == str(len(data)), "the connection goes on"


def test_a_request_behind_the_last_chunk_is_answered(server: Server) -> None:
    data = video_bytes(100_000)
    path = created(server.api, len(data))
    with begin_chunked(server, path) as wire:
        wire.send(framed(data[:7]) + framed(data[7:]) + b"0\r\nX-Trailer: 1\r\n\r\n")
        wire.request("GET", "/health")
        assert [wire.answer().status, wire.answer().status] == [204, 200]


def test_chunks_of_a_client_that_vanished_are_kept(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    with begin_chunked(server, path) as wire:
        wire.send(framed(film[:MIB]) + b"%x\r\n" % MIB + film[MIB : MIB + 1000])
        eventually(lambda: received(server, path) == MIB + 1000, "it has come")
    eventually(lambda: offset_of(server.api, path) == MIB + 1000, "it counts")


@pytest.mark.parametrize("broken", [b"x\r\n", b"3\r\nabcdef\r\n", b"1" * 5000, b"0\r\n" + b"a: b\r\n" * 1000])
def test_what_came_before_a_broken_chunk_is_kept(server: Server, broken: bytes) -> None:
    data = video_bytes(100_000)
    path = created(server.api, len(data))
    with begin_chunked(server, path) as wire:
        wire.send(framed(data[:5000]))
        eventually(lambda: received(server, path) == 5000, "it has come")
        wire.send(broken)
        assert wire.answer().status == 400
        assert wire.is_closed_by_server()
    eventually(lambda: offset_of(server.api, path) in {5000, 5003}, "it counts")


def test_more_chunks_than_the_length_allows_are_refused(server: Server) -> None:
    path = created(server.api, 100_000)
    data = video_bytes(100_000)
    with begin_chunked(server, path) as wire:
        wire.send(framed(data[:50_000]) + framed(data[:60_000]) + b"0\r\n\r\n")
        wire.answer().assert_problem(413, "body_too_large")
    assert server.api.request("HEAD", path, None, TUS).status == 404, "nobody knows which bytes were meant"
    assert server.incoming() == []


def test_chunks_without_an_end_in_sight_are_refused(server: Server) -> None:
    deferred = server.api.request("POST", "/api/uploads", None, {**TUS, "Upload-Defer-Length": "1"})
    path = urlsplit(deferred.headers["location"]).path
    with begin_chunked(server, path) as wire:
        wire.answer().assert_problem(411, "length_required")
    fields = {**TUS, **OFFSET_STREAM, **CHUNKED, "Upload-Defer-Length": "1"}
    with server.wire() as wire:
        wire.request("POST", "/api/uploads", server.api.headers | fields)
        wire.answer().assert_problem(411, "length_required")


def test_a_whole_video_may_come_in_chunks_with_its_creation(server: Server, film: bytes) -> None:
    fields = {**TUS, **OFFSET_STREAM, "Upload-Length": str(len(film))}
    answer = server.api.request("POST", "/api/uploads", chunks(film), fields)
    assert (answer.status, answer.headers["upload-offset"]) == (201, str(len(film)))
    assert server.api.download(1) == film


# --- interim responses of the draft

DRAFT = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?1", "Content-Type": "video/mp4"}


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["at once", "expecting"])
def test_a_whole_upload_that_was_cut_goes_on_where_the_interim_response_says(
    server: Server, film: bytes, expect: dict[str, str]
) -> None:
    with server.wire() as wire:
        fields = {**DRAFT, **expect, "Content-Length": str(len(film))}
        wire.request("POST", "/api/uploads?title=Cut", server.api.headers | fields)
        announced = wire.head()
        assert announced.status == 104
        assert announced.headers["upload-draft-interop-version"] == "8"
        assert announced.headers["upload-limit"].startswith("max-size=")
        if expect:
            assert wire.head().status == 100
        wire.send(film[: 3 * MIB])
        url = announced.headers["location"]
        assert url.startswith("http://streamer.test/api/uploads/")
        path = urlsplit(url).path
        eventually(lambda: received(server, path) == 3 * MIB, "it has come")
        wire.reset()
    eventually(lambda: offset_of(server.api, path) == 3 * MIB, "it counts")
    fields = {**DRAFT, "Content-Type": "application/partial-upload", "Upload-Offset": str(3 * MIB)}
    answer = server.api.request("PATCH", path, film[3 * MIB :], fields)
    assert (answer.status, answer.json["title"]) == (201, "Cut")
    assert server.api.download(answer.json["id"]) == film


@pytest.mark.parametrize("version", ["", "7", "8.0", "x"])
def test_a_client_of_another_version_gets_no_interim_response(
    server: Server, film: bytes, version: str
) -> None:
    fields = {**DRAFT, "Upload-Draft-Interop-Version": version, "Content-Length": str(len(film))}
    with server.wire() as wire:
        wire.request("POST", "/api/uploads", server.api.headers | fields)
        wire.send(film)
        answer = wire.answer()
        assert answer.status == 201
        assert answer.headers["location"].endswith("/api/videos/1")


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Via", "Forwarded"])
def test_a_client_behind_a_proxy_gets_no_interim_response(server: Server, film: bytes, field: str) -> None:
    """nginx takes it for the answer."""
    with server.wire() as wire:
        fields = {**DRAFT, field: "1.1 front", "Content-Length": str(len(film))}
        wire.request("POST", "/api/uploads", server.api.headers | fields)
        wire.send(film)
        assert wire.answer().status == 201


# --- servers that die


@needs_proc
def test_a_server_that_is_killed_takes_no_acknowledged_byte_along(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    chance = random.Random(4)
    offset = 0
    for _ in range(5):
        stop = offset + chance.randrange(1, 4 * MIB)
        assert append(server.api, path, offset, film[offset:stop]).status == 204
        with begin_append(server, path, stop, len(film) - stop) as wire:
            wire.send(film[stop : stop + chance.randrange(MIB)])
            time.sleep(chance.random() / 20)
            server.kill()
        server.start()
        offset = offset_of(server.api, path)
        assert offset >= stop
    answer = append(server.api, path, offset, film[offset:])
    assert answer.status == 204, answer
    assert server.api.download(1) == film
    server.assert_consistent()


def test_a_server_that_is_stopped_keeps_what_has_come(start_server: StartServer, film: bytes) -> None:
    server = start_server(STREAMER_GRACE="0")
    path = created(server.api, len(film))
    with begin_append(server, path, 0, len(film)) as wire:
        wire.send(film[: 3 * MIB + 1])
        eventually(lambda: received(server, path) == 3 * MIB + 1, "it has come")
        server.stop()
    server.start()
    assert offset_of(server.api, path) == 3 * MIB + 1


@needs_proc
def test_a_lock_of_a_process_that_died_is_free_at_once(
    server: Server, start_server: StartServer, film: bytes
) -> None:
    """Two processes on one data folder."""
    second = start_server(data=server.data)
    path = created(server.api, len(film))
    with begin_append(server, path, 0, len(film)) as wire:
        wire.send(film[:MIB])
        eventually(lambda: received(server, path) == MIB, "it has come")
        append(second.api, path, 0, film).assert_problem(423, "upload_locked")
        server.kill()
        assert append(second.api, path, 0, film).status == 204
    assert second.api.download(1) == film
    server.start()


def test_an_upload_that_expired_is_removed_while_the_server_runs(start_server: StartServer) -> None:
    server = start_server(STREAMER_UPLOAD_TTL="1")
    data = video_bytes(100_000)
    path = created(server.api, len(data))
    append(server.api, path, 0, data[:50_000])
    eventually(lambda: server.incoming() == [], "its file is gone")
    assert server.api.request("HEAD", path, None, TUS).status in {404, 410}
    server.assert_consistent()


@needs_proc
def test_each_byte_of_a_chunk_is_written_once(server: Server, film: bytes) -> None:
    path = created(server.api, len(film))
    append(server.api, path, 0, film[: 8 * MIB])
    before = written_bytes(server)
    for first in range(8 * MIB, len(film) - 8 * MIB, 8 * MIB):
        assert append(server.api, path, first, film[first : first + 8 * MIB]).status == 204
    written = written_bytes(server) - before
    assert written < 1.05 * (len(film) - 16 * MIB), written


# --- disks that fill up


@pytest.fixture
def disk(tmp_path: Path, template: Template) -> Iterator[Path]:
    """A data folder on a disk of 64 MB, with an account in it."""
    with data_on_disk(tmp_path / "disk", 64 * 10**6, template) as data:
        yield data


def _send(api: Api, data: bytes) -> int:
    """A whole upload in pieces; the status of what ended it."""
    answer = create(api, len(data))
    if answer.status != 201:
        return answer.status
    path = urlsplit(answer.headers["location"]).path
    for first in range(0, len(data), MIB):
        answer = append(api, path, first, data[first : first + MIB])
        if answer.status != 204:
            return answer.status
    return 201


def _send_at_once(api: Api, data: bytes) -> int:
    return api.send_video(data, len(data)).status


def test_of_twenty_uploads_at_once_those_that_are_let_in_succeed(
    disk: Path, start_server: StartServer
) -> None:
    server = start_server(data=disk, STREAMER_MIN_FREE_BYTES="")
    data = [video_bytes(6 * 10**6, seed=seed) for seed in range(20)]
    free = free_bytes(disk)
    with ThreadPoolExecutor(20) as pool:
        ways = [_send if number % 2 else _send_at_once for number in range(20)]
        statuses = list(pool.map(lambda way, body: way(server.api, body), ways, data))
    assert set(statuses) == {201, 507}, statuses
    assert statuses.count(201) == (free - 64 * 10**6 // 20) // len(data[0])
    ids = server.api.video_ids()
    assert len(ids) == statuses.count(201)
    sent = [body for body, status in zip(data, statuses, strict=True) if status == 201]
    assert sorted(map(server.api.download, ids)) == sorted(sent)
    server.assert_consistent()
    assert server.api.request("PATCH", f"/api/videos/{ids[0]}", b'{"title": "x"}', JSON).status == 200
    assert server.api.delete(ids[0]).status == 204
    assert _send(server.api, video_bytes(3 * 10**6)) == 201


def test_promises_to_unfinished_uploads_count_for_every_process(
    disk: Path, start_server: StartServer
) -> None:
    servers = [start_server(data=disk, STREAMER_MIN_FREE_BYTES="0") for _ in range(2)]
    free = free_bytes(disk)
    paths = [created(servers[0].api, free // 3) for _ in range(2)]
    create(servers[1].api, free // 2).assert_problem(507, "insufficient_storage")
    answer = servers[1].api.send_video(iter([video_bytes(MIB)]), free // 2)
    answer.assert_problem(507, "insufficient_storage")
    assert servers[1].api.request("DELETE", paths[0], None, TUS).status == 204
    path = created(servers[1].api, free // 2)
    data = video_bytes(free // 2)
    assert append(servers[0].api, path, 0, data).status == 204


def test_a_disk_that_becomes_full_keeps_what_it_has_and_the_offset_true(
    disk: Path, start_server: StartServer
) -> None:
    server = start_server(data=disk, STREAMER_MIN_FREE_BYTES="0")
    server.allow(r"ERROR streamer the database failed: .*database or disk is full")
    data = video_bytes(40 * 10**6)
    path = created(server.api, len(data))
    assert append(server.api, path, 0, data[: 10 * MIB]).status == 204
    filler = disk.parent / "filler"
    filler.write_bytes(bytes(free_bytes(disk) - 6 * MIB))  # by somebody else, whom nobody can ask
    append(server.api, path, 10 * MIB, data[10 * MIB :]).assert_problem(507, "insufficient_storage")
    assert server.api.get("/health").status in {200, 503}
    filler.unlink()
    offset = offset_of(server.api, path)
    assert 10 * MIB <= offset <= 17 * MIB
    assert append(server.api, path, offset, data[offset:]).status == 204
    assert server.api.download(1) == data
    server.assert_consistent()
