"""Room is promised once: to all processes of a data folder, for as long as an upload is on its way in."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer import accounts, jobs, uploads, videos
from streamer.config import Config
from streamer.database import open_database
from streamer.errors import BodyTooLarge, InsufficientStorage, NotAuthenticated, QuotaExceeded
from streamer.intake import (
    DIRECT,
    FINAL,
    PARTIAL,
    WHOLE,
    Intake,
    require_room,
    require_size,
    reserve_for_job,
    room,
)
from streamer.models import Job, Upload, User
from streamer.storage.local import LocalStorage, Scratch
from streamer.uploads import Plan
from tests.concurrency import at_once
from tests.helpers import video_bytes

QUOTA = 10_000
FREE = 100_000


class Usage(NamedTuple):
    """What ``shutil.disk_usage`` tells."""

    total: int
    used: int
    free: int


SetFree = Callable[[int], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SetFree:
    """Sets what is free of the disk."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10 * FREE, 10 * FREE - free, free))

    set_free(FREE)
    return set_free


MakeIntake = Callable[..., Intake]


@pytest.fixture
def make_intake(tmp_path: Path) -> Iterator[MakeIntake]:
    """Opens the data folder, each time as another process does."""
    made: list[Intake] = []

    def make(**settings: int | None) -> Intake:
        config = Config(data=tmp_path, **({"min_free_bytes": 0} | settings))
        made.append(Intake(open_database(tmp_path / "streamer.db"), LocalStorage(tmp_path), config))
        return made[-1]

    yield make
    for intake in made:
        intake.database.close()


@pytest.fixture
def intake(make_intake: MakeIntake, disk: SetFree) -> Intake:
    """One with a quota, on a disk of which we know what is free."""
    return make_intake(quota_bytes=QUOTA)


@pytest.fixture
def alice(intake: Intake) -> User:
    return accounts.add(intake.database, "alice", "correct horse battery")


@pytest.fixture
def robert(intake: Intake) -> User:
    return accounts.add(intake.database, "robert", "correct horse battery")


def begin(intake: Intake, user: User, size: int, kind: str = WHOLE) -> Upload:
    """An upload that was promised so many bytes, and that no request holds."""
    with closing(uploads.begin(intake, user.id, Plan(kind=kind, length=size))) as append:
        append.end()
        return append.upload


def add_video(intake: Intake, user: User, size: int) -> None:
    facts = {"title": "A film", "description": "", "filename": "film.mp4", "mime_type": "video/mp4"}
    videos.add(
        intake.database,
        user.id,
        **facts,
        file_path="videos/one",
        size=size,
        sha256="",
        media=None,
        quota_bytes=None,
    )


# --- the limit and the quota


@pytest.mark.parametrize(("size", "fits"), [(0, True), (1000, True), (1001, False), (10**30, False)])
def test_a_video_is_as_large_as_the_limit_and_no_byte_larger(
    make_intake: MakeIntake, size: int, fits: bool
) -> None:
    intake = make_intake(max_upload_bytes=1000)
    if fits:
        require_size(intake, size)
        return
    with pytest.raises(BodyTooLarge) as caught:
        require_size(intake, size)
    assert caught.value.limit == 1000


def test_videos_and_unfinished_uploads_count_against_the_quota(intake: Intake, alice: User) -> None:
    add_video(intake, alice, 2000)
    upload = begin(intake, alice, 5000)
    assert room(intake, alice.id).quota_used == 7000
    require_room(intake, alice.id, 3000, WHOLE)
    with pytest.raises(QuotaExceeded) as caught:
        require_room(intake, alice.id, 3001, WHOLE)
    assert (caught.value.quota, caught.value.used) == (QUOTA, 7000)
    uploads.remove(intake, upload)
    require_room(intake, alice.id, 8000, WHOLE)


def test_uploads_of_others_count_against_the_disk_only(intake: Intake, alice: User, robert: User) -> None:
    begin(intake, robert, 9000)
    assert room(intake, alice.id) == (FREE - 9000, 0)
    assert room(intake, robert.id) == (FREE - 9000, 9000)


@pytest.mark.parametrize("kind", [DIRECT, WHOLE, PARTIAL, FINAL])
def test_a_part_counts_once_against_the_quota(intake: Intake, alice: User, kind: str) -> None:
    require_room(intake, alice.id, QUOTA, kind)
    with pytest.raises(QuotaExceeded):
        require_room(intake, alice.id, QUOTA + 1, kind)


