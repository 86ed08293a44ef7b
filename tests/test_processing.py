"""What the steps make of real films, by the real ffmpeg."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer import facts, jobs, playability
from streamer.containers.media import Media, Source
from streamer.database import Database
from streamer.intake import Intake
from streamer.models import Derived, Job, Video
from tests.conftest import Clock
from tests.containers import ffprobe
from tests.ffmpeg import clips, stand_ins
from tests.media import (
    add,
    again,
    assert_tidy,
    film,
    jobs_of,
    made_of,
    open_intake,
    unreadable,
    work_off,
)

WEB = ("variant", "web")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    opened = open_intake(tmp_path, clips.tools())
    yield opened
    opened.database.close()


def steps_of(intake: Intake, video: Video) -> list[str]:
    return list(jobs_of(intake, video))


def states_of(intake: Intake, video: Video) -> set[str]:
    return {job.state for job in jobs_of(intake, video).values()}


def read(data: bytes, mime_type: str = "video/mp4") -> Media:
    media = facts.read(mime_type, Source(lambda size, at: data[at : at + size], len(data)))
    assert media is not None
    return media


def test_film_with_everything_gets_everything(intake: Intake, films: Path) -> None:
    video = add(intake, film(films, "film.mkv"))
    assert video.status == "processing"
    assert steps_of(intake, video) == ["poster", "captions", "storyboard", "variant"]
    assert work_off(intake) == 4
    assert again(intake, video).status == "ready"
    assert states_of(intake, video) == {"done"}
    made = made_of(intake, video)
    assert set(made) == {("poster", "160"), ("captions", "0"), ("tiles", "jpg"), ("storyboard", "vtt"), WEB}
    for key in (("poster", "160"), ("tiles", "jpg")):
        assert made[key].startswith(b"\xff\xd8")
        assert made[key].endswith(b"\xff\xd9")
    assert b"storyboard.jpg#xywh=" in made["storyboard", "vtt"]
    assert "Grüße" in made["captions", "0"].decode()
    assert_tidy(intake)


def test_rows_tell_what_is_in_the_objects(intake: Intake, films: Path) -> None:
    add(intake, film(films, "film.mkv"))
    work_off(intake)
    rows = {row.kind: row for row in Derived.select().execute(intake.database)}
    assert {kind: row.mime_type for kind, row in rows.items()} == {
        "poster": "image/jpeg",
        "tiles": "image/jpeg",
        "storyboard": "text/vtt",
        "captions": "text/vtt",
        "variant": "video/mp4",
    }
    assert json.loads(rows["poster"].facts) == {"width": 160, "height": 120}
    assert json.loads(rows["captions"].facts) == {
        "language": "de",
        "label": None,
        "is_forced": False,
        "source": "file",
    }


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("begins-late.mp4", "faststart"),
        ("wrapped.mkv", "remux"),
        ("cinema-sound.mp4", "audio"),
        ("film.mkv", "transcode"),
    ],
)
def test_each_remedy_makes_what_every_browser_plays(
    intake: Intake, films: Path, name: str, remedy: str
) -> None:
    video = add(intake, film(films, name))
    verdict = playability.judge(video.mime_type, facts.of(video))
    assert verdict is not None
    assert verdict.remedy == remedy
    work_off(intake)
    media = read(made_of(intake, video)[WEB])
    result = playability.judge("video/mp4", media)
    assert result is not None
    assert (result.direct, result.remedy) == (True, "none"), result.reason
    assert media.duration == pytest.approx(2, abs=0.3)
    assert (len(media.video), len(media.audio)) == (1, 1)


@pytest.mark.parametrize(
    ("pictures", "sound"), [(clips.VP9, clips.OPUS), (("-c:v", "libvpx"), ("-c:a", "libvorbis"))]
)
def test_what_plays_in_webm_comes_out_as_one(
    intake: Intake, tmp_path: Path, pictures: tuple[str, ...], sound: tuple[str, ...]
) -> None:
    inputs = [*ffprobe.pictures("160x120", "10", 2), *ffprobe.sound(2)]
    coding = (*pictures, "-pix_fmt", "yuv420p", *sound)
    video = add(intake, ffprobe.make(tmp_path / "film.mkv", *inputs, *coding))
    work_off(intake)
    row = Derived.select().where(Derived.kind == "variant").get(intake.database)
    assert row.mime_type == "video/webm"
    media = read(made_of(intake, video)[WEB], row.mime_type)
    result = playability.judge(row.mime_type, media)
    assert result is not None
    assert (result.direct, result.remedy) == (True, "none"), result.reason
    assert (len(media.video), len(media.audio)) == (1, 1)


def test_what_plays_is_not_encoded_again(intake: Intake, films: Path) -> None:
    video = add(intake, film(films, "plays.mp4"))
    assert steps_of(intake, video) == ["poster", "storyboard"]
    work_off(intake)
    assert again(intake, video).status == "ready"
    assert WEB not in made_of(intake, video)


@pytest.mark.parametrize(("name", "remedy"), [("old.avi", "transcode"), ("broadcast.ts", "remux")])
def test_container_that_is_not_read_here_is_probed_first(
    intake: Intake, films: Path, name: str, remedy: str
) -> None:
    video = add(intake, film(films, name))
    assert (facts.of(video), video.status) == (None, "processing")
    assert steps_of(intake, video) == ["probe"]
    assert work_off(intake) == 4
    assert steps_of(intake, video) == ["probe", "poster", "storyboard", "variant"]
    video = again(intake, video)
    assert video.status == "ready"
    media = facts.of(video)
    assert media is not None
    assert (media.video[0].width, media.video[0].height) == (160, 120)
    verdict = playability.judge(video.mime_type, media)
    assert verdict is not None
    assert verdict.remedy == remedy
    result = playability.judge("video/mp4", read(made_of(intake, video)[WEB]))
    assert result is not None
    assert result.direct
    assert_tidy(intake)


def nothing(films: Path, folder: Path) -> Path:
    """A transport stream of a programme that tells nothing."""
    data = film(films, "broadcast.ts").read_bytes()
    path = folder / "nothing.ts"
    path.write_bytes(b"".join([data[:4] + bytes(184) for _ in range(100)]))
    return path


def index_lost(films: Path, folder: Path) -> Path:
    """An MP4 without its index, as of a camera whose battery ran out."""
    data = film(films, "begins-late.mp4").read_bytes()
    path = folder / "lost.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4])
    return path


@pytest.mark.parametrize("make", [nothing, index_lost])
def test_file_in_which_a_probe_finds_nothing_fails_at_once(
    intake: Intake, films: Path, tmp_path: Path, make: Callable[[Path, Path], Path]
) -> None:
    video = add(intake, make(films, tmp_path))
    assert work_off(intake) == 1
    video = again(intake, video)
    assert (video.media, video.status) == (None, "failed")
    [(step, job)] = jobs_of(intake, video).items()
    assert (step, job.state, job.error_code, job.attempts) == ("probe", "failed", "unreadable", 1)


def test_probe_that_fails_for_another_reason_is_tried_again(
    intake: Intake, films: Path, tmp_path: Path, frozen: Clock
) -> None:
    video = add(intake, film(films, "old.avi"))
    without_room = dataclasses.replace(clips.tools(), ffprobe=stand_ins.make(tmp_path, "reports_a_full_disk"))
    assert work_off(dataclasses.replace(intake, tools=without_room)) == 1
    job = jobs_of(intake, video)["probe"]
    assert (job.state, job.error_code) == ("queued", "disk_full")
    frozen.forward(seconds=20)
    work_off(intake)
    assert again(intake, video).status == "ready"


def test_sound_alone_that_plays_needs_nothing(intake: Intake, tmp_path: Path, films: Path) -> None:
    copied = ("-c", "copy", "-movflags", "+faststart")
    video = add(intake, ffprobe.make(tmp_path / "sound.mp4", "-i", str(film(films, "sound.mkv")), *copied))
    assert (video.status, steps_of(intake, video)) == ("ready", [])


def test_sound_alone_that_does_not_play_everywhere_gets_a_variant(intake: Intake, films: Path) -> None:
    video = add(intake, film(films, "sound.mkv"))
    assert steps_of(intake, video) == ["variant"]
    work_off(intake)
    assert again(intake, video).status == "ready"
    media = read(made_of(intake, video)[WEB])
    assert (len(media.video), len(media.audio)) == (0, 1)
    verdict = playability.judge("video/mp4", media)
    assert verdict is not None
    assert verdict.direct, verdict.reason
    assert_tidy(intake)


def test_poster_can_be_taken_at_another_time(intake: Intake, films: Path) -> None:
    video = add(intake, film(films, "plays.mp4"))
    work_off(intake)
    before = made_of(intake, video)["poster", "160"]
    with intake.database.atomic():
        jobs.enqueue(intake.database, video.id, jobs.POSTER, {"time": 1.9})
        jobs.settle(intake.database, video.id)
    assert again(intake, video).status == "processing"
    work_off(intake)
    assert made_of(intake, video)["poster", "160"] != before
    assert again(intake, video).status == "ready"
    assert_tidy(intake)


def test_steps_that_are_done_again_leave_one_of_each(intake: Intake, films: Path) -> None:
    video = add(intake, film(films, "film.mkv"))
    work_off(intake)
    before = set(made_of(intake, video))
    Job.update(state="queued").execute(intake.database)
    assert work_off(intake) == 4
    assert set(made_of(intake, video)) == before
    assert_tidy(intake)


def test_variant_that_is_not_needed_any_more_goes(intake: Intake, films: Path) -> None:
    video = add(intake, film(films, "begins-late.mp4"))
    work_off(intake)
    assert WEB in made_of(intake, video)
    plays = str(video.media).replace('"faststart": false', '"faststart": true')
    Video.update(media=plays).execute(intake.database)
    Job.update(state="queued").where(Job.step == "variant").execute(intake.database)
    work_off(intake)
    assert WEB not in made_of(intake, video)
    assert_tidy(intake)


def test_variant_that_is_not_wanted_any_more_is_not_made(intake: Intake, films: Path) -> None:
    video = add(intake, film(films, "begins-late.mp4"))
    assert "variant" in steps_of(intake, video)
    config = dataclasses.replace(intake.config, transcode=False)
    work_off(dataclasses.replace(intake, config=config))
    assert (again(intake, video).status, WEB in made_of(intake, video)) == ("ready", False)


def test_damaged_film_fails_and_tells_why(intake: Intake, films: Path, frozen: Clock) -> None:
    video = add(intake, unreadable(films))
    for wait in (20, 80, 0):
        work_off(intake)
        frozen.forward(seconds=wait)
    assert again(intake, video).status == "failed"
    found = jobs_of(intake, video)
    assert set(found) == {"poster", "storyboard"}
    for job in found.values():
        assert job.state == "failed"
        assert job.error_code in {"no_picture", "ffmpeg_failed"}
        assert job.error_detail
        assert "/" not in job.error_detail
    assert_tidy(intake)
    assert jobs.retry(intake.database, video.id)
    assert again(intake, video).status == "processing"
    assert {job.error_code for job in jobs_of(intake, video).values()} == {None}


def test_film_that_has_gone_from_the_disk_fails(intake: Intake, films: Path, tmp_path: Path) -> None:
    video = add(intake, film(films, "begins-late.mp4"))
    intake.storage.path(video.file_path).unlink()
    work_off(intake)
    for job in jobs_of(intake, video).values():
        assert job.error_code
        assert str(tmp_path) not in (job.error_detail or "")


def test_caption_track_that_has_no_cues_is_left_out(intake: Intake, films: Path, tmp_path: Path) -> None:
    captions = tmp_path / "one.srt"
    captions.write_text("1\n00:00:00,000 --> 00:00:01,000\nText\n", encoding="utf-8")
    empty = tmp_path / "none.srt"
    empty.write_text("", encoding="utf-8")
    path = ffprobe.make(
        tmp_path / "two.mkv",
        *("-i", str(film(films, "plays.mp4")), "-i", str(captions)),
        *("-map", "0:v", "-map", "1:s", "-map", "1:s", "-c:v", "copy", "-c:s", "srt"),
        *("-metadata:s:s:1", "language=x_nonsense", "-metadata:s:s:1", "title=Zweite Spur"),
    )
    video = add(intake, path)
    work_off(intake)
    found = derived_captions(intake.database, video)
    assert found == [("0", None, None), ("1", None, "Zweite Spur")]


def with_captions(folder: Path, films: Path, *texts: str) -> Path:
    """A film in MP4 with a track for each of these texts."""
    inputs, maps = ["-i", str(film(films, "plays.mp4"))], ["-map", "0:v"]
    for number, text in enumerate(texts, 1):
        source = folder / f"{number}.srt"
        source.write_text(f"1\n00:00:00,000 --> 00:00:01,000\n{text}\n", encoding="utf-8")
        inputs += ["-i", str(source)]
        maps += ["-map", str(number)]
    faststart = ("-movflags", "+faststart")
    return ffprobe.make(folder / "film.mp4", *inputs, *maps, "-c:v", "copy", "-c:s", "mov_text", *faststart)


def test_caption_track_that_cannot_be_converted_harms_no_other(
    intake: Intake, films: Path, tmp_path: Path
) -> None:
    path = with_captions(tmp_path, films, "one", "two", "A --> B")
    head, one, two, three = path.read_bytes().split(b"tx3g")
    path.write_bytes(head + b"tx3g" + one + b"wvtt" + two + b"tx3g" + three)
    video = add(intake, path)
    work_off(intake)
    assert again(intake, video).status == "ready"
    assert [name for name, _, _ in derived_captions(intake.database, video)] == ["0", "2"]
    made = made_of(intake, video)
    assert b"A --&gt; B" in made["captions", "2"]


def test_captions_none_of_which_can_be_converted_are_no_failure(
    intake: Intake, films: Path, tmp_path: Path
) -> None:
    path = with_captions(tmp_path, films, "one", "two")
    path.write_bytes(path.read_bytes().replace(b"tx3g", b"wvtt"))
    video = add(intake, path)
    work_off(intake)
    assert again(intake, video).status == "ready"
    assert derived_captions(intake.database, video) == []


def derived_captions(database: Database, video: Video) -> list[tuple[str, str | None, str | None]]:
    rows = (
        Derived.select().where(Derived.video == video.id, Derived.kind == "captions").order_by(Derived.name)
    )
    told = [(row.name, json.loads(row.facts)) for row in rows.execute(database)]
    return [(name, about["language"], about["label"]) for name, about in told]
