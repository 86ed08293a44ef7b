"""Streams whose bytes a server in front sends: what it is told, and what is never left to it."""

import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from streamer.app import Application
from tests.conftest import MakeApp
from tests.helpers import Client, video_bytes
from tests.wsgi import call, open_files

DATA = video_bytes(5000)
STREAM = "/api/videos/1/stream"
FIELDS = {"x-accel-redirect", "x-sendfile"}  # which are the names of the settings as well


@pytest.fixture(params=sorted(FIELDS))
def app(request: pytest.FixtureRequest, make_app: MakeApp) -> Application:
    return make_app(sendfile=request.param)


@pytest.fixture
def viewer(app: Application) -> Client:
    """A client with one video, which has the id 1."""
    client = Client(app).sign_up("alice")
    client.upload(DATA, "a clip.mp4", status=201)
    return client


def stored(app: Application) -> Path:
    [file] = (app.config.data / "videos").iterdir()
    return file


def named_file(app: Application) -> str:
    name = stored(app).name
    if app.config.sendfile == "x-sendfile":
        return f"{app.config.data}/videos/{name}"
    return f"/_streamer/videos/{name}"


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-9"}, {"Range": "bytes=-5"}])
def test_the_front_is_told_the_file_and_all_that_is_known_about_it(
    viewer: Client, app: Application, make_app: MakeApp, headers: dict[str, str]
) -> None:
    answer = call(app, STREAM, headers=viewer.headers | headers)
    assert (answer.status, answer.read()) == (200, b"")
    fields = dict(answer.fields)
    assert fields.pop(app.config.sendfile) == named_file(app)
    assert fields.pop("content-length") == "0"
    alone = make_app(data=app.config.data)
    whole = call(alone, STREAM, headers=viewer.headers)
    whole.close()
    assert fields.pop("x-request-id") != whole.fields.pop("x-request-id")
    if app.config.sendfile == "x-accel-redirect" and not headers:
        fields["accept-ranges"] = "bytes"  # which nginx adds
    assert fields == {name: value for name, value in whole.fields.items() if name != "content-length"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=0-1,5-6"}, 206),
        ({"Range": "bytes=0-1,2-3"}, 206),
        ({"Range": "bytes=5-2"}, 200),
        ({"Range": "bytes=5000-"}, 416),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-1", "If-Match": "*"}, 206),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": "*"}, 304),
        ({"If-Match": '"other"'}, 412),
    ],
)
def test_the_application_sends_itself_what_a_front_may_get_wrong(
    viewer: Client, headers: dict[str, str], status: int
) -> None:
    answer = viewer.get(STREAM, headers, status=status)
    assert not FIELDS & {name.lower() for name in answer.headers}
    assert (int(answer.headers.get("Content-Length", 0)) > 0) == (status != 304)


def test_head_is_answered_by_the_application(viewer: Client) -> None:
    answer = viewer.head(STREAM, {"Range": "bytes=0-1"}, status=200)
    assert answer.headers["Content-Length"] == "5000"
    assert not FIELDS & {name.lower() for name in answer.headers}


def test_strangers_are_told_nothing(viewer: Client, app: Application) -> None:
    bob = Client(app).sign_up("bob")
    for client, status in ((bob, 404), (Client(app), 401)):
        assert not FIELDS & set(call(app, STREAM, headers=client.headers).fields)
        client.get(STREAM, status=status)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: os.truncate(path, 4999)])
def test_a_file_that_is_gone_or_cut_is_an_error_of_the_application(
    viewer: Client, app: Application, spoil: Any
) -> None:
    spoil(stored(app))
    answer = call(app, STREAM, headers=viewer.headers)
    assert answer.status == 500
    assert not FIELDS & set(answer.fields)
    assert b"internal_error" in answer.read()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_no_file_stays_open(viewer: Client, app: Application) -> None:
    call(app, STREAM, headers=viewer.headers)
    assert open_files(app.config.data) == []


def test_the_log_has_one_line_that_does_not_pretend_to_know_the_bytes(
    viewer: Client, app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "streamer.access"):
        call(app, STREAM, headers=viewer.headers).close()
    [line] = [record for record in caplog.records if record.name == "streamer.access"]
    fields: dict[str, Any] = line.__dict__["fields"]
    assert (fields["status"], fields["bytes"], fields["user"]) == (200, None, "alice")
    assert " bytes=- " in line.getMessage()


def test_the_group_may_read_objects_and_nothing_else(viewer: Client, app: Application) -> None:
    data = app.config.data
    assert stat.S_IMODE(stored(app).stat().st_mode) == 0o640
    assert stat.S_IMODE((data / "videos").stat().st_mode) == 0o750
    assert stat.S_IMODE((data / "incoming").stat().st_mode) == 0o700
    for name in ("streamer.db", "secret.key"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600
