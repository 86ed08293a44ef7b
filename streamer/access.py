"""Who may do what with a video: every permission rule, and nowhere else."""

from datetime import datetime
from typing import Any, NamedTuple

from streamer import accounts
from streamer.database import Database
from streamer.errors import NotFound
from streamer.models import User, Video
from streamer.tokens import Claims


class StoredObject(NamedTuple):
    """What it takes to send the file of a video, or one that was made of it."""

    video_id: int
    file_path: str
    size: int
    mime_type: str
    filename: str
    """Of the video; what was made of it has another ending."""

    sha256: str
    """In hexadecimal; empty where it is not known."""

    created_at: datetime
    username: str


class Collection(NamedTuple):
    """The stored objects of one kind that were made of a video, by their names."""

    username: str
    objects: dict[str, StoredObject]


# Said in SQL, once: players ask for range after range, and making the query is most of
# what it costs. Both tables are searched by their primary keys; an index that covers
# all columns is no faster, whatever the length of the description.
_STORED_VIDEO = """
SELECT video.id, video.file_path, video.size, video.mime_type, video.filename, video.sha256, video.created_at,
    user.username
FROM video JOIN user ON user.id = video.uploader_id
WHERE video.id = ? AND video.uploader_id = ? AND user.credential_version = ?
"""

# One row with nothing on the right where the video has none of the kind.
_DERIVED = """
SELECT derived.name, video.id, derived.file_path, derived.size, derived.mime_type, video.filename, '',
    derived.created_at, user.username
FROM video JOIN user ON user.id = video.uploader_id
LEFT JOIN derived ON derived.video_id = video.id AND derived.kind = ?
WHERE video.id = ? AND video.uploader_id = ? AND user.credential_version = ?
"""


def stored_video(database: Database, claims: Claims, video_id: int | None) -> StoredObject:
    """How to send the video with this id, if the user of an access token may see it.

    Raises NotAuthenticated if the token has been revoked, and NotFound as ``video_for`` does.
    """
    row = database.row(_STORED_VIDEO, (video_id, *claims))
    if row is None:
        accounts.user_of(database, claims)
        raise no_such_video()
    return _stored_object(row)


def derived_objects(database: Database, claims: Claims, video_id: int | None, kind: str) -> Collection:
    """How to send what of this kind was made of a video. Raises as ``stored_video`` does."""
    rows = database.rows(_DERIVED, (kind, video_id, *claims))
    if not rows:
        accounts.user_of(database, claims)
        raise no_such_video()
    objects = {name: _stored_object(facts) for name, *facts in rows if name is not None}
    return Collection(rows[0][-1], objects)


def _stored_object(row: Any) -> StoredObject:
    *facts, created_at, username = row
    return StoredObject._make((*facts, datetime.fromisoformat(created_at), username))


def video_for(database: Database, user: User, video_id: int | None) -> Video:
    """The video with this id, if the user may see and change it.

    Raises NotFound, in the same words whether there is no such video or it belongs to somebody else.
    """
    video = None
    if video_id is not None:
        video = Video.select().where(Video.id == video_id, Video.uploader == user.id).get_or_none(database)
    if video is None:
        raise no_such_video()
    return video


def no_such_video() -> NotFound:
    """The error for a video that is not there, or not for this user."""
    return NotFound("there is no such video")
