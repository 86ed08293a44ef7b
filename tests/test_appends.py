"""The bytes of a request: counted, written, recognised, brought to the disk, and made a video."""

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import peewee
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer import accounts, appends, uploads, videos
from streamer.app import Application
from streamer.appends import CHECKPOINT_SECONDS, IDLE_SECONDS, KEY_LIFETIME, Append, Replay
from streamer.config import Config
from streamer.containers.signatures import HEAD_BYTES
from streamer.database import Database, open_database
from streamer.errors import (
    BodyTooLarge,
    ChecksumMismatch,
    InsufficientStorage,
    InvalidInput,
    KeyReused,
    NotAuthenticated,
    NotAVideo,
    QuotaExceeded,
    UploadGone,
    UploadLocked,
)
from streamer.intake import DIRECT, PARTIAL, WHOLE, Intake
from streamer.models import Orphan, Upload, User, Video
from streamer.protocol.resumption import Checksum
from streamer.storage import locks
from streamer.storage.local import LocalStorage, StagedFile
from streamer.uploads import Plan
from tests.conftest import Clock
from tests.helpers import Client, Ticks, video_bytes
from tests.wsgi import open_files, stored_files

LIMIT = 100_000
TINY_WEBM = b"\x1aE\xdf\xa3\x87\x42\x82\x84webm"
DATA = video_bytes(9000)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path, min_free_bytes=0, max_upload_bytes=LIMIT)


@pytest.fixture
def intake(config: Config) -> Iterator[Intake]:
    database = open_database(config.data / "streamer.db")
    accounts.add(database, "alice", "correct horse battery")
    yield Intake(database, LocalStorage(config.data), config)
    database.close()


def with_settings(intake: Intake, **settings: Any) -> Intake:
    return Intake(intake.database, intake.storage, Config(data=intake.config.data, **settings))


def begin(intake: Intake, kind: str = DIRECT, **plan: Any) -> Append:
    return uploads.begin(intake, 1, Plan(kind=kind, **plan))


def resume(intake: Intake, append: Append, size: int, checksum: Checksum | None = None) -> Append:
    upload = row(intake, append)
    return uploads.resume(intake, 1, upload.id, offset=upload.offset, size=size, checksum=checksum)


def feed(append: Append, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        append.feed(chunk)


def receive(intake: Intake, chunks: Iterable[bytes], **details: str) -> Video:
    """Take the bytes of an upload in one request."""
    with closing(begin(intake)) as append:
        feed(append, chunks)
        append.end(details)
    assert append.video is not None
    return append.video


def send(intake: Intake, data: bytes, length: int | None = None, kind: str = WHOLE) -> Append:
    """The first request of an upload that can be resumed."""
    with closing(begin(intake, kind, length=length)) as append:
        append.feed(data)
        append.end()
    return append


def grow(intake: Intake, kind: str = WHOLE) -> Append:
    """A request that adds to an upload of which its client knows where it is."""
    return resume(intake, send(intake, b"", len(DATA), kind), len(DATA))


def row(intake: Intake, append: Append) -> Upload:
    return Upload.select().where(Upload.id == append.upload.id).get(intake.database)


def rows(intake: Intake) -> list[Upload]:
    return list(Upload.select().execute(intake.database))


def bytes_of(intake: Intake, video: Video) -> bytes:
    return intake.storage.path(video.file_path).read_bytes()


def assert_nothing_is_left(intake: Intake) -> None:
    assert rows(intake) == []
    assert stored_files(intake.config.data) == []
    assert open_files(intake.config.data) == []


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    stopped = Ticks()
    monkeypatch.setattr(time, "monotonic", stopped.monotonic)
    return stopped


# --- what comes


@pytest.mark.parametrize("size", [1, 7, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 50_000])
@pytest.mark.parametrize("length", [30, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 9000])
def test_a_video_is_recognised_however_its_bytes_arrive(intake: Intake, size: int, length: int) -> None:
    data = video_bytes(length)
    video = receive(intake, cut(data, size))
    assert (video.mime_type, video.size) == ("video/mp4", length)
    assert video.sha256 == hashlib.sha256(data).hexdigest()
    assert bytes_of(intake, video) == data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.integers(0, 3000), max_size=8))
