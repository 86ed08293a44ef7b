"""Which steps of work a video needs: decided once, from what is in it and what there is to do it with."""

from streamer import facts, jobs, playability
from streamer.config import Config
from streamer.containers import reading
from streamer.containers.media import Media
from streamer.database import Database
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.variants import TEXT_CODECS
from streamer.models import Video

VERSION = 1
"""Of the plan: videos with an earlier one get what is new."""

BATCH = 100


def plan(database: Database, video: Video, config: Config, tools: Tools | None) -> None:
    """Queue what a video needs, inside of a transaction; without ffmpeg it is put off until there is one."""
    if tools is None:
        return
    for step in steps_for(video.mime_type, facts.of(video), config, tools):
        jobs.enqueue(database, video.id, step)
    video.status = jobs.settle(database, video.id)
    Video.update(planned_by=VERSION).where(Video.id == video.id).execute(database)


def steps_for(mime_type: str, media: Media | None, config: Config, tools: Tools) -> list[str]:
    """The steps that a video needs."""
    if media is None:
        can_be_probed = mime_type not in reading.READERS and tools.ffprobe is not None
        return [jobs.PROBE] if can_be_probed else []
    if media.has_external_data or media.is_encrypted:
        return []
    has_pictures = any(track.width and track.height for track in media.video)
    verdict = playability.judge(mime_type, media)
    has_remedy = verdict is not None and verdict.remedy != "none"
    wanted = {
        jobs.POSTER: has_pictures,
        jobs.CAPTIONS: any(track.name in TEXT_CODECS for track in media.text),
        jobs.STORYBOARD: has_pictures and config.storyboards and bool(media.duration),
        jobs.VARIANT: has_pictures and config.transcode and has_remedy,
    }
    return [step for step, is_wanted in wanted.items() if is_wanted]


def plan_missing(database: Database, config: Config, tools: Tools | None) -> None:
    """Queue what videos need that came before there was an ffmpeg, or this plan."""
    while tools is not None and _plan_some(database, config, tools):
        pass


def _plan_some(database: Database, config: Config, tools: Tools) -> bool:
    is_unplanned = (Video.planned_by < VERSION) & (Video.read_by >= facts.VERSION)
    query = Video.select().where(is_unplanned).order_by(Video.planned_by, Video.id).limit(BATCH)
    if not query.exists(database):  # asked without the lock for writing
        return False
    with database.atomic():  # nobody else plans the same
        for video in list(query.execute(database)):
            plan(database, video, config, tools)
    return True
