"""Uploads in one request, the list, and each video: over HTTP, with real files and a real database."""

import errno
import io
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import webtest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer import videos
from streamer.app import Application
from streamer.config import Config
from streamer.resources import bodies
from tests.concurrency import at_once
from tests.conftest import Clock, MakeApp
from tests.helpers import Client, video_bytes
from tests.wsgi import Answer, call, mounted, open_files, stored_files

BOUNDARY = "----limit"
VIDEO = video_bytes(3000)
WEBM = b"\x1aE\xdf\xa3\x87\x42\x82\x84webm" + bytes(50)
NOT_A_PART = "is not a part of this form: it has video, title, description"
DECOMPOSED, COMPOSED = "e\u0301", "\u00e9"

Part = tuple[str, bytes]


def field(name: str, value: str | bytes) -> Part:
    """A text part of a form."""
    data = value.encode() if isinstance(value, str) else value
    return f'Content-Disposition: form-data; name="{name}"', data


def file(data: bytes = VIDEO, filename: str | None = "clip.mp4", name: str = "video", kind: str = "") -> Part:
    """A file part of a form."""
    head = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    return head + (f"\r\nContent-Type: {kind}" if kind else ""), data


def form(*parts: Part, end: str = f"--{BOUNDARY}--\r\n", charset: str = "utf-8") -> bytes:
    """A multipart/form-data body."""
    body = b"".join(
        f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode(charset) + data + b"\r\n" for head, data in parts
    )
    return body + end.encode()


def send_form(
    client: Client, body: bytes, content_type: str = f"multipart/form-data; boundary={BOUNDARY}"
) -> webtest.TestResponse:
    return client._request("POST", "/api/videos", {"Content-Type": content_type}, body=body)