def test_the_digest_is_that_of_all_bytes(intake: Intake, sizes: list[int]) -> None:
    data = TINY_WEBM + bytes(sum(sizes))
    chunks, at = [], 0
    for size in [len(TINY_WEBM), *sizes]:
        chunks.append(data[at : at + size])
        at += size
    video = receive(intake, chunks)
    assert (video.mime_type, video.size) == ("video/webm", len(data))
    assert video.sha256 == hashlib.sha256(data).hexdigest()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.integers(0, len(DATA)), max_size=6).map(sorted))
def test_an_upload_in_many_requests_becomes_the_same_video(intake: Intake, edges: list[int]) -> None:
    append = begin(intake, WHOLE, length=len(DATA))
    append.end()
    for first, stop in zip([0, *edges], [*edges, len(DATA)], strict=True):
        append.close()
        if append.video is not None:  # before a request without bytes
            break
        append = resume(intake, append, stop - first)
        append.feed(DATA[first:stop])
        append.end()
    append.close()
    assert append.video is not None
    assert append.video.sha256 == hashlib.sha256(DATA).hexdigest()
    assert bytes_of(intake, append.video) == DATA
    assert row(intake, append).video_id == append.video.id


def test_what_is_no_video_is_refused_as_soon_as_its_head_is_there(intake: Intake) -> None:
    chunks = iter(cut(bytes(HEAD_BYTES + 5000), 1000))
    with pytest.raises(NotAVideo):
        receive(intake, chunks)
    assert sum(map(len, chunks)) == HEAD_BYTES + 5000 - 5000
    assert_nothing_is_left(intake)


@pytest.mark.parametrize("data", [b"x", b"<html>", video_bytes(30)[:11], bytes(HEAD_BYTES - 1)])
def test_a_short_file_that_is_no_video_is_refused_at_its_end(intake: Intake, data: bytes) -> None:
    with pytest.raises(NotAVideo):
        receive(intake, [data])
    assert_nothing_is_left(intake)


@pytest.mark.parametrize("kind", [DIRECT, WHOLE])
def test_an_upload_that_cannot_become_a_video_is_gone_at_once(intake: Intake, kind: str) -> None:
    append = begin(intake, kind, at_least=HEAD_BYTES)
    with pytest.raises(NotAVideo), closing(append):
        append.feed(bytes(HEAD_BYTES))
    assert_nothing_is_left(intake)


def test_a_part_may_begin_with_anything(intake: Intake) -> None:
    append = send(intake, bytes(HEAD_BYTES), HEAD_BYTES, PARTIAL)
    assert append.video is None
    assert row(intake, append).is_complete


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
def test_an_empty_file_is_refused_by_name(intake: Intake, chunks: list[bytes]) -> None:
    with pytest.raises(InvalidInput) as caught:
        receive(intake, chunks)
    assert [(error.field, error.message) for error in caught.value.errors] == [("video", "is empty")]
    assert_nothing_is_left(intake)


@pytest.mark.parametrize("size", [1, 999, 5000, 10_000])
@pytest.mark.parametrize("kind", [DIRECT, WHOLE])
def test_the_limit_is_counted_before_bytes_are_written(intake: Intake, size: int, kind: str) -> None:
    append = begin(with_settings(intake, max_upload_bytes=8000, min_free_bytes=0), kind)
    with closing(append):
        with pytest.raises(BodyTooLarge) as caught:
            feed(append, cut(video_bytes(8001), size))
        assert caught.value.limit == 8000
        assert append.received == intake.storage.staged_size(append.upload.id) <= 8000


def test_a_file_as_large_as_the_limit_is_taken(intake: Intake) -> None:
    limited = with_settings(intake, max_upload_bytes=8000, min_free_bytes=0)
    assert receive(limited, cut(video_bytes(8000), 999)).size == 8000


def test_no_more_bytes_are_taken_than_the_request_has_said(intake: Intake) -> None:
    first = send(intake, DATA[:1000], len(DATA))
    with closing(resume(intake, first, 500)) as append:
        append.feed(DATA[1000:1500])
        with pytest.raises(BodyTooLarge) as caught:
            append.feed(DATA[1500:1501])
    assert caught.value.limit == 1500
    assert row(intake, append).offset == 1500


