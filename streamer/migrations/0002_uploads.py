"""Uploads that can be resumed, and what is promised to them.

``upload_video`` lets a video be deleted without a look at every upload;
``video_sha256`` finds one's own video with the same content, and those whose
digest has not been computed yet.
"""

from typing import Any

STATEMENTS = """
CREATE TABLE upload (
    id TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    length INTEGER,
    offset INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    title TEXT,
    description TEXT,
    filename TEXT,
    metadata TEXT NOT NULL,
    concat TEXT NOT NULL,
    bytes_per_second REAL NOT NULL,
    idempotency_key TEXT,
    fingerprint TEXT NOT NULL,
    video_id INTEGER REFERENCES video (id) ON DELETE CASCADE,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE INDEX upload_user ON upload (user_id, created_at, id);
CREATE UNIQUE INDEX upload_idempotency_key ON upload (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX upload_unfinished ON upload (id) WHERE video_id IS NULL;
CREATE INDEX upload_video ON upload (video_id) WHERE video_id IS NOT NULL;
CREATE INDEX upload_expires_at ON upload (expires_at);
CREATE INDEX video_sha256 ON video (uploader_id, sha256);
CREATE INDEX video_without_sha256 ON video (id) WHERE sha256 = '';
"""


def up(migrator: Any, database: Any) -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            database.execute_sql(statement)
