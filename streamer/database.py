"""The Peewee handle on SQLite, and the migrations that run at start.

Each thread keeps one connection open. All writing is done inside
``database.atomic()``, which takes the write lock at once: a transaction that
read first and then had to wait for the lock would fail instead.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any

import peewee
from playhouse.migrations import Runner

from streamer.errors import DatabaseTooNew, DatabaseUnusable

BUSY_TIMEOUT_SECONDS = 30
MIGRATIONS = Path(__file__).parent / "migrations"


class Database(peewee.SqliteDatabase):
    """The handle that queries name."""

    def row(self, sql: str, parameters: tuple[object, ...]) -> tuple[Any, ...] | None:
        """The one row of a query that is said in SQL, without what an ORM adds to its price."""
        connection: sqlite3.Connection = self.connection()  # type: ignore[no-untyped-call]
        found: tuple[Any, ...] | None = connection.execute(sql, parameters).fetchone()
        return found

    def rows(self, sql: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """All rows of such a query."""
        connection: sqlite3.Connection = self.connection()  # type: ignore[no-untyped-call]
        return connection.execute(sql, parameters).fetchall()

    def rollback(self) -> None:
        # a full disk makes SQLite roll back by itself; a second time would fail and hide why
        # Peewee's stubs leave this one without types
        connection: sqlite3.Connection = self.connection()  # type: ignore[no-untyped-call]
        if connection.in_transaction:
            super().rollback()


def open_database(path: Path) -> Database:
    """Bring the database at ``path`` up to date, creating it where there is none, and open it.

    Raises DatabaseTooNew, with the file left alone, when a later version has written it, and
    DatabaseUnusable when it is no database at all.
    """
    path.touch(mode=0o600)  # SQLite gives its other files the same mode
    try:
        _migrate(path)
    except peewee.DatabaseError as error:
        raise DatabaseUnusable(str(path), str(error)) from error
    return Database(
        str(path),
        timeout=BUSY_TIMEOUT_SECONDS,
        lock_type="IMMEDIATE",
        pragmas={"synchronous": "full", "foreign_keys": 1},
    )


def _migrate(path: Path) -> None:
    # Not the handle of the application: foreign keys stay off while tables are rebuilt, and
    # one transaction around all steps lets a second process wait here for the first.
    database = Database(str(path), timeout=BUSY_TIMEOUT_SECONDS, lock_type="IMMEDIATE")
    try:
        with database.atomic():
            runner = Runner(database, str(MIGRATIONS))
            steps = runner.status()
            unknown = [step.name for step in steps if step.path is None]
            if unknown:
                raise DatabaseTooNew(str(path), unknown)
            pending = [step.name for step in steps if not step.applied]
            if pending and len(pending) < len(steps):
                _keep_copy(path, f"{path.name}.before-{pending[0]}")
            if pending:
                runner.up()
        _use_write_ahead_log(database)
    finally:
        database.close()


def _use_write_ahead_log(database: Database) -> None:
    """Let readers and a writer work side by side; the file remembers it."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            database.pragma("journal_mode", "wal")
            return
        except peewee.OperationalError:
            # the one lock that SQLite does not wait for: another process starts at this moment
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _keep_copy(path: Path, name: str) -> None:
    """Copy the database as it was last committed, so that a failed upgrade can be taken back."""
    unfinished = path.with_name(f"{name}.tmp")
    unfinished.touch(mode=0o600)
    source = sqlite3.connect(path)
    target = sqlite3.connect(unfinished)
    try:
        source.backup(target)
    finally:
        target.close()
        source.close()
    unfinished.replace(path.with_name(name))