def test_where_there_is_no_quota_only_the_disk_counts(
    make_intake: MakeIntake, intake: Intake, alice: User
) -> None:
    require_room(make_intake(), alice.id, FREE, WHOLE)
    with pytest.raises(InsufficientStorage):
        require_room(make_intake(), alice.id, FREE + 1, WHOLE)


def test_a_finished_upload_counts_as_its_video_only(intake: Intake, alice: User) -> None:
    data = video_bytes(4000)
    with closing(uploads.begin(intake, alice.id, Plan(length=4000))) as append:
        append.feed(data)
        append.end()
    assert append.upload.video_id is not None
    assert append.upload.reserved == 4000
    assert room(intake, alice.id) == (FREE, 4000)


def test_an_account_that_is_gone_has_no_room(intake: Intake, alice: User) -> None:
    videos.remove_account(intake.database, alice)
    with pytest.raises(NotAuthenticated):
        require_room(intake, alice.id, 1, WHOLE)


# --- the disk


def test_all_that_is_left_can_be_promised_and_no_byte_more(
    make_intake: MakeIntake, disk: SetFree, alice: User
) -> None:
    intake = make_intake(min_free_bytes=400)
    disk(1000)
    with pytest.raises(InsufficientStorage) as caught:
        require_room(intake, alice.id, 601, WHOLE)
    assert caught.value.available == 600
    begin(intake, alice, 600)
    assert room(intake, alice.id).disk == 0