class Disk:
    """What one data folder holds: rows and files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.folder / "streamer.db")
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def state(self) -> tuple[object, ...]:
        """Everything that a failed request must leave as it was."""
        return (
            self.query("SELECT * FROM video ORDER BY id"),
            self.query("SELECT * FROM orphan"),
            self.query("SELECT id, video_count, bytes_used FROM user ORDER BY id"),
            stored_files(self.folder),
        )

    def is_consistent(self) -> bool:
        """Every row has its file, every file its row, and the counters are right."""
        paths = sorted(path for (path,) in self.query("SELECT file_path FROM video"))
        counted = self.query(
            "SELECT count(v.id), coalesce(sum(v.size), 0) FROM user u "
            "LEFT JOIN video v ON v.uploader_id = u.id GROUP BY u.id ORDER BY u.id"
        )
        kept = self.query("SELECT video_count, bytes_used FROM user ORDER BY id")
        return (
            paths == stored_files(self.folder) and counted == kept and not self.query("SELECT * FROM orphan")
        )


@pytest.fixture
def disk(config: Config) -> Disk:
    return Disk(config.data)


# --- upload by form


@pytest.mark.parametrize("before", [0, 1, 2])
def test_the_parts_of_a_form_come_in_any_order(alice: Client, disk: Disk, before: int) -> None:
    parts = [field("title", "The title"), field("description", "one\r\ntwo")]
    parts.insert(before, file())
    answer = send_form(alice, form(*parts))
    assert answer.status_int == 201
    assert answer.json["title"] == "The title"
    assert answer.json["description"] == "one\r\ntwo"
    assert answer.json["filename"] == "clip.mp4"
    assert alice.get("/api/videos/1/stream").body == VIDEO
    assert disk.is_consistent()


def test_a_created_video_is_told_whole(alice: Client, frozen: Clock) -> None:
    alice.sign_in("alice")
    answer = alice.upload(VIDEO, "My film.final.mp4", status=201)
    assert answer.json == {
        "id": 1,
        "title": "My film.final",
        "description": "",
        "filename": "My film.final.mp4",
        "mime_type": "video/mp4",
        "size": 3000,
        "status": "ready",
        "created_at": "2026-05-04T03:02:01.654Z",
        "updated_at": "2026-05-04T03:02:01.654Z",
        "uploader": {"id": 1, "username": "alice"},
        "media": None,
        "playable": None,
        "processing": None,
        "error": None,
        "captions": [],
        "links": {
            "self": "http://localhost:80/api/videos/1",
            "stream": "http://localhost:80/api/videos/1/stream",
            "poster": "http://localhost:80/api/videos/1/poster.svg",
        },
    }
    assert answer.headers["Location"] == answer.json["links"]["self"]
    shown = alice.get(answer.headers["Location"], status=200)
    assert shown.json == answer.json
    assert shown.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize(
    ("parts", "named", "message"),
    [
        ([], "video", "is required"),
        ([field("title", "x")], "video", "is required"),
        ([file(), file()], "video", "is given twice"),
        ([field("title", "x"), file(), field("title", "y")], "title", "is given twice"),
        (
            [file(), field("colour", "red")],
            "colour",
            NOT_A_PART,
        ),
        ([file(name="film")], "film", NOT_A_PART),
        ([file(name="")], "", NOT_A_PART),
        ([file(b"")], "video", "is empty"),
        ([file(b""), field("title", "x")], "video", "is empty"),
        ([file(), field("title", "")], "title", "must not be empty"),
        ([file(), field("title", " \t ")], "title", "must not have control characters"),
        ([file(), field("title", "   ")], "title", "must not be empty"),
        ([file(), field("title", "x" * 201)], "title", "must have at most 200 characters"),
        ([file(), field("title", "a\r\nb")], "title", "must not have control characters"),
        ([file(), field("title", "a\0b")], "title", "must not have control characters"),
        ([file(), field("title", "a\u2028b")], "title", "must not have control characters"),
        ([file(), field("title", b"\xff\xfe")], "title", "must be UTF-8"),
        ([file(), field("title", "x" * 65_537)], "title", "must have at most 65536 bytes"),
        ([file(), field("description", "x" * 5001)], "description", "must have at most 5000 characters"),
        ([file(), field("description", "x" * 500_000)], "description", "must have at most 65536 bytes"),
        ([file(), field("description", b"\xc3")], "description", "must be UTF-8"),
        ([file(filename="../../é\x07.mp4")], "filename", "must not have control characters"),
        ([file(filename="x" * 256 + ".mp4")], "filename", "must have at most 255 characters"),
        ([file(filename="/")], "filename", "must not be empty"),
    ],
)
def test_a_form_that_is_refused_names_the_field_and_leaves_nothing(
    alice: Client, disk: Disk, parts: list[Part], named: str, message: str
) -> None:
    before = disk.state()
    answer = send_form(alice, form(*parts))
    assert answer.status_int == 422
    assert answer.content_type == "application/problem+json"
    assert answer.json["code"] == "invalid_input"
    assert [error["field"] for error in answer.json["errors"]] == [named]
    assert answer.json["errors"][0]["message"].startswith(message)
    assert disk.state() == before


WHOLE = form(field("title", "x"), file())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(WHOLE[: -len(f"--{BOUNDARY}--\r\n")], id="no end"),
        pytest.param(WHOLE[:-1500], id="ends in the file"),
        pytest.param(WHOLE[:90], id="ends in the head of a part"),
        pytest.param(WHOLE[:20], id="ends in the first part"),
        pytest.param(WHOLE[:5], id="ends in the first boundary"),
        pytest.param(b"\r\n" * 40, id="no boundary in the body"),
        pytest.param(WHOLE.replace(b"----limit", b"----other"), id="another boundary"),
        pytest.param(WHOLE.replace(b'"video"; ', b'"video"; \xff'), id="broken head"),
        pytest.param(form(("X-Field: " + "x" * 70_000, b"")), id="endless head"),
        pytest.param(form(("Content-Disposition: attachment", b"x")), id="not form-data"),
        pytest.param(form(("X-Other: 1", b"x")), id="no Content-Disposition"),
        pytest.param(form(*[field(f"f{n}", "") for n in range(1)], end=""), id="one part and no end"),
        pytest.param(form(file(), end="--------nonsense"), id="nonsense at the end"),
    ],
)
def test_a_broken_form_is_refused_and_leaves_nothing(alice: Client, disk: Disk, body: bytes) -> None:
    before = disk.state()
    answer = send_form(alice, body)
    assert answer.status_int in {400, 422}, answer
    assert answer.content_type == "application/problem+json"
    assert disk.state() == before


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="   "',
        "multipart/form-data; charset=utf-8",
        "multipart/form-data; boundary=\xe9",
    ],
)
def test_a_form_needs_a_boundary(alice: Client, disk: Disk, content_type: str) -> None:
    before = disk.state()
    answer = send_form(alice, WHOLE, content_type)
    assert answer.status_int == 400
    assert answer.json["code"] == "malformed_multipart"
    assert disk.state() == before


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="\xff\xfe"',
        b'Content-Disposition: form-data; name="video"; filename="\xff\xfe.mp4"',
        b"Content-Disposition: form-data; name=\"video\"; filename*=UTF-8''%FF%FE.mp4",
        b"Content-Disposition: form-data; name=\"video\"; filename*=no-such-charset''x.mp4",
    ],
)
def test_a_name_that_is_not_utf8_is_refused(alice: Client, disk: Disk, head: bytes) -> None:
    before = disk.state()
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (BOUNDARY.encode(), head, VIDEO, BOUNDARY.encode())
    answer = send_form(alice, body)
    assert answer.status_int == 400
    assert answer.json["code"] == "malformed_multipart"
    assert disk.state() == before


@pytest.mark.parametrize(
    ("filename", "kind"), [("film.mp4", "video/mp4"), ("film.html", ""), ("", "video/x")]
)
@pytest.mark.parametrize(
    "data",
    [b"<script>alert(1)</script>" * 300, b"x", b"#EXTM3U\n/etc/passwd", b"\x89PNG\r\n\x1a\n", bytes(9000)],
)
def test_what_is_not_a_video_is_refused_whatever_it_is_called(
    alice: Client, disk: Disk, filename: str, kind: str, data: bytes
) -> None:
    before = disk.state()
    answer = send_form(alice, form(field("title", "x"), file(data, filename, kind=kind)))
    assert answer.status_int == 415
    assert answer.json["code"] == "not_a_video"
    assert disk.state() == before


@pytest.mark.parametrize("kind", ["text/html", "image/png", ""])
def test_a_video_is_taken_whatever_it_is_called(alice: Client, kind: str) -> None:
    answer = send_form(alice, form(file(WEBM, "film.html", kind=kind)))
    assert answer.status_int == 201
    assert answer.json["mime_type"] == "video/webm"
    assert answer.json["filename"] == "film.html"


@pytest.mark.parametrize(
    ("filename", "shown", "title"),
    [
        ("clip.mp4", "clip.mp4", "clip"),
        ("archive.tar.mp4", "archive.tar.mp4", "archive.tar"),
        ("noending", "noending", "noending"),
        (".mp4", ".mp4", ".mp4"),
        ("../../etc/passwd", "passwd", "passwd"),
        ("C:\\\\Users\\\\me\\\\film.avi", "film.avi", "film"),
        ("/absolute/film.mkv", "film.mkv", "film"),
        ("..", "..", ".."),
        (f"caf{DECOMPOSED}.mp4", f"caf{COMPOSED}.mp4", f"caf{COMPOSED}"),
        ("日本 😀.webm", "日本 😀.webm", "日本 😀"),
        ("%2e%2e%2fx.mp4", "%2e%2e%2fx.mp4", "%2e%2e%2fx"),
        ("y" * 251 + ".mp4", "y" * 251 + ".mp4", "y" * 200),
        ("", "video.mp4", "Untitled"),
        (None, "video.mp4", "Untitled"),
    ],
)
def test_a_name_is_for_showing_only(
    alice: Client, disk: Disk, filename: str | None, shown: str, title: str
) -> None:
    answer = send_form(alice, form(file(filename=filename)))
    assert answer.status_int == 201
    assert answer.json["filename"] == shown
    assert answer.json["title"] == title
    [stored] = stored_files(disk.folder)
    assert re.fullmatch(r"videos/[0-9a-f]{32}", stored)
    assert sorted(p.name for p in disk.folder.parent.iterdir()) == ["data"]


def test_the_extended_file_name_is_understood(alice: Client) -> None:
    head = "Content-Disposition: form-data; name=\"video\"; filename*=UTF-8''caf%C3%A9.mp4"
    answer = send_form(alice, form((head, VIDEO)))
    assert answer.json["filename"] == "café.mp4"


def test_a_title_is_kept_in_normal_form_c(alice: Client) -> None:
    answer = send_form(alice, form(file(), field("title", f"  caf{DECOMPOSED} 😀 ﬁ ")))
    assert answer.json["title"] == f"caf{COMPOSED} 😀 ﬁ"


@pytest.mark.parametrize("size", [24, 4095, 4096, 4097, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 11])
def test_a_file_of_any_size_arrives_as_it_was(alice: Client, size: int) -> None:
    data = video_bytes(size, seed=size)
    assert send_form(alice, form(field("title", "x"), file(data))).json["size"] == size
    assert alice.get("/api/videos/1/stream").body == data


class Dribble(io.RawIOBase):
    """A request body that arrives a few bytes at a time."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._rest = io.BytesIO(data)
        self._sizes = sizes
        self._turn = 0

    def read(self, size: int = -1) -> bytes:
        self._turn += 1
        step = self._sizes[self._turn % len(self._sizes)]
        return self._rest.read(min(size, step) if size >= 0 else step)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.binary(max_size=60) | st.sampled_from([f"\r\n--{BOUNDARY}".encode()[:n] for n in range(1, 13)]),
    st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    st.booleans(),
)
def test_chunks_may_end_anywhere(
    app: Application, alice: Client, tail: bytes, sizes: list[int], is_form: bool
) -> None:
    data = VIDEO + tail + b"--" + tail
    body = form(file(data), field("title", "x")) if is_form else data
    kind = f"multipart/form-data; boundary={BOUNDARY}" if is_form else "video/mp4"
    answer = post(app, alice, Dribble(body, sizes), len(body), kind)
    assert answer.status == 201
    location = answer.fields["location"].removeprefix("http://localhost:80")
    answer.close()
    assert alice.get(f"{location}/stream").body == data
    alice.delete(location, status=204)


