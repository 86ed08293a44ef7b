"""Uploads that can be resumed, by tus 1.0.0: over HTTP, with real files and a real database."""

import base64
import errno
import hashlib
import io
import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer import appends, digests, uploads
from streamer.app import Application
from streamer.config import Config
from streamer.errors import NotAuthenticated, UploadGone
from streamer.housekeeping import look_after
from streamer.intake import DIRECT, WHOLE
from streamer.storage.local import StagedFile
from streamer.uploads import Plan
from tests.concurrency import at_once
from tests.conftest import Clock, MakeApp
from tests.helpers import Client, Ticks, video_bytes
from tests.resumable import (
    INTEROP,
    OFFSET_STREAM,
    VERSION,
    append,
    create,
    created,
    metadata,
    offset_of,
    path_of,
)
from tests.wsgi import call, intake_of, open_files, stored_files

VIDEO = video_bytes(10_000)
UNKNOWN = "/api/uploads/" + "0" * 32


def checksum(data: bytes, algorithm: str = "sha1") -> dict[str, str]:
    digest = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    return {"Upload-Checksum": f"{algorithm} {digest}"}


# --- the protocol: version, discovery


@pytest.mark.parametrize("path", ["/api/uploads", UNKNOWN])
def test_options_tell_what_is_spoken_to_anybody(anonymous: Client, path: str) -> None:
    answer = anonymous._request("OPTIONS", path, status=204)
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Max-Size"] == str(20 * 2**30)
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "expiration",
        "termination",
        "checksum",
        "concatenation",
    }
    assert answer.headers["Upload-Limit"] == f"max-size={20 * 2**30}, max-age={7 * 86400}"


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1", "1.0.0, 1.0.0"])
def test_another_version_is_refused_and_nothing_is_done(
    alice: Client, method: str, version: str | None
) -> None:
    path = "/api/uploads" if method == "POST" else created(alice, 100)
    headers = {"Upload-Length": "9", "Upload-Offset": "0", "Content-Type": OFFSET_STREAM}
    if version is not None:
        headers["Tus-Resumable"] = version
    answer = alice._request(method, path, headers, body=b"x" if method == "PATCH" else b"", status=412)
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    expected = [] if method == "POST" else [0]
    assert [one["offset"] for one in alice.get("/api/uploads").json["data"]] == expected


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/uploads", {}, 412),
        ("POST", "/api/uploads", VERSION, 400),
        ("HEAD", UNKNOWN, VERSION, 404),
        ("PATCH", UNKNOWN, {**VERSION, "Content-Type": "text/plain"}, 415),
        ("DELETE", UNKNOWN, VERSION, 404),
        ("PUT", UNKNOWN, VERSION, 405),
    ],
)
def test_every_answer_has_the_version(
    alice: Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert alice._request(method, path, headers, status=status).headers["Tus-Resumable"] == "1.0.0"


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PATCH", "DELETE"])
def test_nobody_does_anything_without_a_token(alice: Client, anonymous: Client, method: str) -> None:
    path = "/api/uploads" if method == "POST" else created(alice, 100)
    answer = anonymous._request(method, path, {**VERSION, "Upload-Length": "1"}, status=401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Tus-Resumable"] == "1.0.0"


# --- creation


def test_an_upload_in_three_pieces_becomes_a_video(alice: Client, config: Config) -> None:
    answer = create(alice, len(VIDEO), headers={"Upload-Metadata": metadata(filename="ski trip.mp4")})
    assert answer.status_int == 201
    assert answer.headers["Upload-Offset"] == "0"
    path = path_of(answer)
    assert answer.headers["Location"] == f"http://localhost:80{path}"
    for first, last in itertools.pairwise([0, 1, 6000, len(VIDEO)]):
        answer = append(alice, path, first, VIDEO[first:last], status=204)
        assert answer.headers["Upload-Offset"] == str(last)
        assert ("Upload-Expires" in answer.headers) == (last < len(VIDEO))
    assert answer.headers["Video-Location"] == "http://localhost:80/api/videos/1"
    video = alice.get("/api/videos/1", status=200).json
    assert (video["title"], video["filename"], video["size"]) == ("ski trip", "ski trip.mp4", len(VIDEO))
    stream = alice.get("/api/videos/1/stream", status=200)
    assert stream.body == VIDEO
    assert base64.b64encode(hashlib.sha256(VIDEO).digest()).decode() in stream.headers["Repr-Digest"]
    assert len(stored_files(config.data)) == 1
    assert open_files(config.data) == []


def test_the_whole_may_come_with_the_creation(alice: Client) -> None:
    answer = create(alice, len(VIDEO), VIDEO, status=201)
    assert answer.headers["Upload-Offset"] == str(len(VIDEO))
    assert answer.headers["Video-Location"].endswith("/api/videos/1")
    assert "/api/uploads/" in answer.headers["Location"]
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_the_beginning_may_come_with_the_creation(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO[:5000])
    assert offset_of(alice, path) == 5000
    append(alice, path, 5000, VIDEO[5000:], status=204)
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_a_length_may_come_later(alice: Client) -> None:
    path = created(alice, None)
    assert alice.head(path, VERSION).headers["Upload-Defer-Length"] == "1"
    append(alice, path, 0, VIDEO[:4000], status=204)
    answer = append(alice, path, 4000, VIDEO[4000:6000], {"Upload-Length": str(len(VIDEO))}, status=204)
    assert "Video-Location" not in answer.headers
    answer = alice.head(path, VERSION)
    assert "Upload-Defer-Length" not in answer.headers
    assert answer.headers["Upload-Length"] == str(len(VIDEO))
    append(alice, path, 6000, VIDEO[6000:], status=204)
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_an_empty_request_may_tell_the_length_at_last(alice: Client) -> None:
    path = created(alice, None)
    append(alice, path, 0, VIDEO, status=204)
    answer = append(alice, path, len(VIDEO), b"", {"Upload-Length": str(len(VIDEO))}, status=204)
    assert answer.headers["Video-Location"].endswith("/api/videos/1")


@pytest.mark.parametrize("length", [9999, 10_001, 0, 10**30])
def test_a_length_that_was_told_stays(alice: Client, length: int) -> None:
    path = created(alice, len(VIDEO))
    answer = append(alice, path, 0, VIDEO[:10], {"Upload-Length": str(length)})
    assert answer.status_int in {400, 413}
    assert alice.head(path, VERSION).headers["Upload-Length"] == str(len(VIDEO))
    assert offset_of(alice, path) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upload-Length": ""},
        {"Upload-Length": "-1"},
        {"Upload-Length": "+1"},
        {"Upload-Length": "1_0"},
        {"Upload-Length": "1.0"},
        {"Upload-Length": "0x10"},
        {"Upload-Length": "1, 1"},
        {"Upload-Length": "9" * 41},
        {"Upload-Length": "5", "Upload-Defer-Length": "1"},
        {"Upload-Defer-Length": "2"},
        {"Upload-Defer-Length": "true"},
        {"Upload-Length": "5", "Upload-Metadata": "filename !!!"},
        {"Upload-Length": "5", "Upload-Metadata": "filename eA==,filename eA=="},
        {"Upload-Length": "5", "Upload-Metadata": ","},
        {"Upload-Length": "5", "Upload-Metadata": "a eA==,,b eA=="},
        {"Upload-Length": "5", "Upload-Metadata": "n\xe4me eA=="},
        {"Upload-Length": "5", "Upload-Metadata": "filename /w=="},
        {"Upload-Length": "5", "Upload-Metadata": "x " + "A" * 8192},
        {"Upload-Length": "5", "Upload-Concat": "finale"},
        {"Upload-Length": "5", "Upload-Concat": "final;"},
        {"Upload-Length": "5", "Upload-Concat": "final;" + "/api/uploads/x " * 1001},
        {"Upload-Length": "5", "Upload-Checksum": "md5 eA=="},
        {"Upload-Length": "5", "Upload-Checksum": "sha1"},
        {"Upload-Length": "5", "Upload-Checksum": "sha1 !"},
        {"Upload-Length": "5", "Idempotency-Key": ""},
        {"Upload-Length": "5", "Idempotency-Key": "k" * 256},
    ],
)
def test_what_breaks_the_grammar_makes_no_upload(
    alice: Client, config: Config, headers: dict[str, str]
) -> None:
    answer = create(alice, headers=headers)
    if headers.get("Upload-Checksum") == "sha1":  # Base64 of nothing is Base64
        assert answer.status_int == 460
    else:
        assert answer.status_int == 400
        assert answer.json["code"] in {"bad_upload_field", "bad_idempotency_key"}
    assert stored_files(config.data) == []
    assert alice.get("/api/uploads").json["data"] == []


