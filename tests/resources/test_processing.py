"""What is told of a video beside its details: what is in it, whether it plays, what is made of it."""

import base64
import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamer import derived, jobs
from streamer.app import Application
from streamer.containers.media import AudioTrack, Media, VideoTrack
from streamer.models import Job
from tests.concurrency import at_once
from tests.conftest import MakeApp
from tests.derived import (
    PICTURES,
    SOUND,
    UNUSUAL,
    USUAL,
    derived_files,
    give,
    give_captions,
    give_posters,
    tell,
)
from tests.helpers import Client, video_bytes
from tests.live.harness import require
from tests.wsgi import call, database_of

VIDEO = "/api/videos/1"
STREAM = f"{VIDEO}/stream"
WEB = f"{STREAM}?variant=web"
RETRY = f"{VIDEO}/retry"
VARIANT = video_bytes(5000, seed=7)


@pytest.fixture
def owner(app: Application, alice: Client) -> Client:
    """A client with one video, which has the id 1."""
    alice.upload(video_bytes(), "a clip.mkv", status=201)
    return alice


def shown(client: Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get(VIDEO, status=200).json
    [listed] = client.get("/api/videos", status=200).json["data"]
    assert listed == document
    return document


def enqueue(app: Application, *steps: str) -> None:
    database = database_of(app)
    with database.atomic():
        for step in steps:
            jobs.enqueue(database, 1, step)
        jobs.settle(database, 1)


def claim(app: Application) -> Job:
    job = jobs.claim(database_of(app), "0" * 32)
    assert job is not None
    return job


def fail(app: Application, code: str, detail: str) -> None:
    """Let the next job fail for good."""
    assert jobs.fail(database_of(app), claim(app), code, detail, is_final=True)


# --- what is in it, and whether it plays


def test_nothing_is_told_of_what_cannot_be_read(owner: Client) -> None:
    document = shown(owner)
    assert [document[name] for name in ("media", "playable", "processing", "error")] == [None] * 4
    assert document["captions"] == []
    assert set(document["links"]) == {"self", "stream", "poster"}


FACTS = {
    "duration": 60.0,
    "width": 1920,
    "height": 1080,
    "video_codec": "h264",
    "audio_codec": "aac",
    "codecs": "avc1.640028, mp4a.40.2",
    "bit_rate": None,
    "frame_rate": None,
    "rotation": 0,
    "faststart": True,
    "bit_depth": None,
    "dynamic_range": None,
    "truncated": False,
}
NO_PICTURES = dict.fromkeys(
    ["width", "height", "video_codec", "frame_rate", "rotation", "bit_depth", "dynamic_range"]
)
SECOND = replace(PICTURES, number=2, name="hevc", codec="hvc1.1.6.L93.B0")


@pytest.mark.parametrize(
    ("media", "facts"),
    [
        (USUAL, {}),
        (replace(USUAL, duration=1.23456789, bit_rate=5), {"duration": 1.235, "bit_rate": 5}),
        (replace(USUAL, duration=None, faststart=None), {"duration": None, "faststart": None}),
        (replace(USUAL, is_truncated=True), {"truncated": True}),
        (replace(USUAL, audio=()), {"audio_codec": None, "codecs": "avc1.640028"}),
        (replace(USUAL, video=()), NO_PICTURES | {"codecs": "mp4a.40.2"}),
        (replace(USUAL, video=(), audio=()), NO_PICTURES | {"audio_codec": None, "codecs": None}),
        (replace(USUAL, audio=(replace(SOUND, codec=None),)), {"codecs": None}),
        (
            replace(USUAL, video=(replace(PICTURES, is_default=False), SECOND)),
            {"video_codec": "hevc", "codecs": "hvc1.1.6.L93.B0, mp4a.40.2"},
        ),
        (
            replace(USUAL, video=tuple(replace(track, is_default=False) for track in (PICTURES, SECOND))),
            {},
        ),
        (
            replace(
                USUAL,
                video=(
                    replace(PICTURES, rotation=90, frame_rate=30000 / 1001, bit_depth=10, dynamic_range="pq"),
                ),
            ),
            {"rotation": 90, "frame_rate": 29.97, "bit_depth": 10, "dynamic_range": "pq"},
        ),
    ],
)
def test_the_facts_are_those_of_the_tracks_that_play(
    app: Application, owner: Client, media: Media, facts: dict[str, Any]
) -> None:
    tell(app, media)
    assert shown(owner)["media"] == FACTS | facts


def test_the_verdict_is_told(app: Application, owner: Client) -> None:
    tell(app, USUAL)
    assert shown(owner)["playable"] == {
        "direct": True,
        "reason": "plays everywhere",
        "browsers": {"chrome": True, "firefox": True, "safari": True},
        "remedy": "none",
    }
    tell(app, UNUSUAL)
    verdict = shown(owner)["playable"]
    assert (verdict["direct"], verdict["remedy"]) == (False, "transcode")
    tell(app, None, "video/x-msvideo")
    assert shown(owner)["media"] is None
    assert shown(owner)["playable"]["direct"] is False, "which is known of the container alone"


@pytest.mark.parametrize("media", [USUAL, replace(USUAL, faststart=False), UNUSUAL])
def test_the_verdict_on_a_truncated_file_says_so_and_is_the_same_otherwise(
    app: Application, owner: Client, media: Media
) -> None:
    tell(app, media, "video/mp4")
    verdict = shown(owner)["playable"]
    tell(app, replace(media, is_truncated=True), "video/mp4")
    reason = f"{verdict['reason']}; the end of the file is missing"
    assert shown(owner)["playable"] == verdict | {"reason": reason}


def test_what_browsers_play_is_linked(app: Application, owner: Client) -> None:
    tell(app, USUAL)
    assert shown(owner)["links"]["play"] == f"http://localhost:80{STREAM}"
    tell(app, UNUSUAL)
    assert "play" not in shown(owner)["links"]
    give(app, derived.VARIANT, "web", "video/mp4", VARIANT)
    assert shown(owner)["links"]["play"] == f"http://localhost:80{WEB}"
    tell(app, USUAL)
    assert shown(owner)["links"]["play"] == f"http://localhost:80{WEB}"


def test_a_real_file_is_known_when_its_upload_ends(alice: Client, tmp_path: Path) -> None:
    program = shutil.which("ffmpeg")
    require(program is not None, "needs ffmpeg")
    clip = tmp_path / "clip.mp4"
    source = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=64x48:rate=10:duration=1",
        "-f",
        "lavfi",
        "-i",
        "sine=duration=1",
    ]
    codecs = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "ultrafast", "-c:a", "aac"]
    command = [str(program), "-v", "error", *source, *codecs, "-movflags", "+faststart", str(clip)]
    subprocess.run(command, check=True)
    document = alice.upload(clip.read_bytes(), status=201).json
    assert document["status"] == "ready"
    media = document["media"]
    assert media["duration"] == pytest.approx(1.0, abs=0.1)
    assert (media["width"], media["height"], media["frame_rate"]) == (64, 48, 10.0)
    assert (media["video_codec"], media["audio_codec"], media["faststart"]) == ("h264", "aac", True)
    assert media["codecs"].startswith("avc1.")
    assert media["codecs"].endswith(", mp4a.40.2")
    assert document["playable"]["direct"]
    assert document["links"]["play"] == document["links"]["stream"]
    assert alice.get(VIDEO).json == document


