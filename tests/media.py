"""A data folder with real films in it, and an ffmpeg that works on them."""

import dataclasses
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

from streamer import accounts, uploads, worker
from streamer.config import Config
from streamer.database import open_database
from streamer.ffmpeg.tools import Tools
from streamer.intake import Intake
from streamer.models import Derived, Job, User, Video
from streamer.storage.local import LocalStorage
from streamer.uploads import Plan
from tests.containers import ffprobe
from tests.ffmpeg import clips, stand_ins
from tests.helpers import PASSWORD

PICTURES, SOUND = ffprobe.pictures("160x120", "10", 2), ffprobe.sound(2)
AC3 = ("-c:a", "ac3", "-b:a", "64k")
COVERED = ("-map", "0:v", "-map", "1:a", "-map", "2:s", "-metadata:s:s:0", "language=ger")
FAST = ("-movflags", "+faststart")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:pools=1")
MPEG4 = ("-c:v", "mpeg4", "-c:a", "mp2")

FILMS = {
    "plays.mp4": (*SOUND, *clips.H264, *clips.AAC, *FAST),
    "begins-late.mp4": (*SOUND, *clips.H264, *clips.AAC),
    "wrapped.mkv": (*SOUND, *clips.H264, *clips.AAC),
    "cinema-sound.mp4": (*SOUND, *clips.H264, *AC3, *FAST),
    "film.mkv": (*SOUND, "-i", "captions.srt", *COVERED, *HEVC, *AC3, "-c:s", "srt"),
    "old.avi": (*SOUND, *MPEG4),
    "broadcast.ts": (*SOUND, *clips.H264, *clips.AAC),
    "sound.mkv": (*SOUND, "-map", "1:a", *clips.AAC),
    "silent.mp4": (*clips.H264, *FAST),
}
"""What makes each of them of two inputs, pictures and sound."""

SRT = "1\n00:00:00,000 --> 00:00:01,000\nGrüße\n\n2\n00:00:01,000 --> 00:00:02,000\nEnde\n"


def film(folder: Path, name: str) -> Path:
    """One of the films, which is made once in a folder."""
    path = folder / name
    if not path.exists():
        captions = folder / "captions.srt"
        captions.write_text(SRT, encoding="utf-8")
        arguments = [str(captions) if part == captions.name else part for part in FILMS[name]]
        ffprobe.make(path, *PICTURES, *arguments)
    return path


def unreadable(folder: Path) -> Path:
    """A film that tells what is in it, but all of whose pictures are damaged."""
    data = bytearray(film(folder, "silent.mp4").read_bytes())
    at = data.index(b"mdat") + 4
    data[at:] = bytes(len(data) - at)
    path = folder / "damaged.mp4"
    path.write_bytes(data)
    return path


def open_intake(folder: Path, tools: Tools | None = None, **settings: Any) -> Intake:
    """Open a data folder, as each process does."""
    config = Config(data=folder, **({"min_free_bytes": 0, "ffmpeg_threads": 1} | settings))
    return Intake(open_database(folder / "streamer.db"), LocalStorage(folder), config, tools)


def add(intake: Intake, path: Path) -> Video:
    """Upload a film, as the only user that there is."""
    user = User.select().first(intake.database) or accounts.add(intake.database, "alice", PASSWORD)
    size = path.stat().st_size
    with closing(uploads.begin(intake, user.id, Plan(length=size))) as append:
        append.feed(path.read_bytes())
        append.end()
    found: Video = Video.select().order_by(Video.id.desc()).first(intake.database)
    return found


def with_stand_in(folder: Path, name: str) -> Tools:
    """Tools of which ffmpeg itself is a program that behaves badly."""
    return dataclasses.replace(clips.tools(), ffmpeg=stand_ins.make(folder, name))


def work_off(intake: Intake) -> int:
    """Do all jobs that are due; how many there were."""
    count = 0
    while worker.work(intake, threading.Event()):
        count += 1
    return count


def again(intake: Intake, video: Video) -> Video:
    """The row as it is now."""
    found: Video = Video.select().where(Video.id == video.id).get(intake.database)
    return found


def jobs_of(intake: Intake, video: Video) -> dict[str, Job]:
    """The jobs of a video by their steps, the first first."""
    query = Job.select().where(Job.video == video.id).order_by(Job.rank)
    return {job.step: job for job in query.execute(intake.database)}


def made_of(intake: Intake, video: Video) -> dict[tuple[str, str], bytes]:
    """The derived objects of a video, by kind and name."""
    rows = Derived.select().where(Derived.video == video.id).execute(intake.database)
    return {(row.kind, row.name): intake.storage.path(row.file_path).read_bytes() for row in rows}


def assert_tidy(intake: Intake) -> None:
    """That every derived object has its row, every row its whole object, and nobody has left anything."""
    data = intake.config.data
    rows = list(Derived.select().execute(intake.database))
    assert {row.file_path for row in rows} == {f"derived/{path.name}" for path in files(data, "derived")}
    assert all(row.size == intake.storage.path(row.file_path).stat().st_size for row in rows)
    assert files(data, "scratch") == files(data, "incoming") == []
    videos = {row.file_path for row in Video.select().execute(intake.database)}
    assert videos == {f"videos/{path.name}" for path in files(data, "videos")}


def files(data: Path, folder: str) -> list[Path]:
    return sorted((data / folder).iterdir())
