"""Every state that a crash can leave behind is put right by the next start; what others work on stays."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import peewee
import pytest

from streamer import appends, cleanup, clock, derived, jobs, uploads
from streamer.app import Application, create_app
from streamer.config import Config
from streamer.database import Database, open_database
from streamer.intake import DIRECT, FINAL, PARTIAL, RESUMABLE, WHOLE, Intake
from streamer.models import Job, Orphan, Upload, User, Video
from streamer.storage import locks
from streamer.storage.local import LocalStorage, StagedFile
from streamer.uploads import Plan
from tests.conftest import Clock
from tests.helpers import PASSWORD, Client, video_bytes
from tests.wsgi import database_of, intake_of, open_files, stored_files

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
    if folder == "videos":
        note(app, f"videos/{ONE}")
    before = notes(app)
    with held_by_another_process(path):
        create_app(config)
        assert stored_files(config.data) == sorted([kept, f"{folder}/{ONE}"])
        assert notes(app) == before
    create_app(config)
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


@needs_locks
@pytest.mark.parametrize("kind", [DIRECT, WHOLE])
def test_an_upload_of_this_process_survives_a_second_start(
    app: Application, owner: Client, config: Config, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    intake = intake_of(app)
    publish = StagedFile.publish

    def publish_between_two_starts(staged: StagedFile) -> None:
        create_app(config)
        publish(staged)
        create_app(config)

    monkeypatch.setattr(StagedFile, "publish", publish_between_two_starts)
    plan = Plan(kind=kind, length=len(DATA) if kind == WHOLE else None)
    with closing(uploads.begin(intake, 1, plan)) as append:
        create_app(config)
        append.feed(DATA)
        create_app(config)
        append.end()
        create_app(config)
    assert append.video is not None
    assert owner.get(f"/api/videos/{append.video.id}/stream", status=200).body == DATA


# --- uploads


def plan_of(kind: str) -> Plan:
    return Plan(kind=kind, length=None if kind == DIRECT else len(DATA))


def begun(app: Application, kind: str, size: int = 1000) -> str:
    """An upload of so many bytes, as a process has left it that died in the middle of a request."""
    now = clock.now()
    with closing(intake_of(app).storage.stage()) as staged:
        staged.write(DATA[:size])
    Upload.insert(
        id=staged.name,
        user=1,
        kind=kind,
        length=None if kind == DIRECT else len(DATA),
        offset=size if kind in RESUMABLE else 0,
        reserved=len(DATA),
        created_at=now,
        updated_at=now,
        expires_at=now + timedelta(days=7),
    ).execute(database_of(app))
    return staged.name


def uploads_of(app: Application) -> list[str]:
    return [upload.id for upload in Upload.select().execute(database_of(app))]


@pytest.mark.parametrize("kind", [WHOLE, PARTIAL])
def test_an_upload_that_can_go_on_waits_for_it(
    app: Application, kept: str, config: Config, frozen: Clock, kind: str
) -> None:
    upload_id = begun(app, kind)
    frozen.forward(days=7, seconds=-1)
    create_app(config)
    assert uploads_of(app) == [upload_id]
    assert stored_files(config.data) == sorted([kept, f"incoming/{upload_id}"])


@pytest.mark.parametrize("kind", [WHOLE, PARTIAL])
def test_an_upload_that_has_expired_is_removed(
    app: Application, kept: str, config: Config, frozen: Clock, kind: str
) -> None:
    begun(app, kind)
    frozen.forward(days=7)
    create_app(config)
    assert uploads_of(app) == []
    assert stored_files(config.data) == [kept]


@pytest.mark.parametrize("kind", [DIRECT, FINAL])
@pytest.mark.parametrize("folder", ["incoming", "videos"])
def test_an_upload_that_cannot_go_on_is_removed_when_its_process_is_dead(
    app: Application, kept: str, config: Config, kind: str, folder: str
) -> None:
    upload_id = begun(app, kind, len(DATA))
    if folder == "videos":  # it died between the rename and the commit
        (config.data / "incoming" / upload_id).rename(config.data / "videos" / upload_id)
    create_app(config)
    assert uploads_of(app) == []
    assert stored_files(config.data) == [kept]


def test_parts_outlive_the_process_that_put_them_together(
    app: Application, kept: str, config: Config
) -> None:
    part, final = begun(app, PARTIAL, len(DATA)), begun(app, FINAL)
    create_app(config)
    assert uploads_of(app) == [part]
    assert stored_files(config.data) == sorted([kept, f"incoming/{part}"])
    assert not (config.data / "incoming" / final).exists()


@needs_locks
@pytest.mark.parametrize("kind", [DIRECT, WHOLE, PARTIAL, FINAL])
def test_an_upload_that_a_live_process_holds_stays_also_when_it_has_expired(
    app: Application, kept: str, config: Config, frozen: Clock, kind: str
) -> None:
    upload_id = begun(app, kind)
    frozen.forward(days=8)
    with held_by_another_process(config.data / "incoming" / upload_id):
        create_app(config)
        assert uploads_of(app) == [upload_id]
        assert stored_files(config.data) == sorted([kept, f"incoming/{upload_id}"])
    create_app(config)
    assert uploads_of(app) == []
    assert stored_files(config.data) == [kept]


def test_a_row_whose_file_is_gone_is_removed(app: Application, kept: str, config: Config) -> None:
    upload_id = begun(app, WHOLE)
    (config.data / "incoming" / upload_id).unlink()
    create_app(config)
    assert uploads_of(app) == []
    assert stored_files(config.data) == [kept]


@pytest.mark.parametrize("folder", ["incoming", "videos"])
def test_an_upload_of_which_all_bytes_have_come_becomes_its_video(
    frozen: Clock, app: Application, owner: Client, config: Config, folder: str
) -> None:
    upload_id = begun(app, WHOLE, len(DATA))
    if folder == "videos":
        (config.data / "incoming" / upload_id).rename(config.data / "videos" / upload_id)
    frozen.forward(minutes=1)
    create_app(config)
    assert owner.get("/api/videos/2/stream", status=200).body == DATA
    trace = Upload.select().get(database_of(app))
    assert (trace.id, trace.video_id) == (upload_id, 2)
    assert open_files(config.data) == []


def test_a_part_of_which_all_bytes_have_come_stays_a_part(
    app: Application, kept: str, config: Config
) -> None:
    upload_id = begun(app, PARTIAL, len(DATA))
    create_app(config)
    assert uploads_of(app) == [upload_id]
    assert stored_files(config.data) == sorted([kept, f"incoming/{upload_id}"])


def test_an_upload_that_cannot_become_its_video_yet_does_not_stop_the_start(
    app: Application, kept: str, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    upload_id = begun(app, WHOLE, len(DATA))
    create_app(Config(data=config.data, min_free_bytes=0, quota_bytes=len(DATA), ffmpeg="off"))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"cannot finish upload {upload_id} yet: this does not fit: 5000 of the quota of 5000 bytes are used"
    ]
    assert uploads_of(app) == [upload_id]
    create_app(config)
    assert Video.select().count(database_of(app)) == 2


def test_an_upload_that_is_no_video_after_all_is_removed(
    app: Application, kept: str, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    upload_id = begun(app, WHOLE, len(DATA))
    (config.data / "incoming" / upload_id).write_bytes(bytes(len(DATA)))
    create_app(config)
    assert f"cannot finish upload {upload_id} yet: the file is not a video" in caplog.text
    assert uploads_of(app) == []
    assert stored_files(config.data) == [kept]


def test_an_upload_that_has_lost_bytes_is_removed(
    app: Application, kept: str, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    upload_id = begun(app, WHOLE, len(DATA))
    (config.data / "incoming" / upload_id).write_bytes(DATA[:-1])
    create_app(config)
    assert "have been lost" in caplog.text
    assert uploads_of(app) == []
    assert stored_files(config.data) == [kept]


@pytest.mark.parametrize(("days", "is_there"), [(6.9, True), (7, False)])
def test_the_trace_of_a_finished_upload_expires_and_the_video_stays(
    app: Application, owner: Client, config: Config, frozen: Clock, days: float, is_there: bool
) -> None:
    with closing(uploads.begin(intake_of(app), 1, plan_of(WHOLE))) as append:
        append.feed(DATA)
        append.end()
    frozen.forward(days=days)
    create_app(config)
    assert uploads_of(app) == [append.upload.id] * is_there
    owner.sign_in("alice")
    assert owner.get("/api/videos/2/stream", status=200).body == DATA


def test_a_deleted_upload_whose_process_died_leaves_no_file(
    app: Application, kept: str, config: Config
) -> None:
    upload_id = begun(app, WHOLE)
    Upload.delete().where(Upload.id == upload_id).execute(database_of(app))
    create_app(config)
    assert stored_files(config.data) == [kept]


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
    assert notes(app) == [f"videos/{ONE}"] * (folder == "videos")
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

    def wrapper(self: LocalStorage, *arguments: Any) -> object:
        if when == "before" and pending:
            pending.pop()()
        result = real(self, *arguments)
        if when == "after" and pending:
            pending.pop()()
        return result

    monkeypatch.setattr(LocalStorage, name, wrapper)


class SlowUpload:
    """An upload in a thread of its own that waits before the rename and before the commit."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sealed, self.renamed = threading.Event(), threading.Event()
        self._may_rename, self._may_commit = threading.Event(), threading.Event()
        publish = StagedFile.publish

        def step_by_step(staged: StagedFile) -> None:
            self.sealed.set()
            assert self._may_rename.wait(PATIENCE_SECONDS)
            publish(staged)
            self.renamed.set()
            assert self._may_commit.wait(PATIENCE_SECONDS)

        monkeypatch.setattr(StagedFile, "publish", step_by_step)
        self._pool = ThreadPoolExecutor(1)
        self._answer = self._pool.submit(client.upload, DATA, headers={"Idempotency-Key": "once"})
        assert self.sealed.wait(PATIENCE_SECONDS)

    def rename(self) -> None:
        self._may_rename.set()
        assert self.renamed.wait(PATIENCE_SECONDS)

    def try_to_commit(self) -> None:
        """Let it commit if nobody has the database; it goes on by itself when it is free."""
        self._may_commit.set()
        wait([self._answer], timeout=0.5)

    def end(self) -> None:
        """Let it end, if nothing that it needs is held here."""
        self._may_rename.set()
        self.try_to_commit()

    def status(self) -> int:
        """Let it end."""
        self.end()
        with self._pool:
            return int(self._answer.result(PATIENCE_SECONDS).status_int)


