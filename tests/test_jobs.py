"""The queue: what waits is done once, in order, and is not lost with who does it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from streamer import accounts, jobs, videos
from streamer.database import Database, open_database
from streamer.jobs import CAPTIONS, POSTER, STORYBOARD, VARIANT
from streamer.models import Job, User, Video
from streamer.storage import locks
from streamer.storage.local import LocalStorage
from tests.concurrency import at_once
from tests.conftest import Clock

OWNER, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(open_database(tmp_path / "streamer.db")) as opened:
        yield opened


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.fixture
def alice(database: Database) -> User:
    return accounts.add(database, "alice", "correct horse battery")


MakeVideo = Callable[..., Video]


@pytest.fixture
def make_video(database: Database, alice: User) -> MakeVideo:
    """Adds a video, and queues steps of work on it."""

    def make(*steps: str) -> Video:
        count = Video.select().count(database)
        video = videos.add(
            database,
            alice.id,
            title=f"Video {count}",
            description="",
            filename="clip.mp4",
            file_path=f"videos/{count}",
            mime_type="video/mp4",
            size=1000,
            sha256="",
            media=None,
            quota_bytes=None,
        )
        for step in steps:
            enqueue(database, video, step)
        return video

    return make


def enqueue(database: Database, video: Video, step: str) -> None:
    with database.atomic():
        jobs.enqueue(database, video.id, step)
        jobs.settle(database, video.id)


def status(database: Database, video: Video) -> str:
    return str(Video.select(Video.status).where(Video.id == video.id).scalar(database))


def claim(database: Database, owner: str = OWNER) -> Job:
    job = jobs.claim(database, owner)
    assert job is not None
    return job


def test_quick_steps_of_all_videos_go_before_slow_ones(database: Database, make_video: MakeVideo) -> None:
    first = make_video(VARIANT, STORYBOARD, POSTER)
    second = make_video(CAPTIONS, POSTER)
    order = [(job.video_id, job.step) for job in iter(partial(jobs.claim, database, OWNER), None)]
    assert order == [
        (first.id, POSTER),
        (second.id, POSTER),
        (second.id, CAPTIONS),
        (first.id, STORYBOARD),
        (first.id, VARIANT),
    ]


def test_each_lane_takes_what_is_its_own(database: Database, make_video: MakeVideo) -> None:
    make_video(VARIANT, POSTER)
    assert jobs.waiting(database, jobs.QUICK)
    job = jobs.claim(database, OWNER, jobs.SLOW)
    assert job is not None
    assert job.step == VARIANT
    assert not jobs.waiting(database, jobs.SLOW)
    assert jobs.claim(database, OTHER, jobs.SLOW) is None
    job = jobs.claim(database, OTHER, jobs.QUICK)
    assert job is not None
    assert job.step == POSTER
    assert not jobs.waiting(database)


def test_job_is_claimed_once_however_many_ask(database: Database, make_video: MakeVideo) -> None:
    for _ in range(5):
        make_video(POSTER)

    def ask(owner: str) -> list[int]:
        try:
            return [job.id for job in iter(partial(jobs.claim, database, owner), None)]
        finally:
            database.close()

    claimed = at_once(*(partial(ask, f"{number:032}") for number in range(8)))
    ids = [job_id for answer in claimed if isinstance(answer, list) for job_id in answer]
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) == 5


def test_status_follows_the_jobs(database: Database, make_video: MakeVideo) -> None:
    video = make_video(POSTER, VARIANT)
    assert status(database, video) == "processing"
    assert jobs.finish(database, claim(database))
    assert status(database, video) == "processing"
    assert jobs.fail(database, claim(database), "ffmpeg_failed", "it broke", is_final=True)
    assert status(database, video) == "failed"
    assert jobs.retry(database, video.id)
    assert status(database, video) == "processing"
    assert jobs.finish(database, claim(database))
    assert status(database, video) == "ready"
    assert not jobs.retry(database, video.id)
    assert status(database, video) == "ready"


def test_failed_job_is_tried_again_later_and_not_for_ever(
    database: Database, make_video: MakeVideo, frozen: Clock
) -> None:
    video = make_video(POSTER)
    for wait in (20, 80):
        assert jobs.fail(database, claim(database), "ffmpeg_failed", "it broke")
        assert status(database, video) == "processing"
        frozen.forward(seconds=wait - 1)
        assert jobs.claim(database, OWNER) is None
        assert not jobs.waiting(database)
        frozen.forward(seconds=1)
        assert jobs.waiting(database)
    assert jobs.fail(database, claim(database), "ffmpeg_failed", "it broke")
    assert status(database, video) == "failed"
    [job] = jobs.of(database, [video.id])[video.id]
    assert (job.state, job.attempts, job.error_code, job.error_detail) == (
        "failed",
        3,
        "ffmpeg_failed",
        "it broke",
    )
    frozen.forward(days=1)
    assert jobs.claim(database, OWNER) is None


def test_what_waits_is_done_though_the_clock_was_set_back(
    database: Database, make_video: MakeVideo, frozen: Clock
) -> None:
    make_video(POSTER)
    assert jobs.fail(database, claim(database), "ffmpeg_failed", "it broke")
    frozen.forward(days=-1)
    assert jobs.waiting(database)
    assert claim(database).attempts == 2


def test_job_without_room_waits_for_a_day_and_has_not_been_tried(
    database: Database, make_video: MakeVideo, frozen: Clock
) -> None:
    video = make_video(POSTER)
    for _ in range(24 * 6 + 1):
        job = claim(database)
        assert job.attempts == 1
        assert jobs.postpone(database, job, "insufficient_storage")
        assert status(database, video) == "processing"
        frozen.forward(seconds=9 * 60)
        assert jobs.claim(database, OWNER) is None
        frozen.forward(seconds=60)
    job = claim(database)
    assert not jobs.postpone(database, job, "insufficient_storage")
    assert jobs.held(database, job.id, OWNER), "who holds it has to end it"


def test_day_of_waiting_begins_with_the_want_and_not_before(
    database: Database, make_video: MakeVideo, frozen: Clock
) -> None:
    make_video(POSTER)
    frozen.forward(days=30)  # a long queue
    assert jobs.postpone(database, claim(database), "insufficient_storage")
    frozen.forward(hours=23)
    assert jobs.postpone(database, claim(database), "insufficient_storage")
    frozen.forward(hours=2)
    assert jobs.postpone(database, claim(database), "ffmpeg_missing"), "which is another want"
    frozen.forward(hours=25)
    assert not jobs.postpone(database, claim(database), "ffmpeg_missing")


def test_backlog_waits_for_all_that_is_new(database: Database, make_video: MakeVideo) -> None:
    old = make_video()
    with database.atomic():
        for step in (POSTER, STORYBOARD, VARIANT):
            jobs.enqueue(database, old.id, step, is_backlog=True)
    new = make_video(VARIANT, STORYBOARD)
    found = list(iter(partial(jobs.claim, database, OWNER), None))
    assert [(job.video_id, job.step) for job in found] == [
        (new.id, STORYBOARD),
        (old.id, POSTER),
        (old.id, STORYBOARD),
        (new.id, VARIANT),
        (old.id, VARIANT),
    ]
    assert [jobs.is_backlog(job) for job in found] == [False, True, True, False, True]


def test_what_is_tried_again_belongs_to_no_backlog(database: Database, make_video: MakeVideo) -> None:
    video = make_video()
    with database.atomic():
        jobs.enqueue(database, video.id, POSTER, is_backlog=True)
    jobs.fail(database, claim(database), "no_picture", "", is_final=True)
    assert jobs.retry(database, video.id)
    assert not jobs.is_backlog(claim(database))


def test_what_is_left_out_is_nobodys_until_somebody_takes_it_up(
    database: Database, make_video: MakeVideo
) -> None:
    videos = [make_video(POSTER) for _ in range(3)]
    with database.atomic():
        for video in videos:
            jobs.leave_out(database, video.id, VARIANT)
    for _ in videos:
        jobs.finish(database, claim(database))
    assert [status(database, video) for video in videos] == ["ready"] * 3
    assert not jobs.retry(database, videos[0].id)
    assert not jobs.waiting(database)
    assert not jobs.take_up(database, [STORYBOARD], 2)
    assert [jobs.take_up(database, [STORYBOARD, VARIANT], 2) for _ in range(3)] == [True, True, False]
    assert [status(database, video) for video in videos] == ["processing"] * 3
    assert {job.step for job in iter(partial(jobs.claim, database, OWNER), None)} == {VARIANT}


def test_success_takes_the_error_of_an_earlier_attempt_away(
    database: Database, make_video: MakeVideo, frozen: Clock
) -> None:
    video = make_video(POSTER)
    jobs.fail(database, claim(database), "ffmpeg_failed", "it broke")
    frozen.forward(seconds=20)
    jobs.finish(database, claim(database))
    [job] = jobs.of(database, [video.id])[video.id]
    assert (job.state, job.error_code, job.error_detail) == ("done", None, None)


def test_job_that_was_given_back_has_not_been_tried(database: Database, make_video: MakeVideo) -> None:
    make_video(POSTER)
    for _ in range(10):
        job = claim(database)
        assert job.attempts == 1
        jobs.give_back(database, job)


def test_a_silent_worker_keeps_its_job_as_long_as_it_lives(
    database: Database, storage: LocalStorage, make_video: MakeVideo, frozen: Clock
) -> None:
    make_video(POSTER)
    with closing(storage.scratch()) as scratch:
        job = claim(database, scratch.name)
        frozen.forward(days=1)
        jobs.give_back_lost(database, storage)
        assert jobs.claim(database, OTHER) is None
        assert jobs.finish(database, job)


def test_without_locks_a_lease_holds_as_long_as_it_is_renewed(
    database: Database,
    storage: LocalStorage,
    make_video: MakeVideo,
    frozen: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "AVAILABLE", False)
    monkeypatch.setattr(locks, "try_lock", lambda descriptor: True)
    make_video(POSTER)
    job = claim(database)
    for percent in (10.0, 20.0, 30.0):
        frozen.forward(seconds=50)
        jobs.give_back_lost(database, storage)
        assert jobs.beat(database, job, percent, 100 - percent)
    assert jobs.claim(database, OTHER) is None
    frozen.forward(seconds=60)
    jobs.give_back_lost(database, storage)
    assert claim(database, OTHER).attempts == 1
    # who was silent for so long has nothing to say any more
    assert not jobs.beat(database, job, 40.0, 60.0)
    assert not jobs.finish(database, job)
    assert not jobs.fail(database, job, "timed_out", "too late", is_final=True)


def test_job_of_a_dead_worker_goes_back_at_once(
    database: Database, storage: LocalStorage, make_video: MakeVideo
) -> None:
    make_video(POSTER)
    scratch = storage.scratch()
    claim(database, scratch.name)
    jobs.give_back_lost(database, storage)
    assert jobs.claim(database, OTHER) is None
    scratch.close()
    jobs.give_back_lost(database, storage)
    assert claim(database, OTHER).owner == OTHER


def test_job_that_no_worker_survives_fails_in_the_end(
    database: Database, storage: LocalStorage, make_video: MakeVideo
) -> None:
    video = make_video(POSTER)
    for losses in range(jobs.MOST_LOSSES + 1):
        assert (claim(database).losses, status(database, video)) == (losses, "processing")
        jobs.give_back_lost(database, storage)
    [job] = jobs.of(database, [video.id])[video.id]
    assert (job.state, job.error_code, status(database, video)) == ("failed", "worker_died", "failed")
    assert jobs.retry(database, video.id)
    assert (claim(database).losses, status(database, video)) == (0, "processing")


def test_deleted_video_takes_its_jobs_along(database: Database, make_video: MakeVideo, alice: User) -> None:
    video = make_video(POSTER)
    job = claim(database)
    videos.remove(database, alice, video)
    assert not jobs.beat(database, job, 1.0, None)
    assert not jobs.finish(database, job)
    assert jobs.claim(database, OTHER) is None


def test_step_that_is_queued_again_begins_anew(database: Database, make_video: MakeVideo) -> None:
    video = make_video(POSTER)
    job = claim(database)
    enqueue(database, video, POSTER)
    assert not jobs.finish(database, job)
    assert status(database, video) == "processing"
    assert claim(database).attempts == 1


def test_jobs_of_some_videos_are_told_in_the_order_of_the_steps(
    database: Database, make_video: MakeVideo
) -> None:
    first, second, third = make_video(VARIANT, POSTER), make_video(), make_video(CAPTIONS)
    found = jobs.of(database, [first.id, second.id])
    assert {video_id: [job.step for job in of] for video_id, of in found.items()} == {
        first.id: [POSTER, VARIANT],
        second.id: [],
    }
    assert third.id not in found


def test_step_that_nobody_knows_is_not_queued(database: Database, make_video: MakeVideo) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        make_video("nonsense")
    assert not Job.select().exists(database)


def test_options_go_with_the_job_until_it_is_queued_again(database: Database, make_video: MakeVideo) -> None:
    video = make_video()
    for options, kept in (({"time": 1.5}, '{"time": 1.5}'), (None, "{}")):
        with database.atomic():
            jobs.enqueue(database, video.id, POSTER, options)
        assert claim(database).options == kept


def test_video_with_nothing_to_do_is_ready(database: Database, make_video: MakeVideo) -> None:
    video = make_video()
    Video.update(status="processing").execute(database)
    assert jobs.settle(database, video.id) == "ready"
    assert status(database, video) == "ready"


@pytest.mark.parametrize("end", ["finish", "fail", "give_back"])
def test_ended_job_holds_nothing_any_more(database: Database, make_video: MakeVideo, end: str) -> None:
    video = make_video(POSTER)
    job = claim(database)
    jobs.beat(database, job, 50.0, 7.0)
    jobs.reserve(database, job, 1000)
    if end == "fail":
        jobs.fail(database, job, "ffmpeg_failed", "it broke")
    else:
        getattr(jobs, end)(database, job)
    [row] = jobs.of(database, [video.id])[video.id]
    assert not any((row.owner, row.leased_until, row.reserved, row.percent, row.eta))


def test_what_another_one_holds_is_not_touched(database: Database, make_video: MakeVideo) -> None:
    video = make_video(POSTER)
    job = claim(database)
    Job.update(owner=OTHER).execute(database)
    assert jobs.held(database, job.id, OWNER) is None
    assert not jobs.beat(database, job, 50.0, None)
    jobs.reserve(database, job, 1000)
    jobs.give_back(database, job)
    assert not jobs.finish(database, job)
    assert not jobs.fail(database, job, "timed_out", "", is_final=True)
    [row] = jobs.of(database, [video.id])[video.id]
    assert (row.owner, row.state, row.reserved, row.percent) == (OTHER, "running", 0, None)


def test_retry_queues_what_has_failed_and_nothing_else(
    database: Database, make_video: MakeVideo, frozen: Clock
) -> None:
    video, other = make_video(POSTER, CAPTIONS, VARIANT), make_video(POSTER)
    jobs.fail(database, claim(database), "no_picture", "nothing there", is_final=True)
    jobs.fail(database, claim(database), "no_picture", "nothing there", is_final=True)
    jobs.finish(database, claim(database))
    assert jobs.retry(database, video.id)
    states = {
        job.step: (job.state, job.attempts, job.error_code) for job in jobs.of(database, [video.id])[video.id]
    }
    assert states == {
        POSTER: ("queued", 0, None),
        CAPTIONS: ("done", 1, None),
        VARIANT: ("queued", 0, None),
    }
    assert status(database, other) == "failed"


def test_jobs_of_all_dead_workers_go_back_and_those_of_live_ones_stay(
    database: Database, storage: LocalStorage, make_video: MakeVideo
) -> None:
    for _ in range(9):
        make_video(POSTER)
    with closing(storage.scratch()) as alive:
        dead = [f"{number:032x}" for number in range(6)]
        held = [claim(database, owner).id for owner in (*dead, *[alive.name] * 3)]
        jobs.give_back_lost(database, storage)
        running = Job.select(Job.id).where(Job.state == "running").tuples().execute(database)
        assert sorted(job_id for (job_id,) in running) == sorted(held[6:])


def test_those_who_give_back_and_claim_at_once_do_each_job_once(
    database: Database, storage: LocalStorage, make_video: MakeVideo
) -> None:
    for _ in range(10):
        make_video(POSTER)
    while jobs.claim(database, "0" * 32):  # whose worker is dead
        pass

    def work() -> list[int]:
        done = []
        try:
            with closing(storage.scratch()) as scratch:
                for _ in range(30):
                    jobs.give_back_lost(database, storage)
                    job = jobs.claim(database, scratch.name)
                    if job is not None and jobs.finish(database, job):
                        done.append(job.id)
            return done
        finally:
            database.close()

    answers = at_once(work, work, work)
    done = [job_id for answer in answers if isinstance(answer, list) for job_id in answer]
    assert sorted(done) == sorted(set(done))
    assert len(done) == 10
