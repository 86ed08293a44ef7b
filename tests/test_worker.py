"""The worker does every job once, gives back what it cannot end, and outlives whatever goes wrong."""

import errno
import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import peewee
import pytest

from streamer import cleanup, jobs, planning, processing, videos, worker
from streamer.errors import FfmpegFailed
from streamer.ffmpeg import variants
from streamer.ffmpeg.variants import Remedy, Variant
from streamer.ffmpeg.work import Work
from streamer.intake import Intake
from streamer.models import Job, User, Video
from streamer.processing import Hold
from streamer.worker import Workers
from tests.conftest import Clock
from tests.ffmpeg import clips
from tests.media import (
    add,
    again,
    assert_tidy,
    film,
    jobs_of,
    made_of,
    open_intake,
    with_stand_in,
    work_off,
)

PATIENCE_SECONDS = 30  # of every wait for what comes for sure
PROMPT_SECONDS = 3  # until ffmpeg is gone; doubled, as the machine may be busy


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


MakeIntake = Callable[..., Intake]


@pytest.fixture
def make_intake(tmp_path: Path) -> Iterator[MakeIntake]:
    """Opens one data folder, each time as another process does."""
    made: list[Intake] = []

    def make(tools: object = None, **settings: object) -> Intake:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        made.append(open_intake(folder, tools or clips.tools(), **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for intake in made:
        intake.database.close()


@pytest.fixture
def slow(make_intake: MakeIntake, tmp_path: Path) -> Intake:
    """One whose ffmpeg does nothing, and does not end."""
    return make_intake(with_stand_in(tmp_path, "sleeps"), storyboards=False, transcode=False)


def wait_for(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def working(intake: Intake, count: int = 1) -> Iterator[Workers]:
    workers = Workers(intake)
    with workers.running(count):
        yield workers


def is_settled(intake: Intake) -> bool:
    return not Job.select().where(Job.state.in_(["queued", "running"])).exists(intake.database)


def ffmpeg_in(intake: Intake) -> int:
    """The number of the ffmpeg that sleeps in a scratch folder, once it does."""
    found: list[Path] = []

    def has_begun() -> bool:
        found[:] = (intake.config.data / "scratch").glob("*/pid")
        return bool(found)

    wait_for(has_begun)
    return int(found[0].read_text())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def delete(intake: Intake, video: Video) -> None:
    """As a request does."""
    user = User.select().get(intake.database)
    cleanup.remove_orphans(intake.database, intake.storage, videos.remove(intake.database, user, video))


# --- one job after the other


def test_without_a_job_there_is_nothing_to_do(make_intake: MakeIntake) -> None:
    intake = make_intake()
    assert not worker.work(intake, threading.Event())
    assert_tidy(intake)


def test_one_call_does_one_job(make_intake: MakeIntake, films: Path) -> None:
    intake = make_intake()
    video = add(intake, film(films, "plays.mp4"))
    assert worker.work(intake, threading.Event())
    assert [job.state for job in jobs_of(intake, video).values()] == ["done", "queued"]
    assert_tidy(intake)


def test_job_tells_how_far_it_is(
    make_intake: MakeIntake, films: Path, monkeypatch: pytest.MonkeyPatch, frozen: Clock
) -> None:
    monkeypatch.setattr(worker, "HELD_SECONDS", 0.0)
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.0)
    intake = make_intake()
    video = add(intake, film(films, "plays.mp4"))
    job = jobs.claim(intake.database, "0" * 32)
    assert job is not None
    hold = worker.Hold(intake, job, threading.Event())
    for fraction, percent in ((-1.0, 0.0), (0.25, 25.0), (0.12345, 12.3), (7.0, 100.0)):
        frozen.forward(seconds=30)
        hold.progress(fraction)
        assert not hold.should_stop()
        row = jobs_of(intake, video)[job.step]
        assert row.percent == percent
        assert (row.eta is None) == (percent == 0)
        assert row.leased_until == frozen.now() + jobs.LEASE


def test_two_workers_do_every_job_once(
    make_intake: MakeIntake, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intakes = [make_intake() for _ in range(2)]
    added = [add(intakes[0], film(films, "plays.mp4")) for _ in range(6)]
    perform, done = processing.perform, []

    def count(intake: Intake, job: Job, folder: Path, hold: Hold) -> None:
        done.append((job.video_id, job.step))
        perform(intake, job, folder, hold)

    monkeypatch.setattr(processing, "perform", count)
    with working(intakes[0]), working(intakes[1]):
        wait_for(lambda: is_settled(intakes[0]), 120)
    assert sorted(done) == sorted((video.id, step) for video in added for step in ("poster", "storyboard"))
    assert {again(intakes[0], video).status for video in added} == {"ready"}
    assert all(len(made_of(intakes[0], video)) == 3 for video in added)
    assert_tidy(intakes[0])


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_quick_has_a_worker_of_its_own(make_intake: MakeIntake, count: int) -> None:
    with working(make_intake(), count):
        names = {thread.name for thread in threading.enumerate()}
    assert {name for name in names if name.startswith("streamer-worker")} == {
        "streamer-worker-end",
        *(f"streamer-worker-{number}" for number in range(count + 1)),
    }


def test_poster_of_a_new_video_does_not_wait_for_a_transcode(
    make_intake: MakeIntake, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, may_end = variants.make, threading.Event()

    def make_late(work: Work, remedy: Remedy) -> Variant:
        assert may_end.wait(PATIENCE_SECONDS)
        return make(work, remedy)

    monkeypatch.setattr(variants, "make", make_late)
    intake = make_intake(storyboards=False)
    first = add(intake, film(films, "wrapped.mkv"))
    with working(intake):
        wait_for(lambda: jobs_of(intake, first)["variant"].state == "running")
        second = add(intake, film(films, "plays.mp4"))
        wait_for(lambda: again(intake, second).status == "ready")
        assert jobs_of(intake, first)["variant"].state == "running"
        may_end.set()
        wait_for(lambda: again(intake, first).status == "ready")
    assert_tidy(intake)


def test_without_ffmpeg_no_worker_runs(make_intake: MakeIntake) -> None:
    intake = make_intake()
    without = Intake(intake.database, intake.storage, intake.config)
    with Workers(without).running(3):
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("streamer-worker")]


# --- what ends it before it is done


def test_worker_that_is_told_to_end_gives_back_and_kills_ffmpeg(slow: Intake, films: Path) -> None:
    video = add(slow, film(films, "plays.mp4"))
    with working(slow) as workers:
        pid = ffmpeg_in(slow)
        began = time.monotonic()
        workers.stop()
    assert time.monotonic() - began < 2 * PROMPT_SECONDS
    assert not is_alive(pid)
    job = jobs_of(slow, video)["poster"]
    assert (job.state, job.attempts, job.owner, job.percent) == ("queued", 0, None, None)
    assert again(slow, video).status == "processing"
    assert_tidy(slow)


@pytest.mark.parametrize("name", ["sleeps", "ignores_sigterm"])
def test_deleting_the_video_kills_its_ffmpeg_and_leaves_nothing(
    make_intake: MakeIntake, films: Path, tmp_path: Path, name: str
) -> None:
    intake = make_intake(with_stand_in(tmp_path, name), storyboards=False)
    video = add(intake, film(films, "plays.mp4"))
    with working(intake):
        pid = ffmpeg_in(intake)
        delete(intake, video)
        wait_for(lambda: not is_alive(pid), 2 * PROMPT_SECONDS + 2)
    assert not Job.select().exists(intake.database)
    assert_tidy(intake)


def test_deleting_the_video_while_it_is_transcoded_leaves_no_file(
    make_intake: MakeIntake, films: Path, tmp_path: Path
) -> None:
    path = clips.film(tmp_path / "long.mkv", "testsrc2=s=640x480:r=30:d=60", *clips.H264[:2], *clips.H264[2:])
    intake = make_intake(storyboards=False)
    video = add(intake, path)
    Video.update(media=str(video.media).replace('"h264"', '"prores"').replace("avc1.", "none.")).execute(
        intake.database
    )
    Job.delete().where(Job.step != "variant").execute(intake.database)
    scratch = intake.config.data / "scratch"
    with working(intake):
        wait_for(lambda: any(path.stat().st_size for path in scratch.glob("*/web.mp4")))
        delete(intake, video)
        wait_for(lambda: not list(scratch.iterdir()), 2 * PROMPT_SECONDS)
    assert_tidy(intake)


def test_job_that_went_to_another_is_let_go(slow: Intake, films: Path) -> None:
    video = add(slow, film(films, "plays.mp4"))
    with working(slow):
        pid = ffmpeg_in(slow)
        Job.update(owner="f" * 32).execute(slow.database)
        wait_for(lambda: not is_alive(pid), 2 * PROMPT_SECONDS)
        job = jobs_of(slow, video)["poster"]
        assert (job.state, job.owner, job.attempts) == ("running", "f" * 32, 1)
        # the next sweep finds that nobody works there
        jobs.give_back_lost(slow.database, slow.storage)
        ffmpeg_in(slow)
    assert_tidy(slow)


def test_sweep_leaves_a_live_worker_alone(slow: Intake, films: Path, make_intake: MakeIntake) -> None:
    video = add(slow, film(films, "plays.mp4"))
    with working(slow):
        pid = ffmpeg_in(slow)
        for _ in range(3):
            cleanup.sweep(make_intake())
        assert is_alive(pid)
        assert ffmpeg_in(slow) == pid
        assert jobs_of(slow, video)["poster"].state == "running"


# --- what goes wrong


class Usage(NamedTuple):
    """What ``shutil.disk_usage`` tells."""

    total: int
    used: int
    free: int


def test_no_room_for_a_variant_leaves_everything_else(
    make_intake: MakeIntake, films: Path, monkeypatch: pytest.MonkeyPatch, frozen: Clock
) -> None:
    intake = make_intake(storyboards=False)
    video = add(intake, film(films, "wrapped.mkv"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 10**6, 10**6))
    work_off(intake)
    for _ in range(5):
        job = jobs_of(intake, video)["variant"]
        assert (job.state, job.attempts, job.error_code) == ("queued", 0, "insufficient_storage")
        assert again(intake, video).status == "processing"
        frozen.forward(minutes=10)
        work_off(intake)
    frozen.forward(days=1)
    work_off(intake)
    job = jobs_of(intake, video)["variant"]
    assert (job.state, job.error_code) == ("failed", "insufficient_storage")
    assert again(intake, video).status == "failed"
    assert set(made_of(intake, video)) == {("poster", "160")}
    assert_tidy(intake)
    monkeypatch.undo()
    assert jobs.retry(intake.database, video.id)
    work_off(intake)
    assert again(intake, video).status == "ready"
    assert ("variant", "web") in made_of(intake, video)


def test_job_that_breaks_in_a_way_that_nobody_foresaw_does_not_stop_the_next(
    make_intake: MakeIntake, films: Path, frozen: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    intake = make_intake(storyboards=False)
    bad, good = (add(intake, film(films, "plays.mp4")) for _ in range(2))
    Job.update(options="no JSON").where(Job.video == bad.id).execute(intake.database)
    assert work_off(intake) == 2
    assert again(intake, good).status == "ready"
    for wait in (20, 80):
        assert again(intake, bad).status == "processing"
        frozen.forward(seconds=wait)
        assert work_off(intake) == 1
    job = jobs_of(intake, bad)["poster"]
    assert (job.state, job.error_code) == ("failed", "internal_error")
    assert "JSONDecodeError" in caplog.text
    assert_tidy(intake)


def test_what_is_hopeless_is_tried_once_and_what_may_pass_again(
    make_intake: MakeIntake, films: Path, tmp_path: Path, frozen: Clock
) -> None:
    intake = make_intake(with_stand_in(tmp_path, "reports_a_full_disk"), storyboards=False)
    video = add(intake, film(films, "plays.mp4"))
    work_off(intake)
    job = jobs_of(intake, video)["poster"]
    assert (job.state, job.error_code) == ("queued", "disk_full")
    hopeless = make_intake(storyboards=False)
    other = add(hopeless, film(films, "plays.mp4"))
    Video.update(media=None).where(Video.id == other.id).execute(hopeless.database)
    work_off(hopeless)
    job = jobs_of(hopeless, other)["poster"]
    assert (job.state, job.error_code, job.attempts) == ("failed", "unreadable", 1)
    frozen.forward(seconds=20)
    work_off(hopeless)  # the disk has room again
    assert again(hopeless, video).status == "ready"


@pytest.mark.parametrize(
    ("wants", "code"),
    [
        (peewee.OperationalError("database or disk is full"), "insufficient_storage"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "insufficient_storage"),
        (FfmpegFailed("disk_full", "No space left on device"), "insufficient_storage"),
        (FfmpegFailed("ffmpeg_missing", "it cannot be run"), "ffmpeg_missing"),
    ],
)
def test_job_that_lacks_what_all_lack_waits_and_so_do_those_behind_it(
    make_intake: MakeIntake,
    films: Path,
    frozen: Clock,
    monkeypatch: pytest.MonkeyPatch,
    wants: Exception,
    code: str,
) -> None:
    intake = make_intake(storyboards=False)
    added = [add(intake, film(films, "plays.mp4")) for _ in range(2)]

    def lack(*arguments: object) -> None:
        raise wants

    with monkeypatch.context() as patch:
        patch.setattr(processing, "perform", lack)
        patch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 0))
        assert not worker.work(intake, threading.Event()), "nobody is in a hurry to try the next one"
        first, second = (jobs_of(intake, video)["poster"] for video in added)
        assert (first.state, first.attempts, first.error_code) == ("queued", 0, code)
        assert (second.attempts, second.error_code) == (0, None)
        assert [again(intake, video).status for video in added] == ["processing"] * 2
        while jobs_of(intake, added[0])["poster"].state == "queued":
            frozen.forward(minutes=10)
            worker.work(intake, threading.Event())
            worker.work(intake, threading.Event())
        assert jobs_of(intake, added[0])["poster"].error_code == code, "after a day"
    assert jobs.retry(intake.database, added[0].id)
    work_off(intake)
    assert again(intake, added[0]).status == "ready"


def test_step_that_is_not_to_be_done_any_more_is_left_out(make_intake: MakeIntake, films: Path) -> None:
    video = add(make_intake(), film(films, "wrapped.mkv"))
    without = make_intake(transcode=False)
    work_off(without)
    assert jobs_of(without, video)["variant"].state == "left_out"
    assert again(without, video).status == "ready"
    intake = make_intake()
    planning.plan_missing(intake.database, intake.config, intake.tools)
    work_off(intake)
    assert jobs_of(intake, video)["variant"].state == "done"


@contextmanager
def locked(intake: Intake) -> Iterator[None]:
    """Somebody else writes, and does not end."""
    path = intake.config.data / "streamer.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_worker_goes_on_when_the_database_can_be_written_again(
    make_intake: MakeIntake,
    films: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("streamer.database.BUSY_TIMEOUT_SECONDS", 0.05)
    intake = make_intake(storyboards=False)
    video = add(intake, film(films, "plays.mp4"))
    with locked(intake):
        stopping = threading.Event()
        thread = threading.Thread(target=worker.run, args=(intake, stopping))
        thread.start()
        wait_for(lambda: "cannot work on the queue now: database is locked" in caplog.text)
    wait_for(lambda: again(intake, video).status == "ready")
    stopping.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert_tidy(intake)


def test_worker_goes_on_after_what_nobody_foresaw(
    make_intake: MakeIntake, films: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    intake, claim, refused = make_intake(storyboards=False), jobs.claim, threading.Event()

    def refuse_once(*arguments: Any) -> Job | None:
        if refused.is_set():
            return claim(*arguments)
        refused.set()
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(jobs, "claim", refuse_once)
    video = add(intake, film(films, "plays.mp4"))
    with working(intake):
        wait_for(lambda: again(intake, video).status == "ready")
    assert "RuntimeError: a mistake of ours" in caplog.text
    assert_tidy(intake)


def test_lease_that_cannot_be_renewed_for_a_moment_is_no_reason_to_stop(
    make_intake: MakeIntake,
    films: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("streamer.database.BUSY_TIMEOUT_SECONDS", 0.05)
    intake = make_intake()
    add(intake, film(films, "plays.mp4"))
    job = jobs.claim(intake.database, "0" * 32)
    assert job is not None
    hold = worker.Hold(intake, job, threading.Event())
    with locked(intake):
        assert not hold.should_stop()
    assert "cannot renew the lease of a job" in caplog.text


@pytest.mark.parametrize("call", ["open", "mkdir"])
def test_full_disk_costs_a_worker_nothing_and_it_goes_on_later(
    make_intake: MakeIntake,
    films: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    intake = make_intake(storyboards=False)
    video = add(intake, film(films, "plays.mp4"))
    system_call = getattr(os, call)

    def fill(path: object, *arguments: object, **options: object) -> object:
        if "/scratch/" in str(path):
            raise OSError(28, os.strerror(28))
        return system_call(path, *arguments, **options)

    monkeypatch.setattr(worker, "POLL_SECONDS", 0.01)
    before = len(os.listdir("/proc/self/fd"))
    stopping = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fill)
        thread = threading.Thread(target=worker.run, args=(intake, stopping))
        thread.start()
        wait_for(lambda: caplog.text.count("cannot work on the queue now") > 20)
        assert len(os.listdir("/proc/self/fd")) < before + 10
    wait_for(lambda: again(intake, video).status == "ready")
    stopping.set()
    thread.join(PATIENCE_SECONDS)
    assert_tidy(intake)


def test_log_tells_what_was_made_and_how_long_it_took(
    make_intake: MakeIntake, films: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamer")
    intake = make_intake(storyboards=False)
    add(intake, film(films, "plays.mp4"))
    work_off(intake)
    assert any(line.startswith("made the poster of video 1 in ") for line in caplog.messages)
