"""Connections and the clock: somebody who sets the time of the machine ends nobody."""

import time

import pytest

from streamer.server.listener import PAUSE_SECONDS
from tests.helpers import video_bytes
from tests.live.harness import MIB, eventually
from tests.server.conftest import Run

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(params=[-3600, 3600])
def jump(request: pytest.FixtureRequest) -> int:
    """How far the clock is set, in seconds."""
    return int(request.param)


def test_who_sets_the_clock_ends_nobody(run: Run, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    running = run(header_timeout=20, keep_alive=20, send_timeout=20)
    film = video_bytes(16 * MIB)
    path = running.video(film)
    with running.wire() as idle, running.wire() as uploader, running.wire(receive_buffer=65536) as viewer:
        idle.send(HEALTH)
        assert idle.answer().status == 200
        viewer.request("GET", path, running.api.headers)
        fields = {"Content-Type": "video/mp4", "Content-Length": str(len(film))}
        uploader.request("POST", "/api/videos", running.api.headers | fields)
        uploader.send(film[:MIB])
        clock = time.time
        monkeypatch.setattr(time, "time", lambda: clock() + jump)
        looked = running.server._next_maintenance
        eventually(lambda: running.server._next_maintenance > looked + 1, "it has looked at all of them")
        assert viewer.answer().body == film
        uploader.send(film[MIB:])
        assert uploader.answer().status == 201
        idle.send(HEALTH)
        assert idle.answer().status == 200


def test_a_clock_that_is_set_back_does_not_keep_others_out(
    run: Run, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    running = run(connections=1)
    with running.wire() as first:
        first.send(HEALTH)
        assert first.answer().status == 200
        with running.wire() as second:
            listener = running.listener
            eventually(lambda: listener._accepts_after > listener.now(), "it has found no room")
            clock = time.time
            monkeypatch.setattr(time, "time", lambda: clock() + jump)
            second.send(HEALTH)
            began = time.monotonic()
            assert second.answer().status == 200
            assert time.monotonic() - began < 10 * PAUSE_SECONDS
