"""Posters, placeholders and storyboards, and how a poster is chosen."""

import io
import json
from typing import Any
from xml.etree import ElementTree

import pytest
import webtest

from streamer import derived, jobs
from streamer.app import Application
from streamer.containers.media import Media, VideoTrack
from streamer.models import Derived, Job
from streamer.resources.pictures import MAX_IMAGE_BYTES, best_width
from streamer.storage import space
from tests.concurrency import at_once
from tests.conftest import Clock
from tests.derived import (
    JPEG,
    PICTURES,
    PNG,
    SOUND,
    USUAL,
    VTT,
    WEBP,
    derived_files,
    give,
    give_posters,
    poster,
    tell,
)
from tests.helpers import Client, video_bytes
from tests.wsgi import Answer, call, database_of, intake_of

VIDEO = "/api/videos/1"
POSTER = f"{VIDEO}/poster.jpg"
CHOICE = f"{VIDEO}/poster"
WIDTHS = (160, 320, 640, 854)


def jobs_of(app: Application) -> list[Job]:
    """The jobs that wait, but for what the server has no program for."""
    return list(Job.select().where(Job.state == "queued").execute(database_of(app)))


@pytest.fixture
def owner(app: Application, alice: Client) -> Client:
    """A client with one video, which has the id 1, and posters."""
    alice.upload(video_bytes(), "a clip.mp4", status=201)
    give_posters(app, *WIDTHS)
    return alice


# --- what is sent


@pytest.mark.parametrize(
    ("query", "width"),
    [("", 854), ("?w=160", 160), ("?w=320", 320), ("?w=640", 640), ("?w=1280", 854), ("?w=320&other=1", 320)],
)
def test_the_poster_is_at_least_as_wide_as_wanted(owner: Client, query: str, width: int) -> None:
    answer = owner.get(POSTER + query, status=200)
    assert answer.body == poster(width)
    assert answer.headers["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("widths", "wanted", "chosen"),
    [([200], 160, 200), ([200], 320, 200), ([160, 200], 320, 200), ([9, 90, 100], 100, 100), ([1], 1280, 1)],
)
def test_of_some_widths_the_best_is_chosen(widths: list[int], wanted: int, chosen: int) -> None:
    assert best_width(widths, wanted) == chosen


@pytest.mark.parametrize(
    "query",
    [
        "w=",
        "w=0",
        "w=-1",
        "w=1",
        "w=+160",
        "w=0160",
        "w=1e3",
        "w=160.0",
        "w=%D9%A1%D9%A6%D9%A0",
        "w=160&w=320",
        f"w={10**30}",
        "w=../../160",
    ],
)
def test_another_width_is_refused(owner: Client, query: str) -> None:
    problem = owner.get(f"{POSTER}?{query}", status=422).json
    assert [error["field"] for error in problem["errors"]] == ["w"]
    assert owner.head(f"{POSTER}?{query}").status_int == 422


def test_the_header_fields_of_a_poster_are_exact(app: Application, alice: Client, frozen: Clock) -> None:
    alice.sign_in("alice").upload(video_bytes(), "a clip.mp4", status=201)
    frozen.forward(minutes=1)
    give_posters(app, 160)
    answer = call(app, POSTER, headers=alice.headers)
    assert answer.read() == poster(160)
    fields = dict(answer.fields)
    assert fields.pop("x-request-id")
    assert fields.pop("etag").startswith('"')
    assert fields == {
        "content-type": "image/jpeg",
        "content-length": str(len(poster(160))),
        "content-disposition": 'inline; filename="a clip.jpg"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        "referrer-policy": "no-referrer",
    }


def test_a_poster_is_sent_in_ranges_and_by_conditions(owner: Client) -> None:
    whole = owner.get(POSTER, status=200)
    etag, data = whole.headers["ETag"], whole.body
    part = owner.get(POSTER, {"Range": "bytes=5-9", "If-Range": etag}, status=206)
    assert part.body == data[5:10]
    assert part.headers["Content-Range"] == f"bytes 5-9/{len(data)}"
    several = owner.get(POSTER, {"Range": "bytes=0-0,99-100"}, status=206)
    assert several.headers["Content-Type"].startswith("multipart/byteranges")
    assert b"Content-Type: image/jpeg\r\n" in several.body
    assert owner.get(POSTER, {"Range": "bytes=5-9", "If-Range": '"other"'}, status=200).body == data
    owner.get(POSTER, {"Range": f"bytes={len(data)}-"}, status=416)
    owner.get(POSTER, {"If-Match": '"other"'}, status=412)
    unchanged = owner.get(POSTER, {"If-None-Match": etag}, status=304)
    assert unchanged.body == b""
    assert unchanged.headers["ETag"] == etag
    assert unchanged.headers["Content-Security-Policy"] == "sandbox"
    head = owner.head(POSTER, {"Range": "bytes=5-9"}, status=200)
    assert head.headers["Content-Length"] == str(len(data))


