"""The database file: made, brought up to date, refused, shared."""

import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import peewee
import pytest
from playhouse.migrations import Migration

from streamer import database as module
from streamer import facts, models, planning
from streamer.app import create_app
from streamer.config import Config
from streamer.database import Database, open_database
from streamer.errors import DatabaseTooNew, DatabaseUnusable, StreamerError, Unavailable
from streamer.models import User
from streamer.resources.errors import describe
from tests import media
from tests.concurrency import at_once
from tests.ffmpeg import clips
from tests.helpers import Client

MODELS: list[type[peewee.Model]] = [
    models.User,
    models.RefreshToken,
    models.LoginFailures,
    models.Video,
    models.Upload,
    models.Derived,
    models.Job,
    models.Orphan,
]
FIRST = "CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT NOT NULL)"
SECOND = "ALTER TABLE thing ADD COLUMN size INTEGER"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streamer.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Database]:
    handle = open_database(path)
    yield handle
    handle.close()


AddStep = Callable[..., None]


@pytest.fixture
def add_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddStep:
    """Adds a migration; those of the package are out of sight."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    monkeypatch.setattr(module, "MIGRATIONS", folder)

    def add(name: str, *statements: str, then: str = "pass") -> None:
        lines = [f"    database.execute_sql({statement!r})" for statement in statements]
        lines = ["def up(migrator, database):", *lines, f"    {then}", ""]
        (folder / f"{name}.py").write_text("\n".join(lines))

    return add


def bring_up_to_date(path: Path) -> None:
    open_database(path).close()


def query(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def change(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()


def add_user(database: Database, moment: datetime) -> int:
    new = User.insert(username="alice", password="", credential_version=1, created_at=moment)
    return int(new.execute(database))


def columns(path: Path) -> list[str]:
    return [name for (name,) in query(path, "SELECT name FROM pragma_table_info('thing')")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# migrations


def test_fresh_database_has_every_step_and_no_copy(path: Path) -> None:
    bring_up_to_date(path)
    steps = [step.name for step in Migration.load_directory(str(module.MIGRATIONS))]
    assert [name for (name,) in query(path, "SELECT name FROM schema_migration ORDER BY id")] == steps
    assert [entry.name for entry in path.parent.iterdir()] == ["streamer.db"]


def test_database_that_is_up_to_date_is_not_written_to(path: Path) -> None:
    bring_up_to_date(path)
    before = path.read_bytes()
    bring_up_to_date(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["streamer.db"]


def test_upgrade_keeps_the_data_and_a_copy_of_the_old_file(path: Path, add_step: AddStep) -> None:
    add_step("0001_first", FIRST)
    bring_up_to_date(path)
    change(path, "INSERT INTO thing VALUES (1, 'kept')")
    add_step("0002_second", SECOND)
    bring_up_to_date(path)

    copy = path.with_name("streamer.db.before-0002_second")
    assert query(path, "SELECT * FROM thing") == [(1, "kept", None)]
    assert query(copy, "SELECT * FROM thing") == [(1, "kept")]
    assert query(copy, "PRAGMA integrity_check") == [("ok",)]
    assert {entry.name for entry in path.parent.glob("streamer.db*")} == {path.name, copy.name}


def test_copy_is_readable_by_its_owner_only(path: Path, add_step: AddStep) -> None:
    add_step("0001_first", FIRST)
    bring_up_to_date(path)
    add_step("0002_second", SECOND)
    bring_up_to_date(path)
    assert mode(path.with_name("streamer.db.before-0002_second")) == 0o600


def test_copy_has_what_is_still_in_the_write_ahead_log(path: Path, add_step: AddStep) -> None:
    add_step("0001_first", FIRST)
    live = open_database(path)
    live.execute_sql("INSERT INTO thing VALUES (1, 'in the log')")
    add_step("0002_second", SECOND)
    bring_up_to_date(path)
    live.close()
    copy = path.with_name("streamer.db.before-0002_second")
    assert query(copy, "SELECT name FROM thing") == [("in the log",)]


OLD_TABLES = ("user", "refresh_token", "login_failures", "video", "upload", "orphan")


def test_database_from_before_media_keeps_all_and_learns_what_is_in_its_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = media.film(tmp_path, "wrapped.mkv")
    data, steps = tmp_path / "data", tmp_path / "steps"
    (data / "videos").mkdir(parents=True)
    steps.mkdir()
    for name in ("0001_initial.py", "0002_uploads.py"):
        shutil.copy(module.MIGRATIONS / name, steps)
    path = data / "streamer.db"
    with monkeypatch.context() as patch:
        patch.setattr(module, "MIGRATIONS", steps)
        bring_up_to_date(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(OLD_ROWS)
    shutil.copy(film, data / "videos" / "one")
    before = {table: query(path, f"SELECT * FROM {table}") for table in OLD_TABLES}
    assert all(before.values())

    intake = media.open_intake(data)
    after = {table: query(path, f"SELECT * FROM {table}") for table in OLD_TABLES}
    old_columns = {table: len(rows[0]) for table, rows in before.items()}
    assert {table: [row[: old_columns[table]] for row in rows] for table, rows in after.items()} == before
    assert query(path, "SELECT media, read_by, planned_by FROM video") == [(None, 0, 0)] * 2
    assert query(path.with_name("streamer.db.before-0003_media"), "SELECT * FROM video") == before["video"]
    assert query(path, "PRAGMA foreign_key_check") == []

    facts.read_missing(intake.database, intake.storage)
    first, second = models.Video.select().order_by(models.Video.id).execute(intake.database)
    found = facts.of(first)
    assert found is not None
    assert [track.name for track in (*found.video, *found.audio)] == ["h264", "aac"]
    assert (facts.of(second), second.read_by) == (None, 0), "its file is gone"
    assert (first.status, second.status) == ("ready", "ready")
    planning.plan_missing(intake.database, intake.config, clips.tools())
    assert media.work_off(replace(intake, tools=clips.tools())) == 3
    assert media.again(intake, first).status == "ready"
    assert media.again(intake, second).status == "ready"
    assert ("variant", "web") in media.made_of(intake, first)
    intake.database.close()


OLD_ROWS = """
INSERT INTO user (username, password, credential_version, created_at, video_count, bytes_used)
    VALUES ('alice', 'x', 1, '2026-01-01T00:00:00.000000Z', 2, 18);
