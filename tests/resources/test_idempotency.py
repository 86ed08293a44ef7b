"""A request with an Idempotency-Key is done once, however often it comes."""

from typing import Any

import pytest
import webtest

from streamer.app import Application
from streamer.config import Config
from streamer.housekeeping import look_after
from streamer.uploads import Plan, begin
from tests.conftest import Clock, MakeApp
from tests.helpers import Client, video_bytes
from tests.resumable import append, create, create_by_draft, offset_of, path_of
from tests.wsgi import intake_of, stored_files

VIDEO = video_bytes(9000)
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


def post(client: Client, data: bytes = VIDEO, query: str = "", **options: Any) -> webtest.TestResponse:
    headers = {"Content-Type": "video/mp4", **KEY, **options.pop("headers", {})}
    return client._request("POST", f"/api/videos{query}", headers, body=data, **options)


def test_a_video_that_comes_again_is_one_video(alice: Client, config: Config) -> None:
    first = post(alice, status=201)
    again = post(alice, status=201)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert alice.get("/api/videos").json["meta"]["total"] == 1
    assert len(stored_files(config.data)) == 1


def test_a_form_is_the_same_however_it_is_framed(alice: Client) -> None:
    first = alice.upload(VIDEO, headers=KEY, title="Ski", status=201)
    assert alice.upload(VIDEO, headers=KEY, title="Ski", status=201).json == first.json
    assert alice.upload(VIDEO, headers=KEY, title="Sea", status=422).json["code"] == "key_reused"
    assert alice.upload(VIDEO, filename="b.mp4", headers=KEY, title="Ski").status_int == 422


@pytest.mark.parametrize(
    ("data", "query"),
    [(video_bytes(9000, seed=1), ""), (VIDEO[:-1], ""), (VIDEO + b"x", ""), (VIDEO, "?title=Sea"), (b"", "")],
)
def test_another_request_with_the_key_is_refused(alice: Client, data: bytes, query: str) -> None:
    post(alice, status=201)
    assert post(alice, data, query, status=422).json["code"] == "key_reused"
    assert alice.get("/api/videos").json["meta"]["total"] == 1


def test_a_key_without_quotation_marks_is_the_same_key(alice: Client) -> None:
    first = post(alice, status=201)
    again = post(alice, headers={"Idempotency-Key": KEY["Idempotency-Key"].strip('"')}, status=201)
    assert again.json == first.json


@pytest.mark.parametrize("key", ["", '""', "a b", '"a', "k" * 256, "caf\xe9", "a\x7fb"])
def test_a_key_that_is_none_is_refused(alice: Client, key: str) -> None:
    assert post(alice, headers={"Idempotency-Key": key}, status=400).json["code"] == "bad_idempotency_key"


def test_keys_of_others_are_other_keys(alice: Client, bob: Client) -> None:
    assert post(alice, status=201).json["id"] != post(bob, status=201).json["id"]


def test_a_request_that_failed_can_be_made_again(alice: Client) -> None:
    post(alice, b"no video", status=415)
    post(alice, query="?title=", status=422)
    post(alice, status=201)


def test_a_key_is_free_again_when_the_video_is_deleted(alice: Client) -> None:
    post(alice, status=201)
    alice.delete("/api/videos/1", status=204)
    assert post(alice, status=201).json["id"] == 2


def test_a_key_counts_for_a_day(frozen: Clock, app: Application, alice: Client) -> None:
    post(alice, status=201)
    frozen.forward(hours=23.9)
    alice.sign_in("alice")
    assert post(alice, status=201).json["id"] == 1
    frozen.forward(hours=0.2)
    alice.sign_in("alice")
    assert post(alice, video_bytes(100), status=201).json["id"] == 2
    look_after(intake_of(app))
    assert alice.get("/api/videos").json["meta"]["total"] == 2


