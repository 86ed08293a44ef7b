"""Every state that a crash can leave behind is put right by the next start; what others work on stays."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import peewee
import pytest

from streamer import cleanup, clock
from streamer.app import Application, create_app
from streamer.config import Config
from streamer.database import Database, open_database
from streamer.models import Orphan, User, Video
from streamer.storage import locks
from streamer.storage.local import LocalStorage, StagedFile
from tests.helpers import PASSWORD, Client, video_bytes
from tests.wsgi import database_of, stored_files

needs_locks = pytest.mark.skipif(not locks.AVAILABLE, reason="this system has no such locks")
DATA = video_bytes(5000)
ONE = "1" * 32  # the name of an object
PATIENCE_SECONDS = 30  # of every wait for a step that comes for sure


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
    for name in (ONE, "2" * 32):
        (config.data / "incoming" / name).write_bytes(DATA[:100])
    if is_noted:
        note(app, f"videos/{ONE}")
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
    path = config.data / folder / ONE
    path.write_bytes(DATA)
    note(app, f"videos/{ONE}")
    with held_by_another_process(path):
        create_app(config)
        assert stored_files(config.data) == sorted([kept, f"{folder}/{ONE}"])
        assert notes(app) == [f"videos/{ONE}"]
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
    cleanup.remove_orphans(database_of(app), LocalStorage(config.data), [kept])
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


# --- what is not ours, and what cannot be removed


def test_what_others_put_into_the_folder_of_uploads_stays(
    app: Application, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    incoming = config.data / "incoming"
    (incoming / "@eaDir").mkdir()
    (incoming / ".DS_Store").write_bytes(b"Bud1")
    (incoming / ONE).write_bytes(DATA)
    create_app(config)
    assert sorted(path.name for path in incoming.iterdir()) == [".DS_Store", "@eaDir"]
    assert "cannot remove" not in caplog.text


@pytest.mark.parametrize("folder", ["videos", "incoming"])
def test_a_folder_in_the_place_of_an_object_does_not_stop_the_start(
    app: Application, kept: str, config: Config, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    (config.data / folder / ONE).mkdir()
    note(app, f"videos/{ONE}")
    (config.data / "videos" / ("2" * 32)).write_bytes(DATA)
    note(app, f"videos/{'2' * 32}")
    create_app(config)
    assert stored_files(config.data) == sorted([kept, f"{folder}/{ONE}"]), "what comes later is removed"
    assert notes(app) == [f"videos/{ONE}"]
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"cannot remove {folder}/{ONE}: ")
    assert "\n" not in record.getMessage()
    assert record.exc_info is None
    (config.data / folder / ONE).rmdir()
    create_app(config)
    assert notes(app) == []


def test_an_object_that_cannot_be_removed_does_not_stop_the_start(
    app: Application, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"videos/{ONE}"
    (config.data / path).write_bytes(DATA)
    note(app, path)
    with monkeypatch.context() as patch:

        def refuse(self: Path, missing_ok: bool = False) -> None:
            raise PermissionError("somebody watches it")

        patch.setattr(Path, "unlink", refuse)
        create_app(config)
    assert (stored_files(config.data), notes(app)) == ([path], [path])
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot remove {path}: somebody watches it"
    ]
    create_app(config)
    assert stored_files(config.data) == notes(app) == []


# --- two at once: a sweep in the middle of a publication, and of a deletion


def run_during(
    monkeypatch: pytest.MonkeyPatch, name: str, meanwhile: Callable[[], object], when: str = "before"
) -> None:
    """Do something just before, or just after, the next call of a method of LocalStorage."""
    real = getattr(LocalStorage, name)
    pending = [meanwhile]

    def wrapper(self: LocalStorage, file_path: str) -> object:
        if when == "before" and pending:
            pending.pop()()
        result = real(self, file_path)
        if when == "after" and pending:
            pending.pop()()
        return result

    monkeypatch.setattr(LocalStorage, name, wrapper)


class Upload:
    """An upload in a thread of its own that waits before the rename and before the commit."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.noted, self.renamed = threading.Event(), threading.Event()
        self._may_rename, self._may_commit = threading.Event(), threading.Event()
        publish = StagedFile.publish

        def step_by_step(staged: StagedFile) -> None:
            self.noted.set()
            assert self._may_rename.wait(PATIENCE_SECONDS)
            publish(staged)
            self.renamed.set()
            assert self._may_commit.wait(PATIENCE_SECONDS)

        monkeypatch.setattr(StagedFile, "publish", step_by_step)
        self._pool = ThreadPoolExecutor(1)
        self._answer = self._pool.submit(client.upload, DATA)
        assert self.noted.wait(PATIENCE_SECONDS)

    def rename(self) -> None:
        self._may_rename.set()
        assert self.renamed.wait(PATIENCE_SECONDS)

    def try_to_commit(self) -> None:
        """Let it commit if nobody has the database; it goes on by itself when it is free."""
        self._may_commit.set()
        wait([self._answer], timeout=0.5)

    def status(self) -> int:
        """Let it end."""
        self._may_rename.set()
        self._may_commit.set()
        with self._pool:
            return int(self._answer.result(PATIENCE_SECONDS).status_int)


def sweep(config: Config) -> None:
    """What another process does when it starts."""
    database = open_database(config.data / "streamer.db")
    try:
        cleanup.sweep(database, LocalStorage(config.data))
    finally:
        database.close()


