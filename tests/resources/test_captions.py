"""Captions: listed, sent, given, replaced and removed."""

import io
import json
from typing import Any

import pytest
import webtest

from streamer.app import Application
from streamer.protocol.captions import MAX_BYTES
from streamer.resources import captions as resource
from streamer.storage import space
from tests.concurrency import at_once
from tests.conftest import MakeApp
from tests.derived import VTT, derived_files, give_captions
from tests.helpers import Client, video_bytes
from tests.wsgi import Answer, call, database_of

VIDEO = "/api/videos/1"
ALL = f"{VIDEO}/captions"
EN = f"{ALL}/en"
SRT = b"1\r\n00:00:00,000 --> 00:00:02,000\r\nHello\r\n"


@pytest.fixture
def owner(alice: Client) -> Client:
    """A client with one video, which has the id 1."""
    alice.upload(video_bytes(), "a clip.mp4", status=201)
    return alice


def put(client: Client, url: str, data: bytes = VTT, kind: str = "text/vtt", **options: Any) -> Any:
    headers = {"Content-Type": kind, **options.pop("headers", {})}
    return client._request("PUT", url, headers, body=data, **options)


def names(client: Client) -> list[str]:
    return [row["name"] for row in client.get(ALL, status=200).json["data"]]


def test_captions_that_are_given_are_told_and_sent(app: Application, owner: Client) -> None:
    assert owner.get(ALL, status=200).json == {"data": []}
    answer = put(owner, f"{EN}?label=English+(CC)", status=201)
    assert answer.json == {
        "name": "en",
        "language": "en",
        "label": "English (CC)",
        "is_forced": False,
        "source": "upload",
        "url": "http://localhost:80/api/videos/1/captions/en.vtt",
    }
    assert answer.headers["Location"] == answer.json["url"]
    assert owner.get(ALL).json == {"data": [answer.json]}
    assert owner.get(VIDEO).json["captions"] == [answer.json]
    assert owner.get("/api/videos").json["data"][0]["captions"] == [answer.json]
    sent = owner.get(answer.json["url"], status=200)
    assert sent.body == VTT
    assert sent.headers["Content-Type"] == "text/vtt; charset=utf-8"
    assert sent.headers["Content-Security-Policy"] == "sandbox"
    assert sent.headers["Content-Disposition"] == 'inline; filename="a clip.en.vtt"'
    assert len(derived_files(app)) == 1


@pytest.mark.parametrize(
    "kind", ["text/vtt", "Text/VTT; charset=utf-8", *resource.MEDIA_TYPES[1:]], ids=lambda kind: kind
)
@pytest.mark.parametrize("data", [VTT, b"\xef\xbb\xbf" + VTT, SRT])
def test_all_kinds_of_captions_become_webvtt(owner: Client, data: bytes, kind: str) -> None:
    put(owner, EN, data, kind, status=201)
    assert owner.get(f"{EN}.vtt").body == VTT


@pytest.mark.parametrize(
    ("written", "name"), [("EN", "en"), ("eng", "en"), ("pt-br", "pt-BR"), ("ZH-HANT-TW", "zh-Hant-TW")]
)
def test_a_language_has_one_name_however_it_is_written(owner: Client, written: str, name: str) -> None:
    assert put(owner, f"{ALL}/{written}", status=201).json["language"] == name
    put(owner, f"{ALL}/{name}", status=200)
    assert names(owner) == [name]
    assert owner.get(f"{ALL}/{written}.vtt", status=200).body == VTT
    owner.delete(f"{ALL}/{written}", status=204)
    assert names(owner) == []


def test_captions_that_are_replaced_leave_nothing(app: Application, owner: Client) -> None:
    put(owner, f"{EN}?label=first", status=201)
    etag = owner.get(f"{EN}.vtt").headers["ETag"]
    answer = put(owner, EN, VTT.replace(b"Hello", b"Bye"), status=200)
    assert "Location" not in answer.headers
    assert answer.json["label"] is None
    assert owner.get(f"{EN}.vtt", {"If-None-Match": etag}, status=200).body.endswith(b"Bye\n")
    assert len(derived_files(app)) == 1


def test_captions_that_are_deleted_leave_nothing(app: Application, owner: Client) -> None:
    put(owner, EN, status=201)
    put(owner, f"{ALL}/de", status=201)
    owner.delete(EN, status=204)
    assert names(owner) == ["de"]
    assert len(derived_files(app)) == 1
    assert owner.delete(EN, status=404).json["code"] == "not_found"
    owner.get(f"{EN}.vtt", status=404)
    owner.delete(VIDEO, status=204)
    assert derived_files(app) == []