INSERT INTO refresh_token (user_id, family, token_hash, created_at, expires_at)
    VALUES (1, 'f', 'h', '2026-01-01T00:00:00.000000Z', '2999-01-01T00:00:00.000000Z');
INSERT INTO login_failures VALUES ('192.0.2.1', 3, '2999-01-01T00:00:00.000000Z');
INSERT INTO video (uploader_id, title, title_folded, description, filename, file_path, mime_type, size,
    sha256, status, created_at, updated_at)
    VALUES (1, 'Ä', 'ä', 'text', 'a.mkv', 'videos/one', 'video/x-matroska', 9, '', 'ready',
            '2026-01-01T00:00:00.000000Z', '2026-01-02T00:00:00.000000Z'),
           (1, 'B', 'b', '', 'b.mp4', 'videos/gone', 'video/mp4', 9, '', 'ready',
            '2026-01-01T00:00:00.000000Z', '2026-01-02T00:00:00.000000Z');
INSERT INTO upload (id, user_id, kind, length, offset, reserved, metadata, concat, bytes_per_second,
    fingerprint, video_id, created_at, updated_at, expires_at)
    VALUES ('0123456789abcdef0123456789abcdef', 1, 'whole', 9, 9, 9, '', '', 0, '', 1,
            '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z', '2999-01-01T00:00:00.000000Z');