# --- what is made of it


def test_progress_is_that_of_the_running_step_else_of_the_next(app: Application, owner: Client) -> None:
    enqueue(app, jobs.STORYBOARD, jobs.POSTER)
    assert shown(owner)["status"] == "processing"
    assert shown(owner)["processing"] == {"step": "poster", "percent": None, "eta": None}
    job = claim(app)
    assert shown(owner)["processing"] == {"step": "poster", "percent": None, "eta": None}
    jobs.beat(database_of(app), job, 33.33333, 4.56789)
    assert shown(owner)["processing"] == {"step": "poster", "percent": 33.3, "eta": 4.6}
    jobs.finish(database_of(app), job)
    assert shown(owner)["processing"] == {"step": "storyboard", "percent": None, "eta": None}
    jobs.finish(database_of(app), claim(app))
    assert (shown(owner)["processing"], shown(owner)["status"]) == (None, "ready")


def test_the_error_is_that_of_the_first_step_that_failed(app: Application, owner: Client) -> None:
    enqueue(app, jobs.VARIANT, jobs.POSTER, jobs.STORYBOARD)
    fail(app, "timed_out", "")
    fail(app, "ffmpeg_failed", "the file: Invalid data")
    assert shown(owner)["status"] == "processing"
    assert shown(owner)["error"] == {"step": "poster", "code": "timed_out", "detail": ""}
    jobs.finish(database_of(app), claim(app))
    document = shown(owner)
    assert (document["status"], document["processing"]) == ("failed", None)
    assert document["error"] == {"step": "poster", "code": "timed_out", "detail": ""}
    assert owner.get(STREAM, status=200).body == video_bytes()


def test_a_step_that_is_tried_again_later_has_not_failed(app: Application, owner: Client) -> None:
    enqueue(app, jobs.POSTER)
    jobs.fail(database_of(app), claim(app), "timed_out", "")
    document = shown(owner)
    assert (document["status"], document["error"]) == ("processing", None)
    assert document["processing"]["step"] == "poster"


