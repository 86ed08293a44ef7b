"""What is in videos, what is made of them, and the queue of what is still to be made.

``job_queued`` and ``job_running`` are short however many jobs have ended: one finds the
next job, the other those whose worker has died; ``job_left_out`` finds what is done when
there is an ffmpeg, or a setting changes. ``video_read_by`` and ``video_planned_by``
find the videos that an earlier version has looked into, or none.
"""

from typing import Any

STATEMENTS = """
ALTER TABLE video ADD COLUMN media TEXT;
ALTER TABLE video ADD COLUMN read_by INTEGER NOT NULL DEFAULT 0;
ALTER TABLE video ADD COLUMN planned_by INTEGER NOT NULL DEFAULT 0;
CREATE INDEX video_read_by ON video (read_by, id);
CREATE INDEX video_planned_by ON video (planned_by, id);

CREATE TABLE derived (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    video_id INTEGER NOT NULL REFERENCES video (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    file_path TEXT NOT NULL UNIQUE,
    mime_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    facts TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (video_id, kind, name)
);

CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    video_id INTEGER NOT NULL REFERENCES video (id) ON DELETE CASCADE,
    step TEXT NOT NULL,
    rank INTEGER NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    due_at TEXT NOT NULL,
    owner TEXT,
    leased_until TEXT,
    reserved INTEGER NOT NULL,
    percent REAL,
    eta REAL,
    error_code TEXT,
    error_detail TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (video_id, step)
);
CREATE INDEX job_queued ON job (rank, due_at, id) WHERE state = 'queued';
CREATE INDEX job_running ON job (leased_until) WHERE state = 'running';
CREATE INDEX job_left_out ON job (step) WHERE state = 'left_out';
"""


def up(migrator: Any, database: Any) -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            database.execute_sql(statement)
