"""No request costs more because the library is large: every query that is made goes by an index.

The queries are those that the application really runs, caught on their way to
SQLite; the plans are those of a database with thousands of rows.
"""

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import peewee
import pytest

from streamer import derived, facts, jobs, planning, videos
from streamer.app import Application
from streamer.config import Config
from streamer.ffmpeg.tools import Tools
from streamer.housekeeping import look_after
from streamer.intake import Intake, reserve_for_job
from tests.derived import VTT
from tests.helpers import PASSWORD, Client, video_bytes
from tests.wsgi import call, database_of, intake_of

ROWS = 3000  # of each of three users
TOOLS = Tools("ffmpeg", "ffprobe", "7.0", frozenset({"libx264", "aac"}), frozenset())
LONG_AGO = "2026-01-01T00:00:00.000000Z"
TITLES = ("holiday", "birthday", "école", "film")

Query = tuple[str, tuple[object, ...]]

ALLOWED_SCANS = {
    # health: one row, whichever comes first
    'SELECT "t1"."id" FROM "user" AS "t1" LIMIT ?',
}


@pytest.fixture
def large(app: Application, alice: Client, config: Config) -> Client:
    """A client in a database of thousands of rows."""
    for name in ("robert", "carol"):
        Client(app).sign_up(name)
    with closing(sqlite3.connect(config.data / "streamer.db")) as connection, connection:
        columns = (
            "uploader_id, title, title_folded, description, filename, file_path, mime_type, size, sha256,"
            " status, created_at, updated_at"
        )
        connection.executemany(
            f"INSERT INTO video ({columns}) VALUES ({', '.join('?' * 12)})",
            (row(user, number) for user in (1, 2, 3) for number in range(ROWS)),
        )
        connection.execute("UPDATE user SET video_count = ?, bytes_used = ?", (ROWS, ROWS * 1000))
        connection.executemany(
            "INSERT INTO refresh_token (user_id, family, token_hash, created_at, expires_at)"
            " VALUES (1, ?, ?, '2026-01-01', '2999-01-01')",
            ((f"family{n}", f"hash{n}") for n in range(1000)),
        )
        connection.executemany(
            "INSERT INTO login_failures VALUES (?, 1, '2999-01-01')", ((f"source{n}",) for n in range(1000))
        )
        connection.executemany(
            "INSERT INTO upload (id, user_id, kind, length, offset, reserved, metadata, concat,"
            " bytes_per_second, fingerprint, video_id, created_at, updated_at, expires_at)"
            " VALUES (?, 1, 'whole', 9, 9, 9, '', '', 0, '', ?, '2026-01-01', '2026-01-01', '2999-01-01')",
            ((f"{n:032x}", n) for n in range(1, ROWS)),
        )
        connection.executemany(
            "INSERT INTO orphan VALUES (?, '2026-01-01')", ((f"videos/o{n}",) for n in range(1000))
        )
        connection.executemany(
            "INSERT INTO derived (video_id, kind, name, file_path, mime_type, size, facts, created_at)"
            " VALUES (?, ?, ?, ?, 'image/jpeg', 1, '{}', '2026-01-01')",
            ((n, *key, f"derived/{n}-{key[1]}") for n in range(1, ROWS) for key in MADE),
        )
        connection.executemany(
            "INSERT INTO job (video_id, step, rank, options, state, attempts, losses, due_at, owner,"
            " leased_until, reserved, error_code, error_detail, created_at, updated_at)"
            " VALUES (?, ?, ?, '{}', ?, 1, 0, ?, ?, ?, 0, 'timed_out', '', ?, ?)",
            (
                (n, step, rank, job_state(n, rank), LONG_AGO, f"{n:032x}", *(LONG_AGO,) * 3)
                for n in range(1, ROWS)
                for rank, step in enumerate(jobs.STEPS)
            ),
        )
    return alice


MADE = (("poster", "160"), ("poster", "320"), ("tiles", "jpg"), ("variant", "web"))


def job_state(video_id: int, rank: int) -> str:
    """Nearly all have ended."""
    if video_id % 500:
        return "failed" if video_id % 7 == 0 else "done"
    return "running" if rank == 0 else "queued"


def row(user: int, number: int) -> tuple[object, ...]:
    title = f"{TITLES[number % 4]} {number % 97}"
    moment = f"2026-01-{number % 28 + 1:02}T00:00:{number % 60:02}.000000Z"
    status = jobs.STATUSES[number % 3]
    path = f"videos/{user}-{number}"
    return (
        user,
        title,
        title,
        "",
        "f.mp4",
        path,
        "video/mp4",
        number % 50 + 1,
        "0" * 64,
        status,
        moment,
        moment,
    )


@contextmanager
def caught(app: Application) -> Iterator[list[Query]]:
    """Every query that the application makes inside."""
    database = database_of(app)
    found: list[Query] = []

    def keep(event: Any) -> None:
        if event.sql.split()[0] in {"SELECT", "INSERT", "UPDATE", "DELETE", "WITH"}:
            found.append((event.sql, tuple(event.params or ())))

    database.query_hooks.append(keep)
    try:
        yield found
    finally:
        database.query_hooks.remove(keep)