# --- raw upload


def post(app: Application, client: Client, stream: object, length: int, kind: str = "video/mp4") -> Answer:
    """Send a body from a stream, as a server does."""
    headers = client.headers | {"Content-Type": kind, "Content-Length": str(length)}
    return call(app, "/api/videos", "POST", headers, extra={"wsgi.input": stream})


@pytest.mark.parametrize(
    "kind", ["video/mp4", "VIDEO/X-MATROSKA", "application/octet-stream", "video/webm; codecs=vp9"]
)
def test_a_raw_body_is_a_video(alice: Client, disk: Disk, kind: str) -> None:
    query = "?" + urlencode({"title": f"caf{DECOMPOSED}", "description": "a\nb", "filename": "../é.webm"})
    answer = alice.upload_raw(WEBM, query, content_type=kind)
    assert answer.status_int == 201
    told = {name: answer.json[name] for name in ("title", "description", "filename", "mime_type", "size")}
    assert told == {
        "title": f"caf{COMPOSED}",
        "description": "a\nb",
        "filename": "é.webm",
        "mime_type": "video/webm",
        "size": len(WEBM),
    }
    assert disk.is_consistent()


def test_a_raw_body_needs_no_query(alice: Client) -> None:
    answer = alice.upload_raw(WEBM)
    assert answer.status_int == 201
    assert (answer.json["title"], answer.json["filename"]) == ("Untitled", "video.webm")


def test_a_title_defaults_to_the_file_name(alice: Client) -> None:
    assert alice.upload_raw(WEBM, "?filename=holiday.webm").json["title"] == "holiday"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?title=", "title"),
        ("?title=%00", "title"),
        ("?title=a%0D%0Ab", "title"),
        ("?title=" + "x" * 201, "title"),
        ("?title=a&title=b", "title"),
        ("?filename=%2F", "filename"),
        ("?filename=..%2F..%2F%C3%A9%0D%0A", "filename"),
        ("?colour=red", "colour"),
        ("?description=" + "x" * 5001, "description"),
    ],
)
def test_a_query_that_is_refused_names_the_field(alice: Client, disk: Disk, query: str, named: str) -> None:
    before = disk.state()
    answer = alice.upload_raw(VIDEO, query)
    assert answer.status_int == 422
    assert [error["field"] for error in answer.json["errors"]] == [named]
    assert disk.state() == before


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=x",
        "videos/mp4",
        "audio/mp4",
    ],
)
def test_another_media_type_is_refused(alice: Client, disk: Disk, kind: str) -> None:
    before = disk.state()
    answer = alice.upload_raw(VIDEO, content_type=kind)
    assert answer.status_int == 415
    assert answer.json["code"] == "unsupported_media_type"
    assert kind in answer.json["detail"]
    assert disk.state() == before


def test_no_media_type_is_refused(app: Application, alice: Client) -> None:
    answer = call(app, "/api/videos", "POST", alice.headers, VIDEO)
    assert answer.status == 415
    answer.close()


@pytest.mark.parametrize("kind", ["video/mp4", f"multipart/form-data; boundary={BOUNDARY}"])
def test_a_body_of_undeclared_length_is_refused(
    app: Application, alice: Client, disk: Disk, kind: str
) -> None:
    before = disk.state()
    headers = alice.headers | {"Content-Type": kind, "Transfer-Encoding": "chunked"}
    answer = call(app, "/api/videos", "POST", headers, extra={"wsgi.input": io.BytesIO(WHOLE)})
    assert answer.status == 411
    assert b"length_required" in answer.read()
    assert disk.state() == before


@pytest.mark.parametrize("length", ["-1", "abc", "1_0", "+5", "\xb2", "0x5", "5, 5"])
def test_a_length_that_is_no_number_is_refused(
    app: Application, alice: Client, disk: Disk, length: str
) -> None:
    before = disk.state()
    headers = alice.headers | {"Content-Type": "video/mp4", "Content-Length": length}
    answer = call(app, "/api/videos", "POST", headers, extra={"wsgi.input": io.BytesIO(VIDEO)})
    assert answer.status == 400
    assert answer.fields["content-type"] == "application/problem+json"
    answer.close()
    assert disk.state() == before


@pytest.mark.parametrize("data", [b"", b"x", b"<html>" * 2000])
def test_a_raw_body_that_is_no_video_is_refused(alice: Client, disk: Disk, data: bytes) -> None:
    before = disk.state()
    answer = alice.http.post(
        "/api/videos", data, headers=alice.headers | {"Content-Type": "video/mp4"}, expect_errors=True
    )
    assert answer.status_int == (415 if data else 422)
    assert disk.state() == before


def test_what_is_no_video_is_refused_before_all_of_it_is_read(
    app: Application, alice: Client, disk: Disk
) -> None:
    stream = io.BytesIO(bytes(10 * 2**20))
    assert post(app, alice, stream, 10 * 2**20).status == 415
    assert stream.tell() < 3 * 2**20


