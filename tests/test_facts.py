"""What is known of a video stays with its row, and comes there for those that were there before."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamer import accounts, facts, videos
from streamer.containers.media import AudioTrack, Media, Source, TextTrack, VideoTrack
from streamer.intake import Intake
from streamer.models import Video
from tests.containers import ffprobe
from tests.helpers import PASSWORD, Ticks, video_bytes
from tests.media import film, open_intake

FULL = Media(
    duration=12.345,
    video=(
        VideoTrack(
            number=0,
            name="hevc",
            codec="hvc1.2.4.L120.B0",
            width=3840,
            height=2160,
            rotation=270,
            frame_rate=23.976,
            bit_depth=10,
            chroma="4:2:0",
            is_interlaced=False,
            dynamic_range="hlg",
            duration=12.3,
            language="de",
            is_default=False,
        ),
        VideoTrack(number=4, name="h264", codec=None, width=2, height=2),
    ),
    audio=(
        AudioTrack(
            number=1,
            name="ac3",
            codec="ac-3",
            channels=6,
            sample_rate=48000,
            duration=12.2,
            language="fr-CA",
            is_default=False,
        ),
    ),
    text=(
        TextTrack(
            number=2, name="subrip", language="ja", label="日本語 \"<&>'", is_default=True, is_forced=True
        ),
    ),
    bit_rate=8_000_000,
    faststart=False,
    is_fragmented=True,
    is_encrypted=True,
    has_external_data=True,
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    opened = open_intake(tmp_path)
    accounts.add(opened.database, "alice", PASSWORD)
    yield opened
    opened.database.close()


MakeOld = Callable[..., Video]


@pytest.fixture
def make_old(intake: Intake) -> MakeOld:
    """Adds a video as a version did that looked into none."""

    def make(data: bytes | None, mime_type: str = "video/mp4") -> Video:
        file_path = f"videos/{Video.select().count(intake.database)}"
        if data is not None:
            intake.storage.path(file_path).write_bytes(data)
        video = videos.add(
            intake.database,
            1,
            title="",
            description="",
            filename="",
            file_path=file_path,
            mime_type=mime_type,
            size=len(data or b""),
            sha256="",
            media=None,
            quota_bytes=None,
        )
        Video.update(read_by=0).where(Video.id == video.id).execute(intake.database)
        return video

    return make


def found(intake: Intake) -> list[tuple[bool, int]]:
    query = Video.select().order_by(Video.id).execute(intake.database)
    return [(video.media is not None, video.read_by) for video in query]


def read_missing(intake: Intake) -> None:
    facts.read_missing(intake.database, intake.storage)


@pytest.mark.parametrize("media", [FULL, Media(duration=None), Media(duration=0.0, audio=FULL.audio)])
def test_facts_come_back_as_they_were_kept(media: Media) -> None:
    text = facts.to_json(media)
    assert text is not None
    assert facts.parse(text) == media


def test_nothing_known_is_kept_as_nothing() -> None:
    assert facts.to_json(None) is None


@pytest.mark.parametrize("mime_type", ["video/mp4", "video/x-matroska", "video/x-msvideo", "video/mp2t"])
def test_bytes_that_cannot_be_read_tell_nothing(mime_type: str) -> None:
    data = video_bytes(1000)
    source = Source(lambda size, position: data[position : position + size], len(data))
    assert facts.read(mime_type, source) is None


def test_videos_that_were_there_before_are_looked_into(
    intake: Intake, make_old: MakeOld, films: Path
) -> None:
    make_old(film(films, "plays.mp4").read_bytes())
    make_old(film(films, "wrapped.mkv").read_bytes(), "video/x-matroska")
    read_missing(intake)
    assert found(intake) == [(True, facts.VERSION)] * 2
    for video in Video.select().execute(intake.database):
        path = intake.storage.path(video.file_path)
        media = facts.of(video)
        assert media is not None
        ffprobe.assert_agrees(media, ffprobe.probe(path))


def test_looking_changes_nothing_else(intake: Intake, make_old: MakeOld, films: Path) -> None:
    before = make_old(film(films, "plays.mp4").read_bytes()).__data__
    read_missing(intake)
    after = Video.select().get(intake.database).__data__
    assert {name for name in after if after[name] != before[name]} == {"media"}


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_all_are_looked_into_once(
    intake: Intake, make_old: MakeOld, films: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(facts, "BATCH", batch)
    data = film(films, "plays.mp4").read_bytes()
    for content in (data, None, video_bytes(1000), b"", data):
        make_old(content)
    read_missing(intake)
    readable = (True, facts.VERSION)
    unreadable = (False, facts.VERSION)
    gone = (False, 0)
    assert found(intake) == [readable, gone, unreadable, unreadable, readable]
    Video.update(media=None).execute(intake.database)
    read_missing(intake)
    assert found(intake) == [unreadable, gone, unreadable, unreadable, unreadable]


def test_what_takes_too_long_goes_on_the_next_time(
    intake: Intake, make_old: MakeOld, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "BATCH", 2)
    ticks, read = Ticks(), facts.read
    monkeypatch.setattr(time, "monotonic", ticks.monotonic)

    def read_slowly(mime_type: str, source: Source) -> Media | None:
        ticks.time += 1
        return read(mime_type, source)

    monkeypatch.setattr(facts, "read", read_slowly)
    data = film(films, "plays.mp4").read_bytes()
    for _ in range(7):
        make_old(data)
    for count in (4, 7):
        facts.read_missing(intake.database, intake.storage, ticks.time + 3)
        assert [has_facts for has_facts, _ in found(intake)] == [True] * count + [False] * (7 - count)


def test_file_that_is_gone_is_told_of_and_keeps_nobody_waiting(
    intake: Intake, make_old: MakeOld, films: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_old(None)
    make_old(film(films, "plays.mp4").read_bytes())
    read_missing(intake)
    assert [has_facts for has_facts, _ in found(intake)] == [False, True]
    assert "cannot look into video 1" in caplog.text


def test_what_an_earlier_version_could_read_and_this_one_cannot_stays_known(
    intake: Intake, make_old: MakeOld
) -> None:
    video = make_old(video_bytes(1000))
    Video.update(media=facts.to_json(FULL)).where(Video.id == video.id).execute(intake.database)
    read_missing(intake)
    [row] = Video.select().execute(intake.database)
    assert (facts.of(row), row.read_by) == (FULL, facts.VERSION)


def test_file_that_the_disk_cannot_read_now_is_read_later_and_keeps_no_other_waiting(
    intake: Intake, make_old: MakeOld, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = film(films, "plays.mp4").read_bytes()
    bad = make_old(data)
    make_old(data)
    pread, path = os.pread, str(intake.storage.path(bad.file_path))

    def fail(descriptor: int, size: int, position: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{descriptor}") == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, size, position)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        read_missing(intake)
    assert found(intake) == [(False, 0), (True, facts.VERSION)]
    read_missing(intake)
    assert found(intake) == [(True, facts.VERSION)] * 2


def test_container_of_a_video_is_that_of_its_media_type() -> None:
    assert facts.container_of(Video(mime_type="video/x-matroska")).name == "Matroska"
