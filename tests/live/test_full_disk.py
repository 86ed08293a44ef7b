"""A disk that is really full: a small tmpfs, mounted for each test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer, Template
from tests.live.disks import data_on_disk, free_bytes
from tests.live.harness import (
    MIB,
    Answer,
    Background,
    Server,
    Wire,
    eventually,
    paused_while_staging,
    sha256,
)

DISK_BYTES = 24 * MIB

MakeDisk = Callable[[], Path]


@pytest.fixture
def disk(tmp_path: Path, template: Template) -> Iterator[Path]:
    """A data folder on a disk of its own, with an account in it."""
    with data_on_disk(tmp_path / "disk", DISK_BYTES, template) as data:
        yield data


@pytest.fixture
def disk_of_64_mib(tmp_path: Path, template: Template) -> Iterator[Path]:
    """A data folder on a disk of its own that takes several uploads at once."""
    with data_on_disk(tmp_path / "disk", 64 * MIB, template) as data:
        yield data


@pytest.fixture
def server(disk: Path, start_server: StartServer) -> Server:
    """A server that keeps no reserve, so that the disk can become full to the last byte.

    It looks after its folder every second: a disk may be so full that not even a row can go.
    """
    return _allow_full_disk(start_server(data=disk, STREAMER_UPLOAD_TTL="2"))


def _allow_full_disk(server: Server) -> Server:
    server.allow(r"ERROR streamer the database failed: .*database or disk is full")
    return server


def _fill(folder: Path, leave: int) -> Path:
    """Leave so many bytes of the disk free."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        if leave:
            file.write(bytes(max(0, free_bytes(folder) - leave)))
        while not leave:  # what is free may be less than it says; ends with ENOSPC
            file.write(bytes(4096))
    return filler


