"""From the upload to what browsers play: a real server, a real worker, the real ffmpeg."""

import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.containers import ffprobe
from tests.ffmpeg import clips
from tests.live import films
from tests.live.conftest import StartServer, StartWorker
from tests.live.harness import PASSWORD, Server, eventually, needs_proc, sha256, stream_path

pytestmark = needs_proc  # which tells of the programs that run

GONE_SECONDS = 3.0
MADE = re.compile(r"made the (\w+) of video (\d+) in ")


@dataclass(frozen=True)
class Kind:
    """A kind of film, and what is to be told and made of it."""

    make: Callable[[Path], Path]
    codecs: str
    size: tuple[int, int] | None = (films.WIDTH, films.HEIGHT)
    colours: list[clips.Colour] = field(default_factory=lambda: films.UPRIGHT)
    browsers: str = "chrome firefox safari"
    remedy: str = "none"
    copied: str = ""
    """The streams of the variant that are those of the original: ``v``, ``a``."""

    has_facts_at_once: bool = True

    @property
    def steps(self) -> set[str]:
        """Of the work on it."""
        steps = {"poster", "storyboard"} if self.size else set()
        if self.make is films.disc:
            steps.add("captions")
        if not self.has_facts_at_once:
            steps.add("probe")
        return steps | ({"variant"} if self.remedy != "none" else set())


KINDS = {
    "MP4": Kind(films.faststart, "h264 aac"),
    "index last": Kind(films.index_last, "h264 aac", remedy="faststart", copied="va"),
    "phone": Kind(
        films.phone,
        "hevc aac",
        size=(films.HEIGHT, films.WIDTH),
        colours=films.TURNED,
        browsers="safari",
        remedy="transcode",
        copied="a",
    ),
    "Matroska": Kind(films.matroska, "h264 aac", browsers="chrome", remedy="remux", copied="va"),
    "AC-3": Kind(films.disc, "h264 ac3", browsers="", remedy="audio", copied="v"),
    "AVI": Kind(films.old, "mpeg4 mp3", browsers="", remedy="transcode", has_facts_at_once=False),
    "sound": Kind(films.sound, "aac", size=None),
}
SEEN = [name for name, kind in KINDS.items() if kind.size]
PLAYED_BY_VARIANT = [name for name, kind in KINDS.items() if kind.remedy != "none"]


@dataclass(frozen=True)
class Shelf:
    """A server that has been given a film of every kind, and has done all that it wanted to."""

    server: Server
    folder: Path
    originals: dict[str, bytes]
    at_first: dict[str, dict[str, Any]]
    """What the 201 told."""

    in_the_end: dict[str, dict[str, Any]]

    def save(self, name: str, link: str) -> Path:
        """A file with what is behind a link of a film."""
        return films.saved(self.server, self.in_the_end[name]["links"][link], self.folder / f"{name}.{link}")

    def original(self, name: str) -> Path:
        path = self.folder / f"{name}.original"
        path.write_bytes(self.originals[name])
        return path