def test_those_of_the_file_come_first_and_by_number(app: Application, owner: Client) -> None:
    put(owner, f"{ALL}/de", status=201)
    for name in ("10", "2", "0"):
        give_captions(app, name, is_forced=name == "2")
    assert names(owner) == ["0", "2", "10", "de"]
    [first, second, *_] = owner.get(VIDEO).json["captions"]
    assert (first["source"], first["language"], first["is_forced"]) == ("file", None, False)
    assert second["is_forced"]
    assert owner.get(first["url"], status=200).body == VTT
    owner.delete(f"{ALL}/0", status=204)
    assert names(owner) == ["2", "10", "de"]


def test_captions_are_sent_in_ranges_and_by_conditions(owner: Client) -> None:
    put(owner, EN, status=201)
    whole = owner.get(f"{EN}.vtt", status=200)
    etag = whole.headers["ETag"]
    assert owner.get(f"{EN}.vtt", {"Range": "bytes=0-5"}, status=206).body == b"WEBVTT"
    assert owner.get(f"{EN}.vtt", {"If-None-Match": etag}, status=304).headers["ETag"] == etag
    owner.get(f"{EN}.vtt", {"If-Match": '"other"'}, status=412)
    assert owner.head(f"{EN}.vtt", status=200).headers["Content-Length"] == str(len(VTT))


def test_a_condition_is_about_the_captions(app: Application, owner: Client) -> None:
    for nothing_there in ({"If-Match": "*"}, {"If-Match": '"x"'}):
        put(owner, EN, headers=nothing_there, status=412)
        assert owner.delete(EN, headers=nothing_there).status_int == 404
    put(owner, EN, headers={"If-None-Match": "*"}, status=201)
    put(owner, EN, headers={"If-None-Match": "*"}, status=412)
    etag = owner.get(f"{EN}.vtt").headers["ETag"]
    put(owner, EN, headers={"If-Match": etag}, status=200)
    for method in (put, lambda client, url, **options: client.delete(url, **options)):
        method(owner, EN, headers={"If-Match": etag}, status=412)
    assert len(derived_files(app)) == 1
    owner.delete(EN, headers={"If-Match": owner.get(f"{EN}.vtt").headers["ETag"]}, status=204)


@pytest.mark.parametrize(
    "name",
    [
        "0",
        "7",
        "e",
        "english-languages",
        "en_US",
        "en-",
        "..",
        "%2e%2e",
        "%C3%A9",
        "en.vtt.x",
        "e" * 36,
        "i-klingon",
    ],
)
def test_what_is_no_language_is_refused(app: Application, owner: Client, name: str) -> None:
    answer = owner.http.request(
        f"{ALL}/{name}",
        method="PUT",
        body=VTT,
        headers=owner.headers | {"Content-Type": "text/vtt"},
        expect_errors=True,
    )
    assert answer.status_int == 422
    assert [error["field"] for error in answer.json["errors"]] == ["language"]
    owner.get(f"{ALL}/{name}.vtt", status=404)
    owner.delete(f"{ALL}/{name}", status=404)
    assert derived_files(app) == []


@pytest.mark.parametrize("name", ["../../streamer.db", "..%2f..%2f\xe9", "a/b", ""])
def test_a_path_is_no_name(owner: Client, app: Application, name: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        headers = owner.headers | {"Content-Type": "text/vtt"}
        answer = call(app, f"{ALL}/{name}", method, headers, VTT)
        assert answer.status in {404, 405, 422}
        answer.close()
    assert derived_files(app) == []


@pytest.mark.parametrize(
    "query",
    [
        "label=",
        "label=%20",
        "label=a%00b",
        "label=a%0Ab",
        "label=%E2%80%AEgpj.exe",
        "label=%E2%81%A6x",
        "label=%C2%85",
        f"label={'a' * 101}",
        "label=a&label=b",
        "lang=en",
        "name=x",
    ],
)
def test_a_query_that_is_refused_names_the_field(app: Application, owner: Client, query: str) -> None:
    problem = put(owner, f"{EN}?{query}", status=422).json
    assert [error["field"] for error in problem["errors"]] == [query.partition("=")[0]]
    assert derived_files(app) == []


def test_a_label_is_kept_in_normal_form_c(owner: Client) -> None:
    assert put(owner, f"{EN}?label=Fran%63%CC%A7ais", status=201).json["label"] == "Fran\u00e7ais"
    assert put(owner, f"{EN}?label={'a' * 100}", status=200).json["label"] == "a" * 100


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"WEBVTT\n",
        b"no captions",
        b"\0" * 100,
        b"WEBVTT\n\n00:00:01.000 -> 00:00:02.000\nx\n",
        b"WEBVTT\n\n\n--> x\ny\n",
        b"\x81\x8d\x8f\x90\x9d",
    ],
)
def test_what_is_no_captions_is_refused_and_leaves_nothing(
    app: Application, owner: Client, data: bytes
) -> None:
    put(owner, EN, status=201)
    problem = put(owner, EN, data, status=400).json
    assert problem["code"] == "malformed_captions"
    assert owner.get(f"{EN}.vtt").body == VTT, "those before stay"
    assert len(derived_files(app)) == 1


