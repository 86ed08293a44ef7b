"""What a video is, below HTTP: its row and its object come and go in the right order."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from streamer import accounts, cleanup, derived, facts, jobs, videos
from streamer.containers.media import Media
from streamer.database import Database, open_database
from streamer.errors import NotAuthenticated, QuotaExceeded
from streamer.models import Derived, Job, Orphan, User, Video
from streamer.storage.local import LocalStorage
from tests.concurrency import at_once
from tests.conftest import Clock
from tests.wsgi import stored_files

DATA = bytes(1000)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "streamer.db")
    yield database
    database.close()


@pytest.fixture
def user(database: Database) -> User:
    return accounts.add(database, "alice", "correct horse battery")


def store(database: Database, user: User, storage: LocalStorage, size: int = 1000, **details: Any) -> Video:
    """Make a video of an object that is there."""
    file_path = f"videos/{Video.select().count(database)}"
    storage.path(file_path).write_bytes(bytes(size))
    facts = {
        "title": "A film",
        "description": "",
        "filename": "film.mp4",
        "file_path": file_path,
        "mime_type": "video/mp4",
        "size": size,
        "sha256": hashlib.sha256(bytes(size)).hexdigest(),
        "media": None,
        "quota_bytes": None,
    }
    return videos.add(database, user.id, **(facts | details))


def counters(database: Database) -> tuple[int, int]:
    user = User.select().get(database)
    return user.video_count, user.bytes_used


def orphans(database: Database) -> list[str]:
    return [orphan.file_path for orphan in Orphan.select().execute(database)]


# --- add


def test_a_commit_is_durable(database: Database) -> None:
    assert database.execute_sql("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute_sql("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute_sql("PRAGMA foreign_keys").fetchone() == (1,)


def test_an_added_video_has_all_its_facts(
    frozen: Clock, database: Database, user: User, storage: LocalStorage, tmp_path: Path
) -> None:
    video = store(database, user, storage, title="Straße", description="text")
    assert (video.title, video.title_folded, video.description) == ("Straße", "strasse", "text")
    assert (video.size, video.status, video.filename) == (1000, "ready", "film.mp4")
    assert (video.mime_type, video.sha256) == ("video/mp4", hashlib.sha256(DATA).hexdigest())
    assert video.uploader_id == user.id
    assert video.created_at == video.updated_at == frozen.now()
    assert stored_files(tmp_path) == [video.file_path]
    assert storage.path(video.file_path).read_bytes() == DATA
    assert counters(database) == (1, 1000)
    assert orphans(database) == []


@pytest.mark.parametrize("media", [None, Media(duration=1.5)])
def test_an_added_video_has_been_looked_into(
    database: Database, user: User, storage: LocalStorage, media: Media | None
) -> None:
    video = store(database, user, storage, media=media)
    assert facts.of(video) == media
    assert (video.read_by, video.planned_by, video.status) == (facts.VERSION, 0, "ready")


@pytest.mark.parametrize(("quota", "fits"), [(None, True), (1000, True), (999, False), (0, False)])
def test_the_quota_is_decided_with_the_row(
    database: Database, user: User, storage: LocalStorage, quota: int | None, fits: bool
) -> None:
    if fits:
        store(database, user, storage, quota_bytes=quota)
        assert counters(database) == (1, 1000)
        return
    with pytest.raises(QuotaExceeded) as caught:
        store(database, user, storage, quota_bytes=quota)
    assert (caught.value.quota, caught.value.used) == (quota, 0)
    assert not Video.select().exists(database)
    assert counters(database) == (0, 0)


def test_the_quota_counts_what_has_come_since_the_user_was_read(
    database: Database, user: User, storage: LocalStorage
) -> None:
    store(database, user, storage, quota_bytes=1500)
    assert user.bytes_used == 0, "as it was read when the request began"
    with pytest.raises(QuotaExceeded):
        store(database, user, storage, quota_bytes=1500)


def test_a_deleted_account_gets_no_video(database: Database, user: User, storage: LocalStorage) -> None:
    videos.remove_account(database, user)
    with pytest.raises(NotAuthenticated):
        store(database, user, storage)
    assert not Video.select().exists(database)
    assert orphans(database) == []


@pytest.mark.parametrize("is_committed", [False, True])
def test_after_a_failed_commit_the_row_and_its_count_are_there_or_neither_is(
    database: Database,
    user: User,
    storage: LocalStorage,
    monkeypatch: pytest.MonkeyPatch,
    is_committed: bool,
) -> None:
    commit = Database.commit

    def fail(self: Database) -> None:
        if is_committed:
            commit(self)
        raise peewee.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "commit", fail)
        with pytest.raises(peewee.OperationalError):
            store(database, user, storage)
    rows = list(Video.select().execute(database))
    assert len(rows) == is_committed
    assert counters(database) == (len(rows), 1000 * len(rows))


# --- remove


def test_a_removed_video_leaves_the_note_of_its_object(
    database: Database, user: User, storage: LocalStorage, tmp_path: Path
) -> None:
    video, other = store(database, user, storage), store(database, user, storage, size=70)
    videos.remove(database, user, video)
    assert [row.id for row in Video.select().execute(database)] == [other.id]
    assert orphans(database) == [video.file_path]
    assert counters(database) == (1, 70)
    assert video.file_path in stored_files(tmp_path)


def test_a_video_is_counted_out_once(database: Database, user: User, storage: LocalStorage) -> None:
    video = store(database, user, storage)

    def remove() -> None:
        try:
            videos.remove(database, user, video)
        finally:
            database.close()

    assert at_once(*[remove] * 4) == [None] * 4
    assert counters(database) == (0, 0)
    assert orphans(database) == [video.file_path]


def test_a_removed_account_leaves_the_notes_of_its_objects(
    database: Database, user: User, storage: LocalStorage
) -> None:
    other = accounts.add(database, "robert", "correct horse battery")
    theirs = store(database, other, storage)
    mine = [store(database, user, storage).file_path for _ in range(3)]
    assert sorted(videos.remove_account(database, user)) == sorted(mine)
    assert sorted(orphans(database)) == sorted(mine)
    assert [row.file_path for row in Video.select().execute(database)] == [theirs.file_path]
    assert [row.username for row in User.select().execute(database)] == ["robert"]


def give(database: Database, storage: LocalStorage, video: Video, *names: str) -> list[str]:
    """Derived objects of a video; where they are."""
    items = []
    for name in names:
        file = storage.stage("derived")
        file.write(DATA)
        items.append(derived.Item(kind="poster", name=name, mime_type="image/jpeg", file=file))
    derived.publish(database, storage, video.id, items)
    return [item.file.file_path for item in items]


def test_a_removed_video_takes_all_along_that_was_made_of_it(
    database: Database, user: User, storage: LocalStorage, tmp_path: Path
) -> None:
    video, other = store(database, user, storage), store(database, user, storage)
    made = give(database, storage, video, *map(str, range(500)))
    [kept] = give(database, storage, other, "320")
    jobs.enqueue(database, video.id, "poster")
    jobs.enqueue(database, other.id, "poster")
    paths = videos.remove(database, user, video)
    assert sorted(paths) == sorted(orphans(database)) == sorted([video.file_path, *made])
    assert [row.file_path for row in Derived.select().execute(database)] == [kept]
    assert [job.video_id for job in Job.select().execute(database)] == [other.id]
    cleanup.remove_orphans(database, storage, paths)
    assert [f"derived/{path.name}" for path in (tmp_path / "derived").iterdir()] == [kept]
    assert stored_files(tmp_path) == [other.file_path]


def test_a_removed_account_takes_all_along_that_was_made_of_its_videos(
    database: Database, user: User, storage: LocalStorage
) -> None:
    robert = accounts.add(database, "robert", "correct horse battery")
    theirs = store(database, robert, storage)
    [kept] = give(database, storage, theirs, "320")
    mine = [store(database, user, storage) for _ in range(2)]
    made = [path for video in mine for path in give(database, storage, video, "320", "640")]
    jobs.enqueue(database, mine[0].id, "poster")
    paths = videos.remove_account(database, user)
    assert sorted(paths) == sorted([*made, *(video.file_path for video in mine)])
    assert sorted(orphans(database)) == sorted(paths)
    assert [row.file_path for row in Derived.select().execute(database)] == [kept]
    assert not Job.select().exists(database)


# --- change and list


def test_what_is_not_given_stays(
    frozen: Clock, database: Database, user: User, storage: LocalStorage
) -> None:
    video = store(database, user, storage, title="before", description="text")
    frozen.forward(seconds=5)
    videos.change(database, video, "ÄFTER", None)
    found = Video.select().get(database)
    assert (found.title, found.title_folded, found.description) == ("ÄFTER", "äfter", "text")
    assert found.updated_at == frozen.now() > found.created_at
    videos.change(database, found, None, "")
    found = Video.select().get(database)
    assert (found.title, found.description) == ("ÄFTER", "")


def test_a_list_counts_only_when_it_must(database: Database, user: User, storage: LocalStorage) -> None:
    for title in ("one", "two", "twelve"):
        store(database, user, storage, title=title)
    user = User.select().get(database)
    assert videos.listing(database, user, videos.Listing()).total == 3
    assert videos.listing(database, user, videos.Listing(q="TW")).total == 2
    assert videos.listing(database, user, videos.Listing(status="failed")).total == 0
    page = videos.listing(database, user, videos.Listing(page=2, limit=2, sort="title"))
    assert [video.title for video in page.videos] == ["two"]
    assert page.total == 3


# --- the same content


def test_ones_own_copy_is_found_and_nobody_elses(
    database: Database, user: User, storage: LocalStorage
) -> None:
    other = accounts.add(database, "robert", "correct horse battery")
    digest = hashlib.sha256(DATA).hexdigest()
    store(database, other, storage)
    assert videos.same_content(database, user, digest) is None
    store(database, user, storage, size=999)
    assert videos.same_content(database, user, digest) is None
    mine, _ = store(database, user, storage), store(database, user, storage)
    found = videos.same_content(database, user, digest)
    assert found is not None
    assert found.id == mine.id, "the oldest"
    videos.remove(database, user, mine)
    again = videos.same_content(database, user, digest)
    assert again is not None
    assert again.id > mine.id


def test_a_video_whose_digest_is_not_known_yet_is_the_same_as_nothing(
    database: Database, user: User, storage: LocalStorage
) -> None:
    store(database, user, storage, sha256="")
    assert videos.same_content(database, user, hashlib.sha256(DATA).hexdigest()) is None
