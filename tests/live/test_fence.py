"""Whatever strangers upload, nothing of others is touched; however ffmpeg behaves, the server goes on."""

import contextlib
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers import ffprobe
from tests.ffmpeg import clips, hostile, stand_ins
from tests.ffmpeg.test_fence import Listener, Secret, make_video
from tests.live import films
from tests.live.conftest import StartServer, Template
from tests.live.disks import data_on_disk
from tests.live.harness import MIB, Background, Server, eventually, stream_path

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="notices by inotify and /proc, which only Linux has"
)

# --- what files tell ffmpeg to do


class Traps:
    """What strangers would like to see: a film, a pipe that holds up whoever opens it, a server."""

    def __init__(self, folder: Path) -> None:
        film = make_video(folder / "secret.ts", "magenta")
        pipe = folder / "pipe.ts"
        os.mkfifo(pipe)
        self._secrets = [Secret(film), Secret(pipe)]
        self._listener = Listener(film.read_bytes())
        self.targets = [str(film), f"file://{film}", str(pipe), self._listener.url]
        self.was_touched()  # by ourselves

    def was_touched(self) -> bool:
        """Whether anybody has come since this was asked the last time."""
        return any([*(secret.was_opened() for secret in self._secrets), self._listener.was_visited()])

    def close(self) -> None:
        self._listener.close()
        for secret in self._secrets:
            secret.close()


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traps]:
    traps = Traps(tmp_path_factory.mktemp("traps"))
    yield traps
    traps.close()


@pytest.fixture(scope="module")
def server(start_shared_server: StartServer) -> Server:
    ffprobe.require_ffmpeg()
    return start_shared_server(STREAMER_FFMPEG="auto")


@pytest.fixture(scope="module")
def innocent(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film without anything about it, whose index is behind its data."""
    return make_video(tmp_path_factory.mktemp("films") / "open.mp4", "blue", "-c:v", "mpeg4").read_bytes()


def given(server: Server, files: Iterable[bytes], folder: Path) -> set[int]:
    """Upload files, wait until all is done that there is to do, and judge the pictures; the statuses."""
    answers = [server.api.send_video(data, len(data)) for data in files]
    for answer in answers:
        if answer.status == 201:
            found = films.finished(server, answer.json["id"])
            assert found["status"] in {"ready", "failed"}
            for name in ("poster", "storyboard"):
                _assert_shows_no_secret(server, found["links"].get(name, ""), folder / "picture")
    return {answer.status for answer in answers}


def _assert_shows_no_secret(server: Server, link: str, path: Path) -> None:
    link = link.replace(".vtt", ".jpg")
    if link.endswith(".jpg"):
        for colour in clips.colours(films.saved(server, link, path)):
            assert not clips.are_near(colour, Secret.COLOUR, 60)


def test_whoever_opens_a_secret_is_noticed(traps: Traps) -> None:
    """So the tests below can fail."""
    assert not traps.was_touched()
    for target in (traps.targets[0], traps.targets[2]):
        os.close(os.open(target, os.O_RDONLY | os.O_NONBLOCK))
        assert traps.was_touched()
    assert not traps.was_touched()


@pytest.mark.parametrize("name", hostile.TEXTS)
def test_a_text_that_names_other_files_is_refused(
    server: Server, traps: Traps, tmp_path: Path, name: str
) -> None:
    texts = [hostile.TEXTS[name].format(target).encode() for target in traps.targets]
    assert given(server, texts, tmp_path) == {415}
    assert not traps.was_touched()


MASKS = {
    "MP4": hostile.FILE_TYPE,
    "AVI": b"RIFF\xff\xff\0\0AVI LIST",
    "FLV": b"FLV\x01\x05\0\0\0\x09\0\0\0\0",
    "Matroska": bytes.fromhex("1a45dfa3 8b 4282 88") + b"matroska",
    "Ogg": b"OggS\0\x02" + bytes(20) + b"\x01\x07\x80theora",
}


@pytest.mark.parametrize("mask", MASKS)
def test_a_text_in_disguise_opens_no_other_file(
    server: Server, traps: Traps, tmp_path: Path, mask: str
) -> None:
    texts = [
        text.format(target).encode()
        for text in (hostile.PLAYLIST, hostile.CONCAT_SCRIPT)
        for target in traps.targets
    ]
    assert given(server, [MASKS[mask] + text for text in texts], tmp_path) <= {201, 415}
    assert not traps.was_touched()


@pytest.mark.parametrize("reference", [hostile.url_reference, hostile.urn_reference, hostile.alias_reference])
def test_a_film_with_its_data_elsewhere_opens_no_other_file(
    server: Server, traps: Traps, innocent: bytes, tmp_path: Path, reference: Callable[[str], bytes]
) -> None:
    references = [hostile.with_reference(innocent, reference(target)) for target in traps.targets]
    assert given(server, references, tmp_path) == {201}
    assert not traps.was_touched()


@pytest.mark.parametrize("name", hostile.TEXTS)
def test_a_text_inside_of_a_film_opens_no_other_file(
    server: Server, traps: Traps, tmp_path: Path, name: str
) -> None:
    text, matroska, files = tmp_path / "text", tmp_path / "film.mkv", []
    for target in (traps.targets[0], traps.targets[3]):
        text.write_text(hostile.TEXTS[name].format(target))
        hostile.matroska_with_text(clips.packaged_ffmpeg(), matroska, text)
        files += [hostile.avi_with_subtitles(text.read_bytes()), matroska.read_bytes()]
    assert given(server, files, tmp_path) <= {201, 415}
    assert not traps.was_touched()


def test_an_innocent_film_gets_its_poster(server: Server, innocent: bytes, tmp_path: Path) -> None:
    video_id = server.api.upload(innocent)
    link = films.finished(server, video_id)["links"]["poster"]
    blue = clips.colours(films.saved(server, link, tmp_path / "poster.jpg"))[0]
    assert clips.are_near(blue, films.BLUE, 30)


# --- how ffmpeg behaves


class Pulse:
    """Asks a server all the time how it is; it has to answer, whatever it says."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._may_end = threading.Event()
        self._work = Background(self._ask)

    def _ask(self) -> None:
        while True:
            assert self._server.api.get("/health").status in {200, 503}  # the latter while its disk is full
            if self._may_end.wait(0.1):
                return

    def __enter__(self) -> "Pulse":
        return self

    def __exit__(self, *details: object) -> None:
        self._may_end.set()
        self._work.outcome()


def stand_in(folder: Path, name: str) -> str:
    """An ffmpeg of this kind."""
    return stand_ins.make(folder, name)


def hurry(server: Server) -> None:
    """Let what waits for its next attempt be due."""
    # the disk may be full
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(server.data / "streamer.db", timeout=10)) as database,
        database,
    ):
        database.execute("UPDATE job SET due_at = '2000-01-01T00:00:00.000000Z' WHERE state = 'queued'")


