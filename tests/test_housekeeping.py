"""The data folder is looked after once in a while: in a thread of its own that ends when it is done."""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import peewee
import pytest

from streamer import accounts, digests, facts, housekeeping, jobs, planning, uploads
from streamer.config import Config
from streamer.database import Database, open_database
from streamer.housekeeping import CATCH_UP_SECONDS, INTERVAL_SECONDS, Housekeeping, look_after
from streamer.intake import Intake
from streamer.models import Job, Upload, Video
from streamer.storage.local import LocalStorage
from streamer.uploads import Plan
from tests import media
from tests.conftest import Clock, MakeApp
from tests.ffmpeg import clips
from tests.helpers import Client, Ticks, video_bytes
from tests.wsgi import intake_of, stored_files

DATA = video_bytes(5000)
PATIENCE_SECONDS = 30  # of every wait for a step that comes for sure


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    database = open_database(tmp_path / "streamer.db")
    accounts.add(database, "alice", "correct horse battery")
    yield Intake(database, LocalStorage(tmp_path), Config(data=tmp_path, min_free_bytes=0))
    database.close()


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    stopped = Ticks()
    monkeypatch.setattr(time, "monotonic", stopped.monotonic)
    return stopped


class Work:
    """Takes the place of the work, and waits for a test to let it end."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.error: Exception | None = None

    def __call__(self, intake: Intake) -> None:
        self.threads.append(threading.current_thread())
        assert self.may_end.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    work = Work()
    monkeypatch.setattr(housekeeping, "look_after", work)
    return work


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while not is_so():
        assert time.perf_counter() < deadline
        threading.Event().wait(0.005)


def finish() -> None:
    """Wait for the thread, if there is one."""
    for thread in threading.enumerate():
        if thread.name == "streamer-housekeeping":
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()


def test_it_runs_when_it_is_due_and_once(intake: Intake, ticks: Ticks, work: Work) -> None:
    keeper = Housekeeping(intake)
    for seconds, runs in ((0, 0), (INTERVAL_SECONDS - 1, 0), (1, 1), (0, 1), (INTERVAL_SECONDS, 2)):
        ticks.time += seconds
        keeper.tick()
        finish()
        assert len(work.threads) == runs


def test_nothing_runs_before_somebody_asks(intake: Intake, ticks: Ticks, work: Work) -> None:
    """A host may fork until then."""
    Housekeeping(intake)
    ticks.time += 10 * INTERVAL_SECONDS
    finish()
    assert work.threads == []


def test_it_runs_in_a_thread_that_keeps_no_process_alive(intake: Intake, ticks: Ticks, work: Work) -> None:
    keeper = Housekeeping(intake)
    work.may_end.clear()
    ticks.time += INTERVAL_SECONDS
    keeper.tick()
    wait_for(lambda: bool(work.threads))
    [thread] = work.threads
    assert thread is not threading.current_thread()
    assert thread.daemon
    work.may_end.set()
    finish()
    assert not thread.is_alive()


def test_it_does_not_begin_again_while_it_runs(intake: Intake, ticks: Ticks, work: Work) -> None:
    keeper = Housekeeping(intake)
    work.may_end.clear()
    for _ in range(3):
        ticks.time += INTERVAL_SECONDS
        keeper.tick()
    work.may_end.set()
    finish()
    assert len(work.threads) == 1
    keeper.tick()
    finish()
    assert len(work.threads) == 2, "what has become due meanwhile"


@pytest.mark.parametrize(("ttl", "interval"), [(1, 0.5), (60, 30), (7 * 86400, INTERVAL_SECONDS)])
def test_it_runs_as_often_as_uploads_can_expire(
    intake: Intake, ticks: Ticks, work: Work, ttl: int, interval: float
) -> None:
    keeper = Housekeeping(
        Intake(intake.database, intake.storage, Config(data=intake.config.data, upload_ttl=ttl))
    )
    ticks.time += interval - 0.01
    keeper.tick()
    finish()
    assert work.threads == []
    ticks.time += 0.01
    keeper.tick()
    finish()
    assert len(work.threads) == 1


def test_its_connection_is_closed(intake: Intake, ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[tuple[str, bool]] = []
    close = Database.close

    def record(self: Database) -> object:
        closed.append((threading.current_thread().name, not self.is_closed()))
        return close(self)

    keeper = Housekeeping(intake)
    monkeypatch.setattr(Database, "close", record)
    ticks.time += INTERVAL_SECONDS
    keeper.tick()
    finish()
    assert closed == [("streamer-housekeeping", True)], "it was open, and is not any more"


@pytest.mark.parametrize(
    "error", [OSError("no disk"), peewee.OperationalError("locked"), peewee.DatabaseError("malformed")]
)
def test_a_failure_is_logged_and_it_goes_on_the_next_time(
    intake: Intake, ticks: Ticks, work: Work, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    keeper = Housekeeping(intake)
    work.error = error
    ticks.time += INTERVAL_SECONDS
    keeper.tick()
    finish()
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"cannot look after the data folder now: {error}"
    work.error = None
    ticks.time += INTERVAL_SECONDS
    keeper.tick()
    finish()
    assert len(work.threads) == 2
    assert len(caplog.records) == 1


# --- what it does


def test_it_removes_what_has_expired_and_computes_what_is_missing(intake: Intake, frozen: Clock) -> None:
    with closing(uploads.begin(intake, 1, Plan(length=len(DATA)))) as append:
        append.feed(DATA)
        append.end()
    Video.update(sha256="").execute(intake.database)
    with closing(uploads.begin(intake, 1, Plan(length=len(DATA)))) as append:
        append.feed(DATA[:1000])
        append.end()
    frozen.forward(days=8)
    look_after(intake)
    [video] = Video.select().execute(intake.database)
    assert video.sha256 == hashlib.sha256(DATA).hexdigest()
    assert stored_files(intake.config.data) == [video.file_path]
    assert not Upload.select().exists(intake.database)


def test_every_request_lets_it_run(make_app: MakeApp, ticks: Ticks, frozen: Clock) -> None:
    app = make_app()
    alice = Client(app).sign_up("alice")
    intake = intake_of(app)
    with closing(uploads.begin(intake, 1, Plan(length=len(DATA)))) as append:
        append.feed(DATA[:1000])
        append.end()
    frozen.forward(days=8)
    alice.get("/health", status=200)
    assert len(stored_files(app.config.data)) == 1
    ticks.time += INTERVAL_SECONDS
    alice.get("/health", status=200)
    finish()
    assert stored_files(app.config.data) == []


def test_a_data_folder_that_is_gone_does_not_stop_requests(
    make_app: MakeApp, ticks: Ticks, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    shutil.rmtree(app.config.data)
    ticks.time += INTERVAL_SECONDS
    Client(app).get("/openapi.json", status=200)
    finish()
    assert "cannot look after the data folder now" in caplog.text


def test_it_looks_into_old_videos_then_plans_their_work_and_gives_lost_jobs_back(
    intake: Intake, tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for _ in range(2):
        media.add(intake, media.film(films, "plays.mp4"))
    Video.update(media=None, read_by=0).execute(intake.database)
    look_after(intake)
    assert not Job.select().exists(intake.database), "without ffmpeg"
    assert all(video.media for video in Video.select().execute(intake.database))
    Video.update(media=None, read_by=0).execute(intake.database)
    look_after(replace(intake, tools=clips.tools()))
    order = [(job.video_id, job.step) for job in Job.select().order_by(Job.id).execute(intake.database)]
    assert order == [(number, step) for number in (1, 2) for step in ("poster", "storyboard")]
    assert jobs.claim(intake.database, "0" * 32) is not None
    look_after(replace(intake, tools=clips.tools()))
    assert {job.state for job in Job.select().execute(intake.database)} == {"queued"}
    assert Job.select().count(intake.database) == 4


def test_it_catches_up_with_a_large_library_for_a_while_each_time(
    intake: Intake, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    until: list[float] = []
    monkeypatch.setattr(facts, "read_missing", lambda database, storage, end: until.append(end))
    monkeypatch.setattr(planning, "plan_missing", lambda database, config, tools, end: until.append(end))
    monkeypatch.setattr(digests, "compute_missing", lambda database, storage, end: until.append(end))
    look_after(intake)
    assert until == [ticks.time + CATCH_UP_SECONDS] * 3


def test_want_of_a_thread_is_told_and_it_goes_on_the_next_time(
    intake: Intake,
    ticks: Ticks,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    housekeeping = Housekeeping(intake)
    ticks.time += INTERVAL_SECONDS
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        housekeeping.tick()
    assert "can't start new thread" in caplog.text
    ticks.time += INTERVAL_SECONDS
    housekeeping.tick()
    wait_for(lambda: len(work.threads) == 1)
    finish()