INSERT INTO orphan VALUES ('videos/other', '2026-01-01T00:00:00.000000Z');
"""


def test_each_upgrade_has_a_copy_of_its_own(path: Path, add_step: AddStep) -> None:
    add_step("0001_first", FIRST)
    bring_up_to_date(path)
    add_step("0002_second", SECOND)
    bring_up_to_date(path)
    old = path.with_name("streamer.db.before-0002_second").read_bytes()
    add_step("0003_third", "DROP TABLE thing")
    add_step("0004_fourth", FIRST)
    bring_up_to_date(path)
    copies = sorted(entry.name for entry in path.parent.glob("*.before-*"))
    assert copies == ["streamer.db.before-0002_second", "streamer.db.before-0003_third"]
    assert path.with_name(copies[0]).read_bytes() == old


@pytest.mark.parametrize("failure", ["raise RuntimeError('no')", "database.execute_sql('no SQL')"])
def test_step_that_fails_takes_all_steps_back(path: Path, add_step: AddStep, failure: str) -> None:
    add_step("0001_first", FIRST)
    bring_up_to_date(path)
    change(path, "INSERT INTO thing VALUES (1, 'kept')")
    add_step("0002_second", SECOND)
    add_step("0003_third", "DELETE FROM thing", "DROP TABLE thing", then=failure)
    with pytest.raises((RuntimeError, StreamerError)):
        open_database(path)
    assert columns(path) == ["id", "name"]
    assert query(path, "SELECT * FROM thing") == [(1, "kept")]
    assert query(path, "SELECT name FROM schema_migration") == [("0001_first",)]

    add_step("0003_third", "ALTER TABLE thing ADD COLUMN more TEXT")
    bring_up_to_date(path)
    assert columns(path) == ["id", "name", "size", "more"]
    assert query(path, "SELECT id, name FROM thing") == [(1, "kept")]


def test_table_can_be_rebuilt_without_losing_what_refers_to_it(path: Path, add_step: AddStep) -> None:
    part = "CREATE TABLE part (thing_id INTEGER NOT NULL REFERENCES thing (id) ON DELETE CASCADE)"
    add_step("0001_first", FIRST, part)
    bring_up_to_date(path)
    change(path, "INSERT INTO thing VALUES (1, 'kept')")
    change(path, "INSERT INTO part VALUES (1)")
    add_step(
        "0002_rebuild",
        "CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL)",
        "INSERT INTO new SELECT id, name, 0 FROM thing",
        "DROP TABLE thing",
        "ALTER TABLE new RENAME TO thing",
    )
    bring_up_to_date(path)
    assert query(path, "SELECT thing_id FROM part") == [(1,)]


def test_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    config = Config(data=tmp_path / "data", ffmpeg="off")
    path = config.data / "streamer.db"
    config.data.mkdir()
    bring_up_to_date(path)
    change(path, "INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2030-01-01')")
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match="9999_future") as caught:
        create_app(config)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [entry.name for entry in config.data.iterdir()] == ["streamer.db"]


@pytest.mark.parametrize("content", [b"this is not a database " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StreamerError, match=r"streamer\.db"):
        open_database(path)
    assert path.read_bytes() == content


def test_database_in_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_database(tmp_path / "missing" / "streamer.db")


# two at once


@pytest.mark.parametrize("turn", range(5))
def test_threads_that_open_a_fresh_database_at_once_all_get_it(path: Path, turn: int) -> None:
    def work() -> int:
        handle = open_database(path)
        try:
            return User.select().count(handle)
        finally:
            handle.close()

    assert at_once(*[work] * 6) == [0] * 6
    steps = Migration.load_directory(str(module.MIGRATIONS))
    assert query(path, "SELECT COUNT(*) FROM schema_migration") == [(len(steps),)]


def test_processes_that_open_a_fresh_database_at_once_all_get_it(path: Path) -> None:
    program = (
        "import sys, pathlib; from streamer.database import open_database; from streamer.models import User;"
        "sys.stdin.read(); print(User.select().count(open_database(pathlib.Path(sys.argv[1]))))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate(timeout=60) for process in processes] == [("0\n", "")] * 2


def test_second_process_waits_for_the_upgrade_of_the_first(path: Path, add_step: AddStep) -> None:
    add_step("0001_first", FIRST)
    bring_up_to_date(path)
    add_step("0002_second", SECOND)
    assert at_once(*[lambda: bring_up_to_date(path)] * 4) == [None] * 4
    assert columns(path) == ["id", "name", "size"]


# connections


def test_every_connection_has_the_pragmas(opened: Database) -> None:
    def pragmas() -> list[object]:
        try:
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            return [opened.execute_sql(f"PRAGMA {name}").fetchone()[0] for name in names]
        finally:
            opened.close()

    expected = ["wal", 2, 1, 30_000]
    assert pragmas() == expected
    assert at_once(pragmas, pragmas) == [expected] * 2


def test_foreign_keys_are_enforced(opened: Database) -> None:
    now = datetime.now(UTC)
    with pytest.raises(peewee.IntegrityError):
        models.RefreshToken.insert(
            user=999, family="f", token_hash="h", created_at=now, expires_at=now
        ).execute(opened)


def test_database_is_readable_by_its_owner_only(path: Path, opened: Database) -> None:
    User.select().count(opened)
    opened.execute_sql("CREATE TABLE something (id INTEGER)")
    modes = {entry.name: mode(entry) for entry in path.parent.glob("streamer.db*")}
    assert modes == {"streamer.db": 0o600, "streamer.db-wal": 0o600, "streamer.db-shm": 0o600}


def test_connection_of_a_thread_stays_open_from_request_to_request(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[int] = []
    connect = Database._connect

    def counting(handle: Database) -> Any:
        connected.append(threading.get_ident())
        return connect(handle)

    client = Client(create_app(config))
    monkeypatch.setattr(Database, "_connect", counting)
    client.sign_up("alice")
    for path in ("/api/auth/me", "/api/videos", "/health", "/api/videos/1"):
        client.get(path)
    assert connected == [threading.get_ident()]

    def ask() -> int:
        return sum(client.get("/api/auth/me").status_int for _ in range(3))

    assert at_once(ask) == [600]
    assert len(connected) == 2


def test_created_application_has_no_connection_that_a_fork_would_share(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles: list[Database] = []

    def opening(path: Path) -> Database:
        handles.append(open_database(path))
        return handles[-1]

    monkeypatch.setattr("streamer.app.open_database", opening)
    create_app(config)
    assert [handle.is_closed() for handle in handles] == [True]


def test_copied_data_folder_is_a_backup(config: Config, tmp_path: Path) -> None:
    Client(create_app(config)).sign_up("alice")
    shutil.copytree(config.data, tmp_path / "copy")
    Client(create_app(Config(data=tmp_path / "copy", min_free_bytes=0, ffmpeg="off"))).sign_in("alice")


# models


def test_there_is_a_model_for_every_table(path: Path) -> None:
    bring_up_to_date(path)
    tables = {name for (name,) in query(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    ours = {name for name in tables if not name.startswith("sqlite_")} - {"schema_migration"}
    assert {model._meta.table_name for model in MODELS} == ours  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_model_describes_its_table(path: Path, model: Any) -> None:
    bring_up_to_date(path)
    table = model._meta.table_name
    unique = {
        name
        for (name,) in query(
            path,
            f"SELECT info.name FROM pragma_index_list('{table}') AS list "
            "JOIN pragma_index_info(list.name) AS info WHERE list.[unique] AND list.origin IN ('u', 'pk') "
            "GROUP BY list.name HAVING count(*) = 1",
        )
    }
    found = {
        name: (kind, bool(notnull) or (kind == "INTEGER" and bool(pk)), bool(pk), name in unique and not pk)
        for name, kind, notnull, pk in query(
            path, f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')"
        )
    }
    kinds = dict.fromkeys(["AutoField", "IntegerField", "ForeignKeyField"], "INTEGER") | {
        "FloatField": "REAL"
    }
    expected = {
        field.column_name: (
            kinds.get(type(field).__name__, "TEXT"),
            not field.null,
            field.primary_key,
            field.unique,
        )
        for field in model._meta.sorted_fields
    }
    assert found == expected


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_model_refers_as_its_table_does(path: Path, model: Any) -> None:
    bring_up_to_date(path)
    found = query(
        path, f"SELECT [from], [table], on_delete FROM pragma_foreign_key_list('{model._meta.table_name}')"
    )
    expected = [
        (field.column_name, field.rel_model._meta.table_name, field.on_delete)
        for field in model._meta.sorted_fields
        if isinstance(field, peewee.ForeignKeyField)
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_columns_that_a_model_calls_indexed_are(path: Path, model: Any) -> None:
    bring_up_to_date(path)
    table = model._meta.table_name
    leading = query(
        path,
        f"SELECT info.name FROM pragma_index_list('{table}') AS list, pragma_index_info(list.name) AS info "
        "WHERE info.seqno = 0",
    )
    wanted = {field.column_name for field in model._meta.sorted_fields if field.index or field.unique}
    assert wanted <= {name for (name,) in leading} | {"id"}


def test_ids_are_never_used_again(path: Path) -> None:
    bring_up_to_date(path)
    for table in ("user", "video", "refresh_token"):
        ((sql,),) = query(path, f"SELECT sql FROM sqlite_schema WHERE name = '{table}'")
        assert "AUTOINCREMENT" in sql


def test_query_that_names_no_database_fails() -> None:
    with pytest.raises(peewee.InterfaceError):
        User.select().count()


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 5, 4, 3, 2, 1, 654321, tzinfo=UTC),
        datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
        datetime(2026, 5, 4, 3, 2, 1, 7, tzinfo=timezone(timedelta(hours=-9))),
    ],
)
def test_time_comes_back_as_it_was_stored(opened: Database, moment: datetime) -> None:
    add_user(opened, moment)
    ((text,),) = opened.execute_sql("SELECT created_at FROM user").fetchall()
    read = User.select().get(opened).created_at
    assert len(text) == len("2026-05-04T03:02:01.000000Z")
    assert read == moment
    assert read.utcoffset() == timedelta(0)


def test_no_time_comes_back_as_none(opened: Database) -> None:
    now = datetime.now(UTC)
    user = add_user(opened, now)
    models.RefreshToken.insert(
        user=user, family="f", token_hash="h", created_at=now, expires_at=now, spent_at=None
    ).execute(opened)
    assert models.RefreshToken.select().get(opened).spent_at is None


def _refuse_the_write_ahead_log(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """As SQLite does when two first starts meet: without waiting, for fear of a deadlock."""
    pragma = Database.pragma
    refusals = iter([peewee.OperationalError("database is locked")] * times)

    def refuse_at_first(self: Database, key: str, *value: str) -> Any:
        if key == "journal_mode" and value and (refusal := next(refusals, None)):
            raise refusal
        return pragma(self, key, *value)

    monkeypatch.setattr(Database, "pragma", refuse_at_first)


def test_write_ahead_log_is_turned_on_once_another_start_is_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_the_write_ahead_log(monkeypatch, times=2)
    database = open_database(path)
    assert database.pragma("journal_mode") == "wal"
    database.close()


def test_start_that_cannot_turn_the_write_ahead_log_on_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_TIMEOUT_SECONDS", 0)
    _refuse_the_write_ahead_log(monkeypatch, times=1000)
    with pytest.raises(DatabaseUnusable, match="locked"):
        open_database(path)


# a disk that does not work


FULL = "^database or disk is full$"
LARGE = "INSERT INTO filler VALUES (zeroblob(100000))"


@pytest.fixture
def full(opened: Database) -> Database:
    """A database that has no room: SQLite rolls back by itself what does not fit."""
    opened.execute_sql("CREATE TABLE filler (content)")
    opened.pragma("max_page_count", opened.pragma("page_count"))
    return opened


def nested(database: Database, depth: int, *steps: Callable[[], object]) -> None:
    """Take the steps in a transaction in a transaction …"""
    with database.atomic():
        if depth > 1:
            nested(database, depth - 1, *steps)
        else:
            for step in steps:
                step()


def test_sqlite_rolls_back_by_itself_when_the_disk_is_full(full: Database) -> None:
    """Else the tests below would test nothing."""
    full.execute_sql("BEGIN IMMEDIATE")
    with pytest.raises(peewee.OperationalError, match="full"):
        full.execute_sql(LARGE)
    assert not full.connection().in_transaction


@pytest.mark.parametrize("depth", [1])
def test_full_disk_is_what_the_caller_is_told(full: Database, depth: int) -> None:
    with pytest.raises(peewee.OperationalError, match=FULL):
        nested(full, depth, lambda: full.execute_sql(LARGE))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_connection_is_usable_after_a_full_disk_and_nothing_is_kept(full: Database, depth: int) -> None:
    add = partial(add_user, full, datetime.now(UTC))
    fill = partial(full.execute_sql, LARGE)
    with pytest.raises(peewee.OperationalError):
        nested(full, depth, add, fill)
    assert not full.in_transaction()
    assert User.select().count(full) == 0
    full.pragma("max_page_count", 100_000)
    nested(full, depth, add, fill)
    full.close()
    assert User.select().count(full) == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_other_errors_still_roll_back(opened: Database, depth: int) -> None:
    add = partial(add_user, opened, datetime.now(UTC))
    with pytest.raises(peewee.IntegrityError):
        nested(opened, depth, add, add)
    assert not opened.in_transaction()
    assert User.select().count(opened) == 0


def test_error_that_is_dealt_with_takes_the_inner_transaction_back_only(opened: Database) -> None:
    now = datetime.now(UTC)
    with opened.atomic():
        add_user(opened, now)
        with pytest.raises(peewee.IntegrityError):
            nested(opened, 1, lambda: add_user(opened, now))
    assert User.select().count(opened) == 1


def test_database_that_may_not_be_written_to_says_so(opened: Database) -> None:
    """In the words by which such errors are told from others (resources.errors)."""
    opened.pragma("query_only", 1)
    with pytest.raises(peewee.OperationalError, match="readonly database"), opened.atomic():
        add_user(opened, datetime.now(UTC))
    assert User.select().count(opened) == 0


def test_database_that_cannot_be_opened_says_so(path: Path, opened: Database) -> None:
    opened.close()
    path.unlink()
    path.mkdir()
    with pytest.raises(peewee.OperationalError, match=r"^unable to open database file$"):
        User.select().count(opened)


def test_data_folder_that_does_not_work_is_told_as_unavailable_for_a_while() -> None:
    problem, fields = describe(Unavailable("the data folder cannot be used"))
    assert (problem["status"], problem["code"]) == (503, "unavailable")
    assert fields == {"Retry-After": "10"}
