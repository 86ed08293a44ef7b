"""The bytes of a video, as a WSGI server and a player get them."""

import base64
import email
import gc
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from email.message import Message
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote
from wsgiref.util import FileWrapper

import falcon
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer import clock
from streamer.app import Application
from streamer.config import Config
from streamer.database import open_database
from streamer.middleware import SafeHeaders
from streamer.models import Video
from streamer.protocol.conditional import format_http_date
from streamer.storage.local import LocalStorage
from tests.conftest import Clock, MakeApp
from tests.helpers import Client, video_bytes
from tests.wsgi import Answer, call, database_of, environ_of, open_files

SIZE = 300_007  # more than one block of every reader
DATA = video_bytes(SIZE, seed=4)
TEN = b"FLV\x01\x05\0\0\0\x09!"  # the table of style.md is about ten bytes
WEBM = b"\x1aE\xdf\xa3\x87\x42\x82\x84webm" + bytes(50)
STREAM = "/api/videos/1/stream"
CONTENT_FIELDS = ("content-disposition", "repr-digest", "last-modified", "content-range")

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


@pytest.fixture
def viewer(alice: Client) -> Client:
    """A client with one video, which has the id 1."""
    alice.upload(DATA, "a clip.mp4", status=201)
    return alice


@pytest.fixture
def ten(alice: Client) -> Client:
    """A client with one video of ten bytes."""
    alice.upload(TEN, "ten.flv", status=201)
    return alice


def parts_of(content_type: str, body: bytes) -> list[Message]:
    """The parts of a multipart body, read by a parser that is not ours."""
    message = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    assert message.is_multipart()
    assert not message.defects
    parts: Any = message.get_payload()
    return list(parts)