def test_a_request_that_comes_while_the_first_is_running_is_told_to_wait(
    app: Application, alice: Client
) -> None:
    key = KEY["Idempotency-Key"].strip('"')
    running = begin(intake_of(app), 1, Plan(kind="direct", at_least=9000, idempotency_key=key))
    answer = post(alice, status=409)
    assert (answer.json["code"], answer.headers["Retry-After"]) == ("key_in_use", "1")
    create(alice, 9000, headers=KEY, status=409)
    running.close()
    post(alice, status=201)


def test_a_request_whose_process_died_leaves_its_key(
    app: Application, alice: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = KEY["Idempotency-Key"].strip('"')
    died = begin(intake_of(app), 1, Plan(kind="direct", at_least=9000, idempotency_key=key))
    died._staged.close()  # as the kernel does
    monkeypatch.setattr("streamer.appends._running._appends", {})
    post(alice, status=201)
    assert len(stored_files(config.data)) == 1


def test_an_upload_that_is_created_again_is_the_same_upload(alice: Client) -> None:
    first = create(alice, 9000, VIDEO[:4000], KEY, status=201)
    again = create(alice, 9000, VIDEO[:4000], KEY, status=201)
    assert path_of(again) == path_of(first)
    assert again.headers["Upload-Offset"] == "4000"
    assert offset_of(alice, path_of(first)) == 4000
    append(alice, path_of(first), 4000, VIDEO[4000:], status=204)
    again = create(alice, 9000, VIDEO[:4000], KEY, status=201)
    assert again.headers["Video-Location"].endswith("/api/videos/1")


def test_another_upload_with_the_key_is_refused(alice: Client) -> None:
    create(alice, 9000, headers=KEY, status=201)
    assert create(alice, 9001, headers=KEY, status=422).json["code"] == "key_reused"
    create(alice, 9000, headers={**KEY, "Upload-Metadata": "x"}, status=422)
    create_by_draft(alice, headers=KEY, status=422)
    post(alice, status=422)


def test_an_upload_with_another_first_piece_is_refused(alice: Client) -> None:
    path = path_of(create(alice, 9000, VIDEO[:4000], KEY, status=201))
    other = video_bytes(4000, seed=1)
    assert create(alice, 9000, other, KEY, status=422).json["code"] == "key_reused"
    create(alice, 9000, headers=KEY, status=422)
    assert offset_of(alice, path) == 4000


def test_parts_are_put_together_once(alice: Client) -> None:
    parts = [
        path_of(create(alice, len(data), data, {"Upload-Concat": "partial"}, status=201))
        for data in (VIDEO[:4000], VIDEO[4000:])
    ]
    final = {**KEY, "Upload-Concat": "final;" + " ".join(parts)}
    first = create(alice, headers=final, status=201)
    again = create(alice, headers=final, status=201)
    assert again.headers["Location"] == first.headers["Location"]
    assert alice.get("/api/videos").json["meta"]["total"] == 1


def test_a_key_outlives_a_short_life_of_uploads(frozen: Clock, make_app: MakeApp) -> None:
    app = make_app(upload_ttl=60)
    client = Client(app).sign_up("alice")
    create(client, 9000, VIDEO, KEY, status=201)
    frozen.forward(minutes=10)
    look_after(intake_of(app))
    assert create(client, 9000, VIDEO, KEY, status=201).headers["Video-Location"].endswith("/1")
    other = {"Idempotency-Key": "other"}
    expired = path_of(create(client, 9000, headers=other, status=201))
    frozen.forward(minutes=2)
    assert path_of(create(client, 9000, headers=other, status=201)) != expired


def test_an_upload_by_the_draft_that_comes_again_is_one_video(alice: Client) -> None:
    first = create_by_draft(alice, VIDEO, complete=True, headers=KEY, status=201)
    again = create_by_draft(alice, VIDEO, complete=True, headers=KEY, status=201)
    assert again.json == first.json


def test_a_key_of_an_upload_is_free_after_a_day_and_the_upload_stays(frozen: Clock, alice: Client) -> None:
    first = create(alice, 9000, headers=KEY, status=201)
    frozen.forward(hours=25)
    alice.sign_in("alice")
    second = create(alice, 9001, headers=KEY, status=201)
    assert path_of(first) != path_of(second)
    assert offset_of(alice, path_of(first)) == 0
