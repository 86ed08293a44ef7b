"""The tables. Rows are dumb: columns, and questions that a row can answer about itself.

The models are bound to no database: every query names the one that it runs on
(``query.get(database)``, ``query.execute(database)``), so that two applications
in one process never meet. A query that names none raises InterfaceError.

The schema is made by ``migrations``; what stands here describes it to Peewee.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import peewee

if TYPE_CHECKING:
    UtcBase = peewee.Field[datetime]
else:
    UtcBase = peewee.Field


class UtcField(UtcBase):
    """An aware time in UTC, stored as RFC 3339 text of one width, so that it sorts by time."""

    field_type = "TEXT"

    def db_value(self, value: datetime | None) -> str | None:
        if value is None:
            return None
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def python_value(self, value: str | None) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class User(peewee.Model):
    """An account. ``video_count`` and ``bytes_used`` are kept in step by the ``videos`` module."""

    id = peewee.AutoField()
    username = peewee.TextField(unique=True, collation="NOCASE")
    password = peewee.TextField()
    credential_version = peewee.IntegerField()
    created_at = UtcField()
    video_count = peewee.IntegerField(default=0)
    bytes_used = peewee.IntegerField(default=0)

    class Meta:
        table_name = "user"


class RefreshToken(peewee.Model):
    """One refresh token, as a hash. Those that follow one login are a family."""

    id = peewee.AutoField()
    user = peewee.ForeignKeyField(User, on_delete="CASCADE")
    family = peewee.TextField(index=True)
    token_hash = peewee.TextField(unique=True)
    created_at = UtcField()
    expires_at = UtcField(index=True)
    spent_at = UtcField(null=True)

    class Meta:
        table_name = "refresh_token"


class LoginFailures(peewee.Model):
    """Failed logins, or registrations, of one source in the current window of time."""

    source = peewee.TextField(primary_key=True)
    failures = peewee.IntegerField()
    expires_at = UtcField(index=True)

    class Meta:
        table_name = "login_failures"


class Video(peewee.Model):
    """A video. ``file_path`` names the stored object, which never changes and is never used again."""

    id = peewee.AutoField()
    uploader = peewee.ForeignKeyField(User, on_delete="RESTRICT")
    title = peewee.TextField()
    title_folded = peewee.TextField()
    description = peewee.TextField()
    filename = peewee.TextField()
    file_path = peewee.TextField(unique=True)
    mime_type = peewee.TextField()
    size = peewee.IntegerField()
    sha256 = peewee.TextField()
    """In hexadecimal; empty until it has been computed."""
    status = peewee.TextField()
    media = peewee.TextField(null=True)
    """What is in it, as JSON; NULL where nothing could be read."""
    read_by = peewee.IntegerField(default=0)
    """Which version of the readers has looked into it; 0 is none."""
    planned_by = peewee.IntegerField(default=0)
    """Which version of the plan its jobs are of; 0 is none."""
    created_at = UtcField()
    updated_at = UtcField()

    if TYPE_CHECKING:
        uploader_id: int

    class Meta:
        table_name = "video"


class Upload(peewee.Model):
    """A video on its way in; its bytes are in a file of the same name as its id.

    The row is there before the bytes count and goes with them, or becomes the trace of a
    finished upload: then ``video`` is set. ``offset`` counts the bytes that are on the disk for
    sure, ``reserved`` those of the finished file that the disk and the quota keep free for it.
    """

    id = peewee.TextField(primary_key=True)
    user = peewee.ForeignKeyField(User, on_delete="CASCADE")
    kind = peewee.TextField()
    length = peewee.IntegerField(null=True)
    offset = peewee.IntegerField(default=0)
    reserved = peewee.IntegerField(default=0)
    title = peewee.TextField(null=True)
    description = peewee.TextField(null=True)
    filename = peewee.TextField(null=True)
    metadata = peewee.TextField(default="")
    concat = peewee.TextField(default="")
    bytes_per_second = peewee.FloatField(default=0)
    idempotency_key = peewee.TextField(null=True)
    fingerprint = peewee.TextField(default="")
    video = peewee.ForeignKeyField(Video, null=True, on_delete="CASCADE")
    created_at = UtcField()
    updated_at = UtcField()
    expires_at = UtcField(index=True)

    if TYPE_CHECKING:
        user_id: int
        video_id: int | None

    class Meta:
        table_name = "upload"

    @property
    def is_complete(self) -> bool:
        """Whether all its bytes have come."""
        return self.length is not None and self.offset == self.length


class Derived(peewee.Model):
    """A stored object that was made of a video, or given to it: a poster, a variant, captions.

    ``kind`` says what it is, ``name`` which of them; ``facts`` is JSON, of which the kind knows the members.
    """

    id = peewee.AutoField()
    video = peewee.ForeignKeyField(Video, on_delete="CASCADE")
    kind = peewee.TextField()
    name = peewee.TextField()
    file_path = peewee.TextField(unique=True)
    mime_type = peewee.TextField()
    size = peewee.IntegerField()
    facts = peewee.TextField(default="{}")
    created_at = UtcField()

    if TYPE_CHECKING:
        video_id: int

    class Meta:
        table_name = "derived"


class Job(peewee.Model):
    """One step of work on a video, queued, running or ended.

    A running job has an ``owner``, which is the name of its scratch folder: when its lock is free, the
    owner is dead, and the job goes back into the queue. ``losses`` counts how often. Where there are no
    locks between processes, the lease says so. ``rank`` orders the queue, lowest first; ``created_at``
    is since when it waits; ``reserved`` bytes of the disk are kept free for what the job writes.
    """

    id = peewee.AutoField()
    video = peewee.ForeignKeyField(Video, on_delete="CASCADE")
    step = peewee.TextField()
    rank = peewee.IntegerField()
    options = peewee.TextField(default="{}")
    state = peewee.TextField()
    attempts = peewee.IntegerField(default=0)
    losses = peewee.IntegerField(default=0)
    due_at = UtcField()
    owner = peewee.TextField(null=True)
    leased_until = UtcField(null=True)
    reserved = peewee.IntegerField(default=0)
    percent = peewee.FloatField(null=True)
    eta = peewee.FloatField(null=True)
    error_code = peewee.TextField(null=True)
    error_detail = peewee.TextField(null=True)
    created_at = UtcField()
    updated_at = UtcField()

    if TYPE_CHECKING:
        video_id: int

    class Meta:
        table_name = "job"


class Orphan(peewee.Model):
    """A stored object whose video, or whose use for it, is gone.

    The row is there before the video goes and goes after the object, so a start after a
    crash knows what to remove without comparing every file with every row.
    """

    file_path = peewee.TextField(primary_key=True)
    created_at = UtcField()

    class Meta:
        table_name = "orphan"