def test_a_promise_ends_with_its_upload_also_when_it_fails(
    intake: Intake, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(uploads.begin(intake, alice.id, Plan(kind=DIRECT, at_least=5000))) as append:
        assert room(intake, alice.id) == (FREE - 5000, 5000)
        append.feed(video_bytes(100))  # and its client has left
    assert room(intake, alice.id) == (FREE, 0)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "stage", lambda storage: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            begin(intake, alice, 5000)
    assert room(intake, alice.id) == (FREE, 0)


def test_bytes_on_the_disk_are_not_counted_twice(intake: Intake, disk: SetFree, alice: User) -> None:
    with closing(uploads.begin(intake, alice.id, Plan(length=8000))) as append:
        assert room(intake, alice.id).disk == FREE - 8000
        append.feed(video_bytes(3000))
        append.end()
        disk(FREE - 3000)
        assert room(intake, alice.id) == (FREE - 8000, 8000)
    assert room(intake, alice.id) == (FREE - 8000, 8000), "also when nobody holds it"


def test_an_upload_that_writes_more_than_promised_gives_no_room_to_others(
    intake: Intake, alice: User
) -> None:
    with closing(uploads.begin(intake, alice.id, Plan(kind=DIRECT, at_least=100))) as append:
        append.feed(video_bytes(150))
        assert room(intake, alice.id).disk == FREE


def test_a_disk_fuller_than_its_promises_has_nothing_left(intake: Intake, disk: SetFree, alice: User) -> None:
    begin(intake, alice, 9000)
    disk(5000)
    assert room(intake, alice.id).disk == 0
    require_room(intake, alice.id, 0, WHOLE)


def test_a_part_counts_twice_on_the_disk(intake: Intake, disk: SetFree, alice: User) -> None:
    """It is copied into the whole, and goes when that is there."""
    disk(10_000)
    with pytest.raises(InsufficientStorage) as caught:
        require_room(intake, alice.id, 5001, PARTIAL)
    assert caught.value.available == 10_000
    with closing(uploads.begin(intake, alice.id, Plan(kind=PARTIAL, length=4000))) as append:
        assert room(intake, alice.id) == (2000, 4000)
        append.feed(bytes(4000))
        disk(6000)
        assert room(intake, alice.id) == (2000, 4000), "room for the copy is kept"


def test_a_whole_takes_the_place_of_its_parts(intake: Intake, disk: SetFree, alice: User) -> None:
    disk(10_000)
    parts = [begin(intake, alice, size, PARTIAL) for size in (3000, 2000)]
    assert room(intake, alice.id) == (0, 5000)
    besides = [part.id for part in parts]
    assert room(intake, alice.id, besides) == (10_000, 0)
    require_room(intake, alice.id, 5000, FINAL, besides)
    with pytest.raises(InsufficientStorage):
        require_room(intake, alice.id, 5000, FINAL, besides[1:])


def test_an_upload_of_unknown_length_is_promised_what_it_has_shown(intake: Intake, alice: User) -> None:
    with closing(uploads.begin(intake, alice.id, Plan(at_least=700))) as append:
        assert room(intake, alice.id) == (FREE - 700, 700)
        append.feed(video_bytes(700))
        append.end()
    with closing(uploads.resume(intake, alice.id, append.upload.id, offset=700, size=300)):
        assert room(intake, alice.id) == (FREE - 300, 1000)


# --- many at once


def test_promises_are_those_of_all_processes(
    intake: Intake, make_intake: MakeIntake, alice: User, robert: User
) -> None:
    other = make_intake(quota_bytes=QUOTA)
    upload = begin(intake, alice, 6000)
    assert room(other, alice.id) == (FREE - 6000, 6000)
    with pytest.raises(QuotaExceeded):
        begin(other, alice, 4001)
    begin(other, alice, 4000)
    assert room(intake, robert.id) == (FREE - 10_000, 0)
    uploads.remove(other, upload)
    assert room(intake, alice.id) == (FREE - 4000, 4000)


def test_promises_outlive_their_process(make_intake: MakeIntake, intake: Intake, alice: User) -> None:
    begin(intake, alice, 6000)
    intake.database.close()
    assert room(make_intake(), alice.id) == (FREE - 6000, 6000)


@pytest.mark.parametrize("limit", ["disk", "quota"])
def test_uploads_at_once_are_not_promised_the_same_room(
    make_intake: MakeIntake, disk: SetFree, alice: User, limit: str
) -> None:
    disk(1000 if limit == "disk" else FREE)
    intakes = [make_intake(quota_bytes=1000 if limit == "quota" else None) for _ in range(8)]

    def ask(intake: Intake) -> bool:
        try:
            begin(intake, alice, 300)
            return True
        except (InsufficientStorage, QuotaExceeded):
            return False
        finally:
            intake.database.close()

    assert at_once(*[lambda intake=intake: ask(intake) for intake in intakes]).count(True) == 3  # type: ignore[misc]
    assert room(intakes[0], alice.id).quota_used == 900
    assert len(intakes[0].storage.incoming()) == 3, "what was refused has left no file"


def test_what_an_upload_has_on_the_disk_already_needs_no_more_room(
    make_intake: MakeIntake, disk: SetFree, alice: User
) -> None:
    intake = make_intake()
    require_room(intake, alice.id, FREE + 40_000, WHOLE, stored=40_000)
    with pytest.raises(InsufficientStorage):
        require_room(intake, alice.id, FREE + 40_001, WHOLE, stored=40_000)
    require_room(intake, alice.id, FREE, PARTIAL, stored=FREE)


# --- what jobs are promised


@pytest.fixture
def running(intake: Intake, alice: User) -> Iterator[tuple[Job, Scratch]]:
    """A job that is being done, and where."""
    add_video(intake, alice, 0)
    with closing(intake.storage.scratch()) as scratch:
        yield begin_job(intake, scratch, "variant"), scratch


def begin_job(intake: Intake, scratch: Scratch, step: str) -> Job:
    with intake.database.atomic():
        jobs.enqueue(intake.database, 1, step)
    job = jobs.claim(intake.database, scratch.name)
    assert job is not None
    return job


def test_job_is_promised_what_there_is_and_no_byte_more(intake: Intake, running: tuple[Job, Scratch]) -> None:
    job, _ = running
    with pytest.raises(InsufficientStorage) as caught:
        reserve_for_job(intake, job, FREE + 1)
    assert caught.value.available == FREE
    reserve_for_job(intake, job, FREE)


def test_promise_to_a_job_counts_against_uploads_and_not_against_a_quota(
    intake: Intake, alice: User, running: tuple[Job, Scratch]
) -> None:
    job, _ = running
    reserve_for_job(intake, job, FREE - 5000)
    assert room(intake, alice.id) == (5000, 0)
    with pytest.raises(InsufficientStorage):
        begin(intake, alice, 5001)
    begin(intake, alice, 5000)


def test_promises_to_uploads_count_against_jobs(
    intake: Intake, alice: User, running: tuple[Job, Scratch]
) -> None:
    job, _ = running
    begin(intake, alice, 9000)
    with pytest.raises(InsufficientStorage) as caught:
        reserve_for_job(intake, job, FREE - 8999)
    assert caught.value.available == FREE - 9000
    reserve_for_job(intake, job, FREE - 9000)
    assert room(intake, alice.id).disk == 0


def test_promises_to_jobs_count_against_each_other(
    intake: Intake, alice: User, running: tuple[Job, Scratch]
) -> None:
    job, _ = running
    reserve_for_job(intake, job, 60_000)
    with closing(intake.storage.scratch()) as scratch:
        other = begin_job(intake, scratch, "storyboard")
        with pytest.raises(InsufficientStorage) as caught:
            reserve_for_job(intake, other, 40_001)
        assert caught.value.available == 40_000
        reserve_for_job(intake, other, 40_000)
    assert room(intake, alice.id).disk == 0


def test_what_a_job_has_written_does_not_count_twice(
    intake: Intake, disk: SetFree, alice: User, running: tuple[Job, Scratch]
) -> None:
    job, scratch = running
    reserve_for_job(intake, job, 60_000)
    for written in (10_000, 60_000):
        (scratch.path / "web.mp4").write_bytes(bytes(written))
        disk(FREE - written)
        assert room(intake, alice.id).disk == 40_000
    (scratch.path / "web.mp4").write_bytes(bytes(70_000))
    disk(FREE - 70_000)
    assert room(intake, alice.id).disk == 30_000, "more than was promised is gone as well"


def test_job_that_asks_again_gets_the_new_promise_instead(
    intake: Intake, alice: User, running: tuple[Job, Scratch]
) -> None:
    job, _ = running
    for size in (FREE, 500, FREE):
        reserve_for_job(intake, job, size)
        assert room(intake, alice.id).disk == FREE - size


@pytest.mark.parametrize("end", ["finish", "fail", "give back", "lost"])
def test_promise_ends_with_the_job(
    intake: Intake, alice: User, running: tuple[Job, Scratch], end: str
) -> None:
    job, scratch = running
    reserve_for_job(intake, job, FREE)
    if end == "finish":
        jobs.finish(intake.database, job)
    elif end == "fail":
        jobs.fail(intake.database, job, "ffmpeg_failed", "")
    elif end == "give back":
        jobs.give_back(intake.database, job)
    else:
        scratch.close()
        jobs.give_back_lost(intake.database, intake.storage)
    assert room(intake, alice.id).disk == FREE


def test_reserve_of_the_disk_is_kept_from_jobs_too(
    make_intake: MakeIntake, disk: SetFree, running: tuple[Job, Scratch]
) -> None:
    job, _ = running
    with pytest.raises(InsufficientStorage) as caught:
        reserve_for_job(make_intake(min_free_bytes=FREE - 1000), job, 1001)
    assert caught.value.available == 1000


def test_jobs_and_uploads_at_once_are_not_promised_the_same_room(
    make_intake: MakeIntake, disk: SetFree, alice: User, running: tuple[Job, Scratch]
) -> None:
    disk(1000)
    intakes = [make_intake(quota_bytes=None) for _ in range(6)]
    with ExitStack() as stack:
        scratches = [stack.enter_context(closing(intakes[0].storage.scratch())) for _ in range(3)]
        steps = ("storyboard", "captions", "poster")
        held = [begin_job(intakes[0], scratch, step) for scratch, step in zip(scratches, steps, strict=True)]

        def reserve(intake: Intake, job: Job) -> bool:
            try:
                reserve_for_job(intake, job, 300)
                return True
            except InsufficientStorage:
                return False
            finally:
                intake.database.close()

        def upload(intake: Intake) -> bool:
            try:
                begin(intake, alice, 300)
                return True
            except InsufficientStorage:
                return False
            finally:
                intake.database.close()

        calls = [partial(reserve, intake, job) for intake, job in zip(intakes[:3], held, strict=True)]
        calls += [partial(upload, intake) for intake in intakes[3:]]
        assert at_once(*calls).count(True) == 3
        assert room(intakes[0], alice.id).disk == 100
