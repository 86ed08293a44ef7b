"""What is about the server itself: index, health, contract, and the methods of every route."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import falcon
import pytest

import streamer
from streamer import derived, uploads
from streamer.app import Application
from streamer.config import Config
from streamer.uploads import Plan
from tests.conftest import Clock, MakeApp
from tests.derived import give, give_captions
from tests.helpers import Client, video_bytes
from tests.live.harness import require
from tests.wsgi import call, database_of, intake_of

UPLOAD = f"/api/uploads/{'0' * 32}"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def test_the_index_names_the_server_and_leads_on(anonymous: Client) -> None:
    answer = anonymous.get("/", status=200)
    assert answer.content_type == "application/json"
    assert answer.json["name"] == "streamer"
    assert answer.json["version"] == streamer.__version__
    for name, link in answer.json["links"].items():
        method = "POST" if name in {"register", "login"} else "GET"
        found = anonymous._request(method, link, {"Content-Type": "application/json"})
        assert found.status_int in {200, 400, 401}, name


# --- health


def test_a_healthy_server_says_so(anonymous: Client) -> None:
    answer = anonymous.get("/health", status=200)
    assert answer.json == {"status": "ok", "checks": {"database": "ok", "storage": "ok"}, "ffmpeg": None}
    assert "Retry-After" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"


def test_health_tells_what_the_ffmpeg_can_do(make_app: MakeApp) -> None:
    app = make_app(ffmpeg="auto")
    tools = intake_of(app).tools
    require(tools is not None, "needs ffmpeg")
    assert tools is not None
    told = Client(app).get("/health", status=200).json["ffmpeg"]
    assert told == {
        "version": tools.version,
        "h264": "libx264" in tools.encoders,
        "hdr": {"zscale", "tonemap"} <= tools.filters,
        "ffprobe": tools.ffprobe is not None,
    }
    assert str(tools.ffmpeg) not in str(told)


def drop_table(data: Path) -> None:
    connection = sqlite3.connect(data / "streamer.db")
    connection.execute("DROP TABLE user")
    connection.close()


def write_garbage(data: Path) -> None:
    for path in data.glob("streamer.db*"):
        path.unlink()
    (data / "streamer.db").write_bytes(b"this is no database\n" * 500)


def empty_database(data: Path) -> None:
    write_garbage(data)
    (data / "streamer.db").write_bytes(b"")


def folder_for_database(data: Path) -> None:
    write_garbage(data)
    (data / "streamer.db").unlink()
    (data / "streamer.db").mkdir()


def remove_videos(data: Path) -> None:
    (data / "videos").rmdir()


def remove_incoming(data: Path) -> None:
    (data / "incoming").rmdir()


def move_away(data: Path) -> None:
    data.rename(data.with_name("away"))


@pytest.mark.parametrize(
    ("damage", "database", "storage"),
    [
        (drop_table, "failed", "ok"),
        (write_garbage, "failed", "ok"),
        (empty_database, "failed", "ok"),
        (folder_for_database, "failed", "ok"),
        (remove_videos, "ok", "failed"),
        (remove_incoming, "ok", "failed"),
        (move_away, "failed", "failed"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_server_without_its_data_is_not_healthy(
    app: Application,
    anonymous: Client,
    config: Config,
    damage: Callable[[Path], None],
    database: str,
    storage: str,
    method: str,
) -> None:
    damage(config.data)
    answer = anonymous._request(method, "/health")
    assert answer.status_int == 503
    assert int(answer.headers["Retry-After"]) > 0
    if method == "GET":
        assert answer.json["status"] == "failed"
        assert answer.json["checks"] == {"database": database, "storage": storage}
    database_of(app).close()


@pytest.mark.parametrize(("free", "status"), [(0, 503), (1, 200)])
def test_a_server_whose_disk_is_full_is_not_healthy(
    anonymous: Client, monkeypatch: pytest.MonkeyPatch, free: int, status: int
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    answer = anonymous.get("/health", status=status)
    assert answer.json["checks"] == {"database": "ok", "storage": "ok" if free else "failed"}


def test_a_thread_that_is_connected_notices_a_lost_table(
    anonymous: Client, config: Config, app: Application
) -> None:
    anonymous.get("/health", status=200)
    drop_table(config.data)
    assert anonymous.get("/health").status_int == 503
    database_of(app).close()


def test_a_server_that_is_well_again_says_so(anonymous: Client, config: Config) -> None:
    (config.data / "videos").rmdir()
    assert anonymous.get("/health").status_int == 503
    (config.data / "videos").mkdir()
    assert anonymous.get("/health").status_int == 200


def test_health_does_not_tell_where_the_data_is(anonymous: Client, config: Config) -> None:
    write_garbage(config.data)
    assert str(config.data) not in anonymous.get("/health").text


# --- the contract


def test_the_contract_is_served_with_a_validator(anonymous: Client) -> None:
    answer = anonymous.get("/openapi.json", status=200)
    assert answer.content_type == "application/json"
    assert answer.json == json.loads(files(streamer).joinpath("openapi.json").read_text(encoding="utf-8"))
    etag = answer.headers["ETag"]
    assert answer.headers["Cache-Control"] == "no-cache"
    for condition in (etag, f"W/{etag}", "*"):
        unchanged = anonymous.get("/openapi.json", {"If-None-Match": condition}, status=304)
        assert unchanged.body == b""
        assert unchanged.headers["ETag"] == etag
        assert "Content-Type" not in unchanged.headers
    assert anonymous.get("/openapi.json", {"If-None-Match": '"x"'}).status_int == 200
    assert anonymous.get("/openapi.json", {"If-Match": '"x"'}).status_int == 412


# --- every route


def urls(app: Application) -> dict[str, set[str]]:
    """An address of each route, and the methods that its resource has."""
    return {
        template.format(video_id=1, upload_id="0" * 32, name="0"): {
            m for m in METHODS if hasattr(resource, f"on_{m.lower()}")
        }
        for template, resource in app.routes.items()
    }


def test_head_gives_the_fields_of_get_and_no_body(app: Application, alice: Client) -> None:
    alice.upload(video_bytes(5000), status=201)
    give(app, derived.TILES, "jpg", "image/jpeg", b"tiles")
    give(app, derived.STORYBOARD, "vtt", "text/vtt", b"WEBVTT\n")
    give_captions(app, "0")
    walked = 0
    for url, methods in urls(app).items():
        assert ("GET" in methods) == ("HEAD" in methods), url
        if "GET" not in methods or url == UPLOAD:
            continue
        whole = call(app, url, "GET", alice.headers)
        body = whole.read()
        head = call(app, url, "HEAD", alice.headers)
        assert head.read() == b""
        assert head.status == whole.status == 200
        assert head.fields | {"x-request-id": ""} == whole.fields | {"x-request-id": ""}, url
        assert head.fields["content-length"] == str(len(body)), url
        walked += 1
    assert walked >= 12


def test_head_of_an_upload_speaks_its_dialect_and_has_the_length_of_get(
    frozen: Clock, app: Application, alice: Client
) -> None:
    """It is never stored, as both protocols want, and GET may be."""
    with closing(uploads.begin(intake_of(app), 1, Plan(length=5000))) as append:
        append.end()
    url = f"/api/uploads/{append.upload.id}"
    whole = call(app, url, "GET", alice.headers)
    body = whole.read()
    head = call(app, url, "HEAD", alice.headers | {"Tus-Resumable": "1.0.0"})
    assert head.read() == b""
    assert head.status == whole.status == 200
    assert head.fields["content-length"] == str(len(body))
    own = dict.fromkeys(["x-request-id", "cache-control", "etag", "retry-after"], "")
    assert head.fields | own == whole.fields | own
    assert call(app, url, "HEAD", alice.headers).status == 412


@pytest.mark.parametrize("method", [*METHODS, "TRACE"])
def test_another_method_is_told_those_that_are_taken(app: Application, alice: Client, method: str) -> None:
    for url, methods in urls(app).items():
        if method in methods - {"OPTIONS"}:
            continue
        answer = call(app, url, method, alice.headers)
        body = answer.read()
        named = answer.fields["allow"].split(", ")
        assert len(named) == len(set(named)), url
        assert set(named) - {"OPTIONS"} == methods - {"OPTIONS"}, url
        if method == "OPTIONS":
            assert answer.status in {200, 204}
            assert body == b""
        else:
            assert answer.status == 405
            assert answer.fields["content-type"] == "application/problem+json"
            assert method == "HEAD" or json.loads(body)["code"] == "method_not_allowed"


@pytest.mark.parametrize("method", falcon.HTTP_METHODS)
@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/videos/1/other", "/api/auth/me/", "/%00"])
def test_another_path_is_not_found(app: Application, alice: Client, method: str, path: str) -> None:
    answer = call(app, path, method, alice.headers)
    assert answer.status == 404
    assert answer.fields["content-type"] == "application/problem+json"
    assert method == "HEAD" or json.loads(answer.read())["code"] == "not_found"


@pytest.mark.parametrize("method", ["get", "FOO", "WEBSOCKET", ""])
def test_a_method_that_nobody_knows_is_a_mistake_of_the_client(app: Application, method: str) -> None:
    answer = call(app, "/health", method)
    assert 400 <= answer.status < 500
    assert answer.fields["content-type"] == "application/problem+json"
    answer.close()