@pytest.mark.parametrize("title", ["", "x" * 201, "a\x00b", "\u202egpj.exe"])
def test_metadata_that_cannot_be_a_title_is_named(alice: Client, title: str) -> None:
    answer = create(alice, 5, headers={"Upload-Metadata": metadata(title=title)})
    if not title:  # an empty value says nothing
        assert answer.status_int == 201
        return
    assert answer.status_int == 422
    assert answer.json["errors"][0]["field"] == "title"


def test_metadata_is_kept_and_given_back_as_it_came(alice: Client) -> None:
    told = metadata(
        filename="a.mp4", title="Ski \u2744", description="long\nago", filetype="video/mp4", x=b"\0"
    )
    told += ",is_confidential,empty "
    answer = create(alice, len(VIDEO), VIDEO, {"Upload-Metadata": told}, status=201)
    assert alice.head(path_of(answer), VERSION).headers["Upload-Metadata"] == told.strip()
    video = alice.get("/api/videos/1").json
    assert (video["title"], video["description"]) == ("Ski \u2744", "long\nago")


def test_an_upload_without_metadata_has_none(alice: Client) -> None:
    path = created(alice, 5)
    assert "Upload-Metadata" not in alice.head(path, VERSION).headers


def test_an_empty_file_is_refused(alice: Client) -> None:
    assert create(alice, 0, status=422).json["errors"] == [{"field": "video", "message": "is empty"}]


def test_what_is_no_video_is_refused_at_its_first_bytes_and_the_upload_is_gone(
    alice: Client, config: Config
) -> None:
    path = created(alice, 100_000)
    assert append(alice, path, 0, bytes(5000), status=415).json["code"] == "not_a_video"
    alice.head(path, VERSION, status=404)
    assert stored_files(config.data) == []


def test_what_is_no_video_is_refused_at_its_end_where_it_is_short(alice: Client) -> None:
    path = created(alice, 20)
    append(alice, path, 0, bytes(10), status=204)
    append(alice, path, 10, bytes(10), status=415)
    alice.head(path, VERSION, status=404)


# --- offsets


@pytest.mark.parametrize("offset", [0, 4999, 5001, 10_000, 2**63, 10**30])
def test_a_wrong_offset_changes_nothing_and_is_told_the_right_one(alice: Client, offset: int) -> None:
    path = created(alice, len(VIDEO), VIDEO[:5000])
    answer = append(alice, path, offset, b"x" * 10)
    assert answer.status_int == 409
    assert answer.headers["Upload-Offset"] == "5000"
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.json["expected-offset"] == 5000
    assert answer.json["provided-offset"] == offset
    assert answer.json["type"].endswith("#mismatching-upload-offset")
    assert offset_of(alice, path) == 5000
    append(alice, path, 5000, VIDEO[5000:], status=204)
    assert alice.get("/api/videos/1/stream").body == VIDEO


@pytest.mark.parametrize("offset", [None, "", "-1", "+0", "0x0", "1e1", "\xb2", "9" * 41])
def test_an_offset_that_is_none_is_malformed(alice: Client, offset: str | None) -> None:
    path = created(alice, 100)
    headers = {**VERSION, "Content-Type": OFFSET_STREAM}
    if offset is not None:
        headers["Upload-Offset"] = offset
    assert alice._request("PATCH", path, headers, body=b"x", status=400).json["code"] == "bad_upload_field"
    assert offset_of(alice, path) == 0


