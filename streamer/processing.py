"""What a job does: one function for each step, which has ffmpeg make something and gives it to the video."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from streamer import derived, facts, jobs, planning, playability
from streamer.containers import reading
from streamer.containers.media import Media
from streamer.derived import Item
from streamer.errors import (
    FfmpegFailed,
    FfmpegMissing,
    InvalidInput,
    MediaUnreadable,
    Stopped,
    StreamerError,
)
from streamer.ffmpeg import posters, probe, storyboards, variants
from streamer.ffmpeg.captions import extract_captions
from streamer.ffmpeg.pictures import Picture
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import Work
from streamer.intake import Intake, reserve_for_job
from streamer.models import Job, Video
from streamer.protocol import captions

logger = logging.getLogger("streamer")

JPEG = "image/jpeg"
VTT = "text/vtt"


class Hold(Protocol):
    """How a job that is being done speaks with its worker."""

    def progress(self, fraction: float) -> None: ...
    def should_stop(self) -> bool: ...


class Made(NamedTuple):
    """A file that was made, and what it shall be as a derived object."""

    kind: str
    name: str
    mime_type: str
    path: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A job that is being done, in a folder of its own."""

    intake: Intake
    tools: Tools
    job: Job
    video: Video
    folder: Path
    hold: Hold

    @property
    def path(self) -> Path:
        """The original."""
        return self.intake.storage.path(self.video.file_path)

    @property
    def media(self) -> Media:
        """What is in the original. Raises FfmpegFailed (``unreadable``)."""
        media = facts.of(self.video)
        if media is None:
            raise FfmpegFailed("unreadable", "the file does not tell what is in it")
        return media

    def work(self) -> Work:
        """The task as ffmpeg is told of it."""
        return Work(
            tools=self.tools,
            path=self.path,
            container=facts.container_of(self.video),
            media=self.media,
            folder=self.folder,
            threads=self.intake.config.ffmpeg_threads,
            should_stop=self.hold.should_stop,
            on_progress=self.hold.progress,
        )

    def publish(self, made: Iterable[Made], *replacing: str) -> None:
        """Give what was made to the video, in place of all that it had of these kinds, and end the job."""
        storage = self.intake.storage
        with ExitStack() as files:
            items = []
            for kind, name, mime_type, path, about in made:
                file = files.enter_context(closing(storage.adopt(path)))
                items.append(Item(kind=kind, name=name, mime_type=mime_type, file=file, facts=about))
            derived.publish(
                self.intake.database,
                storage,
                self.video.id,
                items,
                replacing=replacing,
                in_the_end=self.finish,
            )

    def finish(self) -> None:
        """End the job. Raises Stopped if it is not held any more."""
        if not jobs.finish(self.intake.database, self.job):
            raise Stopped


def perform(intake: Intake, job: Job, folder: Path, hold: Hold) -> None:
    """Do a job, in a scratch folder, and end it.

    Raises Stopped (it shall not go on, or not be done here, or is not held any more), FfmpegFailed,
    InsufficientStorage and IntegrityError (the video is gone).
    """
    if intake.tools is None:
        raise FfmpegMissing
    if job.step not in planning.able_steps(intake.config, intake.tools):  # a setting has changed
        jobs.leave(intake.database, job)
        raise Stopped
    video = Video.select().where(Video.id == job.video_id).get_or_none(intake.database)
    if video is None:
        raise Stopped
    _STEPS[job.step](Task(intake, intake.tools, job, video, folder, hold))


def _probe(task: Task) -> None:
    """Look into a file that is not read here, and plan what follows."""
    container, should_stop = facts.container_of(task.video), task.hold.should_stop
    media = probe.probe(task.tools, task.path, container, task.folder, should_stop)
    if media is None:
        raise FfmpegFailed("unreadable", "nobody can tell what is in this file: it may be damaged")
    with task.intake.database.atomic():
        task.finish()
        task.video.media = facts.to_json(media)
        Video.update(media=task.video.media).where(Video.id == task.video.id).execute(task.intake.database)
        config, is_backlog = task.intake.config, jobs.is_backlog(task.job)
        planning.plan(task.intake.database, task.video, config, task.tools, is_backlog=is_backlog)


def _poster(task: Task) -> None:
    options = json.loads(task.job.options)
    made = _own_picture(task) if options.get("picture") else _frame(task, options.get("time"))
    task.publish(
        [Made(derived.POSTER, str(poster.width), JPEG, poster.path, _size(poster)) for poster in made],
        derived.POSTER,
    )


def _size(picture: Picture) -> dict[str, int]:
    return {"width": picture.width, "height": picture.height}


def _frame(task: Task, at: float | None) -> list[Picture]:
    work = task.work()
    made, _ = posters.make_posters(work, at, _keyframes(work))
    return made


def _own_picture(task: Task) -> list[Picture]:
    own = derived.find(task.intake.database, task.video.id, derived.PICTURE, derived.OWN)
    if own is None:
        raise FfmpegFailed("no_picture", "the image is gone")
    image = task.intake.storage.path(own.file_path)
    return posters.posters_of_image(task.tools, image, task.folder, task.hold.should_stop)


def _storyboard(task: Task) -> None:
    work = task.work()
    storyboard = storyboards.make_storyboard(work, _keyframes(work))
    text = task.folder / "storyboard.vtt"
    text.write_text(storyboards.storyboard_vtt(storyboard, "storyboard.jpg"), encoding="utf-8")
    tiles = Made(derived.TILES, "jpg", JPEG, storyboard.picture.path, _size(storyboard.picture))
    cues = Made(derived.STORYBOARD, "vtt", VTT, text, {})
    task.publish([tiles, cues], derived.TILES, derived.STORYBOARD)


def _keyframes(work: Work) -> tuple[float, ...]:
    try:
        with reading.opened(work.path) as source:
            return reading.read_keyframes(work.container.mime_type, source)
    except MediaUnreadable:
        return ()


def _captions(task: Task) -> None:
    extracted = extract_captions(task.work())
    made = []
    for number, track in enumerate(task.media.text):
        if track.number not in extracted:  # pictures, or what ffmpeg cannot convert
            continue
        path = extracted[track.number].with_suffix(".vtt")
        try:
            path.write_text(captions.to_webvtt(extracted[track.number].read_bytes()), encoding="utf-8")
        except StreamerError as error:  # such as a track without a single cue
            logger.info("captions %s of video %s are left out: %s", number, task.video.id, error)
            continue
        about = {
            "language": _language(track.language),
            "label": track.label,
            "is_forced": track.is_forced,
            "source": "file",
        }
        made.append(Made(derived.CAPTIONS, str(number), VTT, path, about))
    task.publish(made)


def _language(text: str | None) -> str | None:
    try:
        return captions.language_tag(text) if text else None
    except InvalidInput:
        return None


def _variant(task: Task) -> None:
    work, size = task.work(), task.video.size
    verdict = playability.judge(task.video.mime_type, work.media)
    if verdict is None or verdict.remedy == "none":
        task.publish([], derived.VARIANT)
        return
    reserve_for_job(task.intake, task.job, variants.estimate_bytes(work.media, verdict.remedy, size))
    variant = variants.make(work, verdict.remedy)
    task.publish([Made(derived.VARIANT, derived.WEB, variant.mime_type, variant.path, {})], derived.VARIANT)


_STEPS: dict[str, Callable[[Task], None]] = {
    jobs.PROBE: _probe,
    jobs.POSTER: _poster,
    jobs.CAPTIONS: _captions,
    jobs.STORYBOARD: _storyboard,
    jobs.VARIANT: _variant,
}