# --- limits


class Untouchable:
    """A body that must not be read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("read")


@pytest.mark.parametrize("kind", ["video/mp4", f"multipart/form-data; boundary={BOUNDARY}"])
@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"max_upload_bytes": 10_000}, 413, "body_too_large"),
        ({"quota_bytes": 10_000}, 413, "quota_exceeded"),
        ({"min_free_bytes": 2**62}, 507, "insufficient_storage"),
    ],
)
def test_a_body_that_is_declared_too_large_is_not_read(
    make_app: MakeApp, kind: str, settings: dict[str, int], status: int, code: str
) -> None:
    app = make_app(**settings)
    client = Client(app).sign_up("alice")
    before = Disk(app.config.data).state()
    answer = post(app, client, Untouchable(), 10_001 + videos_overhead(kind), kind)
    assert answer.status == status
    assert f'"{code}"'.encode() in answer.read()
    assert Disk(app.config.data).state() == before


def videos_overhead(kind: str) -> int:
    """What a form may have beside the file."""
    return 256 * 1024 if kind.startswith("multipart") else 0


def test_a_stranger_uploads_nothing(app: Application, anonymous: Client, disk: Disk) -> None:
    assert post(app, anonymous, Untouchable(), 10_000).status == 401


@pytest.mark.parametrize("settings", [{"max_upload_bytes": 3000}, {"quota_bytes": 3000}])
@pytest.mark.parametrize(("size", "status"), [(3000, 201), (3001, 413)])
@pytest.mark.parametrize("is_form", [True, False])
def test_a_limit_is_exact(
    make_app: MakeApp, settings: dict[str, int], size: int, status: int, is_form: bool
) -> None:
    app = make_app(**settings)
    client = Client(app).sign_up("alice")
    disk = Disk(app.config.data)
    before = disk.state()
    data = video_bytes(size)
    answer = send_form(client, form(file(data))) if is_form else client.upload_raw(data)
    assert answer.status_int == status
    if status == 413:
        assert 3000 in answer.json.values(), "the limit is told"
        assert disk.state() == before
    assert disk.is_consistent()


def test_the_quota_counts_what_is_there(make_app: MakeApp) -> None:
    client = Client(make_app(quota_bytes=5000)).sign_up("alice")
    client.upload(video_bytes(3000), status=201)
    answer = client.upload(video_bytes(2001))
    assert answer.status_int == 413
    assert {"code": "quota_exceeded", "quota": 5000, "used": 3000}.items() <= answer.json.items()
    client.upload(video_bytes(2000), status=201)
    client.delete("/api/videos/1", status=204)
    client.upload(video_bytes(3000), status=201)


def test_the_quota_of_one_user_is_not_that_of_another(make_app: MakeApp) -> None:
    app = make_app(quota_bytes=3000)
    for name in ("alice", "robert"):
        Client(app).sign_up(name).upload(VIDEO, status=201)


class Meeting(io.BytesIO):
    """A body whose first bytes wait until all others have come as far."""

    def __init__(self, data: bytes, barrier: threading.Barrier) -> None:
        super().__init__(data)
        self._barrier = barrier
        self.is_taken = False

    def read(self, size: int | None = -1) -> bytes:
        if not self.is_taken:
            self.is_taken = True
            self._barrier.wait(timeout=20)
        return super().read(size)


def test_uploads_at_once_share_one_quota(make_app: MakeApp) -> None:
    app = make_app(quota_bytes=7000)
    client = Client(app).sign_up("alice")
    barrier = threading.Barrier(2)  # both that are admitted are so before one adds its bytes
    outcomes: list[tuple[int, bool]] = []

    def upload() -> None:
        body = Meeting(VIDEO, barrier)
        answer = post(app, client, body, len(VIDEO))
        outcomes.append((answer.status, body.is_taken))
        answer.close()

    at_once(*[upload] * 4)
    assert sorted(outcomes) == [(201, True)] * 2 + [(413, False)] * 2
    disk = Disk(app.config.data)
    assert disk.is_consistent()
    assert disk.query("SELECT video_count, bytes_used FROM user") == [(2, 6000)]


def test_uploads_at_once_are_not_promised_the_same_space(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(min_free_bytes=1000)
    client = Client(app).sign_up("alice")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**9, 0, 6000))
    inner: list[int] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not inner:
                inner.append(0)
                inner.append(post(app, client, io.BytesIO(VIDEO), len(VIDEO)).status)
            return super().read(size)

    assert post(app, client, Slow(VIDEO), len(VIDEO)).status == 201
    assert inner == [0, 507]
    assert post(app, client, io.BytesIO(VIDEO), len(VIDEO)).status == 201, "the promise has ended"


class Usage:
    """What ``shutil.disk_usage`` tells."""

    def __init__(self, total: int, used: int, free: int) -> None:
        self.total, self.used, self.free = total, used, free


# --- clients that leave


class Vanishing(io.BytesIO):
    """A body of which only the beginning arrives."""

    def __init__(self, data: bytes, failure: Exception | None) -> None:
        super().__init__(data)
        self._failure = failure

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data and self._failure:
            raise self._failure
        return data


@pytest.mark.parametrize(
    "failure",
    [None, OSError("connection reset"), ConnectionResetError(), ValueError("bad chunk"), Exception("gone")],
)
@pytest.mark.parametrize("arrived", [0, 150, len(WHOLE) - 1])
@pytest.mark.parametrize("is_form", [True, False])
def test_a_client_that_leaves_leaves_nothing(
    app: Application, alice: Client, disk: Disk, failure: Exception | None, arrived: int, is_form: bool
) -> None:
    before = disk.state()
    body = WHOLE if is_form else video_bytes(len(WHOLE))
    kind = f"multipart/form-data; boundary={BOUNDARY}" if is_form else "video/mp4"
    answer = post(app, alice, Vanishing(body[:arrived], failure), len(body), kind)
    assert answer.status == 400
    assert answer.fields["content-type"] == "application/problem+json"
    assert b"Traceback" not in answer.read()
    assert disk.state() == before
    alice.upload(VIDEO, status=201)


def test_a_body_longer_than_declared_is_cut(app: Application, alice: Client) -> None:
    stream = io.BytesIO(VIDEO + b"GET / HTTP/1.1")
    answer = post(app, alice, stream, len(VIDEO))
    assert answer.status == 201
    answer.close()
    assert stream.tell() == len(VIDEO)
    assert alice.get("/api/videos/1/stream").body == VIDEO


# --- failures behind the door


@pytest.mark.parametrize(
    ("call_name", "number", "status"),
    [
        ("write", errno.ENOSPC, 507),
        ("write", errno.EDQUOT, 507),
        ("fsync", errno.ENOSPC, 507),
        ("fsync", errno.EIO, 500),
        ("rename", errno.ENOSPC, 507),
        ("rename", errno.EDQUOT, 507),
        ("rename", errno.EACCES, 500),
    ],
)
@pytest.mark.parametrize("is_form", [True, False])
def test_a_disk_that_fails_leaves_nothing(
    alice: Client,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    call_name: str,
    number: int,
    status: int,
    is_form: bool,
) -> None:
    before = disk.state()
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number), "/secret/path")

        patch.setattr(os, call_name, fail)
        answer = alice.upload(VIDEO) if is_form else alice.upload_raw(VIDEO)
    assert answer.status_int == status
    assert "/secret/path" not in answer.text
    if status == 507:
        assert answer.json["code"] == "insufficient_storage"
    assert disk.state() == before
    alice.upload(VIDEO, status=201)
    assert disk.is_consistent()


def test_an_error_while_the_row_is_made_leaves_nothing(
    alice: Client, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = disk.state()
    with monkeypatch.context() as patch:
        patch.setattr(videos, "_count_in", lambda *_: 1 / 0)
        assert alice.upload(VIDEO).status_int == 500
    assert disk.state() == before


def test_an_account_deleted_while_it_uploads_leaves_nothing(
    app: Application, alice: Client, disk: Disk
) -> None:
    class Deleting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data or self.tell() == len(VIDEO):
                alice.delete("/api/auth/me", {"password": "correct horse battery"}, status=204)
            return data

    answer = post(app, alice, Deleting(VIDEO), len(VIDEO))
    assert answer.status == 401
    answer.close()
    assert disk.is_consistent()
    assert stored_files(disk.folder) == []


# --- the list


@pytest.fixture
def library(alice: Client, frozen: Clock) -> list[dict[str, Any]]:
    """Seven videos with ties in every order; the newest last."""
    alice.sign_in("alice")
    made = []
    for number, (title, size) in enumerate(
        [
            ("beta", 60),
            ("Alpha", 50),
            ("alpha", 60),
            ("ÉCOLE", 50),
            ("100% _sure_", 70),
            ("beta", 60),
            ("Straße", 40),
        ]
    ):
        if number % 2:
            frozen.forward(seconds=1)
        made.append(alice.upload(video_bytes(size), f"{number}.mp4", title=title, status=201).json)
    return made


SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "created_at": lambda video: video["created_at"],
    "title": lambda video: video["title"].casefold(),
    "size": lambda video: video["size"],
}


def expected_order(library: list[dict[str, Any]], sort: str) -> list[int]:
    """Ties are broken by the id, in the same direction."""
    key = SORTS[sort.lstrip("-")]
    ordered = sorted(library, key=lambda video: (key(video), video["id"]), reverse=sort.startswith("-"))
    return [video["id"] for video in ordered]


def ids(answer: webtest.TestResponse) -> list[int]:
    return [video["id"] for video in answer.json["data"]]


@pytest.mark.parametrize("sort", [sign + name for name in SORTS for sign in ("", "-")])
def test_every_order_of_the_list_is_total(alice: Client, library: list[dict[str, Any]], sort: str) -> None:
    expected = expected_order(library, sort)
    assert ids(alice.get(f"/api/videos?sort={sort}", status=200)) == expected
    assert ids(alice.get(f"/api/videos?sort={sort}&status=ready", status=200)) == expected
    one_by_one = [alice.get(f"/api/videos?sort={sort}&limit=1&page={n}") for n in range(1, 8)]
    assert [found for answer in one_by_one for found in ids(answer)] == expected


def test_the_newest_come_first_when_nothing_is_said(alice: Client, library: list[dict[str, Any]]) -> None:
    answer = alice.get("/api/videos", status=200)
    assert ids(answer) == expected_order(library, "-created_at")
    assert answer.json["meta"] == {"page": 1, "limit": 20, "total": 7, "total_pages": 1}


def test_each_item_of_the_list_is_what_is_shown(alice: Client, library: list[dict[str, Any]]) -> None:
    for video in alice.get("/api/videos").json["data"]:
        assert alice.get(f"/api/videos/{video['id']}").json == video


def test_the_list_of_another_user_is_empty(bob: Client, alice: Client) -> None:
    alice.upload(VIDEO, status=201)
    answer = bob.get("/api/videos", status=200)
    assert answer.json == {"data": [], "meta": {"page": 1, "limit": 20, "total": 0, "total_pages": 0}}


def links_of(answer: webtest.TestResponse) -> dict[str, str]:
    """The targets of a Link field by relation (RFC 8288), read strictly."""
    links = {}
    for link in answer.headers["Link"].split(", "):
        match = re.fullmatch(r'<([^<>" ]+)>; rel="([a-z]+)"', link)
        assert match, link
        assert match[1].isascii()
        assert match[2] not in links
        links[match[2]] = match[1]
    return links


@pytest.mark.parametrize(
    "query", ["limit=3", "limit=3&sort=title&q=a&status=ready", "limit=2&q=É", "limit=100"]
)
def test_following_next_shows_every_video_once(
    alice: Client, library: list[dict[str, Any]], query: str
) -> None:
    address = "/api/videos?" + quote(query, safe="=&")
    whole = alice.get(address.replace("limit=3", "limit=100").replace("limit=2", "limit=100"))
    seen, pages, last = [], 0, None
    while address:
        answer = alice.get(address, status=200)
        links = links_of(answer)
        pages += 1
        seen += ids(answer)
        assert ("prev" in links) == (pages > 1)
        assert len(answer.json["data"]) <= answer.json["meta"]["limit"]
        assert answer.json["meta"]["page"] == pages
        last = links["last"]
        if "next" not in links:
            assert f"page={pages}" in last
        address = links.get("next", "")
    assert seen == ids(whole)
    assert pages == answer.json["meta"]["total_pages"]
    assert answer.json["meta"]["total"] == len(seen)


def test_following_prev_leads_back_to_the_first(alice: Client, library: list[dict[str, Any]]) -> None:
    first = alice.get("/api/videos?limit=3", status=200)
    last = alice.get(links_of(first)["last"], status=200)
    middle = alice.get(links_of(last)["prev"], status=200)
    back = alice.get(links_of(middle)["prev"], status=200)
    assert ids(back) == ids(first)
    assert links_of(back)["first"] == links_of(last)["first"]
    assert "prev" not in links_of(back)


def test_a_page_past_the_end_is_empty_and_leads_back(alice: Client, library: list[dict[str, Any]]) -> None:
    answer = alice.get("/api/videos?page=99&limit=3", status=200)
    assert answer.json["data"] == []
    assert answer.json["meta"] == {"page": 99, "limit": 3, "total": 7, "total_pages": 3}
    links = links_of(answer)
    assert "next" not in links
    assert links["prev"] == links["last"]
    assert ids(alice.get(links["prev"])) == ids(alice.get("/api/videos?page=3&limit=3"))


@pytest.mark.parametrize(
    ("q", "titles"),
    [
        ("alpha", ["Alpha", "alpha"]),
        ("ALPHA", ["Alpha", "alpha"]),
        ("lph", ["Alpha", "alpha"]),
        ("école", ["ÉCOLE"]),
        ("e\u0301cole", ["ÉCOLE"]),
        ("É", ["ÉCOLE"]),
        ("STRASSE", ["Straße"]),
        ("straße", ["Straße"]),
        ("%", ["100% _sure_"]),
        ("_", ["100% _sure_"]),
        ("0% _s", ["100% _sure_"]),
        ("b_ta", []),
        ("*", []),
        ("'", []),
        ('"; DROP TABLE video; --', []),
        (" alpha ", ["Alpha", "alpha"]),
        ("", ["beta", "Alpha", "alpha", "ÉCOLE", "100% _sure_", "beta", "Straße"]),
    ],
)
def test_titles_are_searched_without_regard_to_case(
    alice: Client, library: list[dict[str, Any]], q: str, titles: list[str]
) -> None:
    answer = alice.get("/api/videos?" + urlencode({"q": q, "sort": "created_at"}), status=200)
    assert [video["title"] for video in answer.json["data"]] == titles
    assert answer.json["meta"]["total"] == len(titles)


def test_a_renamed_video_is_found_by_its_new_title(alice: Client) -> None:
    alice.upload(VIDEO, title="before", status=201)
    alice.patch("/api/videos/1", {"title": "After"}, status=200)
    assert ids(alice.get("/api/videos?q=before")) == []
    assert ids(alice.get("/api/videos?q=AFTER")) == [1]


@pytest.mark.parametrize(("status", "found"), [("ready", [2]), ("processing", [1]), ("failed", [])])
def test_the_list_is_filtered_by_status(alice: Client, disk: Disk, status: str, found: list[int]) -> None:
    for _ in range(2):
        alice.upload(VIDEO, status=201)
    connection = sqlite3.connect(disk.folder / "streamer.db")
    with connection:
        connection.execute("UPDATE video SET status = 'processing' WHERE id = 1")
    connection.close()
    answer = alice.get(f"/api/videos?status={status}", status=200)
    assert ids(answer) == found
    assert answer.json["meta"]["total"] == len(found)
    assert answer.json["meta"]["total_pages"] == len(found)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=", "page"),
        ("page=abc", "page"),
        ("page=1.5", "page"),
        ("page=%2B1", "page"),
        ("page=1_0", "page"),
        ("page=%D9%A1", "page"),
        (f"page={10**30}", "page"),
        (f"page={2**63}", "page"),
        ("page=" + "9" * 6000, "page"),
        ("page=1&page=2", "page"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-5", "limit"),
        (f"limit={10**30}", "limit"),
        ("sort=", "sort"),
        ("sort=id", "sort"),
        ("sort=--size", "sort"),
        ("sort=size%20desc", "sort"),
        ("sort=title&sort=size", "sort"),
        ("status=done", "status"),
        ("status=READY", "status"),
        ("q=%00", "q"),
        ("q=" + "x" * 201, "q"),
        ("colour=red", "colour"),
    ],
)
def test_a_wrong_query_names_its_field(alice: Client, query: str, named: str) -> None:
    answer = alice.get(f"/api/videos?{query}")
    assert answer.status_int == 422
    assert answer.json["code"] == "invalid_input"
    assert [error["field"] for error in answer.json["errors"]] == [named]


def test_all_that_is_wrong_with_a_query_is_told_at_once(alice: Client) -> None:
    answer = alice.get("/api/videos?page=0&limit=0&colour=red")
    assert {error["field"] for error in answer.json["errors"]} == {"page", "limit", "colour"}


@pytest.mark.parametrize("page", ["1000000000", "000000000000000000000000000000001"])
def test_the_largest_page_is_only_empty(alice: Client, page: str) -> None:
    assert alice.get(f"/api/videos?page={page}&limit=100").status_int == 200


def test_a_page_beyond_the_largest_is_refused(alice: Client) -> None:
    answer = alice.get("/api/videos?page=1000000001", status=422)
    assert answer.json["errors"] == [
        {"field": "page", "message": "must be one whole number from 1 to 1000000000"}
    ]


# --- one video


def test_a_video_is_shown_with_its_validator(alice: Client) -> None:
    alice.upload(VIDEO, status=201)
    answer = alice.get("/api/videos/1", status=200)
    etag = answer.headers["ETag"]
    assert etag.startswith('"')
    assert answer.headers["Cache-Control"] == "private, no-cache"
    for condition in (etag, f"W/{etag}", "*", f'"x", {etag}'):
        unchanged = alice.get("/api/videos/1", {"If-None-Match": condition})
        assert unchanged.status_int == 304
        assert unchanged.body == b""
        assert "Content-Type" not in unchanged.headers
        assert unchanged.headers["ETag"] == etag
        assert unchanged.headers["Cache-Control"] == "private, no-cache"
    assert alice.get("/api/videos/1", {"If-None-Match": '"x"'}).status_int == 200
    assert alice.get("/api/videos/1", {"If-Match": '"x"'}).status_int == 412
    assert alice.head("/api/videos/1").headers["ETag"] == etag


def test_a_change_gives_a_new_validator(alice: Client) -> None:
    alice.upload(VIDEO, status=201)
    before = alice.get("/api/videos/1").headers["ETag"]
    changed = alice.patch("/api/videos/1", {"description": "new"}, status=200)
    assert changed.headers["ETag"] != before
    shown = alice.get("/api/videos/1", {"If-None-Match": before}, status=200)
    assert shown.headers["ETag"] == changed.headers["ETag"]
    assert shown.json == changed.json


@pytest.mark.parametrize(
    ("changes", "title", "description"),
    [
        ({"title": "new"}, "new", "first"),
        ({"description": "new"}, "clip", "new"),
        ({"title": "new", "description": ""}, "new", ""),
        ({"title": f" caf{DECOMPOSED} "}, f"caf{COMPOSED}", "first"),
        ({"description": "a\r\nb\tc"}, "clip", "a\r\nb\tc"),
    ],
)
def test_what_is_given_is_changed(
    alice: Client, frozen: Clock, changes: dict[str, str], title: str, description: str
) -> None:
    alice.sign_in("alice")
    before = alice.upload(VIDEO, description="first", status=201).json
    frozen.forward(minutes=1)
    answer = alice.patch("/api/videos/1", changes, status=200)
    expected = {"title": title, "description": description, "updated_at": "2026-05-04T03:03:01.654Z"}
    assert answer.json == before | expected
    assert alice.get("/api/videos/1").json == before | expected


def test_a_change_of_nothing_changes_nothing(alice: Client, frozen: Clock) -> None:
    alice.sign_in("alice")
    before = alice.upload(VIDEO, status=201)
    frozen.forward(minutes=1)
    answer = alice.patch("/api/videos/1", {}, status=200)
    assert answer.json == before.json
    assert answer.headers["ETag"] == before.headers["ETag"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"title": None}, "title"),
        ({"title": ""}, "title"),
        ({"title": 5}, "title"),
        ({"title": ["a"]}, "title"),
        ({"title": "\ud800"}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"description": None}, "description"),
        ({"description": "x" * 5001}, "description"),
        ({"size": 1}, "size"),
        ({"title": "good", "id": 2}, "id"),
        ([], "body"),
        ("title", "body"),
        (None, "body"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(
    alice: Client, disk: Disk, changes: object, named: str
) -> None:
    alice.upload(VIDEO, status=201)
    before = disk.state()
    body = b"null" if changes is None else None
    if body:
        answer = alice._request("PATCH", "/api/videos/1", {"Content-Type": "application/json"}, body=body)
    else:
        answer = alice.patch("/api/videos/1", changes)
    assert answer.status_int == 422
    assert [error["field"] for error in answer.json["errors"]] == [named]
    assert disk.state() == before


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"title": NaN}', "application/json", 400),
        (b"[" * 60_000, "application/json", 400),
        (b'{"title": "' + b"x" * 70_000 + b'"}', "application/json", 413),
        (b'{"title": "x"}', "text/plain", 415),
        (b'{"title": "x"}', "application/merge-patch+json", 200),
        (b'{"title": "x"}', "Application/JSON; charset=utf-8", 200),
    ],
)
def test_a_change_is_a_small_json_object(alice: Client, body: bytes, kind: str, status: int) -> None:
    alice.upload(VIDEO, status=201)
    answer = alice.http.request(
        "/api/videos/1",
        method="PATCH",
        headers=alice.headers | {"Content-Type": kind},
        body=body,
        environ={"CONTENT_LENGTH": str(len(body))},
        expect_errors=True,
    )
    assert answer.status_int == status


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        ({"If-Match": "{etag}"}, True),
        ({"If-Match": '"x", {etag}'}, True),
        ({"If-Match": "*"}, True),
        ({"If-Match": '"stale"'}, False),
        ({"If-Match": "W/{etag}"}, False),
        ({"If-Match": "{bare}"}, False),
        ({"If-None-Match": '"x"'}, True),
        ({"If-None-Match": "{etag}"}, False),
        ({"If-None-Match": "*"}, False),
    ],
)
def test_a_change_with_a_condition_is_made_only_when_it_holds(
    alice: Client, disk: Disk, method: str, condition: dict[str, str], is_met: bool
) -> None:
    etag = alice.upload(VIDEO, status=201).headers["ETag"]
    headers = {name: value.format(etag=etag, bare=etag.strip('"')) for name, value in condition.items()}
    before = disk.state()
    if method == "PATCH":
        answer = alice.patch("/api/videos/1", {"title": "new"}, headers=headers)
    else:
        answer = alice.delete("/api/videos/1", headers=headers)
    if is_met:
        assert answer.status_int == (200 if method == "PATCH" else 204)
        assert disk.state() != before
    else:
        assert answer.status_int == 412
        assert answer.json["code"] == "precondition_failed"
        assert disk.state() == before
    assert disk.is_consistent()


def test_an_entity_tag_is_of_no_use_after_a_change(alice: Client) -> None:
    etag = alice.upload(VIDEO, status=201).headers["ETag"]
    second = alice.patch("/api/videos/1", {"title": "a"}, headers={"If-Match": etag}, status=200)
    assert alice.patch("/api/videos/1", {"title": "b"}, headers={"If-Match": etag}).status_int == 412
    current = {"If-Match": second.headers["ETag"]}
    assert alice.patch("/api/videos/1", {"title": "b"}, headers=current).status_int == 200


def test_of_two_changes_with_the_same_condition_one_wins(app: Application, alice: Client) -> None:
    for turn in range(10):
        made = alice.upload(VIDEO, status=201)
        headers = alice.headers | {"If-Match": made.headers["ETag"], "Content-Type": "application/json"}
        address = f"/api/videos/{made.json['id']}"
        statuses: list[int] = []

        def change(number: int, address: str = address, headers: Any = headers, to: Any = statuses) -> None:
            answer = call(app, address, "PATCH", headers, b'{"title": "t%d"}' % number)
            to.append(answer.status)
            answer.close()

        at_once(*(lambda n=n: change(n) for n in range(4)))
        assert sorted(statuses) == [200, 412, 412, 412], turn


# --- deletion


def test_a_deleted_video_is_gone_with_its_file(alice: Client, disk: Disk) -> None:
    for _ in range(2):
        alice.upload(VIDEO, status=201)
    answer = alice.delete("/api/videos/1", status=204)
    assert answer.body == b""
    assert "Content-Type" not in answer.headers
    for url in ("/api/videos/1", "/api/videos/1/stream"):
        assert alice.get(url).status_int == 404
    assert alice.delete("/api/videos/1").status_int == 404
    assert disk.is_consistent()
    assert len(stored_files(disk.folder)) == 1
    me = alice.get("/api/auth/me").json
    assert (me["video_count"], me["bytes_used"]) == (1, len(VIDEO))
    listing = alice.get("/api/videos").json
    assert listing["meta"]["total"] == 1


def test_an_id_is_never_used_again(alice: Client) -> None:
    alice.upload(VIDEO, status=201)
    alice.delete("/api/videos/1", status=204)
    assert alice.upload(VIDEO, status=201).json["id"] == 2


@pytest.mark.skipif(os.name == "nt", reason="an open file is not removed there")
def test_a_viewer_in_flight_reads_to_the_end(app: Application, alice: Client, config: Config) -> None:
    data = video_bytes(500_000)
    alice.upload(data, status=201)
    answer = call(app, "/api/videos/1/stream", headers=alice.headers)
    blocks = iter(answer.body)
    first = next(blocks)
    alice.delete("/api/videos/1", status=204)
    assert stored_files(config.data) == []
    assert first + b"".join(blocks) == data
    answer.close()
    assert open_files(config.data) == []


def test_of_two_deletions_at_once_one_wins(app: Application, alice: Client, disk: Disk) -> None:
    alice.upload(VIDEO, status=201)
    statuses: list[int] = []

    def delete() -> None:
        statuses.append(call(app, "/api/videos/1", "DELETE", alice.headers).status)

    at_once(*[delete] * 4)
    assert sorted(statuses) == [204, 404, 404, 404]
    assert disk.is_consistent()


# --- links


def every_link(client: Client, prefix: str = "") -> Iterable[str]:
    """Every URL that the API emits."""
    made = client.http.post(
        prefix + "/api/videos", upload_files=[("video", "clip.mp4", VIDEO)], headers=client.headers
    )
    yield made.headers["Location"]
    yield from made.json["links"].values()
    yield from client.get(f"{prefix}/api/videos/{made.json['id']}").json["links"].values()
    page = client.get(prefix + "/api/videos?limit=1")
    yield from page.json["data"][0]["links"].values()
    yield from links_of(page).values()
    yield from client.get(prefix + "/").json["links"].values()


def test_links_stand_under_the_name_of_the_script(app: Application, alice: Client) -> None:
    script_name = "/my videos/é".encode().decode("latin-1")
    for link in every_link(Client(mounted(app, script_name)).sign_in("alice")):
        assert link.startswith("http://localhost:80/my%20videos/%C3%A9/")


@pytest.mark.parametrize("slash", ["", "/"])
def test_links_stand_under_the_public_url(make_app: MakeApp, slash: str) -> None:
    app = make_app(public_url="https://video.example.org/films" + slash.replace("/", ""))
    client = Client(app).sign_up("alice")
    client.http.extra_environ |= {"SCRIPT_NAME": "/inner", "HTTP_X_FORWARDED_HOST": "evil.example"}
    for link in every_link(client):
        assert link.startswith("https://video.example.org/films/")


@pytest.mark.parametrize(
    ("trusted", "base"),
    [("192.0.2.0/24", "https://video.example.org/films"), ("198.51.100.1", "http://localhost:80")],
)
def test_links_follow_the_fields_of_trusted_proxies_only(make_app: MakeApp, trusted: str, base: str) -> None:
    networks = Config.from_environ({"STREAMER_TRUSTED_PROXIES": trusted}).trusted_proxies
    client = Client(make_app(trusted_proxies=networks)).sign_up("alice")
    client.http.extra_environ |= {
        "HTTP_X_FORWARDED_HOST": "video.example.org",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_PREFIX": "/films",
        "HTTP_X_FORWARDED_FOR": "203.0.113.9",
    }
    for link in every_link(client):
        assert link.startswith(base + "/")


def test_the_entity_tag_is_the_same_under_each_name_and_prefix(app: Application, alice: Client) -> None:
    uploaded = alice.upload(VIDEO, status=201).headers["ETag"]
    there = alice.get("/api/videos/1", {"Host": "other.example"}, status=200)
    assert "other.example" in there.json["links"]["self"]
    below = call(mounted(app, "/films"), "/api/videos/1", headers=alice.headers)
    assert json.loads(below.read())["links"]["self"].endswith("/films/api/videos/1")
    assert uploaded == there.headers["ETag"] == below.fields["etag"]
    for headers in ({"Host": "other.example"}, {}):
        alice.get("/api/videos/1", headers | {"If-None-Match": uploaded}, status=304)
    changed = alice.patch("/api/videos/1", {"title": "x"}, headers={"If-Match": uploaded}, status=200)
    alice.get("/api/videos/1", {"Host": "other.example", "If-Match": changed.headers["ETag"]}, status=200)


@pytest.mark.parametrize("name", ["title", "description"])
def test_the_entity_tag_changes_with_each_detail(alice: Client, frozen: Clock, name: str) -> None:
    alice.sign_in("alice")
    before = alice.upload(VIDEO, status=201).headers["ETag"]
    changed = alice.patch("/api/videos/1", {name: "new"}, status=200)  # the clock stands still
    assert changed.headers["ETag"] != before
    assert alice.get("/api/videos/1").headers["ETag"] == changed.headers["ETag"]


@pytest.mark.parametrize("filename", ["a %22b%22.mp4", "%22.mp4"])
def test_a_quotation_mark_in_the_file_name_of_a_form_is_understood(alice: Client, filename: str) -> None:
    answer = send_form(alice, form(file(filename=filename)))
    assert answer.status_int == 201
    assert answer.json["filename"] == filename.replace("%22", '"')
    assert answer.json["title"] == filename.replace("%22", '"').removesuffix(".mp4")


def test_other_percent_signs_in_the_file_name_of_a_form_stay(alice: Client) -> None:
    assert send_form(alice, form(file(filename="100%25 %41.mp4"))).json["filename"] == "100%25 %41.mp4"


def test_of_details_in_the_query_and_the_form_the_form_wins(alice: Client) -> None:
    query = urlencode({"title": "query", "description": "query", "filename": "query.mp4"})
    body = form(field("title", "form"), file(filename="form.mp4"))
    answer = alice._request(
        "POST",
        f"/api/videos?{query}",
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        body=body,
        status=201,
    )
    shown = {name: answer.json[name] for name in ("title", "description", "filename")}
    assert shown == {"title": "form", "description": "query", "filename": "form.mp4"}


def test_reads_are_large(app: Application, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write

    def record(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", record)
    data = video_bytes(4 * 2**20)
    alice.upload(data, status=201)
    assert sum(sizes) == len(data)
    assert len(sizes) <= 8
    assert max(sizes) <= bodies.READ_BYTES * 2