def failed(server: Server, video_id: int) -> dict[str, Any]:
    """Wait until nobody tries any more to make something of a video."""
    deadline = time.monotonic() + films.WAIT_SECONDS
    while (found := films.video(server, video_id))["status"] == "processing":
        assert time.monotonic() < deadline, f"still {found['processing']}"
        hurry(server)
        time.sleep(0.1)
    return found


def assert_goes_on(server: Server, video_id: int, original: bytes) -> None:
    """The original is there, and nothing else is."""
    assert server.api.get(stream_path(video_id)).body == original
    eventually(lambda: films.leftovers(server) == [], "what it wrote is gone")
    assert films.programs(server.data, "") == []
    assert server.api.get("/health").status == 200


@pytest.mark.parametrize(
    ("name", "code", "attempts", "words"),
    [
        ("fails", "ffmpeg_failed", 3, "it went wrong"),
        ("floods_messages", "ffmpeg_failed", 3, "it wrote messages without end"),
        ("crashes", "ffmpeg_failed", 3, "ended by a signal"),
        ("reports_a_full_disk", "disk_full", 3, "No space left on device"),
        ("is_killed", "killed", 3, "the system ended it"),
        ("eats_memory", "too_much_memory", 1, "Cannot allocate memory"),
        ("fills_the_disk", "output_too_large", 1, "File too large"),
        ("succeeds", "result_unreadable", 1, "cannot be read"),
    ],
)
def test_a_step_that_cannot_be_done_fails_and_the_server_goes_on(
    start_server: StartServer, tmp_path: Path, name: str, code: str, attempts: int, words: str
) -> None:
    server = start_server(STREAMER_FFMPEG=stand_in(tmp_path, name), STREAMER_STORYBOARDS="off")
    server.allow("output_too_large: Traceback")  # which is what this program says
    original = films.matroska(tmp_path).read_bytes()
    with Pulse(server):
        video_id = server.api.upload(original)
        found = failed(server, video_id)
    failures = {
        step: rest
        for step, *rest in server.query(
            "SELECT step, error_code, attempts, error_detail FROM job ORDER BY rank"
        )
    }
    assert found["status"] == "failed"
    assert [found["error"]["code"], found["error"]["detail"]] == failures["poster"][::2]
    assert failures["variant"][:2] == [code, attempts]
    assert words in failures["variant"][2]
    assert str(tmp_path) not in str(failures)
    assert_goes_on(server, video_id, original)