def ranges_of(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Content-Range and bytes of each part of a multipart/byteranges body."""
    return [
        (str(part["Content-Range"]), bytes(part.get_payload(decode=True)))
        for part in parts_of(content_type, body)
    ]


def range_positions(content_range: str) -> tuple[int, int]:
    first, last = content_range.removeprefix("bytes ").partition("/")[0].split("-")
    return int(first), int(last)


# --- the truth table


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=9-", 9, 9),
        ("bytes=9-9", 9, 9),
        ("bytes=0-", 0, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-20", 0, 9),
        ("bytes=0-99", 0, 9),
        ("bytes=3-5", 3, 5),
        ("BYTES=0-1", 0, 1),
        ("bytes=000000000000000000000000000003-5", 3, 5),
        ("bytes=8-99999999999999999999999999999999", 8, 9),
        (" bytes=3-5 ", 3, 5),
        # several that become one
        ("bytes=0-1,2-3", 0, 3),
        ("bytes=2-5,0-3", 0, 5),
        ("bytes=4-5,4-5", 4, 5),
        ("bytes=3-4,10-", 3, 4),
        ("bytes=3-4,-0", 3, 4),
        ("bytes=,3-4,", 3, 4),
        ("bytes=0-5,-5", 0, 9),
    ],
)
def test_a_range_is_sent(ten: Client, field: str, first: int, last: int) -> None:
    answer = ten.get(STREAM, {"Range": field}, status=206)
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/10"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.headers["Content-Type"] == "video/x-flv"
    assert answer.body == TEN[first : last + 1]


@pytest.mark.parametrize("field", ["bytes=10-", "bytes=-0", "bytes=10-,-0", "bytes=99999999999999999999999-"])
def test_a_range_without_a_byte_is_not_satisfiable(ten: Client, field: str) -> None:
    answer = ten.get(STREAM, {"Range": field}, status=416)
    assert answer.headers["Content-Range"] == "bytes */10"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == "range_not_satisfiable"
    assert int(answer.headers["Content-Length"]) == len(answer.body)


@pytest.mark.parametrize(
    "field",
    [
        "bytes=5-2",
        "bytes=abc",
        "bytes=+1-2",
        "bytes=1_0-",
        "bytes=-",
        "bytes=",
        "bytes=1-2-3",
        "bytes=0x1-2",
        "bytes = 0-1",
        "bytes=0-1;2-3",
        "bytes=0-1,5-2",
        "bytes=\xb9-2",
        "items=0-1",
        "byte=0-1",
        "0-1",
        "",
        "bytes=0-0,2-3",  # on ten bytes the framing of two parts is longer than the whole
    ],
)
def test_a_range_that_is_ignored_gives_the_whole(ten: Client, field: str) -> None:
    answer = ten.get(STREAM, {"Range": field}, status=200)
    assert "Content-Range" not in answer.headers
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Content-Type"] == "video/x-flv"
    assert answer.body == TEN


@pytest.mark.parametrize("field", ["bytes=0-0", "bytes=-1", "bytes=-0", "bytes=10-", "bytes=0-0,5-5"])
def test_an_empty_representation_has_no_ranges(ten: Client, config: Config, field: str) -> None:
    database = open_database(config.data / "streamer.db")
    with database:
        Video.update(size=0, sha256=hashlib.sha256().hexdigest()).execute(database)
        path = Video.select().get(database).file_path
    database.close()
    (config.data / path).write_bytes(b"")
    answer = ten.get(STREAM, {"Range": field}, status=200)
    assert answer.headers["Content-Length"] == "0"
    assert answer.body == b""


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-0,2-3", [(0, 0), (2, 3)]),
        ("bytes=100-199,0-9", [(100, 199), (0, 9)]),
        ("bytes=-5,0-4", [(SIZE - 5, SIZE - 1), (0, 4)]),
        ("bytes=500-599,0-9,550-650", [(500, 650), (0, 9)]),
        ("bytes=0-9,500-599,10-19", [(0, 19), (500, 599)]),
        ("bytes=500-599,0-9,400-499", [(400, 599), (0, 9)]),
        ("bytes=0-0,2-2,999999999-", [(0, 0), (2, 2)]),
        ("bytes=0-140000,150000-300006", [(0, 140_000), (150_000, 300_006)]),
        (
            "bytes=" + ",".join(f"{at}-{at + 4}" for at in range(0, 160, 10)),
            [(at, at + 4) for at in range(0, 160, 10)],
        ),
        ("bytes=" + ",".join(f"{at}-{at}" for at in [*range(40), 99]), [(0, 39), (99, 99)]),
    ],
)
def test_several_ranges_are_sent_in_the_order_of_the_request(
    viewer: Client, field: str, expected: list[tuple[int, int]]
) -> None:
    answer = viewer.get(STREAM, {"Range": field}, status=206)
    assert "Content-Range" not in answer.headers
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert len(answer.body) <= SIZE
    assert ranges_of(answer.headers["Content-Type"], answer.body) == [
        (f"bytes {first}-{last}/{SIZE}", DATA[first : last + 1]) for first, last in expected
    ]


def test_each_part_names_the_type_and_nothing_follows_the_last(viewer: Client) -> None:
    answer = viewer.get(STREAM, {"Range": "bytes=0-9,100-109"}, status=206)
    kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert 1 <= len(boundary) <= 70
    parts = parts_of(answer.headers["Content-Type"], answer.body)
    assert [part.get_content_type() for part in parts] == ["video/mp4", "video/mp4"]
    assert answer.body.startswith(f"--{boundary}\r\n".encode())
    assert answer.body.endswith(f"\r\n--{boundary}--\r\n".encode())


def test_the_boundary_cannot_be_foreseen(viewer: Client) -> None:
    headers = {"Range": "bytes=0-9,100-109"}
    assert (
        viewer.get(STREAM, headers).headers["Content-Type"]
        != viewer.get(STREAM, headers).headers["Content-Type"]
    )


@pytest.mark.parametrize(
    "field",
    [
        "bytes=" + ",".join(f"{at * 10}-{at * 10 + 4}" for at in range(17)),  # over 16 parts
        "bytes=0-150000,150002-",  # with the framing longer than the whole
        "bytes=0-,1-,2-,-1",  # they are the whole, as one
    ],
)
def test_several_ranges_never_cost_more_than_the_whole(viewer: Client, field: str) -> None:
    answer = viewer.get(STREAM, {"Range": field})
    assert answer.status_int == (206 if field.endswith("-1") else 200)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.body == DATA


def specs() -> st.SearchStrategy[str]:
    position = st.integers(0, SIZE + 50) | st.integers(0, 300) | st.integers(SIZE - 100, SIZE + 1)
    closed = st.builds(lambda first, more: f"{first}-{first + more}", position, st.integers(0, 40_000))
    any_order = st.builds(lambda first, last: f"{first}-{last}", position, position)
    return closed | any_order | position.map("{}-".format) | position.map("-{}".format)


def positions_of(spec: str) -> range | None:
    """What a range-spec asks for; None if it is invalid."""
    first, _, last = spec.partition("-")
    if not first:
        return range(max(0, SIZE - int(last)), SIZE)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, SIZE) if last else SIZE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@example(["0-9", "11-20"])
@example([f"{at * 100}-{at * 100 + 8}" for at in range(16)])
@given(st.lists(specs(), min_size=1, max_size=5))
def test_any_ranges_are_what_slicing_gives(app: Application, viewer: Client, asked: list[str]) -> None:
    answer = call(app, STREAM, headers=viewer.headers | {"Range": "bytes=" + ",".join(asked)})
    body = answer.read()
    assert answer.fields["content-length"] == str(len(body))
    wanted = [positions_of(spec) for spec in asked]
    if None in wanted:
        assert (answer.status, body) == (200, DATA)
        return
    satisfiable = [span for span in wanted if span]
    if not satisfiable:
        assert answer.status == 416
        return
    if answer.status == 200:
        assert body == DATA
        assert len(satisfiable) > 1
        return
    if "content-range" in answer.fields:
        sent = [(answer.fields["content-range"], body)]
    else:
        sent = ranges_of(answer.fields["content-type"], body)
        assert len(sent) > 1
    spans = []
    for content_range, data in sent:
        first, last = range_positions(content_range)
        assert data == DATA[first : last + 1]
        spans.append(range(first, last + 1))
    assert set().union(*spans) == set().union(*satisfiable)
    assert sum(map(len, spans)) == len(set().union(*spans)), "overlapping ranges are coalesced"


# --- header fields


def test_a_digest_that_is_still_being_computed_is_not_told(viewer: Client, app: Application) -> None:
    before = call(app, STREAM, headers=viewer.headers)
    before.close()
    Video.update(sha256="").execute(database_of(app))
    for more in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=0-0,5-5"}):
        answer = call(app, STREAM, headers=viewer.headers | more)
        answer.close()
        assert "repr-digest" not in answer.fields
        assert answer.fields["etag"] == before.fields["etag"], "which does not depend on it"
    assert before.fields["repr-digest"]


def test_the_header_fields_of_the_whole_are_exact(viewer: Client, app: Application) -> None:
    answer = call(app, STREAM, headers=viewer.headers)
    body = answer.read()
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    assert answer.status == 200
    assert body == DATA
    fields = dict(answer.fields)
    assert fields.pop("x-request-id")
    etag, modified = fields.pop("etag"), fields.pop("last-modified")
    assert etag.startswith('"')
    assert etag.endswith('"')
    assert modified.endswith(" GMT")
    assert fields == {
        "content-type": "video/mp4",
        "content-length": str(SIZE),
        "content-disposition": 'inline; filename="a clip.mp4"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "repr-digest": f"sha-256=:{digest}:",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        "referrer-policy": "no-referrer",
    }


@pytest.mark.parametrize("field", ["bytes=5-9", "bytes=5-9,100-109"])
def test_a_part_has_the_same_fields_as_the_whole(viewer: Client, app: Application, field: str) -> None:
    whole = call(app, STREAM, headers=viewer.headers)
    whole.close()
    part = call(app, STREAM, headers=viewer.headers | {"Range": field})
    part.close()
    own = {"content-length", "content-type", "content-range", "x-request-id"}
    assert part.status == 206
    assert {k: v for k, v in part.fields.items() if k not in own} == {
        k: v for k, v in whole.fields.items() if k not in own
    }


def test_last_modified_is_when_the_video_came(alice: Client, frozen: Clock) -> None:
    alice = alice.sign_in("alice")
    alice.upload(DATA, status=201)
    frozen.forward(minutes=5)
    alice.patch("/api/videos/1", {"title": "later"}, status=200)
    assert alice.head(STREAM).headers["Last-Modified"] == "Mon, 04 May 2026 03:02:01 GMT"


def test_the_entity_tag_stays_over_renames_and_restarts(
    viewer: Client, make_app: MakeApp, config: Config
) -> None:
    before = viewer.head(STREAM).headers["ETag"]
    viewer.patch("/api/videos/1", {"title": "another", "description": "text"}, status=200)
    assert viewer.head(STREAM).headers["ETag"] == before
    restarted = Client(make_app(data=config.data)).sign_in("alice")
    assert restarted.head(STREAM).headers["ETag"] == before


def test_two_uploads_of_equal_bytes_have_different_entity_tags(viewer: Client) -> None:
    viewer.upload(DATA, "a clip.mp4", status=201)
    first, second = (viewer.head(f"/api/videos/{n}/stream").headers for n in (1, 2))
    assert first["ETag"] != second["ETag"]
    assert first["Repr-Digest"] == second["Repr-Digest"]


@pytest.mark.parametrize(
    ("data", "filename", "kind"),
    [
        (WEBM, "movie.mp4", "video/webm"),
        (TEN, "movie.html", "video/x-flv"),
        (video_bytes(50), "movie", "video/mp4"),
        (b"RIFF\0\0\0\0AVI LIST", "x.svg", "video/x-msvideo"),
    ],
)
def test_the_type_is_that_of_the_bytes_not_of_the_name(
    alice: Client, data: bytes, filename: str, kind: str
) -> None:
    alice.upload(data, filename, status=201)
    answer = alice.get(STREAM, status=200)
    assert answer.headers["Content-Type"] == kind
    assert answer.body == data


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("", "inline"),
        ("?download=1", "attachment"),
        ("?download=0", "inline"),
        ("?download=", "inline"),
        ("?other=1", "inline"),
    ],
)
def test_a_download_is_asked_for(viewer: Client, query: str, kind: str) -> None:
    answer = viewer.get(STREAM + query, status=200)
    assert answer.headers["Content-Disposition"] == f'{kind}; filename="a clip.mp4"'


@pytest.mark.parametrize("name", ["Łódź é 日本.mp4", "50%.mp4", "😀.mp4", "back\\slash\\n\u00e4me.mp4"])
def test_a_name_beyond_ascii_comes_whole_in_the_extended_parameter(alice: Client, name: str) -> None:
    answer = alice.upload_raw(DATA, "?filename=" + "".join(f"%{byte:02X}" for byte in name.encode()))
    disposition = alice.head(STREAM).headers["Content-Disposition"]
    assert disposition.isascii()
    assert unquote(disposition.partition("filename*=UTF-8''")[2]) == answer.json["filename"]
    assert answer.json["filename"] == name.rpartition("\\")[2]


def test_a_name_cannot_end_its_quotes(alice: Client) -> None:
    alice.upload_raw(DATA, "?filename=" + "%22%3B%20filename%3D%22evil.exe", status=201)
    disposition = alice.head(STREAM).headers["Content-Disposition"]
    assert disposition.count('"') == 2
    assert disposition.startswith('inline; filename="_; filename=_evil.exe"')


# --- conditions

OTHER = '"another"'
PAST = "Mon, 01 Jan 2001 00:00:00 GMT"
FUTURE = "Fri, 01 Jan 2100 00:00:00 GMT"


def filled(viewer: Client, headers: dict[str, str]) -> dict[str, str]:
    """The headers with the present entity tag and time put in."""
    current = viewer.head(STREAM).headers
    return {k: v.format(etag=current["ETag"], modified=current["Last-Modified"]) for k, v in headers.items()}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Range": "{etag}"}, 206),
        ({"If-Range": " {etag} "}, 206),
        ({"If-Range": "W/{etag}"}, 200),
        ({"If-Range": OTHER}, 200),
        ({"If-Range": "{modified}"}, 206),
        ({"If-Range": PAST}, 200),
        ({"If-Range": FUTURE}, 200),
        ({"If-Range": "*"}, 200),
        ({"If-Range": "nonsense"}, 200),
        ({"If-Range": '{etag}, "b"'}, 200),
        ({"If-None-Match": "{etag}"}, 304),
        ({"If-None-Match": "W/{etag}"}, 304),
        ({"If-None-Match": '"x", {etag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": OTHER}, 206),
        ({"If-Modified-Since": "{modified}"}, 304),
        ({"If-Modified-Since": FUTURE}, 304),
        ({"If-Modified-Since": PAST}, 206),
        ({"If-Modified-Since": "yesterday"}, 206),
        ({"If-Modified-Since": "Friday, 01-Jan-60 00:00:00 GMT"}, 304),
        ({"If-Modified-Since": "Fri Jan  1 00:00:00 2100"}, 304),
        ({"If-Match": "{etag}"}, 206),
        ({"If-Match": "*"}, 206),
        ({"If-Match": OTHER}, 412),
        ({"If-Match": "W/{etag}"}, 412),
        ({"If-Match": "nonsense"}, 412),
        ({"If-Unmodified-Since": "{modified}"}, 206),
        ({"If-Unmodified-Since": PAST}, 412),
        # the order of RFC 9110, section 13.2.2
        ({"If-Match": OTHER, "If-None-Match": "{etag}"}, 412),
        ({"If-Match": "{etag}", "If-None-Match": "{etag}"}, 304),
        ({"If-Match": "{etag}", "If-Unmodified-Since": PAST}, 206),
        ({"If-None-Match": OTHER, "If-Modified-Since": FUTURE}, 206),
        ({"If-None-Match": "{etag}", "If-Modified-Since": PAST}, 304),
        ({"If-None-Match": "{etag}", "If-Range": OTHER}, 304),
        ({"If-Unmodified-Since": PAST, "If-Range": OTHER}, 412),
        ({"If-None-Match": OTHER, "If-Range": OTHER}, 200),
    ],
)
def test_preconditions_come_before_if_range_and_range(
    viewer: Client, headers: dict[str, str], status: int
) -> None:
    answer = viewer.get(STREAM, filled(viewer, headers) | {"Range": "bytes=3-5"})
    assert answer.status_int == status
    expected = {200: DATA, 206: DATA[3:6], 304: b""}.get(status)
    assert expected is None or answer.body == expected


@pytest.mark.parametrize(("headers", "status"), [({"If-None-Match": "*"}, 304), ({"If-Match": OTHER}, 412)])
def test_preconditions_come_before_a_range_that_cannot_be_satisfied(
    viewer: Client, headers: dict[str, str], status: int
) -> None:
    assert viewer.get(STREAM, headers | {"Range": "bytes=999999-"}).status_int == status


def test_if_range_saves_a_range_that_cannot_be_satisfied(viewer: Client) -> None:
    answer = viewer.get(STREAM, {"If-Range": OTHER, "Range": "bytes=999999-"}, status=200)
    assert answer.body == DATA


def test_if_range_without_range_changes_nothing(viewer: Client) -> None:
    assert viewer.get(STREAM, {"If-Range": OTHER}, status=200).body == DATA


def test_if_range_accepts_the_date_only_to_the_second(viewer: Client) -> None:
    later = format_http_date(clock.now() + timedelta(days=1))
    assert viewer.get(STREAM, {"If-Range": later, "Range": "bytes=0-0"}).status_int == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified_has_neither_body_nor_type(viewer: Client, app: Application, method: str) -> None:
    whole = call(app, STREAM, headers=viewer.headers)
    whole.close()
    answer = call(app, STREAM, method, headers=viewer.headers | {"If-None-Match": "*"})
    assert answer.status == 304
    assert answer.read() == b""
    assert "content-type" not in answer.fields
    assert answer.fields.get("content-length") in {None, str(SIZE)}
    for name in ("etag", "last-modified", "cache-control", "content-security-policy"):
        assert answer.fields[name] == whole.fields[name]
    assert answer.fields["content-security-policy"] == "sandbox"


@pytest.mark.parametrize(
    ("headers", "status"), [({"If-Match": OTHER}, 412), ({"Range": "bytes=999999-"}, 416)]
)
def test_a_problem_does_not_carry_the_fields_of_the_video(
    viewer: Client, app: Application, headers: dict[str, str], status: int
) -> None:
    answer = call(app, STREAM, headers=viewer.headers | headers)
    body = answer.read()
    assert answer.status == status
    assert answer.fields["content-type"] == "application/problem+json"
    assert answer.fields["content-length"] == str(len(body))
    assert answer.fields["x-content-type-options"] == "nosniff"
    # they would tell lies about the document that is sent
    wrong = set(CONTENT_FIELDS) - ({"content-range"} if status == 416 else set())
    assert not wrong & set(answer.fields)


# --- HEAD


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Range": "bytes=0-0"},
        {"Range": "bytes=999999-"},
        {"Range": "bytes=0-9,100-109"},
        {"Range": "bytes=0-0", "If-Range": OTHER},
    ],
)
def test_head_ignores_range_and_opens_nothing(
    viewer: Client, app: Application, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    whole = call(app, STREAM, headers=viewer.headers)
    whole.close()

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("opened")

    monkeypatch.setattr(LocalStorage, "open", refuse)
    monkeypatch.setattr(LocalStorage, "open_segments", refuse)
    answer = call(app, STREAM, "HEAD", headers=viewer.headers | headers)
    assert answer.status == 200
    assert list(answer.body) == [b""]
    assert answer.fields | {"x-request-id": ""} == whole.fields | {"x-request-id": ""}


@pytest.mark.parametrize("headers", [{"If-None-Match": "*"}, {"If-Match": OTHER}, {"Range": "bytes=999999-"}])
def test_answers_without_bytes_open_nothing(
    viewer: Client, app: Application, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(LocalStorage, "open", lambda *details: opened.append(details))
    call(app, STREAM, headers=viewer.headers | headers).close()
    assert opened == []


def test_head_of_a_video_without_its_file_still_answers(viewer: Client, config: Config) -> None:
    remove_files(config)
    assert viewer.head(STREAM).status_int == 200


# --- the way to the server


class SpyWrapper(FileWrapper):
    """A file wrapper as servers have it; it remembers what it was given."""

    made: list[tuple[Any, int]] = []

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        super().__init__(filelike, blksize)
        self.made.append((filelike, blksize))


@pytest.fixture
def wrapped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int]]:
    monkeypatch.setattr(SpyWrapper, "made", [])
    return SpyWrapper.made


@pytest.fixture(params=["bytes=5-140000", "bytes=0-9,50-150000", ""])
def asked(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"Range": request.param} if request.param else {}


def whole_body(viewer: Client, asked: dict[str, str], answer: Answer) -> bytes:
    """What the body must be, framing aside."""
    body = answer.read()
    assert len(body) == int(answer.fields["content-length"])
    if "multipart" in answer.fields["content-type"]:
        body = b"".join(data for _, data in ranges_of(answer.fields["content-type"], body))
    return body


EXPECTED = {
    "bytes=5-140000": DATA[5:140_001],
    "bytes=0-9,50-150000": DATA[:10] + DATA[50:150_001],
    "": DATA,
}


def test_the_file_wrapper_of_the_server_gets_a_bounded_seekable_body(
    viewer: Client, app: Application, wrapped: list[tuple[Any, int]], asked: dict[str, str]
) -> None:
    answer = call(app, STREAM, headers=viewer.headers | asked, extra={"wsgi.file_wrapper": SpyWrapper})
    [(body, block)] = wrapped
    assert isinstance(answer.body, SpyWrapper), "servers recognise their own wrapper by its type"
    assert block == 262144
    assert not hasattr(body, "fileno"), "some servers would send the wrong part"
    assert body.seekable()
    start = body.tell()
    assert body.seek(0, 2) - start == int(answer.fields["content-length"])
    body.seek(start)
    assert whole_body(viewer, asked, answer) == EXPECTED[asked.get("Range", "")]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"wsgi.file_wrapper": None},
        {"wsgi.file_wrapper": SpyWrapper, "uwsgi.version": b"2.0.30"},
    ],
)
def test_without_a_wrapper_that_serves_the_body_is_iterated(
    viewer: Client,
    app: Application,
    wrapped: list[tuple[Any, int]],
    asked: dict[str, str],
    environ: dict[str, Any],
) -> None:
    answer = call(app, STREAM, headers=viewer.headers | asked, extra=environ)
    assert wrapped == []
    assert whole_body(viewer, asked, answer) == EXPECTED[asked.get("Range", "")]


def test_an_iterated_body_comes_in_large_blocks(viewer: Client, app: Application) -> None:
    answer = call(app, STREAM, headers=viewer.headers)
    assert max(map(len, answer.body)) >= 64 * 1024  # Falcon would read 8 KiB at a time
    answer.close()


# --- closed on every path


@pytest.fixture(params=["wrapper", "iterated"])
def server(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"wsgi.file_wrapper": FileWrapper} if request.param == "wrapper" else {}


@needs_proc
@pytest.mark.parametrize("blocks", [0, 1, 1000])
def test_closing_closes_the_file_whatever_was_read(
    viewer: Client,
    app: Application,
    config: Config,
    server: dict[str, Any],
    asked: dict[str, str],
    blocks: int,
) -> None:
    answer = call(app, STREAM, headers=viewer.headers | asked, extra=server)
    assert len(open_files(config.data)) == 1
    for _ in zip(range(blocks), answer.body, strict=False):
        pass
    answer.close()
    assert open_files(config.data) == []


@needs_proc
def test_an_answer_that_nobody_closes_is_closed_with_its_last_reference(
    viewer: Client, app: Application, config: Config, server: dict[str, Any]
) -> None:
    call(app, STREAM, headers=viewer.headers, extra=server)
    gc.collect()
    assert open_files(config.data) == []


@needs_proc
def test_five_hundred_viewers_that_leave_cost_no_descriptor(
    viewer: Client, app: Application, config: Config, server: dict[str, Any]
) -> None:
    call(app, STREAM, headers=viewer.headers).read()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for n in range(500):
        answer = call(app, STREAM, headers=viewer.headers | {"Range": f"bytes={n}-"}, extra=server)
        next(iter(answer.body))
        answer.close()
    assert open_files(config.data) == []
    assert len(os.listdir("/proc/self/fd")) <= before


@needs_proc
def test_an_error_after_the_body_was_opened_closes_it(
    make_app: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    asked: dict[str, str],
    server: dict[str, Any],
) -> None:
    process_response = SafeHeaders.process_response

    def fail(
        self: SafeHeaders, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: bool
    ) -> None:
        process_response(self, req, resp, resource, succeeded)
        if resp.stream is not None:
            assert len(open_files(app.config.data)) == 1
            raise RuntimeError("late")

    monkeypatch.setattr(SafeHeaders, "process_response", fail)
    app = make_app()
    viewer = Client(app).sign_up("alice")
    viewer.upload(DATA, status=201)
    caplog.clear()
    with caplog.at_level(logging.INFO, "streamer.access"):
        answer = call(app, STREAM, headers=viewer.headers | asked, extra=server)
    assert answer.status == 500
    assert open_files(app.config.data) == []
    body = answer.read()
    assert b"late" not in body
    assert answer.fields["content-length"] == str(len(body))
    assert not {"content-range", "repr-digest", "content-disposition"} & set(answer.fields)
    [line] = [record for record in caplog.records if record.name == "streamer.access"]
    assert line.__dict__["fields"]["status"] == 500
    assert line.__dict__["fields"]["bytes"] == len(body)


@needs_proc
def test_a_server_that_refuses_the_header_leaves_nothing_open(
    viewer: Client, app: Application, config: Config
) -> None:
    def start_response(*_: object) -> NoReturn:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        app(environ_of(STREAM, headers=viewer.headers), start_response)
    gc.collect()
    assert open_files(config.data) == []


def remove_files(config: Config) -> None:
    for file in (config.data / "videos").iterdir():
        file.unlink()


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=0-9,100-109"}])
def test_a_file_that_is_gone_is_an_error_that_does_not_tell_where_it_was(
    viewer: Client, app: Application, config: Config, headers: dict[str, str], tmp_path: Path
) -> None:
    [file] = (config.data / "videos").iterdir()
    file.unlink()
    answer = call(app, STREAM, headers=viewer.headers | headers)
    body = answer.read().decode()
    assert answer.status == 500
    assert answer.fields["content-type"] == "application/problem+json"
    assert answer.fields["content-length"] == str(len(body))
    assert file.name not in body
    assert str(tmp_path) not in body
    assert "Traceback" not in body
    assert not set(CONTENT_FIELDS) & set(answer.fields)


@pytest.mark.parametrize(
    ("opening", "headers"),
    [
        ("open", {}),
        ("open", {"Range": "bytes=0-9"}),
        ("open_segments", {"Range": "bytes=0-9,100-109"}),
    ],
)
def test_a_video_that_is_deleted_before_its_file_is_opened_is_not_found(
    viewer: Client, app: Application, monkeypatch: pytest.MonkeyPatch, opening: str, headers: dict[str, str]
) -> None:
    really_open = getattr(LocalStorage, opening)

    def delete_first(*arguments: Any) -> object:
        viewer.delete("/api/videos/1", status=204)
        return really_open(*arguments)

    monkeypatch.setattr(LocalStorage, opening, delete_first)
    answer = call(app, STREAM, headers=viewer.headers | headers)
    assert answer.status == 404
    assert json.loads(answer.read())["code"] == "not_found"
    assert not set(CONTENT_FIELDS) & set(answer.fields)


@needs_proc
@pytest.mark.parametrize("field", ["", "bytes=200-", "bytes=0-9,990-999"])
def test_an_object_that_has_become_too_short_is_an_error_from_the_first_byte(
    viewer: Client, app: Application, config: Config, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    [file] = (config.data / "videos").iterdir()
    os.truncate(file, 500)
    caplog.clear()
    with caplog.at_level(logging.INFO, "streamer.access"):
        answer = call(app, STREAM, headers=viewer.headers | ({"Range": field} if field else {}))
        body = answer.read()
    assert answer.status == 500
    assert json.loads(body)["code"] == "internal_error"
    assert file.name.encode() not in body
    assert not set(CONTENT_FIELDS) & set(answer.fields)
    assert open_files(config.data) == []
    [line] = lines(caplog)
    assert (line["status"], line["bytes"]) == (500, len(body))


def test_what_is_left_of_an_object_that_has_become_too_short_is_sent(viewer: Client, config: Config) -> None:
    [file] = (config.data / "videos").iterdir()
    os.truncate(file, 500)
    for field, start, stop in (("bytes=490-499", 490, 500), ("bytes=0-9", 0, 10)):
        assert viewer.get(STREAM, {"Range": field}, status=206).body == DATA[start:stop]
    viewer.get(STREAM, {"Range": "bytes=490-500"}, status=500)


# --- the access log


def lines(caplog: pytest.LogCaptureFixture) -> Iterator[dict[str, Any]]:
    for record in caplog.records:
        if record.name == "streamer.access":
            yield record.__dict__["fields"]


@pytest.mark.parametrize(
    ("headers", "blocks", "status", "sent"),
    [
        ({}, 99, 200, SIZE),
        ({}, 0, 200, 0),
        ({}, 1, 200, 128 * 1024),
        ({"Range": "bytes=7-16"}, 99, 206, 10),
        ({"Range": "bytes=999999-"}, 99, 416, None),
        ({"If-None-Match": "*"}, 99, 304, 0),
    ],
)
def test_the_log_tells_the_bytes_that_were_taken(
    viewer: Client,
    app: Application,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    blocks: int,
    status: int,
    sent: int | None,
) -> None:
    with caplog.at_level(logging.INFO, "streamer.access"):
        answer = call(app, STREAM, headers=viewer.headers | headers)
        taken = sum(len(block) for _, block in zip(range(blocks), answer.body, strict=False))
        answer.close()
        answer.close()
    [line] = lines(caplog)
    assert line["status"] == status
    assert line["bytes"] == taken
    assert sent is None or taken == sent
    assert line["path"] == STREAM
    assert line["user"] == "alice"
    assert line["request_id"] == answer.fields["x-request-id"]


def test_the_line_of_a_head_counts_no_bytes(
    viewer: Client, app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "streamer.access"):
        call(app, STREAM, "HEAD", headers=viewer.headers).close()
    [line] = lines(caplog)
    assert (line["method"], line["status"], line["bytes"]) == ("HEAD", 200, 0)


def test_the_line_of_a_stream_is_written_when_it_ends(
    viewer: Client, app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "streamer.access"):
        answer = call(app, STREAM, headers=viewer.headers)
        assert list(lines(caplog)) == []
        answer.read()
        assert len(list(lines(caplog))) == 1
