"""Which steps a video needs follows from what is in it, what there is to do it with, and what is wanted."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streamer import accounts, facts, jobs, planning, videos
from streamer.config import Config
from streamer.containers.media import AudioTrack, Media, TextTrack, VideoTrack
from streamer.ffmpeg.tools import Tools
from streamer.intake import Intake
from streamer.models import Job, Video
from streamer.planning import able_steps, plan_missing, steps_for
from tests.concurrency import at_once
from tests.helpers import PASSWORD, Ticks
from tests.media import open_intake

TOOLS = Tools("/usr/bin/ffmpeg", "/usr/bin/ffprobe", "7.0", frozenset({"libx264", "aac"}), frozenset())
NO_FFPROBE = dataclasses.replace(TOOLS, ffprobe=None)

H264 = VideoTrack(number=0, name="h264", codec="avc1.640028", width=640, height=480)
PRORES = VideoTrack(number=0, name="prores", codec=None, width=640, height=480)
AAC = AudioTrack(number=1, name="aac", codec="mp4a.40.2", channels=2, sample_rate=48000)
DTS = AudioTrack(number=1, name="dts", codec=None)
SRT = TextTrack(number=2, name="subrip")
PGS = TextTrack(number=3, name="hdmv_pgs_subtitle")

MP4, MKV, AVI, TS = "video/mp4", "video/x-matroska", "video/x-msvideo", "video/mp2t"
PLAYS = Media(duration=60.0, video=(H264,), audio=(AAC,), faststart=True)


def but(**changes: Any) -> Media:
    return dataclasses.replace(PLAYS, **changes)


ALL_BUT_CAPTIONS = ["poster", "storyboard", "variant"]
CASES: dict[str, tuple[str, Media | None, list[str]]] = {
    "plays": (MP4, PLAYS, ["poster", "storyboard"]),
    "index at the end": (MP4, but(faststart=False), ALL_BUT_CAPTIONS),
    "other container": (MKV, but(faststart=None), ALL_BUT_CAPTIONS),
    "other sound": (MP4, but(audio=(DTS,)), ALL_BUT_CAPTIONS),
    "other pictures": (MP4, but(video=(PRORES,)), ALL_BUT_CAPTIONS),
    "no sound": (MP4, but(audio=()), ["poster", "storyboard"]),
    "captions": (MP4, but(text=(SRT,)), ["poster", "captions", "storyboard"]),
    "captions among others": (MP4, but(text=(PGS, SRT)), ["poster", "captions", "storyboard"]),
    "captions that are pictures": (MP4, but(text=(PGS,)), ["poster", "storyboard"]),
    "no duration": (MP4, but(duration=None), ["poster"]),
    "duration of nothing": (MP4, but(duration=0.0), ["poster"]),
    "sound alone": (MP4, but(video=()), []),
    "other sound alone": (MKV, but(video=(), audio=(DTS,)), ["variant"]),
    "captions alone": (MKV, but(video=(), audio=(), text=(SRT,)), ["captions"]),
    "nothing": (MP4, but(video=(), audio=()), []),
    "encrypted": (MP4, but(is_encrypted=True), []),
    "elsewhere": (MP4, but(has_external_data=True), []),
    "not read by us": (AVI, None, ["probe"]),
    "not read by us, transport stream": (TS, None, ["probe"]),
    "unreadable": (MP4, None, ["probe"]),
    "unreadable Matroska": (MKV, None, ["probe"]),
    "probed": (AVI, but(faststart=None), ALL_BUT_CAPTIONS),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_follow_from_what_is_in_a_file(case: str) -> None:
    mime_type, media, steps = CASES[case]
    assert steps_for(mime_type, media) == steps


@pytest.mark.parametrize(
    ("settings", "tools", "left_out"),
    [
        ({}, TOOLS, set()),
        ({"transcode": False}, TOOLS, {"variant"}),
        ({"storyboards": False}, TOOLS, {"storyboard"}),
        ({}, NO_FFPROBE, {"probe"}),
    ],
)
def test_settings_and_programs_leave_steps_out(
    settings: dict[str, Any], tools: Tools, left_out: set[str]
) -> None:
    assert set(jobs.STEPS) - set(able_steps(Config(**settings), tools)) == left_out


# --- planned when it comes, or later


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    opened = open_intake(tmp_path)
    accounts.add(opened.database, "alice", PASSWORD)
    yield opened
    opened.database.close()


MakeVideo = Callable[..., Video]


@pytest.fixture
def make_video(intake: Intake) -> MakeVideo:
    def make(mime_type: str = MP4, media: Media | None = PLAYS) -> Video:
        return videos.add(
            intake.database,
            1,
            title="",
            description="",
            filename="",
            file_path=f"videos/{Video.select().count(intake.database)}",
            mime_type=mime_type,
            size=1,
            sha256="",
            media=media,
            quota_bytes=None,
        )

    return make


def plan(intake: Intake, video: Video, tools: Tools | None = TOOLS) -> None:
    with intake.database.atomic():
        planning.plan(intake.database, video, intake.config, tools)


def planned(intake: Intake) -> list[tuple[int, str]]:
    query = Job.select(Job.video, Job.step).where(Job.state != jobs.LEFT_OUT).order_by(Job.id)
    return list(query.tuples().execute(intake.database))


def row(intake: Intake, video: Video) -> Video:
    found: Video = Video.select().where(Video.id == video.id).get(intake.database)
    return found


def test_planned_video_is_processing_and_one_that_needs_nothing_is_ready(
    intake: Intake, make_video: MakeVideo
) -> None:
    for media, status in ((PLAYS, "processing"), (but(video=()), "ready"), (None, "processing")):
        video = make_video(media=media)
        plan(intake, video)
        found = row(intake, video)
        assert (video.status, found.status, found.planned_by) == (status, status, planning.VERSION)


def test_without_ffmpeg_nothing_is_queued_and_the_video_is_ready(
    intake: Intake, make_video: MakeVideo
) -> None:
    video = make_video()
    plan(intake, video, None)
    plan_missing(intake.database, intake.config, None)
    assert (row(intake, video).status, row(intake, video).planned_by) == ("ready", 0)
    assert planned(intake) == []


def test_ffmpeg_that_comes_later_finds_its_work_in_order_and_once(
    intake: Intake, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH", 2)
    added = [make_video() for _ in range(5)]
    for _ in range(2):
        plan_missing(intake.database, intake.config, TOOLS)
        assert planned(intake) == [(video.id, step) for video in added for step in ("poster", "storyboard")]
    assert {row(intake, video).status for video in added} == {"processing"}


def test_what_runs_or_has_ended_is_not_planned_again(intake: Intake, make_video: MakeVideo) -> None:
    video = make_video()
    plan(intake, video)
    job = jobs.claim(intake.database, "0" * 32)
    assert job is not None
    jobs.finish(intake.database, job)
    before = list(Job.select().order_by(Job.id).dicts().execute(intake.database))
    plan_missing(intake.database, intake.config, TOOLS)
    assert list(Job.select().order_by(Job.id).dicts().execute(intake.database)) == before


def test_poster_that_was_chosen_before_the_plan_stays_chosen(intake: Intake, make_video: MakeVideo) -> None:
    video = make_video()
    with intake.database.atomic():
        jobs.enqueue(intake.database, video.id, jobs.POSTER, {"time": 1.5})
    plan_missing(intake.database, intake.config, TOOLS)
    assert planned(intake) == [(video.id, "poster"), (video.id, "storyboard")]
    job = jobs.claim(intake.database, "0" * 32)
    assert job is not None
    assert (job.step, job.options) == ("poster", '{"time": 1.5}')


def test_what_is_queued_is_forgotten_until_there_is_an_ffmpeg_again(
    intake: Intake, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SHELVED_AT_ONCE", 2)
    added = [make_video() for _ in range(5)]
    plan_missing(intake.database, intake.config, TOOLS)
    job = jobs.claim(intake.database, "0" * 32)
    assert job is not None
    jobs.finish(intake.database, job)
    planning.shelve(intake.database)
    assert planned(intake) == [(added[0].id, "poster")], "which is done"
    assert {row(intake, video).status for video in added} == {"ready"}
    plan_missing(intake.database, intake.config, TOOLS)
    assert sorted(planned(intake)) == [
        (video.id, step) for video in added for step in ("poster", "storyboard")
    ]
    assert job.id in {row.id for row in Job.select().where(Job.state == "done").execute(intake.database)}
    assert {row(intake, video).status for video in added} == {"processing"}


def test_what_runs_or_has_failed_is_not_forgotten(intake: Intake, make_video: MakeVideo) -> None:
    videos = [make_video(media=but(duration=None)) for _ in range(2)]
    plan_missing(intake.database, intake.config, TOOLS)
    running, failing = (jobs.claim(intake.database, owner * 32) for owner in "01")
    assert running is not None
    assert failing is not None
    jobs.fail(intake.database, failing, "no_picture", "", is_final=True)
    planning.shelve(intake.database)
    assert [row(intake, video).status for video in videos] == ["processing", "failed"]
    assert [row(intake, video).planned_by for video in videos] == [planning.VERSION] * 2
    assert jobs.finish(intake.database, running)


def test_step_that_a_setting_left_out_is_done_when_the_setting_changes(
    intake: Intake, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH", 2)
    without = replace(intake.config, storyboards=False)
    for _ in range(3):
        with intake.database.atomic():
            planning.plan(intake.database, make_video(), without, TOOLS)
    plan_missing(intake.database, without, TOOLS)
    assert planned(intake) == [(number, "poster") for number in (1, 2, 3)]
    plan_missing(intake.database, intake.config, TOOLS)
    assert sorted(planned(intake)) == [
        (number, step) for number in (1, 2, 3) for step in ("poster", "storyboard")
    ]
    plan_missing(intake.database, without, TOOLS)
    assert len(planned(intake)) == 6, "what is queued is not taken back"


def test_file_that_nobody_could_probe_is_probed_when_there_is_a_program(
    intake: Intake, make_video: MakeVideo
) -> None:
    video = make_video(AVI, None)
    plan(intake, video, NO_FFPROBE)
    assert (planned(intake), row(intake, video).status) == ([], "ready")
    plan_missing(intake.database, intake.config, TOOLS)
    assert (planned(intake), row(intake, video).status) == ([(video.id, "probe")], "processing")


def test_new_video_does_not_wait_for_the_plan_of_old_ones(intake: Intake, make_video: MakeVideo) -> None:
    old = [make_video() for _ in range(3)]
    plan_missing(intake.database, intake.config, TOOLS)
    new = make_video()
    plan(intake, new)
    found = [jobs.claim(intake.database, "0" * 32) for _ in range(3)]
    assert [job and (job.video_id, job.step) for job in found] == [
        (new.id, "poster"),
        (new.id, "storyboard"),
        (old[0].id, "poster"),
    ]


def test_plan_that_takes_too_long_goes_on_the_next_time(
    intake: Intake, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH", 2)
    ticks = Ticks()
    monkeypatch.setattr(time, "monotonic", ticks.monotonic)
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(ticks, "time", ticks.time + 1))
    added = [make_video(media=but(duration=None)) for _ in range(5)]
    for count in (4, 5):
        plan_missing(intake.database, intake.config, TOOLS, ticks.time + 2)
        assert planned(intake) == [(video.id, "poster") for video in added[:count]]
    plan_missing(intake.database, intake.config, TOOLS, ticks.time)


def test_video_that_nobody_has_looked_into_waits_for_that(intake: Intake, make_video: MakeVideo) -> None:
    video = make_video()
    Video.update(read_by=facts.VERSION - 1).execute(intake.database)
    plan_missing(intake.database, intake.config, TOOLS)
    assert (planned(intake), row(intake, video).planned_by) == ([], 0)


def test_processes_that_plan_at_once_plan_once(
    intake: Intake, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH", 3)
    added = [make_video() for _ in range(20)]

    def plan_all() -> None:
        other = open_intake(intake.config.data)
        try:
            plan_missing(other.database, other.config, TOOLS)
        finally:
            other.database.close()

    assert at_once(*[partial(plan_all)] * 4) == [None] * 4
    found = planned(intake)
    assert sorted(found) == [(video.id, step) for video in added for step in ("poster", "storyboard")]
    assert max(job.id for job in Job.select().execute(intake.database)) == 40, "none was made twice"