def test_a_poster_has_no_date_since_it_can_change_twice_in_a_second(owner: Client) -> None:
    later = "Fri, 31 Dec 9999 23:59:59 GMT"
    assert "Last-Modified" not in owner.get(POSTER, {"If-Modified-Since": later}, status=200).headers
    owner.get(POSTER, {"Range": "bytes=5-9", "If-Range": later}, status=200)


def test_each_width_and_each_new_poster_has_an_entity_tag_of_its_own(app: Application, owner: Client) -> None:
    before = {owner.head(f"{POSTER}?w={width}").headers["ETag"] for width in (160, 320, 640, 1280)}
    give_posters(app, *WIDTHS, seed="new")
    after = {owner.head(f"{POSTER}?w={width}").headers["ETag"] for width in (160, 320, 640, 1280)}
    assert len(before | after) == 8
    assert owner.get(POSTER).body == poster(854, "new")
    assert len(derived_files(app)) == len(WIDTHS), "nothing is left of those before"


def test_a_poster_that_is_exchanged_while_it_is_looked_up_is_the_new_one(
    app: Application, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = intake_of(app).storage
    really_open, calls = type(storage).open, []

    def exchange_first(*arguments: Any) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            give_posters(app, *WIDTHS, seed="new")
        return really_open(*arguments)

    monkeypatch.setattr(type(storage), "open", exchange_first)
    answer = owner.get(POSTER, {"Range": "bytes=0-9999999"}, status=206)
    assert answer.body == poster(854, "new")
    assert answer.headers["ETag"] == owner.head(POSTER).headers["ETag"]
    assert len(calls) == 2


def test_a_poster_whose_video_goes_while_it_is_looked_up_is_not_found(
    app: Application, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = type(intake_of(app).storage).open

    def delete_first(*arguments: Any) -> object:
        owner.delete(VIDEO, status=204)
        return really_open(*arguments)

    monkeypatch.setattr(type(intake_of(app).storage), "open", delete_first)
    owner.get(POSTER, status=404)


def test_a_file_that_is_lost_is_not_found(app: Application, owner: Client) -> None:
    for file in (app.config.data / "derived").iterdir():
        file.unlink()
    answer = owner.get(POSTER, status=404)
    assert answer.json["detail"].startswith("this has been lost")
    assert str(app.config.data) not in answer.text
    assert not {"ETag", "Accept-Ranges"} & set(answer.headers)


def test_a_deleted_video_leaves_no_derived_file(app: Application, owner: Client) -> None:
    assert len(derived_files(app)) == len(WIDTHS)
    owner.delete(VIDEO, status=204)
    assert derived_files(app) == []


# --- without a poster


def size_of(svg: bytes) -> tuple[int, int]:
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    return int(root.get("width", "")), int(root.get("height", ""))


def showing(width: int, height: int) -> Media:
    return Media(
        duration=1.0, video=(VideoTrack(number=0, name="h264", codec=None, width=width, height=height),)
    )


@pytest.mark.parametrize(
    ("media", "size"),
    [
        (None, (1280, 720)),
        (Media(duration=1.0, audio=(SOUND,)), (1280, 720)),
        (showing(1920, 1080), (1280, 720)),
        (showing(720, 1280), (720, 1280)),
        (showing(64, 48), (1280, 960)),
        (showing(0, 5), (1280, 720)),
        (showing(65535, 1), (1280, 1)),
    ],
)
def test_a_placeholder_has_the_aspect_of_the_video(
    app: Application, alice: Client, media: Media | None, size: tuple[int, int]
) -> None:
    alice.upload(video_bytes(), status=201)
    tell(app, media)
    address = alice.get(VIDEO).json["links"]["poster"]
    assert address.endswith("/poster.svg"), "the link tells that it is none"
    for url in (address, POSTER, f"{POSTER}?w=320"):
        answer = alice.get(url, {"Range": "bytes=0-1"}, status=200)
        assert answer.headers["Content-Type"] == "image/svg+xml"
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert size_of(answer.body) == size
        etag = answer.headers["ETag"]
        assert alice.get(url, {"If-None-Match": etag}, status=304).headers["ETag"] == etag
        alice.get(url, {"If-Match": '"other"'}, status=412)
        assert alice.head(url, status=200).headers["Content-Length"] == str(len(answer.body))


def test_the_link_tells_when_there_is_a_poster(owner: Client) -> None:
    assert owner.get(VIDEO).json["links"]["poster"].endswith("/api/videos/1/poster.jpg")
    assert size_of(owner.get(f"{VIDEO}/poster.svg").body) == (1280, 720), "which stays what it is"


# --- storyboards


def test_a_storyboard_is_two_files_that_are_there_together(app: Application, alice: Client) -> None:
    alice.upload(video_bytes(), "a clip.mp4", status=201)
    assert "storyboard" not in alice.get(VIDEO).json["links"]
    for ending in ("jpg", "vtt"):
        assert alice.get(f"{VIDEO}/storyboard.{ending}", status=404).json["code"] == "not_found"
    index = VTT.replace(b"Hello", b"storyboard.jpg#xywh=0,0,160,90")
    give(app, derived.TILES, "jpg", "image/jpeg", JPEG)
    give(app, derived.STORYBOARD, "vtt", "text/vtt", index)
    assert alice.get(VIDEO).json["links"]["storyboard"].endswith("/storyboard.vtt")
    tiles = alice.get(f"{VIDEO}/storyboard.jpg", status=200)
    assert (tiles.body, tiles.headers["Content-Type"]) == (JPEG, "image/jpeg")
    cues = alice.get(f"{VIDEO}/storyboard.vtt", status=200)
    assert (cues.body, cues.headers["Content-Type"]) == (index, "text/vtt; charset=utf-8")
    assert cues.headers["Content-Disposition"] == 'inline; filename="a clip.vtt"'
    assert alice.get(f"{VIDEO}/storyboard.vtt", {"Range": "bytes=0-5"}, status=206).body == b"WEBVTT"


# --- choosing a poster


@pytest.fixture
def director(studio: Application) -> Client:
    """A client of it, with a video of a minute."""
    client = Client(studio).sign_up("alice")
    client.upload(video_bytes(), status=201)
    tell(studio, USUAL)
    return client


def put(client: Client, data: bytes, kind: str = "image/jpeg", **options: Any) -> webtest.TestResponse:
    headers = {"Content-Type": kind, **options.pop("headers", {})}
    return client._request("PUT", CHOICE, headers, body=data, **options)


def put_time(client: Client, time: object, **options: Any) -> webtest.TestResponse:
    return put(client, json.dumps({"time": time}).encode(), "application/json", **options)


def queued(app: Application) -> dict[str, Any]:
    """The options of the one job that there is."""
    [job] = jobs_of(app)
    assert (job.step, job.state, job.attempts) == (jobs.POSTER, jobs.QUEUED, 0)
    options: dict[str, Any] = json.loads(job.options)
    return options


def given(app: Application) -> list[tuple[str, str, str]]:
    rows = Derived.select(Derived.kind, Derived.name, Derived.mime_type).order_by(Derived.id)
    return list(rows.tuples().execute(database_of(app)))


@pytest.mark.parametrize("time", [0, 0.0, 12.5, 60, 60.0])
def test_a_time_is_chosen(studio: Application, director: Client, time: float) -> None:
    give_posters(studio, 160)
    answer = put_time(director, time, status=202)
    assert answer.json["status"] == "processing"
    assert answer.json["processing"] == {"step": "poster", "percent": None, "eta": None}
    assert answer.headers["ETag"] == director.get(VIDEO).headers["ETag"]
    assert queued(studio) == {"time": time}
    assert director.get(POSTER).body == poster(160), "the old one stays until the new one is there"


@pytest.mark.parametrize("time", [-1, -0.1, 60.001, 10**30, 10**400, "5", None, True, [], {}, "1e3"])
def test_a_time_that_is_not_in_the_video_is_refused(
    studio: Application, director: Client, time: object
) -> None:
    answer = put_time(director, time, status=422)
    assert answer.json["errors"] == [
        {"field": "time", "message": "must be a number of seconds from 0 to 60.0"}
    ]
    assert jobs_of(studio) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"time": NaN}', 400),
        (b'{"time": Infinity}', 400),
        (b'{"time": 1e999}', 422),
        (b'{"time": -1e999}', 422),
        (b'{"time": 1, "x": 2}', 422),
        (b"{}", 422),
        (b"[]", 422),
        (b"7", 422),
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b" " * (64 * 1024 + 1), 413),
    ],
)
def test_a_choice_is_a_small_json_object(
    studio: Application, director: Client, body: bytes, status: int
) -> None:
    put(director, body, "application/json", status=status)
    assert jobs_of(studio) == []