@pytest.mark.parametrize("kind", ["application/octet-stream", "video/mp4", "", "text/plain"])
def test_bytes_have_the_media_type_of_the_protocol(alice: Client, kind: str) -> None:
    path = created(alice, 100)
    append(alice, path, 0, b"x", {"Content-Type": kind}, status=415)
    create(alice, 100, b"x", {"Content-Type": kind}, status=415)


def test_more_bytes_than_the_length_are_refused_before_they_are_taken(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO[:9990])
    assert append(alice, path, 9990, b"x" * 11, status=413).json["limit"] == len(VIDEO)
    assert offset_of(alice, path) == 9990
    create(alice, 10, VIDEO[:11], status=413)


def test_no_bytes_at_all_move_nothing(frozen: Clock, alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO[:10])
    before = alice.head(path, VERSION).headers["Upload-Expires"]
    frozen.forward(minutes=30)
    append(alice, path, 10, b"", status=204)
    answer = alice.head(path, VERSION)
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Expires"]) == ("10", before)


def test_a_body_of_unknown_length_is_refused_where_nobody_tells_its_end(
    app: Application, alice: Client
) -> None:
    path = created(alice, 100)
    headers = {**alice.headers, **VERSION, "Transfer-Encoding": "chunked", "Content-Type": OFFSET_STREAM}
    assert call(app, path, "PATCH", {**headers, "Upload-Offset": "0"}).status == 411
    assert call(app, "/api/uploads", "POST", {**headers, "Upload-Length": "9"}).status == 411


def send_chunked(
    app: Application, client: Client, method: str, path: str, body: bytes, headers: dict[str, str]
) -> int:
    """A body that the server has put together from chunks; the status of the answer."""
    fields = {"Transfer-Encoding": "chunked", "Content-Type": OFFSET_STREAM, **VERSION, **headers}
    extra = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
    answer = call(app, path, method, client.headers | fields, extra=extra)
    answer.read()
    return answer.status


def test_a_body_of_unknown_length_is_taken_where_the_server_tells_its_end(
    app: Application, alice: Client
) -> None:
    path = created(alice, len(VIDEO))
    assert send_chunked(app, alice, "PATCH", path, VIDEO[:6000], {"Upload-Offset": "0"}) == 204
    assert send_chunked(app, alice, "PATCH", path, VIDEO[6000:], {"Upload-Offset": "6000"}) == 204
    assert alice.get("/api/videos/1/stream").body == VIDEO
    assert send_chunked(app, alice, "PATCH", path, b"", {"Upload-Offset": "10000"}) == 413
    length = {"Upload-Length": "10000"}
    too_long = created(alice, 9999)
    assert send_chunked(app, alice, "PATCH", too_long, VIDEO, {"Upload-Offset": "0"}) == 413
    alice.head(too_long, VERSION, status=404)
    assert send_chunked(app, alice, "POST", "/api/uploads", VIDEO, length) == 201
    deferred = created(alice, None)
    assert send_chunked(app, alice, "PATCH", deferred, VIDEO, {"Upload-Offset": "0"}) == 411
    assert send_chunked(app, alice, "POST", "/api/uploads", VIDEO, {"Upload-Defer-Length": "1"}) == 411
    assert send_chunked(app, alice, "PATCH", deferred, VIDEO, {"Upload-Offset": "0", **length}) == 204


# --- what the last request leaves behind


def test_a_finished_upload_goes_on_telling_where_the_video_is(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO)
    for _ in range(2):
        answer = alice.head(path, VERSION, status=200)
        assert answer.headers["Upload-Offset"] == answer.headers["Upload-Length"] == str(len(VIDEO))
        assert answer.headers["Video-Location"] == "http://localhost:80/api/videos/1"
        assert answer.headers["Cache-Control"] == "no-store"
    answer = append(alice, path, len(VIDEO), b"", status=204)
    assert answer.headers["Video-Location"].endswith("/api/videos/1")
    append(alice, path, len(VIDEO), b"x", status=413)
    append(alice, path, 0, b"x", status=409)
    assert alice.get("/api/uploads").json["data"] == []
    assert alice.get("/api/videos").json["meta"]["total"] == 1


def test_the_trace_of_a_finished_upload_expires_and_the_video_stays(
    frozen: Clock, app: Application, alice: Client
) -> None:
    path = created(alice, len(VIDEO), VIDEO)
    frozen.forward(days=8)
    alice.sign_in("alice")
    alice.head(path, VERSION, status=410)
    look_after(intake_of(app))
    alice.head(path, VERSION, status=404)
    alice.get("/api/videos/1", status=200)


def test_a_deleted_video_takes_the_trace_of_its_upload_along(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO)
    alice.delete("/api/videos/1", status=204)
    alice.head(path, VERSION, status=404)


def test_deleting_a_finished_upload_leaves_the_video(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO)
    alice._request("DELETE", path, VERSION, status=204)
    alice.head(path, VERSION, status=404)
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_termination_frees_the_file_and_the_quota(make_app: MakeApp) -> None:
    app = make_app(quota_bytes=10_000)
    client = Client(app).sign_up("alice")
    path = created(client, 10_000, VIDEO[:6000])
    create(client, 1, status=413)
    client._request("DELETE", path, VERSION, status=204)
    assert stored_files(app.config.data) == []
    client.head(path, VERSION, status=404)
    append(client, path, 6000, b"x", status=404)
    client._request("DELETE", path, VERSION, status=404)
    created(client, 10_000)