def plan(data: Path, query: Query) -> list[str]:
    """How SQLite would do it."""
    with closing(sqlite3.connect(data / "streamer.db")) as connection:
        sql, parameters = query
        return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]


def reads_too_much(steps: list[str]) -> bool:
    """Whether a plan goes through a whole table or index, or sorts what it has found."""
    # of what was found by other steps, and of indexes that have only what is still to be done
    names = ("upload_unfinished", "video_without_sha256", "job_queued", "job_running")
    to_do = (f"SCAN t1 USING INDEX {name}" for name in names)
    # what the query brings
    values = ("SCAN CONSTANT ROW", "SCAN (subquery", "SCAN 2 CONSTANT ROWS", "SCAN 4 CONSTANT ROWS")
    ids = ("SCAN t1 USING COVERING INDEX sqlite_autoindex_upload_1",)  # compared with a folder, once a minute
    harmless = (*values, *ids, *to_do)
    is_scan = any(step.startswith("SCAN ") and not step.startswith(harmless) for step in steps)
    return is_scan or any("USE TEMP B-TREE" in step for step in steps)


def analyze(data: Path) -> None:
    with closing(sqlite3.connect(data / "streamer.db")) as connection, connection:
        connection.execute("ANALYZE")


def test_a_bad_plan_is_noticed(large: Client, config: Config) -> None:
    for sql in (
        "SELECT * FROM video WHERE title = 'x'",
        "SELECT * FROM video ORDER BY id",
        "SELECT * FROM video WHERE uploader_id = 1 ORDER BY updated_at",
        "SELECT count(*) FROM video",
        "UPDATE video SET title = 'x' WHERE size = 3",
    ):
        assert reads_too_much(plan(config.data, (sql, ()))), sql
    assert not reads_too_much(plan(config.data, ("SELECT * FROM video WHERE id = 1", ())))


LISTS = [
    f"/api/videos?sort={sort}{status}{q}&page=2"
    for sort, status, q in itertools.product(
        videos.SORTS, ["", *(f"&status={name}" for name in jobs.STATUSES)], ["", "&q=holi"]
    )
]


def test_every_list_goes_by_an_index_and_sorts_nothing(
    app: Application, large: Client, config: Config
) -> None:
    with caught(app) as queries:
        for url in LISTS:
            assert call(app, url, headers=large.headers).status == 200
    lists = {query for query in queries if "ORDER BY" in query[0] and "OFFSET" in query[0]}
    counts = {query for query in queries if "COUNT" in query[0]}
    assert len(lists) == len(LISTS)
    assert len(counts) == 7, "of the filters that there are"
    for before_or_after in ("before", "after"):
        for query in queries:
            steps = plan(config.data, query)
            assert not reads_too_much(steps), (before_or_after, query, steps)
            # nothing is read only to be left out
            assert ('"status" =' in query[0]) == ("status=?" in steps[0]), (before_or_after, query, steps)
        analyze(config.data)


def test_the_plain_list_does_not_count_rows(app: Application, large: Client) -> None:
    with caught(app) as queries:
        large.get("/api/videos", status=200)
    assert not any("COUNT" in sql for sql, _ in queries)


def test_every_query_of_a_session_goes_by_an_index(app: Application, large: Client, config: Config) -> None:
    analyze(config.data)
    with caught(app) as queries:
        whole_session(app)
    assert len({sql for sql, _ in queries}) >= 20
    for query in queries:
        steps = plan(config.data, query)
        assert query[0] in ALLOWED_SCANS or not reads_too_much(steps), (query[0], steps)
    assert {sql for sql, _ in queries} >= ALLOWED_SCANS, "an exception that is not needed any more"


def whole_session(app: Application) -> None:
    """Everything that a client can do."""
    client = Client(app).sign_up("dora")
    client.post("/api/auth/login", {"username": "dora", "password": "wrong"}, status=401)
    client.post("/api/auth/register", {"username": "DORA", "password": PASSWORD}, status=409)
    client.session = client.post(
        "/api/auth/refresh", {"refresh_token": client.session["refresh_token"]}, status=200
    ).json
    client.post("/api/auth/refresh", {"refresh_token": "unknown"}, status=401)
    client.get("/health", status=200)
    for _ in range(2):
        client.upload(video_bytes(3000), title="a film", status=201)
    client.upload_raw(video_bytes(60), status=201)
    client.upload(b"no video", status=415)
    listing = client.get("/api/videos?q=film&status=ready", status=200)
    address = listing.json["data"][0]["links"]["self"]
    client.get(address, status=200)
    client.get(f"{address}/stream", {"Range": "bytes=0-1"}, status=206)
    client.get(f"{address}/stream?variant=web", status=404)
    client.get(f"{address}/poster.jpg?w=320", status=200)
    client.get(f"{address}/storyboard.vtt", status=404)
    for status in (201, 200):
        client._request("PUT", f"{address}/captions/en", {"Content-Type": "text/vtt"}, VTT, status=status)
    client.get(f"{address}/captions", status=200)
    client.get(f"{address}/captions/en.vtt", status=200)
    client.delete(f"{address}/captions/en", status=204)
    client.post(f"{address}/retry", status=409)
    client.patch(address, {"title": "another"}, status=200)
    client.delete(address, status=204)
    send_in_parts(client)
    client.get("/api/auth/me", status=200)
    changed = {"current_password": PASSWORD, "password": "another password"}
    client.session = client.patch("/api/auth/me", changed, status=200).json
    client.post("/api/auth/logout", {"refresh_token": client.session["refresh_token"]}, status=204)
    client.delete("/api/auth/me", {"password": "another password"}, status=204)