def test_a_video_of_unknown_duration_has_a_first_picture(studio: Application, director: Client) -> None:
    tell(studio, Media(duration=None, video=(PICTURES,)))
    put_time(director, 0.1, status=422)
    put_time(director, 0, status=202)


@pytest.mark.parametrize(
    ("data", "kind"), [(JPEG, "image/jpeg"), (PNG, "image/png"), (WEBP, "image/webp"), (WEBP, "image/jpeg")]
)
def test_an_image_is_taken_by_its_first_bytes(
    studio: Application, director: Client, data: bytes, kind: str
) -> None:
    answer = put(director, data + bytes(5000), kind, status=202)
    assert answer.json["processing"]["step"] == "poster"
    assert answer.json["links"]["poster"].endswith(".svg"), "it is not a poster yet"
    assert queued(studio) == {"picture": True}
    stored = {JPEG: "image/jpeg", PNG: "image/png", WEBP: "image/webp"}[data]
    assert given(studio) == [("picture", "own", stored)]
    [file] = (studio.config.data / "derived").iterdir()
    assert file.read_bytes() == data + bytes(5000)


def test_the_image_that_came_last_is_the_only_one_that_is_kept(studio: Application, director: Client) -> None:
    for data in (JPEG, PNG, JPEG + b"more"):
        put(director, data, status=202)
    assert given(studio) == [("picture", "own", "image/jpeg")]
    assert len(derived_files(studio)) == 1
    put_time(director, 5, status=202)
    assert queued(studio) == {"time": 5.0}
    assert (given(studio), derived_files(studio)) == ([], [])


