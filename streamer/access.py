"""Who may do what with a video: every permission rule, and nowhere else."""

from streamer.database import Database
from streamer.errors import NotFound
from streamer.models import User, Video


def video_for(database: Database, user: User, video_id: int | None) -> Video:
    """The video with this id, if the user may see and change it.

    Raises NotFound, in the same words whether there is no such video or it belongs to somebody else.
    """
    video = None
    if video_id is not None:
        video = Video.select().where(Video.id == video_id, Video.uploader == user.id).get_or_none(database)
    if video is None:
        raise NotFound("there is no such video")
    return video