@pytest.mark.parametrize("override", ["PATCH", "patch"])
def test_a_post_may_stand_for_a_patch_or_a_delete(alice: Client, override: str) -> None:
    path = created(alice, len(VIDEO))
    headers = {**VERSION, "Upload-Offset": "0", "Content-Type": OFFSET_STREAM}
    headers["X-HTTP-Method-Override"] = override
    alice._request("POST", path, headers, body=VIDEO[:10], status=204)
    assert offset_of(alice, path) == 10
    alice._request("POST", path, {**VERSION, "X-HTTP-Method-Override": "DELETE"}, status=204)
    alice.head(path, VERSION, status=404)


def test_a_post_may_ask_how_far_an_upload_is(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO[:10])
    answer = alice._request("POST", path, {**VERSION, "X-HTTP-Method-Override": "HEAD"}, status=200)
    assert (answer.headers["Upload-Offset"], answer.headers["Content-Length"], answer.body) == (
        "10",
        "0",
        b"",
    )


@pytest.mark.parametrize("override", ["GET", "PUT", "", "PATCH, PATCH"])
def test_a_post_may_stand_for_nothing_else(alice: Client, override: str) -> None:
    answer = create(alice, 5, headers={"X-HTTP-Method-Override": override}, status=400)
    assert answer.json["code"] == "bad_method_override"


def test_an_override_of_another_method_is_ignored(alice: Client) -> None:
    path = created(alice, 5)
    alice.get(path, {"X-HTTP-Method-Override": "DELETE"}, status=200)
    alice.head(path, VERSION, status=200)


# --- whose it is


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
def test_an_upload_of_somebody_else_is_not_there(alice: Client, bob: Client, method: str) -> None:
    path = created(alice, 100)
    headers = {**VERSION, "Upload-Offset": "0", "Content-Type": OFFSET_STREAM}
    body = b"x" if method == "PATCH" else b""
    theirs = bob._request(method, path, headers, body=body, status=404)
    nobodys = bob._request(method, UNKNOWN, headers, body=body, status=404)
    assert theirs.body == nobodys.body
    assert bob.get("/api/uploads").json["data"] == []
    assert offset_of(alice, path) == 0


@pytest.mark.parametrize(
    "name", ["1", "x", "0" * 31, "G" * 32, "..%2Fstreamer.db", "%00", "%e9", "0" * 32 + "%0d%0aX: y"]
)
def test_what_cannot_be_an_upload_is_not_there(alice: Client, name: str) -> None:
    assert alice.get(f"/api/uploads/{name}").status_int in {400, 404}
    assert alice._request("DELETE", f"/api/uploads/{name}", VERSION).status_int in {400, 404}


def test_an_account_that_is_deleted_takes_its_uploads_along(alice: Client, config: Config) -> None:
    created(alice, len(VIDEO), VIDEO[:5000])
    alice.delete("/api/auth/me", {"password": "correct horse battery"}, status=204)
    assert stored_files(config.data) == []


# --- checksums


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_bytes_that_fit_their_checksum_are_taken(alice: Client, algorithm: str) -> None:
    path = created(alice, len(VIDEO))
    append(alice, path, 0, VIDEO[:5000], checksum(VIDEO[:5000], algorithm), status=204)
    append(alice, path, 5000, VIDEO[5000:], checksum(VIDEO[5000:], algorithm), status=204)
    answer = alice.get("/api/videos/1/stream")
    assert answer.body == VIDEO
    assert "Repr-Digest" in answer.headers


def test_bytes_that_do_not_fit_their_checksum_are_dropped(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO[:5000])
    broken = b"y" + VIDEO[5001:]
    answer = append(alice, path, 5000, broken, checksum(VIDEO[5000:]), status=460)
    assert answer.status == "460 Checksum Mismatch"
    assert answer.json["code"] == "checksum_mismatch"
    assert offset_of(alice, path) == 5000
    append(alice, path, 5000, VIDEO[5000:], checksum(VIDEO[5000:]), status=204)
    answer = alice.get("/api/videos/1/stream")
    assert answer.body == VIDEO
    digest = base64.b64encode(hashlib.sha256(VIDEO).digest()).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_first_bytes_that_were_broken_on_their_way_do_not_cost_the_upload(alice: Client) -> None:
    path = created(alice, len(VIDEO))
    append(alice, path, 0, bytes(5000), checksum(VIDEO[:5000]), status=460)
    append(alice, path, 0, VIDEO[:5000], checksum(VIDEO[:5000]), status=204)
    append(alice, path, 5000, VIDEO[5000:], status=204)
    assert alice.get("/api/videos/1/stream").body == VIDEO
    path = created(alice, len(VIDEO))
    append(alice, path, 0, bytes(5000), checksum(bytes(5000)), status=415)
    alice.head(path, VERSION, status=404)


def test_a_checksum_at_creation_is_of_its_body(alice: Client) -> None:
    create(alice, len(VIDEO), VIDEO[:100], checksum(b"other"), status=460)
    assert offset_of(alice, created(alice, len(VIDEO), VIDEO[:100], **checksum(VIDEO[:100]))) == 100