@pytest.fixture(scope="module")
def shelf(start_shared_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    ffprobe.require_ffmpeg()
    server = start_shared_server(STREAMER_FFMPEG="auto")
    folder = tmp_path_factory.mktemp("films")
    originals = {name: kind.make(folder).read_bytes() for name, kind in KINDS.items()}
    at_first = {}
    for name, data in originals.items():
        answer = server.api.send_video(data, len(data), f"?filename={KINDS[name].make.__name__}")
        assert answer.status == 201, answer
        at_first[name] = answer.json
    in_the_end = {name: films.finished(server, known["id"]) for name, known in at_first.items()}
    return Shelf(server, folder, originals, at_first, in_the_end)


def streams(path: Path) -> dict[str, Any]:
    """What ffprobe says of the streams of a file, by their kinds."""
    return {stream["codec_type"]: stream for stream in ffprobe.probe(path)["streams"]}


def assert_shows(path: Path, colours: list[clips.Colour], size: tuple[int, int], most: int = 30) -> None:
    """A picture, or the first one of a film, is upright and of this size."""
    assert clips.rgb(path)[:2] == size
    found = clips.colours(path)
    assert all(clips.are_near(*pair, most) for pair in zip(found, colours, strict=True)), found


def assert_all_is_told(video: dict[str, Any], kind: Kind) -> None:
    media = video["media"]
    assert media["duration"] == pytest.approx(films.SECONDS, abs=0.15)
    assert kind.codecs.split() == [media[key] for key in ("video_codec", "audio_codec") if media[key]]
    assert (media["width"], media["height"]) == (kind.size or (None, None))
    assert media["rotation"] == (90 if kind.make is films.phone else 0 if kind.size else None)


@pytest.mark.parametrize("name", KINDS)
def test_the_answer_to_the_upload_tells_what_is_in_it_and_whether_it_plays(shelf: Shelf, name: str) -> None:
    kind, video = KINDS[name], shelf.at_first[name]
    if kind.has_facts_at_once:
        assert_all_is_told(video, kind)
    else:
        assert video["media"] is None
    playable = video["playable"]
    assert [browser for browser, plays in playable["browsers"].items() if plays] == kind.browsers.split()
    assert (playable["direct"], playable["remedy"]) == (len(kind.browsers.split()) == 3, kind.remedy)
    assert video["status"] == ("processing" if kind.steps else "ready")


@pytest.mark.parametrize("name", KINDS)
def test_in_the_end_it_is_ready_and_nothing_else_was_done(shelf: Shelf, name: str) -> None:
    kind, video = KINDS[name], shelf.in_the_end[name]
    assert (video["status"], video["error"], video["processing"]) == ("ready", None, None)
    assert_all_is_told(video, kind)
    assert films.jobs_of(shelf.server, video["id"]) == dict.fromkeys(kind.steps, "done")


@pytest.mark.parametrize("name", KINDS)
def test_the_original_stays_as_it_came(shelf: Shelf, name: str) -> None:
    video = shelf.in_the_end[name]
    answer = shelf.server.api.get(stream_path(video["id"]))
    assert (answer.status, answer.headers["content-type"]) == (200, video["mime_type"])
    assert sha256(answer.body) == sha256(shelf.originals[name])


@pytest.mark.parametrize("name", SEEN)
def test_the_poster_is_upright_and_not_larger_than_the_film(shelf: Shelf, name: str) -> None:
    kind = KINDS[name]
    assert kind.size
    poster = shelf.save(name, "poster")
    assert poster.read_bytes().startswith(b"\xff\xd8\xff")
    assert_shows(poster, kind.colours, kind.size)


def test_sound_alone_has_a_placeholder(shelf: Shelf) -> None:
    links = shelf.in_the_end["sound"]["links"]
    assert links["poster"].endswith("/poster.svg")
    assert "storyboard" not in links
    assert shelf.save("sound", "poster").read_bytes().startswith(b"<svg ")


@pytest.mark.parametrize("name", SEEN)
def test_every_tile_of_the_storyboard_is_inside_of_its_picture(shelf: Shelf, name: str) -> None:
    kind, video = KINDS[name], shelf.in_the_end[name]
    text = shelf.save(name, "storyboard").read_text()
    cue = r"(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)"
    cues = re.findall(cue, text)
    assert len(cues) == text.count("-->") == films.SECONDS
    assert [begin for begin, *_ in cues[1:]] == [end for _, end, *_ in cues[:-1]]
    [image] = {url for _, _, url, *_ in cues}
    link = video["links"]["storyboard"].replace("storyboard.vtt", image)  # as a player resolves it
    picture = films.saved(shelf.server, link, shelf.folder / f"{name}.tiles")
    width, height, _ = clips.rgb(picture)
    for _, _, _, *numbers in cues:
        x, y, w, h = map(int, numbers)
        assert (w, h) == kind.size
        assert x + w <= width
        assert y + h <= height
    tile = films.cropped(picture, tuple(map(int, cues[0][3:])), shelf.folder / f"{name}.tile")
    assert_shows(tile, kind.colours, kind.size or (0, 0), 40)


@pytest.mark.parametrize("name", PLAYED_BY_VARIANT)
def test_the_variant_is_what_browsers_play(shelf: Shelf, name: str) -> None:
    kind = KINDS[name]
    assert shelf.in_the_end[name]["links"]["play"].endswith("/stream?variant=web")
    path = shelf.save(name, "play")
    found = streams(path)
    assert {key: stream["codec_name"] for key, stream in found.items()} == {"video": "h264", "audio": "aac"}
    assert found["video"]["pix_fmt"] == "yuv420p"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "a player would have to ask for the end first"
    assert_shows(path, kind.colours, kind.size or (0, 0), 40)


@pytest.mark.parametrize("name", PLAYED_BY_VARIANT)
def test_what_plays_is_copied_and_not_encoded_again(shelf: Shelf, name: str) -> None:
    variant, original = shelf.save(name, "play"), shelf.original(name)
    for stream in "va":
        is_same = films.packets(variant, stream) == films.packets(original, stream)
        assert is_same == (stream in KINDS[name].copied), stream


@pytest.mark.parametrize("name", sorted(set(KINDS) - set(PLAYED_BY_VARIANT)))
def test_what_plays_as_it_is_has_no_variant(shelf: Shelf, name: str) -> None:
    video = shelf.in_the_end[name]
    assert video["links"]["play"] == video["links"]["stream"]
    assert shelf.server.api.get(f"{stream_path(video['id'])}?variant=web").status == 404


@pytest.mark.parametrize("name", PLAYED_BY_VARIANT)
def test_ranges_work_on_the_variant(shelf: Shelf, name: str) -> None:
    video, whole = shelf.in_the_end[name], shelf.save(name, "play").read_bytes()
    path = f"{stream_path(video['id'])}?variant=web"
    for text, wanted in (
        ("bytes=0-1", whole[:2]),
        ("bytes=100-999", whole[100:1000]),
        ("bytes=-7", whole[-7:]),
    ):
        answer = shelf.server.api.get(path, {"Range": text})
        assert (answer.status, answer.body) == (206, wanted)
        assert answer.headers["content-type"] == "video/mp4"


def test_captions_of_the_file_are_webvtt(shelf: Shelf) -> None:
    [caption] = shelf.in_the_end["AC-3"]["captions"]
    assert (caption["language"], caption["label"], caption["source"]) == ("de", "Für alle", "file")
    text = films.saved(shelf.server, caption["url"], shelf.folder / "captions.vtt").read_text(
        encoding="utf-8"
    )
    # the sound begins some milliseconds before the pictures, and everything with it
    assert re.fullmatch(r"WEBVTT\n\n00:00:00.50\d --> 00:00:01.50\d\nGrüße aus Köln\n", text)


def test_all_that_was_made_is_whole_and_nothing_else_is_left(shelf: Shelf) -> None:
    films.assert_whole(shelf.server)


def test_it_tells_which_ffmpeg_it_has(shelf: Shelf) -> None:
    health = shelf.server.api.get("/health").json
    assert health["ffmpeg"]["h264"] is True
    assert f"made by ffmpeg {health['ffmpeg']['version']} " in shelf.server.log


# while it is done


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film of a quarter of an hour, whose transcoding no test waits for."""
    return films.long(tmp_path_factory.mktemp("long"), 900).read_bytes()


@pytest.fixture
def server(start_server: StartServer) -> Iterator[Server]:
    """A server that makes variants; in the end no program of its has outlived it."""
    ffprobe.require_ffmpeg()
    server = start_server(STREAMER_FFMPEG="auto", STREAMER_STORYBOARDS="off")
    yield server
    server.finish()
    assert films.programs(server.data) == []


def test_progress_is_told_while_a_variant_is_made(server: Server, long_film: bytes) -> None:
    video_id = server.api.upload(long_film)
    told: list[dict[str, Any]] = []

    def is_growing() -> bool:
        processing = films.video(server, video_id)["processing"]
        if processing["step"] == "variant" and processing["percent"] and processing not in told:
            told.append(processing)
        return len(told) >= 3

    eventually(is_growing, "progress is told", films.WAIT_SECONDS)
    percents = [processing["percent"] for processing in told]
    assert percents == sorted(set(percents))
    assert percents[-1] < 100
    assert all(processing["eta"] > 0 for processing in told)
    assert server.api.delete(video_id).status == 204


def test_the_poster_of_a_new_film_does_not_wait_for_a_transcode(
    server: Server, long_film: bytes, tmp_path: Path
) -> None:
    video_id = server.api.upload(long_film)
    films.wait_for_ffmpeg(server, "variant")
    other = films.finished(server, server.api.upload(films.faststart(tmp_path).read_bytes()))
    assert (other["status"], other["links"]["poster"][-4:]) == ("ready", ".jpg")
    assert films.jobs_of(server, video_id)["variant"] == "running"
    assert server.api.delete(video_id).status == 204


def test_one_that_is_told_to_end_gives_its_work_back_and_the_next_start_finishes_it(
    server: Server, tmp_path: Path
) -> None:
    video_id = server.api.upload(films.long(tmp_path, 30).read_bytes())
    films.wait_for_ffmpeg(server, "variant")
    server.stop()  # asserts status 0
    assert films.programs(server.data) == []
    assert films.leftovers(server) == []
    assert films.jobs_of(server, video_id)["variant"] == "queued"
    assert server.query("SELECT attempts FROM job WHERE step = 'variant'") == [(0,)]
    server.start()
    assert films.finished(server, video_id)["status"] == "ready"
    films.assert_whole(server)


def delete_video(server: Server, video_id: int) -> int:
    return server.api.delete(video_id).status


def delete_account(server: Server, video_id: int) -> int:
    fields = {"Content-Type": "application/json"}
    return server.api.request(
        "DELETE", "/api/auth/me", json.dumps({"password": PASSWORD}).encode(), fields
    ).status


@pytest.mark.parametrize("delete", [delete_video, delete_account])
def test_what_is_deleted_is_not_worked_on_and_leaves_nothing(
    server: Server, long_film: bytes, delete: Callable[[Server, int], int]
) -> None:
    video_id = server.api.upload(long_film)
    films.wait_for_ffmpeg(server, "variant")
    eventually(lambda: bool(list((server.data / "derived").iterdir())), "there is a poster")
    assert delete(server, video_id) == 204
    eventually(lambda: not films.programs(server.data), "ffmpeg has ended", GONE_SECONDS)
    folders = [server.data / name for name in ("videos", "derived", "scratch", "incoming")]
    eventually(lambda: not any(list(folder.iterdir()) for folder in folders), "nothing is left", GONE_SECONDS)
    server.assert_consistent()


# who does it


def test_a_worker_beside_a_server_without_one_does_its_work(
    start_server: StartServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    server = start_server(STREAMER_FFMPEG="auto", STREAMER_WORKERS="0")
    video_id = server.api.upload(films.matroska(tmp_path).read_bytes())
    assert films.video(server, video_id)["status"] == "processing"
    worker = start_worker(server)
    assert films.finished(server, video_id)["links"]["play"].endswith("?variant=web")
    assert not MADE.search(server.log)
    assert {step for step, _ in MADE.findall(worker.log)} == {"poster", "storyboard", "variant"}
    films.assert_whole(server)


def test_of_three_workers_on_one_folder_none_does_what_another_does(
    start_server: StartServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    ffprobe.require_ffmpeg()
    server = start_server(STREAMER_FFMPEG="auto")
    workers = [server, start_worker(server), start_worker(server)]
    kinds = (films.matroska, films.index_last, films.faststart, films.disc)
    video_ids = [server.api.upload(films.data_of(make, tmp_path)) for make in kinds * 2]
    assert {films.finished(server, video_id)["status"] for video_id in video_ids} == {"ready"}
    made = Counter(pair for worker in workers for pair in MADE.findall(worker.log))
    assert set(made.values()) == {1}
    assert len(made) == server.query("SELECT count(*) FROM job")[0][0]
    assert sum(bool(MADE.search(worker.log)) for worker in workers) >= 2
    films.assert_whole(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_end_does_so_and_gives_its_work_back(
    start_server: StartServer, start_worker: StartWorker, long_film: bytes, number: signal.Signals
) -> None:
    server = start_server(STREAMER_FFMPEG="auto", STREAMER_WORKERS="0")
    video_id = server.api.upload(long_film)
    worker = start_worker(server, STREAMER_STORYBOARDS="off")
    films.wait_for_ffmpeg(server, "poster")
    worker.stop(number)  # asserts status 0
    assert films.programs(server.data) == []
    assert films.leftovers(server) == []
    assert "running" not in films.jobs_of(server, video_id).values()


# without ffmpeg


def test_without_ffmpeg_a_video_is_ready_at_once_and_gets_its_poster_when_there_is_one(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    data = films.phone(tmp_path).read_bytes()
    answer = server.api.send_video(data, len(data))
    assert answer.json["status"] == "ready"
    assert_all_is_told(answer.json, KINDS["phone"])
    assert answer.json["playable"]["remedy"] == "transcode"
    assert answer.json["links"]["poster"].endswith("/poster.svg")
    placeholder = server.api.get(f"/api/videos/{answer.json['id']}/poster.jpg")
    assert placeholder.headers["content-type"] == "image/svg+xml"
    assert b'width="960" height="1280"' in placeholder.body
    assert server.api.get("/health").json["ffmpeg"] is None
    server.stop()
    # whose housekeeping runs every second
    later = start_server(data=server.data, STREAMER_FFMPEG="auto", STREAMER_UPLOAD_TTL="2")
    planned = "SELECT id FROM job"
    eventually(lambda: bool(later.query(planned)), "the work is planned", films.WAIT_SECONDS)
    video = films.finished(later, answer.json["id"])
    assert video["links"]["poster"].endswith("/poster.jpg")
    assert video["links"]["play"].endswith("?variant=web")
    films.assert_whole(later)
