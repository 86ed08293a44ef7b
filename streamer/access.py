"""Who may do what with a video: every permission rule, and nowhere else."""

from datetime import datetime
from typing import NamedTuple

from streamer import accounts
from streamer.database import Database
from streamer.errors import NotFound
from streamer.models import User, Video
from streamer.tokens import Claims


class StoredVideo(NamedTuple):
    """What it takes to send a video."""

    id: int
    file_path: str
    size: int
    mime_type: str
    filename: str
    sha256: str
    created_at: datetime
    username: str


# Said in SQL, once: players ask for range after range, and making the query is most of
# what it costs. Both tables are searched by their primary keys; an index that covers
# all columns is no faster, whatever the length of the description.
_STORED_VIDEO = """
SELECT video.id, video.file_path, video.size, video.mime_type, video.filename, video.sha256, video.created_at,
    user.username
FROM video JOIN user ON user.id = video.uploader_id
WHERE video.id = ? AND video.uploader_id = ? AND user.credential_version = ?
"""


def stored_video(database: Database, claims: Claims, video_id: int | None) -> StoredVideo:
    """How to send the video with this id, if the user of an access token may see it.

    Raises NotAuthenticated if the token has been revoked, and NotFound as ``video_for`` does.
    """
    row = database.row(_STORED_VIDEO, (video_id, *claims))
    if row is None:
        accounts.user_of(database, claims)
        raise _no_such_video()
    *facts, created_at, username = row
    return StoredVideo._make((*facts, datetime.fromisoformat(created_at), username))


def video_for(database: Database, user: User, video_id: int | None) -> Video:
    """The video with this id, if the user may see and change it.

    Raises NotFound, in the same words whether there is no such video or it belongs to somebody else.
    """
    video = None
    if video_id is not None:
        video = Video.select().where(Video.id == video_id, Video.uploader == user.id).get_or_none(database)
    if video is None:
        raise _no_such_video()
    return video


def _no_such_video() -> NotFound:
    return NotFound("there is no such video")