class CutBody:
    """A request body whose client leaves after some bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def read(self, size: int = -1) -> bytes:
        piece, self._data = self._data[: min(size, 700)], self._data[min(size, 700) :]
        return piece


def cut_append(
    app: Application, client: Client, path: str, offset: int, data: bytes, size: int, **more: str
) -> int:
    """A PATCH that declares ``size`` bytes and brings ``data``; the status of its answer."""
    headers = {
        **client.headers,
        **VERSION,
        "Upload-Offset": str(offset),
        "Content-Type": OFFSET_STREAM,
        **more,
    }
    extra = {"wsgi.input": CutBody(data, size), "CONTENT_LENGTH": str(size)}
    answer = call(app, path, "PATCH", headers, extra=extra)
    answer.read()
    return answer.status


def test_bytes_of_a_client_that_leaves_are_kept_to_the_last(app: Application, alice: Client) -> None:
    path = created(alice, len(VIDEO))
    assert cut_append(app, alice, path, 0, VIDEO[:4321], len(VIDEO)) == 400
    assert offset_of(alice, path) == 4321
    append(alice, path, 4321, VIDEO[4321:], status=204)
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_bytes_that_could_not_be_checked_are_dropped(app: Application, alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO[:1000])
    told = checksum(VIDEO[1000:])
    assert cut_append(app, alice, path, 1000, VIDEO[1000:4321], len(VIDEO) - 1000, **told) == 400
    assert offset_of(alice, path) == 1000
    append(alice, path, 1000, VIDEO[1000:], told, status=204)
    assert "Repr-Digest" in alice.get("/api/videos/1/stream").headers


# --- expiration


def test_an_upload_expires_a_week_after_its_last_byte(frozen: Clock, alice: Client) -> None:
    path = created(alice, len(VIDEO))
    frozen.forward(days=6)
    alice.sign_in("alice")
    answer = append(alice, path, 0, VIDEO[:5], status=204)
    assert answer.headers["Upload-Expires"] == "Sun, 17 May 2026 03:02:01 GMT"
    frozen.forward(days=6.9)
    alice.sign_in("alice")
    assert offset_of(alice, path) == 5
    frozen.forward(days=0.2)
    alice.sign_in("alice")
    for method in ("HEAD", "DELETE"):
        alice._request(method, path, VERSION, status=410)
    assert append(alice, path, 5, VIDEO[5:], status=410).json["code"] == "upload_gone"
    assert alice.get("/api/uploads").json["data"] == []


def test_the_lifetime_is_a_setting(make_app: MakeApp, frozen: Clock) -> None:
    client = Client(make_app(upload_ttl=60)).sign_up("alice")
    path = created(client, 5)
    frozen.forward(seconds=61)
    client.head(path, VERSION, status=410)


def test_an_upload_whose_bytes_are_lost_begins_anew(alice: Client, config: Config) -> None:
    for harm in (lambda file: file.unlink(), lambda file: file.write_bytes(b"short")):
        path = created(alice, len(VIDEO), VIDEO[:5000])
        harm(config.data / "incoming" / path.rpartition("/")[2])
        append(alice, path, 5000, VIDEO[5000:], status=410)
        alice.head(path, VERSION, status=404)


# --- concatenation


def parts_of(client: Client, *cuts: int) -> list[str]:
    edges = [0, *cuts, len(VIDEO)]
    return [
        created(client, last - first, VIDEO[first:last], Upload_Concat="partial")
        for first, last in itertools.pairwise(edges)
    ]


def join(client: Client, *parts: str, **options: Any) -> Any:
    headers = {"Upload-Concat": "final;" + " ".join(parts), "Upload-Metadata": metadata(title="Joined")}
    return create(client, headers=headers, **options)


@pytest.mark.parametrize("cuts", [(), (1,), (4096,), (3000, 3001, 9999)])
def test_parts_are_put_together_in_their_order(alice: Client, config: Config, cuts: tuple[int, ...]) -> None:
    parts = parts_of(alice, *cuts)
    answer = join(alice, *parts, status=201)
    assert answer.headers["Video-Location"].endswith("/api/videos/1")
    assert answer.headers["Upload-Offset"] == answer.headers["Upload-Length"] == str(len(VIDEO))
    assert answer.headers["Upload-Concat"] == "final;" + " ".join(parts)
    assert alice.get("/api/videos/1/stream").body == VIDEO
    assert alice.get("/api/videos/1").json["title"] == "Joined"
    for part in parts:
        alice.head(part, VERSION, status=404)
    assert len(stored_files(config.data)) == 1
    assert open_files(config.data) == []


def test_parts_may_be_named_by_absolute_urls_and_come_in_another_order(alice: Client) -> None:
    parts = [f"http://localhost:80{part}" for part in reversed([*reversed(parts_of(alice, 5000))])]
    join(alice, *parts, status=201)
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_a_part_may_be_there_twice(alice: Client) -> None:
    [head, tail] = parts_of(alice, 5000)
    join(alice, head, tail, tail, status=201)
    assert alice.get("/api/videos/1/stream").body == VIDEO + VIDEO[5000:]


def test_the_digest_of_a_final_upload_is_computed_later(app: Application, alice: Client) -> None:
    join(alice, *parts_of(alice, 5000), status=201)
    assert "Repr-Digest" not in alice.get("/api/videos/1/stream").headers
    look_after(intake_of(app))
    digest = base64.b64encode(hashlib.sha256(VIDEO).digest()).decode()
    assert alice.get("/api/videos/1/stream").headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_parts_that_cannot_be_joined_stay(alice: Client, bob: Client) -> None:
    whole = created(alice, 100)
    complete = created(alice, 5, b"12345", Upload_Concat="partial")
    missing = created(alice, 5, b"123", Upload_Concat="partial")
    assert join(alice, complete, missing, status=400).json["code"] == "part_not_complete"
    assert join(alice, complete, whole, status=400).json["code"] == "part_not_complete"
    join(alice, complete, UNKNOWN, status=404)
    join(alice, "http://localhost:80/elsewhere/" + complete.rpartition("/")[2], status=404)
    join(alice, "http://[", status=404)
    join(bob, complete, status=404)
    join(alice, complete, status=415)  # it is no video
    assert offset_of(alice, complete) == 5
    assert offset_of(alice, missing) == 3
    assert alice.get("/api/videos").json["data"] == []


def test_a_final_upload_takes_no_body_and_no_more_bytes(alice: Client) -> None:
    parts = parts_of(alice, 5000)
    headers = {"Upload-Concat": "final;" + " ".join(parts)}
    create(alice, None, b"x", headers, status=413)
    path = path_of(join(alice, *parts, status=201))
    assert append(alice, path, len(VIDEO), b"x", status=403).json["code"] == "upload_not_appendable"
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_a_partial_upload_says_so(alice: Client) -> None:
    path = created(alice, 100, Upload_Concat="partial")
    assert alice.head(path, VERSION).headers["Upload-Concat"] == "partial"
    assert alice.get(path).json["is_partial"] is True


def test_a_partial_upload_may_be_empty(alice: Client) -> None:
    empty = created(alice, 0, Upload_Concat="partial")
    join(alice, *parts_of(alice), empty, status=201)
    assert alice.get("/api/videos/1/stream").body == VIDEO


# --- two at once


def test_a_second_request_is_told_at_once_that_the_upload_is_held(app: Application, alice: Client) -> None:
    path = created(alice, len(VIDEO))
    holder = uploads.resume(intake_of(app), 1, path.rpartition("/")[2], offset=0, size=len(VIDEO))
    holder.feed(VIDEO[:10])
    try:
        answer = append(alice, path, 0, VIDEO, status=423)
        assert (answer.json["code"], answer.headers["Retry-After"]) == ("upload_locked", "1")
        assert offset_of(alice, path) == 0, "HEAD is not blocked"
        progress = alice.get(path, status=200)
        assert (progress.json["offset"], progress.json["received"]) == (0, 10)
        assert progress.headers["Retry-After"] == "1"
    finally:
        holder.close()
    assert offset_of(alice, path) == 10


def test_a_request_that_gets_nothing_any_more_makes_room(
    app: Application, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = created(alice, len(VIDEO))
    stalled = uploads.resume(intake_of(app), 1, path.rpartition("/")[2], offset=0, size=len(VIDEO))
    stalled.feed(VIDEO[:4000])
    monkeypatch.setattr(stalled, "_last_fed", stalled._last_fed - 2)
    assert offset_of(alice, path) == 4000, "what it had received counts"
    with pytest.raises(uploads.UploadLocked):
        stalled.feed(VIDEO[4000:])
    append(alice, path, 4000, VIDEO[4000:], status=204)
    stalled.close()
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_of_many_at_once_one_adds_its_bytes(app: Application, alice: Client) -> None:
    path = created(alice, len(VIDEO))
    clients = [Client(app).sign_in("alice") for _ in range(8)]
    answers = at_once(*[lambda client=client: append(client, path, 0, VIDEO) for client in clients])
    statuses = [answer.status_int for answer in answers]
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 409, 413, 423}
    assert alice.get("/api/videos").json["meta"]["total"] == 1
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_deleting_an_upload_ends_the_request_that_adds_to_it(
    app: Application, alice: Client, config: Config
) -> None:
    path = created(alice, len(VIDEO))
    holder = uploads.resume(intake_of(app), 1, path.rpartition("/")[2], offset=0, size=len(VIDEO))
    holder.feed(VIDEO[:4000])
    alice._request("DELETE", path, VERSION, status=204)
    with pytest.raises(UploadGone):
        holder.feed(VIDEO[4000:])
    assert stored_files(config.data) == []


# --- limits


def test_a_length_over_the_limit_is_refused(make_app: MakeApp) -> None:
    client = Client(make_app(max_upload_bytes=9999)).sign_up("alice")
    for length in (10_000, 10**18, 10**30):
        answer = create(client, length, status=413)
        assert (answer.json["code"], answer.json["limit"]) == ("body_too_large", 9999)
    path = created(client, None)
    append(client, path, 0, VIDEO[:5000], status=204)
    append(client, path, 5000, VIDEO[5000:], status=413)
    assert offset_of(client, path) == 5000


def test_unfinished_uploads_count_against_the_quota(make_app: MakeApp) -> None:
    client = Client(make_app(quota_bytes=25_000)).sign_up("alice")
    path = created(client, len(VIDEO))
    client.upload_raw(VIDEO, status=201)
    answer = create(client, 5001, status=413)
    assert answer.json["code"] == "quota_exceeded"
    assert (answer.json["quota"], answer.json["used"]) == (25_000, 20_000)
    client.upload_raw(video_bytes(5001), status=413)
    append(client, path, 0, VIDEO, status=204)
    created(client, 5000)


def test_an_upload_of_unknown_length_takes_its_room_as_it_grows(make_app: MakeApp) -> None:
    client = Client(make_app(quota_bytes=9000)).sign_up("alice")
    path = created(client, None)
    append(client, path, 0, VIDEO[:6000], status=204)
    create(client, 3001, status=413)
    append(client, path, 6000, VIDEO[6000:], status=413)
    append(client, path, 6000, VIDEO[6000:9000], status=204)


def test_what_the_disk_has_not_is_refused_with_the_figure(make_app: MakeApp) -> None:
    client = Client(make_app(min_free_bytes=2**62)).sign_up("alice")
    answer = create(client, 10, status=507)
    assert (answer.json["code"], answer.json["available"]) == ("insufficient_storage", 0)


def test_an_account_has_a_thousand_unfinished_uploads_at_most(
    alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_UNFINISHED", 3)
    paths = [created(alice, 5) for _ in range(3)]
    answer = create(alice, 5, status=429)
    assert answer.json["code"] == "too_many_uploads"
    assert int(answer.headers["Retry-After"]) > 0
    created(bob, 5)
    alice._request("DELETE", paths[0], VERSION, status=204)
    created(alice, 5)


# --- progress, for people


def test_the_list_has_ones_unfinished_uploads(frozen: Clock, alice: Client) -> None:
    first = created(alice, len(VIDEO), VIDEO[:5000], Upload_Metadata=metadata(filename="a.mp4"))
    frozen.forward(seconds=1)
    created(alice, 100)
    created(alice, len(VIDEO), VIDEO)
    data = alice.get("/api/uploads", status=200).json["data"]
    assert [(one["filename"], one["offset"], one["length"]) for one in data] == [
        ("a.mp4", 5000, len(VIDEO)),
        (None, 0, 100),
    ]
    assert data[0]["id"] == first.rpartition("/")[2]
    assert data[0]["expires_at"] == "2026-05-11T03:02:01.654Z"
    alice.get("/api/uploads?page=2", status=422)


def test_progress_tells_the_rate_and_the_time_that_is_left(
    frozen: Clock, app: Application, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks()
    monkeypatch.setattr(time, "monotonic", ticks.monotonic)
    path = created(alice, len(VIDEO))
    running = uploads.resume(intake_of(app), 1, path.rpartition("/")[2], offset=0, size=6000)
    running.feed(VIDEO[:2000])
    ticks.time += 2
    progress = alice.get(path, status=200).json
    assert (progress["offset"], progress["received"]) == (0, 2000)
    assert (progress["bytes_per_second"], progress["seconds_left"]) == (1000, 8)
    running.feed(VIDEO[2000:6000])
    running.end()
    running.close()
    progress = alice.get(path, status=200).json
    assert (progress["offset"], progress["received"]) == (6000, 6000)
    assert (progress["bytes_per_second"], progress["seconds_left"]) == (3000, 2)
    frozen.forward(seconds=10)
    progress = alice.get(path, status=200).json
    assert (progress["bytes_per_second"], progress["seconds_left"]) == (0, None)
    append(alice, path, 6000, VIDEO[6000:], status=204)
    answer = alice.get(path, status=200)
    assert answer.json["links"]["video"] == "http://localhost:80/api/videos/1"
    assert (answer.json["video_id"], answer.json["bytes_per_second"]) == (1, 0)
    assert "Retry-After" not in answer.headers


def test_progress_is_cheap_to_ask_for(alice: Client) -> None:
    path = created(alice, len(VIDEO), VIDEO[:10])
    answer = alice.get(path, status=200)
    assert answer.headers["Retry-After"] == "10"
    again = alice.get(path, {"If-None-Match": answer.headers["ETag"]}, status=304)
    assert again.headers["ETag"] == answer.headers["ETag"]
    append(alice, path, 10, VIDEO[10:20], status=204)
    alice.get(path, {"If-None-Match": answer.headers["ETag"]}, status=200)


def test_links_stand_under_prefix_and_proxy(make_app: MakeApp) -> None:
    app = make_app(public_url="https://video.example.org/films")
    client = Client(app).sign_up("alice")
    answer = create(client, len(VIDEO), VIDEO, status=201)
    assert answer.headers["Location"].startswith("https://video.example.org/films/api/uploads/")
    assert answer.headers["Video-Location"] == "https://video.example.org/films/api/videos/1"


# --- the check before the first byte


def check(client: Client, **body: object) -> Any:
    return client.post("/api/uploads/check", {"filename": "a.mp4", **body}, status=200).json


def test_the_check_says_yes_and_what_there_is(alice: Client) -> None:
    assert check(alice, size=5000) == {
        "accepted": True,
        "reason": None,
        "max_size": 20 * 2**30,
        "chunk_size": 64 * 2**20,
        "quota_left": None,
        "duplicate_of": None,
    }


def test_the_check_says_no_and_why(make_app: MakeApp) -> None:
    client = Client(make_app(quota_bytes=15_000, max_upload_bytes=30_000)).sign_up("alice")
    created(client, 10_000)
    assert check(client, size=5000)["accepted"] is True
    answer = check(client, size=5001)
    assert (answer["accepted"], answer["reason"], answer["quota_left"]) == (False, "quota_exceeded", 5000)
    assert check(client, size=30_001)["reason"] == "body_too_large"
    assert check(client, size=10**30)["reason"] == "body_too_large"
    full = Client(make_app(min_free_bytes=2**62)).sign_up("alice")
    assert check(full, size=1)["reason"] == "insufficient_storage"


def test_the_check_knows_ones_own_copy_only(alice: Client, bob: Client) -> None:
    alice.upload_raw(VIDEO, status=201)
    digest = hashlib.sha256(VIDEO).hexdigest()
    assert check(alice, size=10_000, sha256=digest.upper())["duplicate_of"]["id"] == 1
    assert check(alice, size=10_000, sha256="0" * 64)["duplicate_of"] is None
    assert check(bob, size=10_000, sha256=digest)["duplicate_of"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"filename": "a"}, "size"),
        ({"size": 5}, "filename"),
        ({"size": 0, "filename": "a"}, "size"),
        ({"size": -1, "filename": "a"}, "size"),
        ({"size": 1.5, "filename": "a"}, "size"),
        ({"size": True, "filename": "a"}, "size"),
        ({"size": "5", "filename": "a"}, "size"),
        ({"size": 5, "filename": ""}, "filename"),
        ({"size": 5, "filename": "a", "sha256": "0" * 63}, "sha256"),
        ({"size": 5, "filename": "a", "colour": "red"}, "colour"),
    ],
)
def test_the_check_names_what_is_wrong(alice: Client, body: dict[str, object], field: str) -> None:
    answer = alice.post("/api/uploads/check", body, status=422)
    assert [error["field"] for error in answer.json["errors"]] == [field]


# --- what a crash leaves


def test_an_upload_of_which_all_has_come_becomes_a_video_when_somebody_asks(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = created(alice, len(VIDEO), VIDEO[:5000])
    with monkeypatch.context() as patch:

        def fail(self: StagedFile) -> None:
            raise OSError("the disk has gone")

        patch.setattr(StagedFile, "publish", fail)
        append(alice, path, 5000, VIDEO[5000:], status=500)
    answer = alice.head(path, VERSION, status=200)
    assert answer.headers["Upload-Offset"] == str(len(VIDEO))
    assert answer.headers["Video-Location"].endswith("/api/videos/1")
    assert alice.get("/api/videos/1/stream").body == VIDEO


@pytest.mark.parametrize("stop", [5000, len(VIDEO)])
def test_bytes_that_the_disk_refused_once_are_never_believed(
    alice: Client, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Linux tells of a failed write once, and then calls the pages clean."""
    path = created(alice, len(VIDEO))
    calls: list[int] = []

    def fail_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_once)
        append(alice, path, 0, VIDEO[:stop], status=500)
    answer = alice.head(path, VERSION, status=200)
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Complete"]) == ("0", "?0")
    append(alice, path, 0, VIDEO, status=204)
    stream = alice.get("/api/videos/1/stream")
    assert stream.body == VIDEO