# --- what is told of the video


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({}, ("Untitled", "", "video.mp4")),
        ({"filename": "My film.MP4"}, ("My film", "", "My film.MP4")),
        ({"title": "A", "description": "b", "filename": "c.mov"}, ("A", "b", "c.mov")),
    ],
)
@pytest.mark.parametrize("kind", [DIRECT, WHOLE])
def test_a_video_is_called_as_it_was_told(
    intake: Intake, kind: str, details: dict[str, str], expected: tuple[str, str, str]
) -> None:
    """At the end of an upload in one request, at the beginning of any other."""
    plan = {} if kind == DIRECT else {"details": details, "length": len(DATA)}
    with closing(begin(intake, kind, **plan)) as append:
        append.feed(DATA)
        append.end(details if kind == DIRECT else None)
    assert append.video is not None
    assert (append.video.title, append.video.description, append.video.filename) == expected


# --- how it gets to the disk


@pytest.fixture
def steps(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to the disk and to the database, in order."""
    done: list[str] = []
    fsync, rename, commit = os.fsync, os.rename, Database.commit

    def record_fsync(descriptor: int) -> None:
        done.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def record_rename(source: Path, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    def record_commit(self: Database) -> Any:
        done.append("commit")
        return commit(self)

    def record_query(event: Any) -> None:
        words = event.sql.replace("INTO ", "").replace("FROM ", "").split()
        if words[0] in {"INSERT", "UPDATE", "DELETE"} and words[1].strip('"') != "user":
            done.append(f"{words[0].lower()} {words[1].strip(chr(34))}")

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    monkeypatch.setattr(Database, "commit", record_commit)
    intake.database.query_hooks.append(record_query)
    return done


def test_bytes_name_and_row_reach_the_disk_in_this_order(intake: Intake, steps: list[str]) -> None:
    receive(intake, [DATA])
    assert steps == [
        "insert upload",  # before there is an object that it could name
        "commit",
        "fsync file",
        "rename",
        "fsync folder",
        "insert video",
        "delete upload",
        "commit",
    ]


def test_the_offset_follows_when_the_bytes_are_on_the_disk(intake: Intake, steps: list[str]) -> None:
    first = send(intake, DATA[:1000], len(DATA))
    assert steps == ["insert upload", "commit", "fsync file", "fsync folder", "update upload"]
    steps.clear()
    with closing(resume(intake, first, 8000)) as append:
        for chunk in cut(DATA[1000:], 1000):
            append.feed(chunk)
        assert row(intake, append).offset == 1000
        append.end()
    moves = ["fsync file", "rename", "fsync folder", "insert video", "update upload", "commit"]
    assert steps[1:] == moves, "after the transaction that has looked for room; one fsync for all reads"


def test_a_request_without_news_does_not_touch_the_disk(intake: Intake, steps: list[str]) -> None:
    first = send(intake, DATA[:1000], len(DATA))
    steps.clear()
    with closing(resume(intake, first, 0)) as append:
        append.end()
    assert steps == ["commit"]
    assert row(intake, append).offset == 1000


def test_the_offset_follows_a_long_request_every_few_seconds(
    intake: Intake, steps: list[str], ticks: Ticks
) -> None:
    with closing(grow(intake)) as append:
        steps.clear()
        append.feed(DATA[:1000])
        ticks.time += CHECKPOINT_SECONDS - 0.1
        append.feed(DATA[1000:2000])
        assert row(intake, append).offset == 0
        ticks.time += 0.1
        append.feed(DATA[2000:3000])
        assert row(intake, append).offset == 3000
        append.feed(DATA[3000:4000])
        assert row(intake, append).offset == 3000
    assert row(intake, append).offset == 4000
    assert steps == ["fsync file", "fsync folder", "update upload", "fsync file", "update upload"]


@pytest.mark.parametrize("kind", [DIRECT, WHOLE])
def test_bytes_that_do_not_count_yet_are_not_checkpointed(
    intake: Intake, steps: list[str], ticks: Ticks, kind: str
) -> None:
    """What cannot be resumed has no offset; what a checksum may take back has none yet."""
    checksum = Checksum("sha256", hashlib.sha256(DATA[:2000]).digest()) if kind == WHOLE else None
    with closing(uploads.begin(intake, 1, Plan(kind=kind), checksum)) as append:
        append.feed(DATA[:1000])
        ticks.time += 2 * CHECKPOINT_SECONDS
        append.feed(DATA[1000:2000])
        assert "fsync file" not in steps
        assert row(intake, append).offset == 0
        append.end()


def test_the_rate_is_that_of_the_last_seconds(intake: Intake, ticks: Ticks) -> None:
    with closing(grow(intake)) as append:
        rates = []
        for size in (1000, 1000, 2000, 2000, 2000, 0):
            append.feed(DATA[append.received : append.received + size])
            ticks.time += 2
            rates.append(round(append.bytes_per_second))
    assert rates == [500, 500, 667, 750, 750, 500]


def test_an_upload_lives_on_from_its_last_byte(intake: Intake, frozen: Clock) -> None:
    first = send(intake, DATA[:1000], len(DATA))
    ttl = timedelta(seconds=intake.config.upload_ttl)
    frozen.forward(hours=5)
    with closing(resume(intake, first, 1000)) as append:
        append.feed(DATA[1000:2000])
    assert row(intake, append).expires_at == frozen.now() + ttl
    frozen.forward(hours=5)
    with closing(resume(intake, append, 0)) as append:
        append.end()
    assert row(intake, append).expires_at == frozen.now() - timedelta(hours=5) + ttl


# --- a request that breaks


def test_an_upload_in_one_request_goes_with_its_client(intake: Intake) -> None:
    seen = []

    def chunks() -> Iterator[bytes]:
        yield DATA[:5000]
        seen.extend(stored_files(intake.config.data))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        receive(intake, chunks())
    assert len(seen) == 1
    assert_nothing_is_left(intake)


@pytest.mark.parametrize("kind", [WHOLE, PARTIAL])
def test_the_rest_of_a_broken_request_is_kept_to_the_last_byte(intake: Intake, kind: str) -> None:
    with closing(grow(intake, kind)) as append:
        append.feed(DATA[:5000])
        append.feed(DATA[5000:5001])
    assert row(intake, append).offset == 5001
    assert intake.storage.staged_size(append.upload.id) == 5001
    assert open_files(intake.config.data) == []


@pytest.mark.parametrize("size", [0, 1000])
def test_an_upload_that_breaks_before_its_client_knows_where_it_is_is_gone(intake: Intake, size: int) -> None:
    with closing(begin(intake, WHOLE, length=len(DATA))) as append:
        append.feed(DATA[:size])
    assert_nothing_is_left(intake)


@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize("how", ["by its key", "by an early answer"])
def test_an_upload_that_its_client_can_find_stays(intake: Intake, how: str, size: int) -> None:
    key = "once" if how == "by its key" else None
    with closing(begin(intake, WHOLE, length=len(DATA), idempotency_key=key)) as append:
        if key is None:
            append.is_known = True
        append.feed(DATA[:size])
    assert row(intake, append).offset == size


def test_closing_again_does_nothing(intake: Intake) -> None:
    append = send(intake, DATA[:1000], len(DATA))
    append.close()
    with closing(resume(intake, append, 1000)) as second:
        append.close()
        assert appends.running(append.upload.id) is second
        second.feed(DATA[1000:2000])
    assert row(intake, append).offset == 2000


def test_a_request_that_was_closed_takes_no_more(intake: Intake) -> None:
    append = send(intake, DATA[:1000], len(DATA))
    for late in (lambda: append.feed(b"x"), append.end):
        with pytest.raises(UploadLocked):
            late()
    assert row(intake, append).offset == 1000


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, take: int) -> None:
    """Let the next write take a part, and fail after that."""
    write, calls = StagedFile.write, []

    def full(staged: StagedFile, data: bytes) -> None:
        if not calls:
            calls.append(None)
            write(staged, data[:take])
            raise InsufficientStorage(available=0)
        write(staged, data)

    monkeypatch.setattr(StagedFile, "write", full)


def test_what_a_full_disk_has_taken_stays_true(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    append = send(intake, DATA[:1000], len(DATA))
    with monkeypatch.context() as patch, closing(resume(intake, append, 3000)) as second:
        fill_the_disk(patch, 700)
        with pytest.raises(InsufficientStorage):
            second.feed(DATA[1000:4000])
    assert row(intake, append).offset == 1700
    with closing(resume(intake, append, len(DATA) - 1700)) as last:
        last.feed(DATA[1700:])
        last.end()
    assert last.video is not None
    assert last.video.sha256 == hashlib.sha256(DATA).hexdigest(), "the digest knows what was taken"


def test_an_upload_that_cannot_be_left_in_order_is_logged_and_let_go(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch, closing(grow(intake)) as append:
        append.feed(DATA[:1000])
        patch.setattr(StagedFile, "seal", lambda staged: (_ for _ in ()).throw(OSError("no disk")))
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"upload {append.upload.id} could not be left as it should be: no disk"
    assert row(intake, append).offset == 0, "what is not on the disk does not count"
    assert open_files(intake.config.data) == []
    with closing(resume(intake, append, len(DATA))) as again:
        again.feed(DATA)
        again.end()
    assert again.video is not None
    assert bytes_of(intake, again.video) == DATA


@pytest.mark.parametrize("step", ["feed", "end", "close"])
def test_an_upload_that_was_deleted_meanwhile_leaves_no_file(
    intake: Intake, ticks: Ticks, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """Such as by another process, which cannot tell this one."""
    append = grow(intake)
    append.feed(DATA[:1000])
    Upload.delete().where(Upload.id == append.upload.id).execute(intake.database)
    if step == "feed":
        ticks.time += CHECKPOINT_SECONDS
        with pytest.raises(UploadGone):
            append.feed(DATA[1000:2000])
    if step == "end":
        with pytest.raises(UploadGone):
            append.end()
    append.close()
    assert caplog.text == ""
    assert_nothing_is_left(intake)


def test_an_abandoned_request_keeps_nothing(intake: Intake) -> None:
    append = send(intake, DATA[:1000], len(DATA))
    second = resume(intake, append, 1000)
    second.feed(DATA[1000:1500])
    second.abandon()
    assert_nothing_is_left(intake)
    with pytest.raises(UploadGone):
        second.feed(b"x")


def test_a_request_that_gets_nothing_makes_room(intake: Intake, ticks: Ticks) -> None:
    append = grow(intake)
    append.feed(DATA[:1000])
    ticks.time += IDLE_SECONDS - 0.1
    append.release_idle(IDLE_SECONDS)
    assert appends.running(append.upload.id) is append
    append.feed(DATA[1000:2000])
    ticks.time += IDLE_SECONDS
    append.release_idle(IDLE_SECONDS)
    assert appends.running(append.upload.id) is None
    assert row(intake, append).offset == 2000


# --- checksums


def checksum_of(data: bytes, algorithm: str = "sha1") -> Checksum:
    return Checksum(algorithm, hashlib.new(algorithm, data).digest())


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_bytes_that_fit_their_checksum_count(intake: Intake, algorithm: str) -> None:
    first = send(intake, DATA[:1000], len(DATA))
    with closing(resume(intake, first, 1000, checksum_of(DATA[1000:2000], algorithm))) as append:
        append.feed(DATA[1000:1500])
        append.feed(DATA[1500:2000])
        append.end()
    assert row(intake, append).offset == 2000


@pytest.mark.parametrize("is_whole", [True, False], ids=["mismatch", "broken off"])
def test_bytes_that_do_not_fit_their_checksum_are_taken_back(intake: Intake, is_whole: bool) -> None:
    first = send(intake, DATA[:1000], len(DATA))
    append = resume(intake, first, 8000, checksum_of(DATA[1000:]))
    append.feed(b"X" * (8000 if is_whole else 500))
    if is_whole:
        with pytest.raises(ChecksumMismatch):
            append.end()
    append.close()
    assert row(intake, append).offset == intake.storage.staged_size(append.upload.id) == 1000
    with closing(resume(intake, append, 8000, checksum_of(DATA[1000:]))) as last:
        last.feed(DATA[1000:])
        last.end()
    assert last.video is not None
    assert last.video.sha256 == hashlib.sha256(DATA).hexdigest(), "the digest was taken back as well"


# --- the video


@pytest.mark.parametrize("quota", [len(DATA), len(DATA) - 1])
def test_the_quota_is_decided_with_the_row(intake: Intake, quota: int) -> None:
    small = with_settings(intake, quota_bytes=quota, min_free_bytes=0)
    if quota >= len(DATA):
        assert receive(small, [DATA]).size == len(DATA)
        return
    with pytest.raises(QuotaExceeded) as caught:
        receive(small, [DATA])
    assert (caught.value.quota, caught.value.used) == (quota, 0)
    assert_nothing_is_left(intake)


def test_what_does_not_fit_the_quota_at_the_end_waits_until_it_does(intake: Intake) -> None:
    """The quota was made smaller, or another upload in one request came in between."""
    first = send(intake, DATA[:1000], len(DATA))
    small = with_settings(intake, quota_bytes=5000, min_free_bytes=0)
    with closing(resume(small, first, 8000)) as append:
        append.feed(DATA[1000:])
        with pytest.raises(QuotaExceeded):
            append.end()
    assert row(intake, append).is_complete
    assert row(intake, append).video_id is None
    uploads.finish(intake, row(intake, append))
    [video] = Video.select().execute(intake.database)
    assert bytes_of(intake, video) == DATA


@pytest.mark.parametrize("kind", [DIRECT, WHOLE])
def test_a_video_of_a_deleted_account_is_not_kept(intake: Intake, kind: str) -> None:
    append = begin(intake, kind, length=len(DATA) if kind == WHOLE else None)
    append.feed(DATA)
    user = User.select().get(intake.database)
    videos.remove_account(intake.database, user)
    with pytest.raises(NotAuthenticated), closing(append):
        append.end()
    if kind == DIRECT:
        assert_nothing_is_left(intake)
    assert list(Video.select().execute(intake.database)) == []


@pytest.mark.parametrize("kind", [DIRECT, WHOLE])
@pytest.mark.parametrize("is_committed", [False, True])
def test_after_a_failed_commit_the_video_is_there_if_and_only_if_its_row_is(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, kind: str, is_committed: bool
) -> None:
    commit = Database.commit

    def fail(self: Database) -> None:
        if is_committed:
            commit(self)
        raise peewee.OperationalError("disk I/O error")

    append = grow(intake) if kind == WHOLE else begin(intake)
    append.feed(DATA)
    with monkeypatch.context() as patch, closing(append):
        patch.setattr(Database, "commit", fail)
        if is_committed:
            append.end()  # it is done, and told so
        else:
            with pytest.raises(peewee.OperationalError):
                append.end()
    found = [video.file_path for video in Video.select().execute(intake.database)]
    assert len(found) == is_committed
    assert (append.video is not None) == is_committed
    user = User.select().get(intake.database)
    assert (user.video_count, user.bytes_used) == (len(found), len(DATA) * len(found))
    assert list(Orphan.select().execute(intake.database)) == []
    if is_committed or kind == DIRECT:
        assert stored_files(intake.config.data) == found
        return
    uploads.finish(intake, row(intake, append))
    [video] = Video.select().execute(intake.database)
    assert stored_files(intake.config.data) == [video.file_path]
    assert bytes_of(intake, video) == DATA


def test_a_failure_before_the_row_of_the_upload_leaves_nothing(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Database, "commit", lambda self: (_ for _ in ()).throw(peewee.OperationalError("full")))
        with pytest.raises(peewee.OperationalError):
            begin(intake)
    assert_nothing_is_left(intake)


def test_an_upload_in_one_request_leaves_no_trace_without_a_key(intake: Intake) -> None:
    receive(intake, [DATA])
    assert rows(intake) == []


def test_the_trace_of_a_finished_upload_tells_where_the_video_is(intake: Intake, frozen: Clock) -> None:
    append = send(intake, DATA, len(DATA))
    frozen.forward(seconds=1)
    [trace] = rows(intake)
    assert append.video is not None
    assert (trace.video_id, trace.offset, trace.length) == (append.video.id, len(DATA), len(DATA))
    assert trace.expires_at == frozen.now() - timedelta(seconds=1) + timedelta(
        seconds=intake.config.upload_ttl
    )
    videos.remove(intake.database, User.select().get(intake.database), append.video)
    assert rows(intake) == [], "it goes with the video"


# --- a request that is repeated


def receive_with_key(intake: Intake, data: bytes = DATA, **details: str) -> Append:
    with closing(begin(intake, idempotency_key="once")) as append:
        append.feed(data)
        append.end(details)
    return append


def replay(intake: Intake, data: bytes, **details: str) -> Video:
    first = uploads.repeated(intake, 1, "once")
    assert first is not None
    with closing(Replay(intake, first)) as again:
        for chunk in cut(data, 700):
            again.feed(chunk)
        again.end(details)
    assert again.video is not None
    return again.video


def test_a_repeated_request_gets_the_first_video(intake: Intake, frozen: Clock) -> None:
    first = receive_with_key(intake, title="A film")
    assert first.video is not None
    assert replay(intake, DATA, title="A film").id == first.video.id
    assert len(stored_files(intake.config.data)) == 1
    assert row(intake, first).expires_at == frozen.now() + KEY_LIFETIME


@pytest.mark.parametrize(
    ("data", "details"),
    [(DATA, {"title": "B"}), (DATA, {}), (DATA[:-1], {"title": "A"}), (DATA[:-1] + b"x", {"title": "A"})],
)
def test_a_key_that_comes_with_something_else_is_refused(
    intake: Intake, data: bytes, details: dict[str, str]
) -> None:
    receive_with_key(intake, title="A")
    with pytest.raises(KeyReused):
        replay(intake, data, **details)


def test_a_repeated_request_is_told_when_the_video_is_gone(intake: Intake) -> None:
    append = receive_with_key(intake)
    first = row(intake, append)
    assert append.video is not None
    videos.remove(intake.database, User.select().get(intake.database), append.video)
    again = Replay(intake, first)  # which was found before
    again.feed(DATA)
    with pytest.raises(UploadGone):
        again.end()


def test_a_request_that_ends_while_it_is_repeated_is_not_done_twice(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that repeats it comes to another process."""
    first = begin(intake, idempotency_key="once")
    first.feed(DATA)
    monkeypatch.setattr(appends, "running", lambda upload_id: None)
    resume_file = LocalStorage.resume

    def end_before(storage: LocalStorage, name: str) -> StagedFile:
        if first.video is None:
            first.end()
            first.close()
        return resume_file(storage, name)

    monkeypatch.setattr(LocalStorage, "resume", end_before)
    found = uploads.repeated(intake, 1, "once")
    assert found is not None
    assert first.video is not None
    assert found.video_id == first.video.id


# --- where there are no locks


def test_uploads_work_where_there_are_no_locks(
    app: Application, alice: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "AVAILABLE", False)
    monkeypatch.setattr(locks, "try_lock", lambda descriptor: True)
    data = video_bytes(9000)
    alice.upload(data, status=201)
    alice.upload_raw(data, status=201)
    assert alice.upload(b"no video").status_int == 415
    assert alice.upload_raw(data, "?title=").status_int == 422
    assert alice.get("/api/videos/1/stream").body == data
    assert len(stored_files(config.data)) == 2
    alice.delete("/api/videos/1", status=204)
    assert len(stored_files(config.data)) == 1
    assert open_files(config.data) == []


def test_an_upload_in_parts_works_where_there_are_no_locks(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "AVAILABLE", False)
    monkeypatch.setattr(locks, "try_lock", lambda descriptor: True)
    first = send(intake, DATA[:1000], len(DATA))
    with closing(resume(intake, first, 8000)) as append:
        with pytest.raises(UploadLocked):
            resume(intake, first, 8000)
        append.feed(DATA[1000:])
        append.end()
    assert append.video is not None
    assert bytes_of(intake, append.video) == DATA
