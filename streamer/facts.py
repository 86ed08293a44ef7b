"""What is in a video: read from its file once, kept with its row.

The facts are JSON in the database, so that a list of videos opens no file.
"""

import json
import logging
import time
from dataclasses import asdict
from math import inf
from typing import Any

import peewee

from streamer.containers import reading, signatures
from streamer.containers.media import AudioTrack, Media, Source, TextTrack, VideoTrack
from streamer.database import Database
from streamer.errors import MediaUnreadable
from streamer.models import Video
from streamer.storage.local import LocalStorage

logger = logging.getLogger("streamer")

VERSION = 1
"""Of the readers: what an earlier one has read is read again."""

BATCH = 100


def read(mime_type: str, source: Source) -> Media | None:
    """What is in a file of this media type; None where it cannot be read by us."""
    try:
        return reading.read_media(mime_type, source)
    except MediaUnreadable as error:
        logger.info("a file of the type %s cannot be read: %s", mime_type, error)
        return None


def of(video: Video) -> Media | None:
    """What is in a video, as far as it is known."""
    return None if video.media is None else parse(video.media)


def to_json(media: Media | None) -> str | None:
    """The facts as they are kept."""
    return None if media is None else json.dumps(asdict(media), ensure_ascii=False)


def parse(text: str) -> Media:
    """The facts that were kept."""
    members: dict[str, Any] = json.loads(text)
    for name, track in (("video", VideoTrack), ("audio", AudioTrack), ("text", TextTrack)):
        members[name] = tuple(track(**facts) for facts in members[name])
    return Media(**members)


def read_missing(database: Database, storage: LocalStorage, until: float = inf) -> None:
    """Look into the videos that this version of the readers has not seen.

    Into some of them, where that takes longer than ``until`` on the monotonic clock. What cannot be read
    just now is left for the next time; what was known stays known if this version can't read it.
    """
    last = (-1, 0)
    while time.monotonic() < until and (videos := _unread(database, last)):
        for read_by, video_id, file_path, mime_type in videos:
            last = (read_by, video_id)
            try:
                with reading.opened(storage.path(file_path)) as source:
                    media = read(mime_type, source)
            except OSError as error:  # one bad file must not keep the others from being read
                logger.warning("cannot look into video %s: %s", video_id, error)
                continue
            known = {} if media is None else {"media": to_json(media)}
            Video.update(read_by=VERSION, **known).where(
                Video.id == video_id, Video.read_by < VERSION
            ).execute(database)


def _unread(database: Database, after: tuple[int, int]) -> list[tuple[int, int, str, str]]:
    place = peewee.Tuple(Video.read_by, Video.id)
    query = Video.select(Video.read_by, Video.id, Video.file_path, Video.mime_type)
    query = query.where(Video.read_by < VERSION, place > after)
    return list(query.order_by(Video.read_by, Video.id).limit(BATCH).tuples().execute(database))


def container_of(video: Video) -> signatures.Container:
    """The container of a video."""
    return signatures.BY_MIME_TYPE[video.mime_type]
