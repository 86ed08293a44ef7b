"""The SHA-256 of a video: carried along with its bytes, or computed afterwards, and never a wrong one."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from streamer import accounts, appends, digests, uploads
from streamer.config import Config
from streamer.database import open_database
from streamer.digests import Carried, compute_missing
from streamer.intake import FINAL, PARTIAL, WHOLE, Intake
from streamer.models import Video
from streamer.storage.local import LocalStorage
from streamer.uploads import Plan
from tests.helpers import video_bytes

DATA = video_bytes(9000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    database = open_database(tmp_path / "streamer.db")
    accounts.add(database, "alice", "correct horse battery")
    yield Intake(database, LocalStorage(tmp_path), Config(data=tmp_path, min_free_bytes=0))
    database.close()


def add(intake: Intake, upload_id: str, data: bytes) -> None:
    """One more request of an upload."""
    upload = uploads.find(intake, 1, upload_id)
    append = uploads.resume(intake, 1, upload_id, offset=upload.offset, size=len(data))
    with closing(append):
        append.feed(data)
        append.end()


def begin(intake: Intake, kind: str = WHOLE, length: int = len(DATA)) -> str:
    with closing(uploads.begin(intake, 1, Plan(kind=kind, length=length))) as append:
        append.end()
        return append.upload.id


def upload_in_thirds(intake: Intake) -> Iterator[str]:
    """Stops after each third of the upload; tells its id."""
    upload_id = begin(intake)
    for first in range(0, len(DATA), 3000):
        add(intake, upload_id, DATA[first : first + 3000])
        yield upload_id


def videos_of(intake: Intake) -> list[Video]:
    return list(Video.select().order_by(Video.id).execute(intake.database))


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process, or this one after a restart, knows."""
    monkeypatch.setattr(appends, "_carried", Carried())


# --- carried along


def test_the_digest_is_carried_from_request_to_request(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the bytes are read a second time"))
    list(upload_in_thirds(intake))
    assert [video.sha256 for video in videos_of(intake)] == [DIGEST]


def test_the_digest_is_unknown_when_another_process_began(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in upload_in_thirds(intake):
        forget(monkeypatch)
    assert [video.sha256 for video in videos_of(intake)] == [""]


def test_a_digest_is_unknown_when_another_process_has_added_in_between(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours has been carried as far as our bytes came, and no further."""
    thirds = upload_in_thirds(intake)
    next(thirds)
    with monkeypatch.context() as other:
        forget(other)
        next(thirds)
    next(thirds)
    assert [video.sha256 for video in videos_of(intake)] == [""]


def test_a_digest_is_given_once() -> None:
    carried = Carried()
    digest = hashlib.sha256(DATA)
    carried.put("one", len(DATA), digest)
    assert carried.take("one", len(DATA)) is digest
    assert carried.take("one", len(DATA)) is None, "whoever has it goes on with it"


@pytest.mark.parametrize("size", [1, len(DATA) - 1, len(DATA) + 1])
def test_a_digest_of_other_bytes_is_not_given_and_not_kept(size: int) -> None:
    carried = Carried()
    carried.put("one", len(DATA), hashlib.sha256(DATA))
    assert carried.take("one", size) is None
    assert carried.take("one", len(DATA)) is None


def test_the_digest_of_no_bytes_is_always_known() -> None:
    first, second = Carried().take("one", 0), Carried().take("one", 0)
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.digest() == hashlib.sha256().digest()


def test_a_digest_that_is_not_known_is_not_kept() -> None:
    carried = Carried()
    carried.put("one", 5, None)
    assert carried.take("one", 5) is None


def test_of_too_many_the_oldest_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_CARRIED", 3)
    carried = Carried()
    kept = {name: hashlib.sha256(name.encode()) for name in "abcd"}
    for name, digest in kept.items():
        carried.put(name, 1, digest)
    assert [carried.take(name, 1) for name in "abcd"] == [None, kept["b"], kept["c"], kept["d"]]


# --- computed afterwards


def without_digest(intake: Intake, count: int = 1) -> list[Video]:
    """Videos whose digest is not known."""
    for number in range(count):
        with closing(uploads.begin(intake, 1, Plan(length=len(DATA)))) as append:
            append.feed(video_bytes(len(DATA), seed=number))
            append.end()
    Video.update(sha256="").execute(intake.database)
    return videos_of(intake)


def compute(intake: Intake) -> None:
    compute_missing(intake.database, intake.storage)


@pytest.mark.parametrize("block", [1, 1000, digests.READ_BYTES])
def test_a_missing_digest_is_computed(intake: Intake, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(digests, "READ_BYTES", block)
    [video] = without_digest(intake)
    compute(intake)
    [computed] = videos_of(intake)
    assert computed.sha256 == DIGEST
    assert computed.updated_at == video.updated_at, "nothing has changed for who looks at it"


def test_the_digest_of_joined_parts_is_computed(intake: Intake) -> None:
    parts = []
    for data in (DATA[:4000], DATA[4000:]):
        parts.append(begin(intake, PARTIAL, len(data)))
        add(intake, parts[-1], data)
    uploads.join(intake, 1, Plan(kind=FINAL), parts)
    assert [video.sha256 for video in videos_of(intake)] == [""]
    compute(intake)
    assert [video.sha256 for video in videos_of(intake)] == [DIGEST]


def test_all_that_are_missing_are_computed_in_batches(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "BATCH", 2)
    without_digest(intake, 5)
    compute(intake)
    expected = [hashlib.sha256(video_bytes(len(DATA), seed=number)).hexdigest() for number in range(5)]
    assert [video.sha256 for video in videos_of(intake)] == expected


def test_what_takes_too_long_goes_on_the_next_time(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    without_digest(intake, 3)
    ticks = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    for count, until in ((2, 2), (2, 0), (3, 100)):
        compute_missing(intake.database, intake.storage, until)
        assert sum(bool(video.sha256) for video in videos_of(intake)) == count


def test_a_digest_that_is_known_is_left_alone(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    without_digest(intake)
    compute(intake)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("nothing has to be read"))
    compute(intake)
    assert [video.sha256 for video in videos_of(intake)] == [DIGEST]


def test_a_video_that_is_deleted_meanwhile_is_passed_over(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = without_digest(intake, 2)
    gone = intake.storage.path(first.file_path)
    opening = Path.open

    def delete_first(path: Path, *arguments: object, **options: object) -> BinaryIO:
        if path == gone:
            Video.delete().where(Video.id == first.id).execute(intake.database)
            gone.unlink()
        return opening(path, *arguments, **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(Path, "open", delete_first)
    compute(intake)
    [left] = videos_of(intake)
    assert (left.id, len(left.sha256)) == (second.id, 64)


def test_a_video_that_has_lost_its_object_is_told_and_the_others_get_their_digests(
    intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    video, other = without_digest(intake, 2)
    intake.storage.path(video.file_path).unlink()
    compute(intake)
    assert [len(one.sha256) for one in videos_of(intake) if one.id == other.id] == [64]
    [message] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith(f"cannot compute the digest of video {video.id}: ")