def test_a_deleted_account_takes_its_running_uploads_and_their_room_along(
    app: Application, alice: Client, bob: Client, config: Config
) -> None:
    plans = [Plan(kind=DIRECT, at_least=10_000), Plan(kind=WHOLE, length=10_000)]
    running = [uploads.begin(intake_of(app), 1, plan) for plan in plans]
    for one in running:
        one.feed(VIDEO[:5000])
    alice.delete("/api/auth/me", {"password": "correct horse battery"}, status=204)
    for one in running:
        with pytest.raises(NotAuthenticated):
            one.feed(VIDEO[5000:])
        one.close()
    assert stored_files(config.data) == []


def test_room_for_a_body_that_never_came_is_given_back(make_app: MakeApp) -> None:
    app = make_app(quota_bytes=9000)
    client = Client(app).sign_up("alice")
    path = created(client, None)
    assert cut_append(app, client, path, 0, VIDEO[:700], 9000) == 400
    assert offset_of(client, path) == 700
    created(client, 8300)


def test_parts_that_are_no_video_are_not_copied(
    alice: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = created(alice, 5000, bytes(5000), Upload_Concat="partial")
    monkeypatch.setattr(StagedFile, "copy", lambda self, other: pytest.fail("nothing has to be copied"))
    join(alice, *[part] * 100, status=415)
    assert offset_of(alice, part) == 5000
    assert len(stored_files(config.data)) == 1


def test_bytes_that_never_counted_are_not_in_the_video(
    app: Application, alice: Client, config: Config
) -> None:
    path = created(alice, len(VIDEO), VIDEO[:5000])
    with (config.data / "incoming" / path.rpartition("/")[2]).open("ab") as file:
        file.write(b"of a process that died")
    appends._carried._digests.clear()  # they went with it
    append(alice, path, 5000, VIDEO[5000:], status=204)
    answer = alice.get("/api/videos/1/stream")
    assert answer.body == VIDEO
    assert "Repr-Digest" not in answer.headers
    look_after(intake_of(app))
    assert "Repr-Digest" in alice.get("/api/videos/1/stream").headers


def test_no_more_digests_are_carried_than_there_is_room_for(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MOST_CARRIED", 1)
    first, second = (created(alice, len(VIDEO), VIDEO[:5000]) for _ in range(2))
    append(alice, first, 5000, VIDEO[5000:], status=204)
    append(alice, second, 5000, VIDEO[5000:], status=204)
    has_digest = ["Repr-Digest" in alice.get(f"/api/videos/{n}/stream").headers for n in (1, 2)]
    assert has_digest == [False, True]


# --- whatever comes


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=255, blacklist_characters="\x7f"), max_size=40)
numbers = st.one_of(st.integers(-5, 20_000).map(str), st.integers(0, 10**45).map(str), texts)
encoded = st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode())
values = st.one_of(
    texts,
    encoded,
    st.builds("{} {}".format, st.sampled_from(["filename", "title", "sha1", "sha256", "x"]), encoded),
    st.sampled_from(["partial", "final;", f"final;{UNKNOWN}", "1", "?1", "?0", "1.0.0"]),
)
fields = st.dictionaries(
    st.sampled_from(
        [
            "Upload-Metadata",
            "Upload-Checksum",
            "Upload-Concat",
            "Upload-Defer-Length",
            "Upload-Complete",
            "Content-Digest",
            "Content-Disposition",
            "Idempotency-Key",
            "Upload-Draft-Interop-Version",
        ]
    ),
    values,
)