def test_the_line_that_cannot_be_read_is_told(owner: Client) -> None:
    problem = put(owner, EN, b"WEBVTT\n\n00:00:01.000 --> later\nx\n", status=400).json
    assert "line 3" in problem["detail"]


@pytest.mark.parametrize("kind", ["application/json", "video/mp4", "text/html", "multipart/form-data", ""])
def test_another_media_type_is_refused(owner: Client, kind: str) -> None:
    assert put(owner, EN, VTT, kind, status=415).json["code"] == "unsupported_media_type"


def send(app: Application, client: Client, body: io.BytesIO, length: int) -> Answer:
    headers = client.headers | {"Content-Type": "text/vtt", "Content-Length": str(length)}
    return call(app, EN, "PUT", headers, extra={"wsgi.input": body})


def test_captions_that_are_too_large_are_not_read(app: Application, owner: Client) -> None:
    body = io.BytesIO(VTT)
    answer = send(app, owner, body, MAX_BYTES + 1)
    assert answer.status == 413
    assert json.loads(answer.read())["limit"] == MAX_BYTES
    assert body.tell() == 0
    longest = VTT.ljust(MAX_BYTES, b"\n")
    assert send(app, owner, io.BytesIO(longest), len(longest)).status == 201


def test_captions_of_undeclared_length_are_refused(app: Application, owner: Client) -> None:
    headers = owner.headers | {"Content-Type": "text/vtt"}
    assert call(app, EN, "PUT", headers, extra={"wsgi.input": io.BytesIO(VTT)}).status == 411


def test_a_client_that_leaves_leaves_nothing(app: Application, owner: Client) -> None:
    assert send(app, owner, io.BytesIO(VTT), len(VTT) + 1).status == 400
    assert derived_files(app) == []


def test_a_full_disk_takes_no_captions(
    app: Application, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda *_: len(VTT) - 1)
    body = io.BytesIO(VTT)
    assert send(app, owner, body, len(VTT)).status == 507
    assert body.tell() == 0
    assert derived_files(app) == []


def test_captions_that_are_given_count_against_the_quota(make_app: MakeApp) -> None:
    client = Client(make_app(quota_bytes=1000 + 2 * len(VTT))).sign_up("alice")
    client.upload(video_bytes(1000), status=201)
    put(client, EN, status=201)
    problem = put(client, f"{ALL}/de", VTT + b"\n", status=413).json
    assert (problem["code"], problem["used"]) == ("quota_exceeded", 1000 + len(VTT))
    put(client, f"{ALL}/de", status=201)
    put(client, f"{ALL}/fr", status=413)
    client.delete(EN, status=204)
    put(client, f"{ALL}/fr", status=201)
    assert client.upload(video_bytes(2 * len(VTT)), status=201), "they take no room from videos"


def test_a_video_that_is_deleted_while_its_captions_come_is_not_found(
    app: Application, owner: Client
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if not self.tell():
                owner.delete(VIDEO, status=204)
            return super().read(size)

    assert send(app, owner, Slow(VTT), len(VTT)).status == 404
    assert derived_files(app) == []


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}])
def test_of_captions_at_once_one_stays(app: Application, owner: Client, headers: dict[str, str]) -> None:
    def give_them(text: bytes) -> int:
        with database_of(app).connection_context():
            answer: webtest.TestResponse = put(owner, EN, VTT.replace(b"Hello", text), headers=headers)
            return answer.status_int

    texts = [b"one", b"two", b"three", b"four"]
    statuses = at_once(*[lambda text=text: give_them(text) for text in texts])
    assert sorted(map(int, statuses)) == ([201] + [412] * 3 if headers else [200] * 3 + [201])  # type: ignore[arg-type]
    assert len(derived_files(app)) == 1
    assert owner.get(f"{EN}.vtt").body.split()[-1] in texts


def test_a_video_has_so_many_captions_and_no_more(
    app: Application, owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "MOST_CAPTIONS", 2)
    for name, status in (("de", 201), ("en", 201), ("fr", 422), ("de", 200)):
        put(owner, f"{ALL}/{name}", status=status)
    assert len(derived_files(app)) == 2


def test_another_user_sees_and_changes_nothing(app: Application, owner: Client, bob: Client) -> None:
    put(owner, EN, status=201)
    for answer in (put(bob, EN), bob.delete(EN), bob.get(ALL), bob.get(f"{EN}.vtt"), put(bob, f"{ALL}/de")):
        assert (answer.status_int, answer.json["detail"]) == (404, "there is no such video")
    assert names(owner) == ["en"]