def sweep(config: Config) -> None:
    """What another process does when it starts."""
    database = open_database(config.data / "streamer.db")
    with pytest.MonkeyPatch.context() as other_process:
        other_process.setattr(appends, "running", lambda upload_id: None)
        try:
            cleanup.sweep(Intake(database, LocalStorage(config.data), config))
        finally:
            database.close()


def sweep_before_the_rename(upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(config)


def sweep_after_the_rename(upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    upload.rename()
    sweep(config)


def rename_before_the_sweep_asks_who_holds_it(
    upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "resume", upload.rename)
    sweep(config)


def rename_before_the_sweep_looks_into_incoming(
    upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "incoming", upload.rename)
    sweep(config)


def rename_after_the_sweep_looked_into_incoming(
    upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "incoming", upload.rename, "after")
    sweep(config)


def end_after_the_sweep_looked_into_incoming(
    upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "incoming", upload.end, "after")
    sweep(config)


def end_before_the_sweep_asks_who_holds_it(
    upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_during(monkeypatch, "resume", upload.end)
    sweep(config)


def commit_between_the_look_at_the_row_and_the_question_who_holds_it(
    upload: SlowUpload, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload.rename()
    run_during(monkeypatch, "resume", upload.try_to_commit)
    sweep(config)


@needs_locks
@pytest.mark.parametrize(
    "interleave",
    [
        sweep_before_the_rename,
        sweep_after_the_rename,
        rename_before_the_sweep_asks_who_holds_it,
        rename_before_the_sweep_looks_into_incoming,
        rename_after_the_sweep_looked_into_incoming,
        end_after_the_sweep_looked_into_incoming,
        end_before_the_sweep_asks_who_holds_it,
        commit_between_the_look_at_the_row_and_the_question_who_holds_it,
    ],
)
def test_a_sweep_during_a_publication_leaves_the_acknowledged_video_its_file(
    app: Application,
    alice: Client,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    interleave: Callable[[SlowUpload, Config, pytest.MonkeyPatch], None],
) -> None:
    upload = SlowUpload(alice, monkeypatch)
    try:
        interleave(upload, config, monkeypatch)
    finally:
        status = upload.status()
    assert status == 201
    assert alice.get("/api/videos/1/stream", status=200).body == DATA
    create_app(config)
    assert alice.get("/api/videos/1/stream", status=200).body == DATA
    assert notes(app) == []
    again = alice.upload(DATA, headers={"Idempotency-Key": "once"}, status=201)
    assert again.json["id"] == 1, "and its client can ask for the answer again"


def in_another_thread(work: Callable[[], object], pool: ThreadPoolExecutor) -> Callable[[], None]:
    """Start the work and give it the time to end, if nothing that it needs is held here."""

    def start() -> None:
        wait([pool.submit(work)], timeout=0.5)

    return start


def assert_nothing_is_left(app: Application, config: Config) -> None:
    assert set(stored_files(config.data)) <= set(notes(app)), "what is left is noted"
    create_app(config)
    assert stored_files(config.data) == notes(app) == []


@pytest.mark.parametrize("step", ["claim", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_sweep_in_the_middle_of_a_deletion_leaves_nothing_for_ever(
    app: Application, owner: Client, config: Config, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        run_during(monkeypatch, step, in_another_thread(lambda: sweep(config), pool), when)
        owner.delete("/api/videos/1", status=204)
    assert_nothing_is_left(app, config)


@pytest.mark.parametrize("step", ["claim", "delete"])
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


def test_a_file_that_comes_after_the_sweep_looked_stays(
    app: Application, kept: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config.data / "videos" / ONE
    note(app, f"videos/{ONE}")
    claim = LocalStorage.claim

    @contextmanager
    def claim_too_early(storage: LocalStorage, file_path: str) -> Iterator[bool | None]:
        with claim(storage, file_path) as claimed:
            if file_path == f"videos/{ONE}":
                path.write_bytes(DATA)  # it is renamed to there, as its publication goes on
            yield claimed

    monkeypatch.setattr(LocalStorage, "claim", claim_too_early)
    sweep(config)
    assert stored_files(config.data) == sorted([kept, f"videos/{ONE}"])


def test_without_locks_what_may_still_be_published_stays(
    app: Application, kept: str, config: Config, monkeypatch: pytest.MonkeyPatch, frozen: Clock
) -> None:
    monkeypatch.setattr(locks, "AVAILABLE", False)
    monkeypatch.setattr(locks, "try_lock", lambda descriptor: True)
    (config.data / "videos" / ONE).write_bytes(DATA)
    note(app, f"videos/{ONE}")
    frozen.time += cleanup.LONGEST_PUBLISHING
    sweep(config)
    assert stored_files(config.data) == sorted([kept, f"videos/{ONE}"])
    frozen.forward(seconds=1)
    sweep(config)
    assert (stored_files(config.data), notes(app)) == ([kept], [])


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
from streamer import cleanup, uploads, videos
from streamer.config import Config
from streamer.database import Database, open_database
from streamer.intake import DIRECT, Intake
from streamer.models import User, Video
from streamer.storage.local import LocalStorage
from tests.helpers import video_bytes

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
if work == "remove":
    video = Video.select().get(database)
    videos.remove(database, user, video)
    cleanup.remove_orphans(database, storage, [video.file_path])
else:
    intake = Intake(database, storage, Config(data=folder, min_free_bytes=0))
    plan = uploads.Plan(kind=work, length=None if work == DIRECT else 5000)
    append = uploads.begin(intake, user.id, plan)
    append.feed(video_bytes(5000, seed=1))
    append.end()
    append.close()
os._exit(0)
"""


UPLOAD_STEPS = [
    ("commit", 1, "before"),
    ("commit", 1, "after"),
    ("write", 1, "after"),
    ("fsync", 1, "after"),
    ("rename", 1, "before"),
    ("rename", 1, "after"),
    ("fsync", 2, "after"),
    ("commit", 2, "before"),
    ("commit", 2, "after"),
]
REMOVAL_STEPS = [
    ("commit", 1, "before"),
    ("commit", 1, "after"),
    ("unlink", 1, "before"),
    ("unlink", 1, "after"),
    ("commit", 2, "before"),
    ("commit", 2, "after"),
]


def die(app: Application, config: Config, work: str, step: tuple[str, int, str]) -> Intake:
    """Let another process do some work and die in it; then start."""
    database_of(app).close()
    name, number, when = step
    command = [sys.executable, "-c", UPLOADER, str(config.data), name, str(number), when, work]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9, "it died where it should"
    return intake_of(create_app(config))


def assert_all_or_nothing(intake: Intake) -> list[Video]:
    """Every video is whole and counted, and nothing is left of others."""
    database, data = intake.database, intake.config.data
    videos = list(Video.select().execute(database))
    for video in videos:
        assert hashlib.sha256((data / video.file_path).read_bytes()).hexdigest() == video.sha256
    assert list(Orphan.select().execute(database)) == []
    user = User.select().get(database)
    assert (user.video_count, user.bytes_used) == (len(videos), 5000 * len(videos))
    unfinished = Upload.select().where(Upload.video.is_null()).execute(database)
    named = [video.file_path.partition("/")[2] for video in videos] + [upload.id for upload in unfinished]
    assert sorted(name.partition("/")[2] for name in stored_files(data)) == sorted(named)
    return videos


@pytest.mark.parametrize("step", UPLOAD_STEPS, ids=str)
def test_a_crash_at_any_step_of_an_upload_in_one_request_leaves_all_or_nothing(
    app: Application, owner: Client, config: Config, step: tuple[str, int, str]
) -> None:
    with closing_database(die(app, config, DIRECT, step)) as intake:
        videos = assert_all_or_nothing(intake)
        assert not Upload.select().exists(intake.database)
    # it is there from the commit of its row on
    assert len(videos) == (2 if step == ("commit", 2, "after") else 1)


@pytest.mark.parametrize("step", UPLOAD_STEPS, ids=str)
def test_an_upload_goes_on_after_a_crash_at_any_step(
    app: Application, owner: Client, config: Config, step: tuple[str, int, str]
) -> None:
    data = video_bytes(5000, seed=1)
    with closing_database(die(app, config, WHOLE, step)) as intake:
        videos = assert_all_or_nothing(intake)
        [upload] = list(Upload.select().execute(intake.database)) or [None]
        assert (upload is None) == (step == ("commit", 1, "before"))
        if upload is not None and upload.video_id is None:
            assert (
                upload.offset <= intake.storage.staged_size(upload.id) or len(stored_files(config.data)) == 2
            )
            append = uploads.resume(intake, 1, upload.id, offset=upload.offset, size=5000 - upload.offset)
            with closing(append):
                append.feed(data[upload.offset :])
                append.end()
            videos = assert_all_or_nothing(intake)
    assert len(videos) == (1 if step == ("commit", 1, "before") else 2)


@pytest.mark.parametrize("step", REMOVAL_STEPS, ids=str)
def test_a_crash_at_any_step_of_a_removal_leaves_all_or_nothing(
    app: Application, owner: Client, config: Config, step: tuple[str, int, str]
) -> None:
    with closing_database(die(app, config, "remove", step)) as intake:
        videos = assert_all_or_nothing(intake)
    assert len(videos) == (step == ("commit", 1, "before")), "it is gone from the first commit on"


@contextmanager
def closing_database(intake: Intake) -> Iterator[Intake]:
    try:
        yield intake
    finally:
        intake.database.close()


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


def test_an_upload_with_its_final_name_goes_with_its_account(
    app: Application, alice: Client, config: Config
) -> None:
    upload_id = begun(app, WHOLE, len(DATA))
    (config.data / "incoming" / upload_id).rename(config.data / "videos" / upload_id)  # then came a crash
    alice.delete("/api/auth/me", {"password": PASSWORD}, status=204)
    assert stored_files(config.data) == []
    assert notes(app) == []


def test_an_upload_that_waits_is_not_locked_by_a_sweep(
    app: Application, kept: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(app, WHOLE)
    monkeypatch.setattr(LocalStorage, "claim", lambda self, path: pytest.fail(f"{path} is not to be locked"))
    cleanup.remove_strays(database_of(app), LocalStorage(config.data))


# --- derived objects, scratch folders and jobs


def derive(app: Application, name: str) -> str:
    """A derived object of the video; where it is."""
    intake = intake_of(app)
    file = intake.storage.stage("derived")
    file.write(DATA)
    item = derived.Item(kind="poster", name=name, mime_type="image/jpeg", file=file)
    derived.publish(intake.database, intake.storage, 1, [item])
    return file.file_path


def derived_files(config: Config) -> list[str]:
    return sorted(f"derived/{path.name}" for path in (config.data / "derived").iterdir())


def test_a_derived_object_that_never_got_its_row_is_removed_and_one_that_has_it_stays(
    app: Application, kept: str, config: Config
) -> None:
    path = derive(app, "320")
    stray = f"derived/{ONE}"
    (config.data / stray).write_bytes(DATA)
    for noted in (stray, path, "derived/nothing"):
        note(app, noted)
    create_app(config)
    assert derived_files(config) == [path]
    assert stored_files(config.data) == [kept]
    assert notes(app) == []


@needs_locks
def test_a_derived_object_that_is_being_published_stays(app: Application, kept: str, config: Config) -> None:
    path = config.data / "derived" / ONE
    path.write_bytes(DATA)
    note(app, f"derived/{ONE}")
    with held_by_another_process(path):
        create_app(config)
        assert derived_files(config) == notes(app) == [f"derived/{ONE}"]
    create_app(config)
    assert derived_files(config) == notes(app) == []


def test_more_orphans_than_go_at_once_all_go(app: Application, kept: str, config: Config) -> None:
    paths = [derive(app, str(number)) for number in range(5)]
    for number in range(cleanup.BATCH * 2 + 1):
        name = f"{number:032x}"
        (config.data / "derived" / name).touch()
        note(app, f"derived/{name}")
    create_app(config)
    assert derived_files(config) == sorted(paths)
    assert notes(app) == []


@needs_locks
def test_job_of_a_dead_worker_waits_again_and_its_folder_is_gone(
    app: Application, kept: str, config: Config
) -> None:
    database = database_of(app)
    with closing(intake_of(app).storage.scratch()) as alive:
        for step, owner in (("poster", alive.name), ("variant", ONE)):
            jobs.enqueue(database, 1, step)
            assert jobs.claim(database, owner) is not None
        (config.data / "scratch" / ONE).mkdir()
        (config.data / "scratch" / f"{ONE}.lock").touch()
        create_app(config)
        states = {job.step: job.state for job in Job.select().execute(database)}
        assert states == {"poster": "running", "variant": "queued"}
        assert sorted(path.name for path in (config.data / "scratch").iterdir()) == [
            alive.name,
            f"{alive.name}.lock",
        ]


def test_scratch_folder_that_cannot_be_looked_into_does_not_stop_the_start(
    app: Application,
    kept: str,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = database_of(app)
    jobs.enqueue(database, 1, "poster")
    assert jobs.claim(database, ONE) is not None

    def refuse(self: LocalStorage) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalStorage, "sweep_scratch", refuse)
    create_app(config)
    assert "cannot remove scratch folders yet" in caplog.text
    assert Job.select().get(database).state == "queued", "what follows is done"