def test_what_has_failed_is_done_when_it_is_tried_again_with_another_ffmpeg(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(STREAMER_FFMPEG=stand_in(tmp_path, "is_killed"), STREAMER_STORYBOARDS="off")
    video_id = server.api.upload(films.faststart(tmp_path).read_bytes())
    assert failed(server, video_id)["status"] == "failed"
    server.stop()
    server = start_server(data=server.data, STREAMER_FFMPEG="auto", STREAMER_STORYBOARDS="off")
    assert films.video(server, video_id)["status"] == "failed"
    assert server.api.request("POST", f"/api/videos/{video_id}/retry").status == 202
    found = films.finished(server, video_id)
    assert (found["status"], found["error"]) == ("ready", None)
    assert found["links"]["poster"].endswith(".jpg")


STUBBORN = {"sleeps": 10.0, "ignores_sigterm": 15.0}
"""Programs that do not end, and how many seconds it takes at most until they are gone."""


@pytest.fixture(params=STUBBORN)
def stubborn(
    request: pytest.FixtureRequest, start_server: StartServer, tmp_path: Path
) -> tuple[Server, int, float]:
    """A server that works with such a program on a video, and the seconds."""
    name = request.param
    server = start_server(STREAMER_FFMPEG=stand_in(tmp_path, name), STREAMER_STORYBOARDS="off")
    video_id = server.api.upload(films.faststart(tmp_path).read_bytes())
    eventually(lambda: bool(list(server.data.glob("scratch/*/pid"))), "it is at work")
    assert films.programs(server.data, name)
    return server, video_id, STUBBORN[name]


def test_a_program_that_does_not_end_does_not_outlive_its_video(stubborn: tuple[Server, int, float]) -> None:
    server, video_id, seconds = stubborn
    with Pulse(server):
        assert server.api.delete(video_id).status == 204
        eventually(lambda: not films.programs(server.data, ""), "it has ended", seconds)
    eventually(lambda: films.leftovers(server) == [], "what it wrote is gone")
    assert "failed" not in server.log


def test_a_program_that_does_not_end_does_not_outlive_the_server(stubborn: tuple[Server, int, float]) -> None:
    server, video_id, _ = stubborn
    server.stop()  # asserts status 0
    assert films.programs(server.data, "") == []
    assert films.leftovers(server) == []
    assert films.jobs_of(server, video_id)["poster"] == "queued"


def test_a_program_that_does_not_end_dies_with_a_server_that_is_killed(
    stubborn: tuple[Server, int, float],
) -> None:
    server, video_id, _ = stubborn
    server.kill()
    eventually(lambda: not films.programs(server.data, ""), "it has ended")
    server.start()
    eventually(lambda: len(films.leftovers(server)) == 2, "only the next attempt is there: lock and folder")
    assert server.api.delete(video_id).status == 204


@pytest.fixture
def disk(tmp_path: Path, template: Template) -> Iterator[Path]:
    """A data folder on a disk of its own."""
    with data_on_disk(tmp_path / "disk", 24 * MIB, template) as data:
        yield data


def test_a_step_that_fills_the_disk_fails_and_gives_the_room_back(
    disk: Path, start_server: StartServer, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    server = start_server(
        data=disk, STREAMER_FFMPEG=stand_in(programs, "fills_the_disk"), STREAMER_STORYBOARDS="off"
    )
    server.allow(r"ERROR streamer the database failed: .*database or disk is full|video 1 failed: disk_full")
    original = films.faststart(tmp_path).read_bytes()
    before = shutil.disk_usage(disk).free
    with Pulse(server):
        video_id = server.api.upload(original)
        found = failed(server, video_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "disk_full")
    assert_goes_on(server, video_id, original)
    assert shutil.disk_usage(disk).free > before - MIB