def test_the_choice_is_given_back(studio: Application, director: Client) -> None:
    for _ in range(2):
        put(director, JPEG, status=202)
        director.delete(CHOICE, status=202)
        assert queued(studio) == {}
        assert (given(studio), derived_files(studio)) == ([], [])
        assert director.delete(CHOICE, status=202).json["processing"]["step"] == "poster"


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", JPEG[:11], b"GIF89a" + bytes(50), b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_image_is_refused_and_leaves_nothing(
    studio: Application, director: Client, data: bytes
) -> None:
    is_cut = len(data) == 11
    put(director, data, status=202 if is_cut else 415)
    assert (derived_files(studio) == []) != is_cut


def test_what_is_no_image_is_refused_before_all_of_it_is_read(studio: Application, director: Client) -> None:
    body = io.BytesIO(bytes(10 * 2**20))
    assert send(studio, director, body, 10 * 2**20).status == 415
    assert body.tell() <= 2 * 2**20
    assert derived_files(studio) == []


def send(app: Application, client: Client, body: io.BytesIO, length: int) -> Answer:
    headers = client.headers | {"Content-Type": "image/jpeg", "Content-Length": str(length)}
    return call(app, CHOICE, "PUT", headers, extra={"wsgi.input": body})


def test_an_image_that_is_too_large_is_not_read(studio: Application, director: Client) -> None:
    body = io.BytesIO(JPEG)
    answer = send(studio, director, body, MAX_IMAGE_BYTES + 1)
    assert answer.status == 413
    assert json.loads(answer.read())["limit"] == MAX_IMAGE_BYTES
    assert body.tell() == 0


@pytest.mark.parametrize("kind", ["image/gif", "image/svg+xml", "text/plain", "multipart/form-data", ""])
def test_another_media_type_is_refused(director: Client, kind: str) -> None:
    problem = put(director, JPEG, kind, status=415).json
    assert problem["code"] == "unsupported_media_type"