def _assert_all_is_well(server: Server, free: int) -> None:
    """Nothing is left behind, small uploads work and the database can be written to."""
    eventually(lambda: free_bytes(server.data) >= free - MIB // 2, "the space of the failed upload is back")
    assert server.incoming() == []
    unfinished = "SELECT id FROM upload WHERE video_id IS NULL"
    eventually(lambda: server.query(unfinished) == [], "what was promised to it is free again")
    video_id = server.api.upload(video_bytes(50_000))
    assert server.api.download(video_id) == video_bytes(50_000)
    assert server.api.delete(video_id).status == 204
    assert server.api.get("/health").status == 200
    server.assert_consistent()


def _send_and_read(server: Server, data: bytes) -> Answer:
    """Upload like a client that goes on sending whatever the server says, then read the answer."""
    with server.wire() as wire:
        fields = {"Content-Type": "video/mp4", "Content-Length": str(len(data))}
        wire.request("POST", "/api/videos", server.api.headers | fields)
        wire.send(data)
        return wire.answer()


@pytest.mark.parametrize("settings", [{}, {"STREAMER_MIN_FREE_BYTES": ""}], ids=["no reserve", "reserve"])
def test_a_body_larger_than_the_disk_gets_507(
    disk: Path, start_server: StartServer, settings: dict[str, str]
) -> None:
    server = _allow_full_disk(start_server(data=disk, **settings))
    free = free_bytes(disk)
    _send_and_read(server, video_bytes(DISK_BYTES + 4 * MIB)).assert_problem(507, "insufficient_storage")
    _assert_all_is_well(server, free)


def test_a_body_that_fits_once_is_taken(server: Server) -> None:
    free = free_bytes(server.data)
    size = free * 5 // 6
    video_id = server.api.upload(video_bytes(size))
    answer = _send_and_read(server, video_bytes(size))
    answer.assert_problem(507, "insufficient_storage")
    assert answer.json["available"] < size
    assert server.api.delete(video_id).status == 204
    _assert_all_is_well(server, free)


def test_the_reserve_is_kept_where_the_disk_alone_would_do(disk: Path, start_server: StartServer) -> None:
    server = start_server(data=disk, STREAMER_MIN_FREE_BYTES=str(20 * MIB))
    free = free_bytes(disk)
    _send_and_read(server, video_bytes(5 * MIB)).assert_problem(507, "insufficient_storage")
    _assert_all_is_well(server, free)


def test_a_disk_that_becomes_full_while_a_video_is_stored_gives_507(server: Server) -> None:
    free = free_bytes(server.data)
    with paused_while_staging(server, video_bytes(10 * MIB)) as (upload, staged):
        assert staged.stat().st_size < 10 * MIB
        filler = _fill(server.data, leave=0)
    upload.outcome().assert_problem(507, "insufficient_storage")
    filler.unlink()
    _assert_all_is_well(server, free)


def test_wherever_the_disk_becomes_full_the_answer_is_201_or_507(server: Server) -> None:
    free = free_bytes(server.data)
    answers = []
    # the staged file, the journal of the database: each is the first to fail at some size
    room = 2 * MIB
    for size in [*range(room - 80_000, room - 9_000, 4_001), *range(room - 9_000, room + 9_000, 1_501)]:
        data = video_bytes(size, seed=size)
        filler = _fill(server.data, leave=room)
        answer = _send_and_read(server, data)
        filler.unlink()
        answers.append(answer.status)
        if answer.status == 201:
            assert server.api.download(answer.json["id"]) == data
            assert server.api.delete(answer.json["id"]).status == 204
        else:
            answer.assert_problem(507, "insufficient_storage")
    assert set(answers) == {201, 507}
    server.restart()
    _assert_all_is_well(server, free)


def test_a_full_disk_is_told_to_a_client_that_waits_for_100_continue(server: Server) -> None:
    free = free_bytes(server.data)
    data = video_bytes(DISK_BYTES + MIB)
    with server.wire() as wire:
        fields = {"Content-Type": "video/mp4", "Content-Length": str(len(data)), "Expect": "100-continue"}
        wire.request("POST", "/api/videos", server.api.headers | fields)
        answer = wire.answer()
        if answer.status == 100:
            wire.send(data)
            answer = wire.answer()
    answer.assert_problem(507, "insufficient_storage")
    _assert_all_is_well(server, free)


def test_viewers_and_readers_go_on_while_the_disk_is_full(server: Server) -> None:
    video = video_bytes(MIB)
    video_id = server.api.upload(video)
    filler = _fill(server.data, leave=0)
    assert server.api.download(video_id) == video
    assert server.api.video_ids() == [video_id]
    health = server.api.get("/health")
    assert health.status == 503
    assert health.json["checks"] == {"database": "ok", "storage": "failed"}
    filler.unlink()
    assert server.api.get("/health").status == 200
    assert server.api.delete(video_id).status == 204
    _assert_all_is_well(server, free_bytes(server.data))


def test_deleting_makes_room_for_the_next_upload(server: Server) -> None:
    size = DISK_BYTES * 2 // 3
    for seed in range(4):
        video_id = server.api.upload(video_bytes(size, seed=seed))
        assert _send_and_read(server, video_bytes(size, seed=99)).status == 507
        assert server.api.delete(video_id).status == 204


def test_many_clients_that_fill_the_disk_at_once_are_all_answered(server: Server) -> None:
    free = free_bytes(server.data)
    wires: list[Wire] = []
    data = video_bytes(8 * MIB)
    fields = {"Content-Type": "video/mp4", "Content-Length": str(len(data))}
    try:
        for _ in range(6):  # together twice the disk
            wires.append(server.wire())
            wires[-1].request("POST", "/api/videos", server.api.headers | fields)
        for first in range(0, len(data), MIB):
            for wire in wires:
                wire.send(data[first : first + MIB])
        answers = [wire.answer() for wire in wires]
    finally:
        for wire in wires:
            wire.close()
    assert {answer.status for answer in answers} <= {201, 507}
    assert 507 in {answer.status for answer in answers}
    for answer in answers:
        if answer.status == 201:
            assert server.api.delete(answer.json["id"]).status == 204
    _assert_all_is_well(server, free)


# --- many at once, of which some are admitted

PART = 8 * MIB
CROWD = 20  # together two and a half times the disk
TUS = {"Tus-Resumable": "1.0.0"}


def _admit_in_one_request(server: Server, wire: Wire) -> Answer:
    """The answer to the head of an upload: 100, or the refusal."""
    fields = {"Content-Type": "video/mp4", "Content-Length": str(PART), "Expect": "100-continue"}
    wire.request("POST", "/api/videos", server.api.headers | fields)
    return wire.answer()


def _admit_to_be_resumed(server: Server, wire: Wire) -> Answer:
    """The answer to the creation of an upload: 201, or the refusal."""
    fields = TUS | {"Upload-Length": str(PART), "Content-Length": "0"}
    wire.request("POST", "/api/uploads", server.api.headers | fields)
    return wire.answer()


def _send(server: Server, wire: Wire, admitted: Answer, data: bytes) -> Answer:
    """Send the bytes of an upload that was admitted, half at a time where that is possible."""
    if admitted.status == 100:
        wire.send(data)
        return wire.answer()
    path = "/api/uploads/" + admitted.headers["location"].rpartition("/")[2]
    for first in (0, PART // 2):
        fields = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(first)}
        fields |= {"Content-Length": str(PART // 2)}
        wire.request("PATCH", path, server.api.headers | fields)
        wire.send(data[first : first + PART // 2])
        answer = wire.answer()
        assert answer.status == 204, answer
    return answer


@pytest.mark.parametrize("admit", [_admit_in_one_request, _admit_to_be_resumed])
def test_of_many_uploads_at_once_all_succeed_that_are_admitted_and_no_byte_is_taken_of_the_others(
    disk_of_64_mib: Path, start_server: StartServer, admit: Callable[[Server, Wire], Answer]
) -> None:
    server = start_server(data=disk_of_64_mib, STREAMER_MIN_FREE_BYTES=str(2 * MIB))
    free = free_bytes(server.data)
    with ExitStack() as wires:
        crowd = [wires.enter_context(server.wire(timeout=120)) for _ in range(CROWD)]
        asked = [Background(lambda wire=wire: admit(server, wire)) for wire in crowd]
        answers = [(wire, one.outcome()) for wire, one in zip(crowd, asked, strict=True)]
        admitted = [(wire, answer) for wire, answer in answers if answer.status in {100, 201}]
        refused = [answer for _, answer in answers if answer.status not in {100, 201}]
        assert len(admitted) == (free - 2 * MIB) // PART
        for answer in refused:
            answer.assert_problem(507, "insufficient_storage")
            assert answer.json["available"] < PART
        assert free_bytes(server.data) > free - MIB, "nothing was taken yet"
        sending = [
            Background(lambda w=wire, a=answer, s=seed: _send(server, w, a, video_bytes(PART, seed=s)))
            for seed, (wire, answer) in enumerate(admitted)
        ]
        assert {one.outcome().status for one in sending} == {204 if admit is _admit_to_be_resumed else 201}
    stored = {sha256(server.api.download(video_id)) for video_id in server.api.video_ids()}
    assert stored == {sha256(video_bytes(PART, seed=seed)) for seed in range(len(admitted))}
    for video_id in server.api.video_ids():  # the database takes what it is told
        assert server.api.delete(video_id).status == 204
    server.assert_consistent()
