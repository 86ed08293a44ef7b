"""Accounts and videos.

The ``video_*`` indexes are one for each order of the list, with and without a
filter by status; SQLite ends every index with the row's id, which breaks ties.
"""

from typing import Any

STATEMENTS = """
CREATE TABLE user (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL COLLATE NOCASE UNIQUE,
    password TEXT NOT NULL,
    credential_version INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    video_count INTEGER NOT NULL,
    bytes_used INTEGER NOT NULL
);

CREATE TABLE refresh_token (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
    family TEXT NOT NULL,
    token_hash TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    spent_at TEXT
);
CREATE INDEX refresh_token_user ON refresh_token (user_id);
CREATE INDEX refresh_token_family ON refresh_token (family);
CREATE INDEX refresh_token_expires_at ON refresh_token (expires_at);

CREATE TABLE login_failures (
    source TEXT NOT NULL PRIMARY KEY,
    failures INTEGER NOT NULL,
    expires_at TEXT NOT NULL
);
CREATE INDEX login_failures_expires_at ON login_failures (expires_at);

CREATE TABLE video (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uploader_id INTEGER NOT NULL REFERENCES user (id) ON DELETE RESTRICT,
    title TEXT NOT NULL,
    title_folded TEXT NOT NULL,
    description TEXT NOT NULL,
    filename TEXT NOT NULL,
    file_path TEXT NOT NULL UNIQUE,
    mime_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX video_created_at ON video (uploader_id, created_at);
CREATE INDEX video_title ON video (uploader_id, title_folded);
CREATE INDEX video_size ON video (uploader_id, size);
CREATE INDEX video_status_created_at ON video (uploader_id, status, created_at);
CREATE INDEX video_status_title ON video (uploader_id, status, title_folded);
CREATE INDEX video_status_size ON video (uploader_id, status, size);

CREATE TABLE orphan (
    file_path TEXT NOT NULL PRIMARY KEY,
    created_at TEXT NOT NULL
);
"""


def up(migrator: Any, database: Any) -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            database.execute_sql(statement)