def send_in_parts(client: Client) -> None:
    """All that can be done with an upload."""
    data, tus = video_bytes(3000), {"Tus-Resumable": "1.0.0"}
    patch = tus | {"Content-Type": "application/offset+octet-stream"}
    check = {"size": 3000, "filename": "a.mp4", "sha256": "0" * 64}
    client.post("/api/uploads/check", check, status=200)
    for _ in range(2):
        fields = tus | {"Upload-Length": "3000", "Idempotency-Key": "once"}
        url = client.post("/api/uploads", headers=fields, status=201).location
    client.get("/api/uploads", status=200)
    for first in (0, 1500):
        fields = patch | {"Upload-Offset": str(first)}
        client._request("PATCH", url, fields, body=data[first : first + 1500], status=204)
        client.get(url, status=200)
        client.head(url, tus, status=200)
    fields = patch | {"Upload-Length": "3000", "Upload-Concat": "partial"}
    part = client._request("POST", "/api/uploads", fields, body=data, status=201).location
    client.post("/api/uploads", headers=tus | {"Upload-Concat": f"final;{part}"}, status=201)
    client.delete(url, headers=tus, status=204)


def test_looking_after_the_data_folder_goes_by_an_index(
    app: Application, large: Client, config: Config
) -> None:
    analyze(config.data)
    with caught(app) as queries:
        look_after(intake_of(app))
    notes = 'SELECT "t1"."file_path" FROM "orphan" AS "t1"'
    assert len({sql for sql, _ in queries}) >= 5
    for query in queries:
        steps = plan(config.data, query)
        assert query[0] == notes or not reads_too_much(steps), (query[0], steps)


def work_on_the_queue(intake: Intake) -> None:
    """All that a worker asks, and those who give it work."""
    database, storage = intake.database, intake.storage
    with closing(storage.scratch()) as scratch:
        for end in ("finish", "fail", "give back"):
            assert jobs.waiting(database)
            job = jobs.claim(database, scratch.name)
            assert job is not None
            assert jobs.beat(database, job, 1.0, 2.0)
            reserve_for_job(intake, job, 1)
            if end == "finish":
                files = [storage.stage("derived") for _ in range(2)]
                items = [
                    derived.Item(kind="poster", name=str(file.name), mime_type="image/jpeg", file=file)
                    for file in files
                ]
                finish = partial(jobs.finish, database, job)
                publish = partial(derived.publish, database, storage, job.video_id, items)
                publish(replacing=["poster"], at_first=finish)
            elif end == "fail":
                jobs.fail(database, job, "ffmpeg_failed", "it broke")
            else:
                jobs.give_back(database, job)
    jobs.give_back_lost(database, storage)
    jobs.retry(database, 7)
    with database.atomic():
        jobs.enqueue(database, 8, "poster", {"time": 1.0})
        jobs.settle(database, 8)
        derived.remove(database, 8, "poster", "160")
    jobs.of(database, [1, 2, 3])
    derived.of(database, [1, 2, 3])
    facts.read_missing(database, storage)
    planning.plan_missing(database, intake.config, TOOLS)


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_queue_goes_by_an_index_however_many_jobs_have_ended(
    app: Application, large: Client, config: Config, is_analyzed: bool
) -> None:
    if is_analyzed:
        analyze(config.data)
    with closing(sqlite3.connect(config.data / "streamer.db")) as connection, connection:
        connection.execute("UPDATE video SET read_by = ?, planned_by = ?", (facts.VERSION, planning.VERSION))
        connection.execute("UPDATE video SET planned_by = 0 WHERE id = 5")
        connection.execute("UPDATE video SET read_by = 0 WHERE id = 6")
    with caught(app) as queries:
        work_on_the_queue(intake_of(app))
    assert len({sql for sql, _ in queries}) >= 25
    for query in queries:
        steps = plan(config.data, query)
        assert not reads_too_much(steps), (query[0], steps)


def test_the_work_of_a_request_is_a_few_queries(app: Application, large: Client) -> None:
    with caught(app) as queries:
        large.get("/api/videos?limit=100", status=200)
    assert len(queries) <= 4, "no query for each row"


def test_models_are_bound_to_no_database() -> None:
    with pytest.raises(peewee.InterfaceError):
        videos.Video.select().execute()