def test_an_image_of_undeclared_length_is_refused(studio: Application, director: Client) -> None:
    headers = director.headers | {"Content-Type": "image/jpeg", "Transfer-Encoding": "chunked"}
    extra = {"wsgi.input": io.BytesIO(JPEG), "wsgi.input_terminated": True}
    assert call(studio, CHOICE, "PUT", headers, extra=extra).status == 411


def test_a_client_that_leaves_leaves_nothing(studio: Application, director: Client) -> None:
    assert send(studio, director, io.BytesIO(JPEG), 5000).status == 400
    assert derived_files(studio) == []


def test_a_full_disk_takes_no_image(
    studio: Application, director: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda *_: len(JPEG) - 1)
    body = io.BytesIO(JPEG)
    assert send(studio, director, body, len(JPEG)).status == 507
    assert body.tell() == 0
    assert derived_files(studio) == []
    monkeypatch.setattr(space, "free_bytes", lambda *_: len(JPEG))
    assert put(director, JPEG, status=202)


def test_a_video_that_is_deleted_while_its_image_comes_is_not_found(
    studio: Application, director: Client
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not self.tell():
                director.delete(VIDEO, status=204)
            return super().read(size)

    answer = send(studio, director, Slow(JPEG), len(JPEG))
    assert answer.status == 404
    assert json.loads(answer.read())["detail"] == "there is no such video"
    assert derived_files(studio) == []
    assert jobs_of(studio) == []


def test_of_images_at_once_one_stays(studio: Application, director: Client) -> None:
    images = [JPEG + bytes([number]) * 1000 for number in range(4)]

    def choose(data: bytes) -> int:
        with database_of(studio).connection_context():
            return int(put(director, data).status_int)

    assert at_once(*[lambda data=data: choose(data) for data in images]) == [202] * 4
    assert given(studio) == [("picture", "own", "image/jpeg")]
    [file] = (studio.config.data / "derived").iterdir()
    assert file.read_bytes() in images
    assert queued(studio) == {"picture": True}


@pytest.mark.parametrize(
    "media",
    [
        None,
        Media(duration=60.0, audio=(SOUND,)),
        Media(duration=60.0, video=(PICTURES,), is_encrypted=True),
        Media(duration=60.0, video=(PICTURES,), has_external_data=True),
    ],
)
def test_of_no_pictures_none_is_chosen(studio: Application, director: Client, media: Media | None) -> None:
    tell(studio, media)
    for answer in (put_time(director, 0), put(director, JPEG), director.delete(CHOICE)):
        assert (answer.status_int, answer.json["code"]) == (409, "no_pictures")
    assert derived_files(studio) == []
    assert jobs_of(studio) == []


def test_a_condition_is_about_the_video(studio: Application, director: Client) -> None:
    etag = director.get(VIDEO).headers["ETag"]
    for wrong in ({"If-Match": '"other"'}, {"If-None-Match": etag}, {"If-None-Match": "*"}):
        put_time(director, 5, headers=wrong, status=412)
        put(director, JPEG, headers=wrong, status=412)
        director.delete(CHOICE, headers=wrong, status=412)
    assert (given(studio), derived_files(studio)) == ([], [])
    assert jobs_of(studio) == []
    put(director, JPEG, headers={"If-Match": etag}, status=202)
    put(director, JPEG, headers={"If-Match": etag}, status=412)
    put_time(director, 5, headers={"If-Match": director.get(VIDEO).headers["ETag"]}, status=202)


def test_without_ffmpeg_nothing_is_taken(app: Application, owner: Client) -> None:
    tell(app, USUAL)
    body = io.BytesIO(JPEG)
    assert send(app, owner, body, len(JPEG)).status == 501
    assert body.tell() == 0
    for answer in (put_time(owner, 5), put(owner, b"", "text/plain"), owner.delete(CHOICE)):
        assert (answer.status_int, answer.json["code"]) == (501, "ffmpeg_missing")
    assert owner.get(POSTER).body == poster(854)


def test_another_user_chooses_nothing(studio: Application, director: Client) -> None:
    bob = Client(studio).sign_up("bob")
    for answer in (put_time(bob, 5), put(bob, JPEG), bob.delete(CHOICE)):
        assert (answer.status_int, answer.json["detail"]) == (404, "there is no such video")
    assert derived_files(studio) == []
    assert jobs_of(studio) == []