def test_the_entity_tag_covers_all_that_is_told(app: Application, owner: Client) -> None:
    tags = [owner.get(VIDEO).headers["ETag"]]

    def look() -> None:
        tags.append(owner.get(VIDEO, {"If-None-Match": tags[-1]}, status=200).headers["ETag"])
        owner.get(VIDEO, {"If-None-Match": tags[-1]}, status=304)

    tell(app, USUAL)
    look()
    enqueue(app, jobs.POSTER)
    look()
    jobs.beat(database_of(app), claim(app), 50.0, 1.0)
    look()
    give_posters(app, 160)
    look()
    give_captions(app, "0")
    look()
    give(app, derived.VARIANT, "web", "video/mp4", VARIANT)
    look()
    assert len(set(tags)) == len(tags)


def test_an_answer_to_an_upload_is_the_video_as_it_is(studio: Application) -> None:
    client = Client(studio).sign_up("alice")
    answer = client.upload(video_bytes(), status=201)
    assert answer.json == shown(client)
    assert answer.headers["ETag"] == client.get(VIDEO).headers["ETag"]


# --- trying again


def test_what_has_failed_is_tried_again(studio: Application) -> None:
    client = Client(studio).sign_up("alice")
    client.upload(video_bytes(), status=201)
    enqueue(studio, jobs.POSTER, jobs.STORYBOARD)
    jobs.finish(database_of(studio), claim(studio))
    fail(studio, "timed_out", "")
    answer = client.post(RETRY, status=202)
    assert (answer.json["status"], answer.json["error"]) == ("processing", None)
    assert answer.json["processing"] == {"step": "storyboard", "percent": None, "eta": None}
    assert answer.json == shown(client)
    assert answer.headers["ETag"] == client.get(VIDEO).headers["ETag"]
    job = claim(studio)
    assert (job.step, job.attempts) == ("storyboard", 1)


def test_nothing_is_tried_again_that_has_not_failed(app: Application, owner: Client) -> None:
    for steps in ((), (jobs.POSTER,)):
        enqueue(app, *steps)
        assert owner.post(RETRY, status=409).json["code"] == "nothing_failed"


def test_nothing_is_tried_again_without_ffmpeg(app: Application, owner: Client) -> None:
    enqueue(app, jobs.POSTER)
    fail(app, "timed_out", "")
    assert owner.post(RETRY, status=501).json["code"] == "ffmpeg_missing"
    assert shown(owner)["status"] == "failed"


def test_of_two_retries_one_does_it(studio: Application) -> None:
    client = Client(studio).sign_up("alice")
    client.upload(video_bytes(), status=201)
    enqueue(studio, jobs.POSTER)
    fail(studio, "timed_out", "")

    def retry() -> int:
        with database_of(studio).connection_context():
            return int(client.post(RETRY).status_int)

    assert sorted(map(int, at_once(retry, retry))) == [202, 409]  # type: ignore[arg-type]


def test_a_retry_with_a_condition_is_made_only_when_it_holds(studio: Application) -> None:
    client = Client(studio).sign_up("alice")
    client.upload(video_bytes(), status=201)
    before = client.get(VIDEO).headers["ETag"]
    enqueue(studio, jobs.POSTER)
    fail(studio, "timed_out", "")
    client.post(RETRY, headers={"If-Match": before}, status=412)
    assert shown(client)["status"] == "failed"
    client.post(RETRY, headers={"If-Match": client.get(VIDEO).headers["ETag"]}, status=202)


def test_another_user_tries_nothing_again(app: Application, owner: Client, bob: Client) -> None:
    enqueue(app, jobs.POSTER)
    fail(app, "timed_out", "")
    assert bob.post(RETRY, status=404).json["detail"] == "there is no such video"
    assert shown(owner)["status"] == "failed"


# --- the variant


def test_the_variant_is_streamed_as_the_original_is(app: Application, owner: Client) -> None:
    missing = owner.get(WEB, status=404).json
    assert (missing["code"], missing["detail"]) == (
        "not_found",
        "the video has no variant of this name, or not yet",
    )
    give(app, derived.VARIANT, "web", "video/mp4", VARIANT)
    whole = owner.get(WEB, status=200)
    assert whole.body == VARIANT
    assert whole.headers["Content-Type"] == "video/mp4"
    assert whole.headers["Content-Disposition"] == 'inline; filename="a clip.mp4"'
    assert whole.headers["Content-Security-Policy"] == "sandbox"
    assert "Last-Modified" in whole.headers
    assert "Repr-Digest" not in whole.headers
    etag = whole.headers["ETag"]
    assert owner.get(WEB, {"Range": "bytes=5-9", "If-Range": etag}, status=206).body == VARIANT[5:10]
    assert owner.get(WEB, {"Range": "bytes=-5"}, status=206).body == VARIANT[-5:]
    several = owner.get(WEB, {"Range": "bytes=0-9,100-109"}, status=206)
    assert several.headers["Content-Type"].startswith("multipart/byteranges")
    owner.get(WEB, {"Range": "bytes=5000-"}, status=416)
    owner.get(WEB, {"If-None-Match": etag}, status=304)
    owner.get(WEB, {"If-Match": '"other"'}, status=412)
    assert owner.head(WEB, status=200).headers["Content-Length"] == "5000"
    download = owner.get(f"{WEB}&download=1", status=200)
    assert download.headers["Content-Disposition"] == 'attachment; filename="a clip.mp4"'
    original = owner.get(STREAM, status=200)
    digest = base64.b64encode(hashlib.sha256(video_bytes()).digest()).decode()
    assert original.body == video_bytes()
    assert original.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert original.headers["ETag"] != etag