@pytest.mark.no_cover  # the lines are reached by the tests above, and are faster unmeasured
@FUZZ
@given(length=st.one_of(st.none(), numbers), more=fields, body=st.binary(max_size=50))
@example(length="5", more={"Upload-Metadata": "filename AAAA"}, body=b"")
def test_no_head_of_a_creation_makes_the_server_fail(
    make_app: MakeApp, length: str | None, more: dict[str, str], body: bytes
) -> None:
    headers = {**more, "Content-Type": OFFSET_STREAM} if body else more
    client = Client(make_app(max_upload_bytes=10**6)).sign_up("alice")
    answer = create(client, length, body, headers)
    assert answer.status_int < 500


@pytest.mark.no_cover  # the lines are reached by the tests above, and are faster unmeasured
@FUZZ
@given(offset=numbers, length=st.one_of(st.none(), numbers), more=fields, body=st.binary(max_size=50))
@example(offset="5000", length=None, more={}, body=b"")
@example(offset="5000", length="10000", more={}, body=b"")
def test_no_head_of_an_append_moves_an_offset_that_it_does_not_name(
    alice: Client, offset: str, length: str | None, more: dict[str, str], body: bytes
) -> None:
    path = created(alice, len(VIDEO), VIDEO[:5000])
    headers = more if length is None else {**more, "Upload-Length": length}
    answer = append(alice, path, offset, body, headers)
    assert answer.status_int < 500
    moved = len(body) if answer.status_int == 204 and offset.strip() == "5000" else 0
    assert offset_of(alice, path) == 5000 + moved
    alice._request("DELETE", path, {**VERSION}, status=204)


@pytest.mark.parametrize("headers", [INTEROP, VERSION])
def test_the_list_and_the_progress_need_no_dialect(alice: Client, headers: dict[str, str]) -> None:
    path = created(alice, 5)
    assert alice.get(path).json == alice.get(path, headers).json
    assert alice.get("/api/uploads", headers).json == alice.get("/api/uploads").json


def test_what_is_left_in_the_folders_is_what_the_rows_say(alice: Client, config: Config) -> None:
    path = created(alice, len(VIDEO), VIDEO[:5000])
    assert stored_files(config.data) == [f"incoming/{path.rpartition('/')[2]}"]
    assert Path(config.data / stored_files(config.data)[0]).stat().st_size == 5000
