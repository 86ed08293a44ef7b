"""Every state that a crash can leave behind is put right by the next start; what others work on stays."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamer import cleanup, clock
from streamer.app import Application, create_app
from streamer.config import Config
from streamer.models import Orphan, User, Video
from streamer.storage import locks
from streamer.storage.local import LocalStorage
from tests.helpers import Client, video_bytes
from tests.wsgi import database_of, stored_files

needs_locks = pytest.mark.skipif(not locks.AVAILABLE, reason="this system has no such locks")
DATA = video_bytes(5000)


@pytest.fixture
def owner(alice: Client) -> Client:
    """A client with one video."""
    alice.upload(DATA, status=201)
    return alice


@pytest.fixture
def kept(owner: Client, config: Config) -> str:
    """The object of that video."""
    [path] = stored_files(config.data)
    return path


def note(app: Application, file_path: str) -> None:
    Orphan.insert(file_path=file_path, created_at=clock.now()).execute(database_of(app))


def notes(app: Application) -> list[str]:
    return [orphan.file_path for orphan in Orphan.select().execute(database_of(app))]


@pytest.mark.parametrize("is_noted", [False, True])
def test_what_was_still_growing_is_removed(
    app: Application, kept: str, config: Config, is_noted: bool
) -> None:
    for name in ("one", "two"):
        (config.data / "incoming" / name).write_bytes(DATA[:100])
    if is_noted:
        note(app, "videos/one")
    create_app(config)
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


def test_an_object_that_never_got_its_row_is_removed(app: Application, kept: str, config: Config) -> None:
    (config.data / "videos" / "one").write_bytes(DATA)
    note(app, "videos/one")
    create_app(config)
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


def test_a_note_of_nothing_is_removed(app: Application, kept: str, config: Config) -> None:
    note(app, "videos/nothing")
    create_app(config)
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


def test_an_object_that_has_its_row_stays(app: Application, owner: Client, kept: str, config: Config) -> None:
    note(app, kept)
    create_app(config)
    assert stored_files(config.data) == [kept]
    assert notes(app) == []
    assert owner.get("/api/videos/1/stream", status=200).body == DATA


def test_a_file_that_nobody_has_noted_is_not_touched(app: Application, kept: str, config: Config) -> None:
    (config.data / "videos" / "mine").write_bytes(b"put here by hand")
    create_app(config)
    assert stored_files(config.data) == sorted([kept, "videos/mine"])


def test_a_second_start_finds_nothing_to_do(app: Application, kept: str, config: Config) -> None:
    for _ in range(2):
        create_app(config)
    assert stored_files(config.data) == [kept]


HOLDER = """
import os, sys
from streamer.storage import locks
descriptor = os.open(sys.argv[1], os.O_RDWR)
print(locks.try_lock(descriptor), flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: Path) -> Iterator[None]:
    """A live process has the file locked."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        try:
            yield
        finally:
            holder.kill()


@needs_locks
@pytest.mark.parametrize("folder", ["incoming", "videos"])
def test_what_a_live_process_works_on_stays_until_it_dies(
    app: Application, kept: str, config: Config, folder: str
) -> None:
    path = config.data / folder / "one"
    path.write_bytes(DATA)
    note(app, "videos/one")
    with held_by_another_process(path):
        create_app(config)
        assert stored_files(config.data) == sorted([kept, f"{folder}/one"])
        assert notes(app) == ["videos/one"]
    create_app(config)
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


@needs_locks
def test_an_upload_of_this_process_survives_a_second_start(
    app: Application, owner: Client, config: Config
) -> None:
    storage = LocalStorage(config.data)
    with storage.stage() as staged:
        staged.write(DATA)
        create_app(config)
        staged.seal()
        note(app, staged.file_path)
        create_app(config)
        staged.publish()
        create_app(config)
        assert storage.path(staged.file_path).read_bytes() == DATA
        assert notes(app) == [staged.file_path]


def test_an_object_that_cannot_be_removed_now_is_removed_at_the_next_start(
    app: Application,
    owner: Client,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:

        def refuse(self: LocalStorage, file_path: str) -> None:
            raise PermissionError("somebody watches it")

        patch.setattr(LocalStorage, "delete", refuse)
        owner.delete("/api/videos/1", status=204)
    assert "somebody watches it" in caplog.text
    assert stored_files(config.data) == notes(app)
    assert len(notes(app)) == 1
    create_app(config)
    assert stored_files(config.data) == notes(app) == []


def test_a_row_that_is_committed_meanwhile_saves_its_object(
    app: Application, owner: Client, kept: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(app, kept)
    cleanup.remove_orphan(database_of(app), LocalStorage(config.data), kept)
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


# --- a process that dies at any step

UPLOADER = """
import os, sys
from pathlib import Path
from streamer import clock, videos
from streamer.database import Database, open_database
from streamer.models import User, Video
from streamer.storage.local import LocalStorage

folder, name, number, when, work = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
calls = [0]

def dying(call):
    def wrapper(*arguments):
        calls[0] += 1
        if calls[0] == number and when == "before":
            os._exit(9)
        result = call(*arguments)
        if calls[0] == number:
            os._exit(9)
        return result
    return wrapper

database = open_database(folder / "streamer.db")
storage = LocalStorage(folder)
user = User.select().get(database)
owner = Database if name == "commit" else os
setattr(owner, name, dying(getattr(owner, name)))
if work == "upload":
    with storage.stage() as staged:
        staged.write(bytes(5000))
        videos.add(database, user, staged, title="t", description="", filename="f", mime_type="video/mp4",
                   quota_bytes=None)
else:
    from streamer import cleanup
    video = Video.select().get(database)
    videos.remove(database, user, video)
    cleanup.remove_orphan(database, storage, video.file_path)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("work", "name", "number", "when"),
    [
        ("upload", "write", 1, "after"),
        ("upload", "fsync", 1, "after"),
        ("upload", "rename", 1, "before"),
        ("upload", "rename", 1, "after"),
        ("upload", "fsync", 2, "after"),
        ("upload", "commit", 1, "before"),
        ("upload", "commit", 1, "after"),
        ("remove", "commit", 1, "before"),
        ("remove", "commit", 1, "after"),
        ("remove", "unlink", 1, "after"),
    ],
)
def test_a_crash_at_any_step_leaves_all_or_nothing(
    app: Application, owner: Client, kept: str, config: Config, work: str, name: str, number: int, when: str
) -> None:
    database_of(app).close()
    command = [sys.executable, "-c", UPLOADER, str(config.data), name, str(number), when, work]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9, "it died where it should"
    restarted = create_app(config)
    database = database_of(restarted)
    rows = {video.file_path: video for video in Video.select().execute(database)}
    assert sorted(rows) == stored_files(config.data)
    for path, video in rows.items():
        data = (config.data / path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == video.sha256
    assert list(Orphan.select().execute(database)) == []
    user = User.select().get(database)
    assert (user.video_count, user.bytes_used) == (len(rows), 5000 * len(rows))
    is_done = name in {"commit", "unlink"} and when == "after"
    assert len(rows) == {("upload", True): 2, ("remove", True): 0}.get((work, is_done), 1)
    database.close()