def test_the_name_of_the_variant_ends_as_its_container_does(app: Application, owner: Client) -> None:
    give(app, derived.VARIANT, "web", "video/webm", VARIANT)
    download = owner.get(f"{WEB}&download=1", status=200)
    assert download.headers["Content-Type"] == "video/webm"
    assert download.headers["Content-Disposition"] == 'attachment; filename="a clip.webm"'


@pytest.mark.parametrize("variant", ["", "WEB", "original", "web&variant=web", "../web", "%00", "1" * 5000])
def test_another_variant_is_refused(app: Application, owner: Client, variant: str) -> None:
    give(app, derived.VARIANT, "web", "video/mp4", VARIANT)
    problem = owner.get(f"{STREAM}?variant={variant}", status=422).json
    assert [error["field"] for error in problem["errors"]] == ["variant"]


def test_a_variant_is_left_to_the_server_in_front(make_app: MakeApp) -> None:
    app = make_app(sendfile="x-accel-redirect")
    client = Client(app).sign_up("alice")
    client.upload(video_bytes(), status=201)
    give(app, derived.VARIANT, "web", "video/mp4", VARIANT)
    [file] = (app.config.data / "derived").iterdir()
    answer = call(app, WEB, headers=client.headers | {"Range": "bytes=0-9"})
    assert (answer.status, answer.read()) == (200, b"")
    assert answer.fields["x-accel-redirect"] == f"/_streamer/derived/{file.name}"
    assert answer.fields["content-type"] == "video/mp4"


def test_a_variant_goes_with_its_video(app: Application, owner: Client, bob: Client) -> None:
    give(app, derived.VARIANT, "web", "video/mp4", VARIANT)
    assert bob.get(WEB, status=404).json == bob.get("/api/videos/999/stream?variant=web").json
    owner.delete(VIDEO, status=204)
    owner.get(WEB, status=404)
    assert derived_files(app) == []


# --- how much it costs


def test_a_list_makes_no_query_for_each_video(app: Application, alice: Client) -> None:
    for number in range(1, 6):
        alice.upload(video_bytes(), status=201)
        tell(app, USUAL, video_id=number)
        give(app, derived.POSTER, "160", "image/jpeg", b"x", video_id=number)
    assert [row["links"]["poster"][-4:] for row in alice.get("/api/videos").json["data"]] == [".jpg"] * 5
    counts = {queries_of(app, alice, f"/api/videos?limit={limit}") for limit in (1, 5)}
    assert counts == {4}


@pytest.mark.parametrize(
    "tail", ["stream", "stream?variant=web", "poster.jpg", "poster.jpg?w=160", "captions/0.vtt"]
)
def test_bytes_are_found_by_one_query(app: Application, owner: Client, tail: str) -> None:
    give_posters(app, 160, 320)
    give(app, derived.VARIANT, "web", "video/mp4", VARIANT)
    give_captions(app, "0")
    assert queries_of(app, owner, f"{VIDEO}/{tail}") == 1


def queries_of(app: Application, client: Client, url: str) -> int:
    """How many statements a GET runs."""
    database = database_of(app)
    connection: Any = database.connection()  # type: ignore[no-untyped-call]
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    try:
        client.get(url, status=200)
    finally:
        connection.set_trace_callback(None)
    return len(statements)


def test_the_kept_facts_are_json_that_a_program_can_read(app: Application, owner: Client) -> None:
    give_posters(app, 160)
    [row] = derived.of(database_of(app), [1])[1]
    assert json.loads(row.facts) == {"width": 160, "height": 90}


def test_tracks_of_any_name_are_told(app: Application, owner: Client) -> None:
    strange = VideoTrack(number=0, name="\u202e<b>", codec="x" * 500, width=1, height=1)
    tell(app, Media(duration=1e9, video=(strange,), audio=(AudioTrack(number=1, name="", codec=""),)))
    assert shown(owner)["media"]["video_codec"] == "\u202e<b>"