def sweep_before_the_rename(upload: Upload, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(config)


def sweep_after_the_rename(upload: Upload, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    upload.rename()
    sweep(config)


def rename_before_the_sweep_looks_into_incoming(
    upload: Upload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "claim", upload.rename)
    sweep(config)


def rename_before_the_sweep_asks_whether_it_is_staged(
    upload: Upload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "is_staged", upload.rename)
    sweep(config)


def rename_after_the_sweep_asked_whether_it_is_staged(
    upload: Upload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "is_staged", upload.rename, "after")
    sweep(config)


def commit_between_the_look_at_the_row_and_the_removal(
    upload: Upload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload.rename()
    run_during(monkeypatch, "claim", upload.try_to_commit)
    sweep(config)


@needs_locks
@pytest.mark.parametrize(
    "interleave",
    [
        sweep_before_the_rename,
        sweep_after_the_rename,
        rename_before_the_sweep_looks_into_incoming,
        rename_before_the_sweep_asks_whether_it_is_staged,
        rename_after_the_sweep_asked_whether_it_is_staged,
        commit_between_the_look_at_the_row_and_the_removal,
    ],
)
def test_a_sweep_during_a_publication_leaves_the_acknowledged_video_its_file(
    app: Application,
    alice: Client,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    interleave: Callable[[Upload, Config, pytest.MonkeyPatch], None],
) -> None:
    upload = Upload(alice, monkeypatch)
    try:
        interleave(upload, config, monkeypatch)
    finally:
        status = upload.status()
    assert status == 201
    assert alice.get("/api/videos/1/stream", status=200).body == DATA
    create_app(config)
    assert alice.get("/api/videos/1/stream", status=200).body == DATA
    assert notes(app) == []


def in_another_thread(work: Callable[[], object], pool: ThreadPoolExecutor) -> Callable[[], None]:
    """Start the work and give it the time to end, if nothing that it needs is held here."""

    def start() -> None:
        wait([pool.submit(work)], timeout=0.5)

    return start


def assert_nothing_is_left(app: Application, config: Config) -> None:
    assert set(stored_files(config.data)) <= set(notes(app)), "what is left is noted"
    create_app(config)
    assert stored_files(config.data) == notes(app) == []


@pytest.mark.parametrize("step", ["is_staged", "claim", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sweep_in_the_middle_of_a_deletion_leaves_nothing_for_ever(
    app: Application, owner: Client, config: Config, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        run_during(monkeypatch, step, in_another_thread(lambda: sweep(config), pool), when)
        owner.delete("/api/videos/1", status=204)
    assert_nothing_is_left(app, config)


@pytest.mark.parametrize("step", ["is_staged", "claim", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_deletion_in_the_middle_of_a_sweep_leaves_nothing_for_ever(
    app: Application, owner: Client, config: Config, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    remove_orphans = cleanup.remove_orphans

    def sweep_first(database: Database, storage: LocalStorage, file_paths: list[str]) -> None:
        monkeypatch.setattr(cleanup, "remove_orphans", remove_orphans)

        def go_on() -> None:
            remove_orphans(database, storage, file_paths)
            database.close()  # the connection of the thread

        with ThreadPoolExecutor(1) as pool:
            run_during(monkeypatch, step, in_another_thread(go_on, pool), when)
            sweep(config)

    monkeypatch.setattr(cleanup, "remove_orphans", sweep_first)
    owner.delete("/api/videos/1", status=204)
    assert_nothing_is_left(app, config)


# --- many objects


def test_the_removal_of_an_account_with_many_videos_takes_few_transactions(
    app: Application, owner: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = database_of(app)
    row = Video.select().dicts().get(database)
    copies = [row | {"id": None, "file_path": f"videos/{number:032x}"} for number in range(999)]
    Video.insert_many([{k: v for k, v in copy.items() if k != "id"} for copy in copies]).execute(database)
    for copy in copies:
        (config.data / str(copy["file_path"])).write_bytes(b"")
    commits: list[None] = []
    commit = Database.commit

    def counted(self: Database) -> None:
        commits.append(None)
        commit(self)

    monkeypatch.setattr(Database, "commit", counted)
    owner.delete("/api/auth/me", {"password": PASSWORD}, status=204)
    assert stored_files(config.data) == notes(app) == []
    assert 1000 / cleanup.BATCH <= len(commits) <= 1000 / cleanup.BATCH + 5


# --- a process that dies at any step

UPLOADER = """
import os, sys
from pathlib import Path
from streamer import clock, videos
from streamer.database import Database, open_database
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
    cleanup.remove_orphans(database, storage, [video.file_path])
os._exit(0)
"""


NOT_REMOVED = ("commit", 1, "before")


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
        ("remove", "unlink", 1, "before"),
        ("remove", "unlink", 1, "after"),
        ("remove", "commit", 2, "before"),
        ("remove", "commit", 2, "after"),
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
    # a video is there, or gone, from the first commit of its row on
    is_done = (
        when == "after" and name == "commit" if work == "upload" else (name, number, when) != NOT_REMOVED
    )
    assert len(rows) == {("upload", True): 2, ("remove", True): 0}.get((work, is_done), 1)
    database.close()


def test_a_video_is_deleted_also_when_its_object_must_wait(
    owner: Client, kept: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def refuse(*_: object) -> bool:
            raise peewee.OperationalError("database is locked")

        patched.setattr(cleanup, "_is_gone", refuse)
        owner.delete("/api/videos/1", status=204)
    owner.get("/api/videos/1", status=404)
    assert stored_files(config.data) == [kept]
    create_app(config)
    assert stored_files(config.data) == []


def test_no_object_is_removed_while_others_wait_for_the_database(
    owner: Client, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk would keep every writer waiting."""
    delete = LocalStorage.delete
    was_in_transaction: list[bool] = []

    def observe(self: LocalStorage, file_path: str) -> None:
        was_in_transaction.append(database_of(app).in_transaction())
        delete(self, file_path)

    monkeypatch.setattr(LocalStorage, "delete", observe)
    owner.delete("/api/videos/1", status=204)
    assert was_in_transaction == [False]
