"""Bytes on the wire: what viewers get, and what viewers cost who stall, crawl or leave."""

import email
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.harness import MIB, Server, Wire, eventually, needs_proc, stream_path

SMALL_BUFFER = 128 * 1024  # what a viewer takes unread; less than two segments on loopback would crawl
TWO_RANGES = "bytes=0-30000000,34000000-64000000"


@pytest.fixture(scope="module")
def cinema(start_shared_server: StartServer) -> Server:
    """A server with four worker threads."""
    return start_shared_server(STREAMER_THREADS="4")


@pytest.fixture(scope="module")
def path(cinema: Server, film: bytes) -> str:
    """The path of the film's bytes."""
    return stream_path(cinema.api.upload(film))


@pytest.fixture
def wire(cinema: Server) -> Iterator[Wire]:
    with cinema.wire() as connection:
        yield connection


def _headers(server: Server, **fields: str) -> dict[str, str]:
    return server.api.headers | fields


def _stall(server: Server, path: str, viewers: ExitStack, **fields: str) -> Wire:
    """Begin to watch, and read no more than the head of the answer."""
    viewer = viewers.enter_context(server.wire(receive_buffer=SMALL_BUFFER))
    viewer.request("GET", path, _headers(server, **fields))
    return viewer


def test_the_whole_film_arrives_byte_for_byte(cinema: Server, path: str, wire: Wire, film: bytes) -> None:
    wire.request("GET", path, _headers(cinema))
    answer = wire.answer()
    assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
    assert answer.body == film


def test_a_hundred_ranges_on_one_connection_are_exact(
    cinema: Server, path: str, wire: Wire, film: bytes
) -> None:
    chance = random.Random(100)
    for _ in range(100):
        first = chance.randrange(len(film))
        last = min(first + chance.choice([0, 1, 4095, 131072, 262145, MIB]), len(film) - 1)
        wire.request("GET", path, _headers(cinema, Range=f"bytes={first}-{last}"))
        answer = wire.answer()
        assert answer.status == 206
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(film)}"
        assert answer.body == film[first : last + 1]


def test_pipelined_ranges_are_answered_in_order(cinema: Server, path: str, wire: Wire, film: bytes) -> None:
    firsts = [0, 40 * MIB, 7, 63 * MIB]
    for first in firsts:
        wire.request("GET", path, _headers(cinema, Range=f"bytes={first}-{first + MIB - 1}"))
    for first in firsts:
        assert wire.answer().body == film[first : first + MIB]


def test_safari_probes_two_bytes_and_plays_on(cinema: Server, path: str, wire: Wire, film: bytes) -> None:
    wire.request("GET", path, _headers(cinema, Range="bytes=0-1"))
    probe = wire.answer()
    assert (probe.status, probe.body) == (206, film[:2])
    assert probe.headers["content-range"] == f"bytes 0-1/{len(film)}"
    assert probe.headers["accept-ranges"] == "bytes"
    fields = {"Range": f"bytes=0-{len(film) - 1}", "If-Range": probe.headers["etag"]}
    wire.request("GET", path, _headers(cinema, **fields))
    assert wire.answer().body == film


def test_several_ranges_arrive_as_multipart(cinema: Server, path: str, wire: Wire, film: bytes) -> None:
    wire.request("GET", path, _headers(cinema, Range="bytes=0-99,20000000-33000000,-5"))
    answer = wire.answer()
    assert answer.status == 206
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.body)
    assert message.is_multipart()
    parts = list(message.walk())[1:]
    assert [part.get_payload(decode=True) for part in parts] == [
        film[:100],
        film[20000000:33000001],
        film[-5:],
    ]
    assert parts[1]["Content-Range"] == f"bytes 20000000-33000000/{len(film)}"


