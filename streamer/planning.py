"""Which steps of work a video needs: decided once, from what is in it and what there is to do it with."""

import time
from math import inf

import peewee

from streamer import facts, jobs, playability
from streamer.config import Config
from streamer.containers.media import Media
from streamer.database import Database
from streamer.ffmpeg.captions import TEXT_CODECS
from streamer.ffmpeg.tools import Tools
from streamer.models import Job, Video

VERSION = 1
"""Of the plan: videos with an earlier one get what is new."""

BATCH = 20  # planned in one transaction: others want to write too
PAUSE_SECONDS = 0.02  # between two of them
SHELVED_AT_ONCE = 400  # a start waits for it, and each transaction for the disk


def plan(
    database: Database, video: Video, config: Config, tools: Tools | None, *, is_backlog: bool = False
) -> None:
    """Queue what a video needs, inside of a transaction; without ffmpeg it is put off until there is one."""
    if tools is None:
        return
    planned = {job.step for job in jobs.of(database, [video.id])[video.id]}
    able = able_steps(config, tools)
    for step in steps_for(video.mime_type, facts.of(video)):
        if step in planned:  # such as a poster that somebody has chosen
            continue
        if step in able:
            jobs.enqueue(database, video.id, step, is_backlog=is_backlog)
        else:
            jobs.leave_out(database, video.id, step)
    video.status = jobs.settle(database, video.id)
    Video.update(planned_by=VERSION).where(Video.id == video.id).execute(database)


def steps_for(mime_type: str, media: Media | None) -> list[str]:
    """The steps that a video needs."""
    if media is None:
        return [jobs.PROBE]
    if media.has_external_data or media.is_encrypted:
        return []
    has_pictures = any(track.width and track.height for track in media.video)
    verdict = playability.judge(mime_type, media)
    has_remedy = verdict is not None and verdict.remedy != "none"
    wanted = {
        jobs.POSTER: has_pictures,
        jobs.CAPTIONS: any(track.name in TEXT_CODECS for track in media.text),
        jobs.STORYBOARD: has_pictures and bool(media.duration),
        jobs.VARIANT: (has_pictures or not media.video) and has_remedy,
    }
    return [step for step, is_wanted in wanted.items() if is_wanted]


def able_steps(config: Config, tools: Tools) -> list[str]:
    """The steps that can be done here, and shall."""
    able = {
        jobs.PROBE: tools.ffprobe is not None,
        jobs.POSTER: True,
        jobs.CAPTIONS: True,
        jobs.STORYBOARD: config.storyboards,
        jobs.VARIANT: config.transcode,
    }
    return [step for step, is_able in able.items() if is_able]


def plan_missing(database: Database, config: Config, tools: Tools | None, until: float = inf) -> None:
    """Queue what videos need that came before there was an ffmpeg, or this plan, or were not to have it.

    Some of them, where that takes longer than ``until`` on the monotonic clock.
    """
    if tools is None:
        return
    while time.monotonic() < until and _plan_some(database, config, tools):
        time.sleep(PAUSE_SECONDS)


def shelve(database: Database) -> None:
    """Let what is queued wait for an ffmpeg: until then its videos are as ready as they get."""
    is_planned = (Job.state == jobs.QUEUED) & (Job.options == "{}")  # and not what somebody has asked for
    queued = Job.select(Job.video).where(is_planned).distinct().tuples()
    for some in peewee.chunked([video_id for (video_id,) in queued.execute(database)], SHELVED_AT_ONCE):
        with database.atomic():
            Job.update(state=jobs.LEFT_OUT).where(Job.video.in_(some), is_planned).execute(database)
            for video_id in some:
                jobs.settle(database, video_id)


def _plan_some(database: Database, config: Config, tools: Tools) -> bool:
    is_unplanned = (Video.planned_by < VERSION) & (Video.read_by >= facts.VERSION)
    query = Video.select().where(is_unplanned).order_by(Video.planned_by, Video.id).limit(BATCH)
    if query.exists(database):  # asked without the lock for writing
        with database.atomic():  # nobody else plans the same
            for video in list(query.execute(database)):
                plan(database, video, config, tools, is_backlog=True)
        return True
    return jobs.take_up(database, able_steps(config, tools), BATCH)