def test_answers_without_the_file_leave_the_connection_usable(
    cinema: Server, path: str, wire: Wire, film: bytes
) -> None:
    wire.request("HEAD", path, _headers(cinema, Range="bytes=0-9"))
    head = wire.answer("HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(film)))

    wire.request("GET", path, _headers(cinema, Range=f"bytes={len(film)}-"))
    answer = wire.answer()
    answer.assert_problem(416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(film)}"

    wire.request("GET", path, _headers(cinema, **{"If-Match": '"another"'}))
    wire.answer().assert_problem(412, "precondition_failed")

    wire.request("GET", path)
    wire.answer().assert_problem(401, "not_authenticated")

    wire.request("GET", path, _headers(cinema, Range="bytes=5-9"))
    assert wire.answer().body == film[5:10]


def test_an_answer_that_has_no_body_leaves_the_connection_usable(
    cinema: Server, path: str, wire: Wire, film: bytes
) -> None:
    video_id = cinema.api.upload(video_bytes(1000))
    wire.request("GET", path, _headers(cinema, Range="bytes=0-0"))
    etag = wire.answer().headers["etag"]
    wire.request("GET", path, _headers(cinema, **{"If-None-Match": etag}))
    assert wire.answer().status == 304
    wire.request("DELETE", f"/api/videos/{video_id}", _headers(cinema))
    assert wire.answer().status == 204
    wire.request("GET", path, _headers(cinema, Range="bytes=5-9"))
    assert wire.answer().body == film[5:10]


def test_a_304_changes_nothing_in_what_a_cache_has_stored(cinema: Server, path: str) -> None:
    stored = cinema.api.get(path, {"Range": "bytes=0-0"}).headers
    fresh = cinema.api.get(path, {"If-None-Match": stored["etag"]})
    assert fresh.status == 304
    # a cache replaces the fields that it has stored by those of the 304 (RFC 9111, section 3.2)
    for name in set(fresh.headers) - {"date", "connection", "x-request-id"}:
        assert (name, fresh.headers[name]) == (name, stored.get(name))


@pytest.mark.parametrize("fields", [{}, {"Range": TWO_RANGES}], ids=["whole", "multipart"])
def test_twenty_stalled_viewers_hold_no_thread(cinema: Server, path: str, fields: dict[str, str]) -> None:
    with ExitStack() as viewers:
        stalled = [_stall(cinema, path, viewers, **fields) for _ in range(20)]
        assert {viewer.head().status for viewer in stalled} == {206 if fields else 200}
        for _ in range(5):
            assert cinema.api.get("/health", timeout=2).status == 200
            assert cinema.api.get("/api/videos", timeout=2).status == 200
        # and the one that reads on after its pause misses nothing
        assert len(stalled[0].read(MIB)) == MIB


@needs_proc
def test_who_asks_again_before_taking_an_answer_holds_no_thread_and_no_more_files(
    cinema: Server, path: str, film: bytes
) -> None:
    with ExitStack() as viewers:
        stalled = [_stall(cinema, path, viewers) for _ in range(20)]
        for viewer in stalled:
            for _ in range(5):
                viewer.request("GET", path, _headers(cinema, Range="bytes=0-99"))
            viewer.request("GET", "/health")
        assert {viewer.head().status for viewer in stalled} == {200}
        for _ in range(5):
            assert cinema.api.get("/health", timeout=2).status == 200
        assert len(cinema.open_media()) <= 2 * len(stalled)
        assert stalled[0].read(len(film)) == film
        assert [stalled[0].answer().body for _ in range(5)] == [film[:100]] * 5
        assert stalled[0].answer().json["status"] == "ok"


@needs_proc
@pytest.mark.parametrize("fields", [{}, {"Range": TWO_RANGES}], ids=["whole", "multipart"])
@pytest.mark.parametrize("pace", [0, 65536], ids=["stalled", "slow"])
def test_a_viewer_that_does_not_keep_up_burns_no_processor(
    cinema: Server, path: str, pace: int, fields: dict[str, str]
) -> None:
    with ExitStack() as viewers:
        viewer = _stall(cinema, path, viewers, **fields)
        viewer.head()
        before, began = cinema.cpu_seconds(), time.monotonic()
        for _ in range(20):
            time.sleep(0.1)
            viewer.read(pace)
        used, passed = cinema.cpu_seconds() - before, time.monotonic() - began
    assert used < passed / 2, f"{used:.2f} s of processor time in {passed:.2f} s"


@needs_proc
def test_five_hundred_viewers_that_leave_cost_no_descriptor(cinema: Server, path: str, film: bytes) -> None:
    chance = random.Random(500)
    eventually(lambda: not cinema.open_media(), "the viewers of other tests are gone")
    before = len(cinema.descriptors())
    for number in range(500):
        first = chance.randrange(len(film))
        fields = chance.choice([{}, {"Range": f"bytes={first}-"}, {"Range": TWO_RANGES}])
        with cinema.wire(receive_buffer=chance.choice([0, SMALL_BUFFER])) as viewer:
            viewer.request("GET", path, _headers(cinema, **fields))
            if number % 3:  # else it leaves before it could get an answer
                assert viewer.head().status in {200, 206}
            if number % 3 == 2:
                viewer.read(chance.randrange(2 * MIB))
            if chance.random() < 0.5:
                viewer.reset()
    eventually(lambda: not cinema.open_media(), "no slice of the film is open")
    # each of the threads opens its connection to the database when it first needs it: three files
    eventually(
        lambda: len(cinema.descriptors()) <= before + 4 * 3 + 2, f"as few descriptors as before: {before}"
    )
    assert cinema.api.get("/health").status == 200


def test_an_aborted_download_is_logged_with_what_was_sent(cinema: Server, path: str, film: bytes) -> None:
    for fields in ({}, {"Range": TWO_RANGES}):
        earlier = len(cinema.logged(path))
        with ExitStack() as viewers:
            viewer = _stall(cinema, path, viewers, **fields)
            viewer.head()
            assert len(viewer.read(MIB)) == MIB
        eventually(lambda before=earlier: len(cinema.logged(path)) == before + 1, "the download is logged")
        line = cinema.logged(path)[-1]
        assert (line.method, line.status) == ("GET", 206 if fields else 200)
        assert MIB <= line.sent < len(film) // 2, line


def test_a_finished_download_is_logged_with_all_its_bytes(cinema: Server, path: str, wire: Wire) -> None:
    earlier = len(cinema.logged(path))
    wire.request("GET", path, _headers(cinema, Range="bytes=10-2000009"))
    wire.answer()
    eventually(lambda: len(cinema.logged(path)) == earlier + 1, "the download is logged")
    assert cinema.logged(path)[-1].sent == 2000000


@needs_proc
def test_a_viewer_in_flight_finishes_after_delete_and_the_space_comes_back(cinema: Server, path: str) -> None:
    short = video_bytes(24 * MIB, seed=24)
    video_id = cinema.api.upload(short)
    kept = cinema.stored() - {
        row for (row,) in cinema.query(f"SELECT file_path FROM video WHERE id={video_id}")
    }
    with cinema.wire(receive_buffer=SMALL_BUFFER) as viewer:
        viewer.request("GET", stream_path(video_id), _headers(cinema))
        assert viewer.head().status == 200
        assert cinema.api.delete(video_id).status == 204
        assert cinema.stored() == kept
        assert cinema.open_media(), "the viewer has the file open, or this test shows nothing"
        assert viewer.read(len(short)) == short
    assert cinema.api.get(stream_path(video_id)).status == 404
    eventually(lambda: not cinema.open_media(), "nobody keeps the removed file open")
