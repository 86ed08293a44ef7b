"""``/api/auth``, through HTTP."""

import io
import json
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import webtest

from streamer import passwords
from streamer.app import Application
from streamer.config import Config
from tests.concurrency import at_once
from tests.conftest import Clock, MakeApp
from tests.helpers import PASSWORD, Client, video_bytes

NEW = "another long password"
CREDENTIALS = {"username": "alice", "password": PASSWORD}
WRONG = {"username": "alice", "password": "not the password"}
JSON_ROUTES = [
    ("POST", "/api/auth/register"),
    ("POST", "/api/auth/login"),
    ("POST", "/api/auth/refresh"),
    ("POST", "/api/auth/logout"),
    ("PATCH", "/api/auth/me"),
    ("DELETE", "/api/auth/me"),
]


def assert_problem(answer: webtest.TestResponse, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_int, answer.json["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.headers["Cache-Control"] == "no-store"
    document: dict[str, Any] = answer.json
    return document


def fields_of(problem: dict[str, Any]) -> list[str]:
    return [error["field"] for error in problem["errors"]]


@pytest.fixture
def bcrypt_runs(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes that were computed, as they come."""
    runs: list[bytes] = []
    check = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        runs.append(hashed)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    return runs


# register


def test_register_answers_the_account_and_where_it_is(anonymous: Client, frozen: Clock) -> None:
    answer = anonymous.post("/api/auth/register", CREDENTIALS, status=201)
    assert answer.json == {
        "id": 1,
        "username": "alice",
        "created_at": "2026-05-04T03:02:01.654Z",
        "video_count": 0,
        "bytes_used": 0,
        "quota_bytes": None,
    }
    assert answer.content_type == "application/json"
    assert answer.headers["Location"] == "http://localhost:80/api/auth/me"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["alice", "Alice", "ALICE"])
def test_taken_name_is_a_conflict_without_regard_to_case(alice: Client, name: str) -> None:
    answer = alice.post("/api/auth/register", {"username": name, "password": NEW})
    assert name in assert_problem(answer, 409, "username_taken")["detail"]


@pytest.mark.parametrize("body", [CREDENTIALS, {}, {"username": "x"}])
def test_closed_registration_refuses_everybody(make_app: MakeApp, body: object) -> None:
    client = Client(make_app(registration=False))
    assert_problem(client.post("/api/auth/register", body), 403, "registration_closed")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["username", "password"]),
        ({"username": "al", "password": PASSWORD}, ["username"]),
        ({"username": "a" * 33, "password": PASSWORD}, ["username"]),
        ({"username": "al ice", "password": PASSWORD}, ["username"]),
        ({"username": "älice", "password": PASSWORD}, ["username"]),
        ({"username": "alice\n", "password": PASSWORD}, ["username"]),
        ({"username": "alice", "password": "7 chars"}, ["password"]),
        ({"username": "alice", "password": "x" * 129}, ["password"]),
        ({"username": None, "password": 12345678}, ["username", "password"]),
        ({"username": ["alice"], "password": {"a": 1}}, ["username", "password"]),
        ({"username": "alice", "password": True}, ["password"]),
        ({**CREDENTIALS, "is_admin": True}, ["is_admin"]),
    ],
)
def test_registration_names_every_wrong_field(
    anonymous: Client, body: dict[str, object], fields: list[str]
) -> None:
    problem = assert_problem(anonymous.post("/api/auth/register", body), 422, "invalid_input")
    assert fields_of(problem) == fields
    assert_problem(anonymous.post("/api/auth/login", CREDENTIALS), 401, "not_authenticated")


@pytest.mark.parametrize("name", ["abc", "A" * 32, "a.b_c-9", "..."])
def test_names_at_the_limits_are_good(anonymous: Client, name: str) -> None:
    assert anonymous.sign_up(name).get("/api/auth/me").json["username"] == name


@pytest.mark.parametrize("password", ["8 chars!", "x" * 128, "päßwörter 🔑", "nul\0 inside"])
def test_passwords_at_the_limits_are_good(anonymous: Client, password: str) -> None:
    anonymous.sign_up("alice", password)
    wrong = {"username": "alice", "password": password[:-1] + "?"}
    assert_problem(anonymous.post("/api/auth/login", wrong), 401, "not_authenticated")


def test_registration_that_is_one_too_many_says_when_to_come_back_and_costs_no_hash(
    app: Application, anonymous: Client, frozen: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[bytes] = []
    hashpw = bcrypt.hashpw
    monkeypatch.setattr(bcrypt, "hashpw", lambda digest, salt: runs.append(salt) or hashpw(digest, salt))
    anonymous.sign_up("alice")
    for _ in range(99):
        anonymous.post("/api/auth/register", CREDENTIALS, status=409)
    newcomer = {"username": "bob", "password": PASSWORD}
    answer = anonymous.post("/api/auth/register", newcomer)
    assert_problem(answer, 429, "too_many_attempts")
    wait = int(answer.headers["Retry-After"])
    assert 900 <= wait <= 901
    assert len(runs) == 1

    Client(app, address="192.0.2.2").post("/api/auth/register", newcomer, status=201)
    anonymous.sign_in("alice")
    frozen.forward(seconds=wait)
    anonymous.post("/api/auth/register", {**newcomer, "username": "carol"}, status=201)


def test_registrations_that_are_not_tried_do_not_count(anonymous: Client, frozen: Clock) -> None:
    for _ in range(101):
        anonymous.post("/api/auth/register", {"username": "al", "password": PASSWORD}, status=422)
    anonymous.sign_up("alice")


# log in


def test_login_answers_a_session(anonymous: Client, frozen: Clock) -> None:
    account = anonymous.post("/api/auth/register", CREDENTIALS).json
    answer = anonymous.post("/api/auth/login", CREDENTIALS, status=200)
    session = answer.json
    assert re.fullmatch(r"[A-Za-z0-9._-]{20,}", session.pop("access_token"))
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", session.pop("refresh_token"))
    assert session == {
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_expires_in": 30 * 24 * 3600,
        "user": account,
    }
    assert answer.headers["Cache-Control"] == "no-store"


def test_unknown_user_and_wrong_password_get_the_same_answer_for_the_same_work(
    alice: Client, bcrypt_runs: list[bytes]
) -> None:
    wrong = alice.post("/api/auth/login", WRONG)
    unknown = alice.post("/api/auth/login", {**WRONG, "username": "nobody"})
    assert_problem(wrong, 401, "not_authenticated")
    assert wrong.body == unknown.body
    assert wrong.headers["WWW-Authenticate"] == unknown.headers["WWW-Authenticate"]
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="streamer"'
    assert len(bcrypt_runs) == 2
    assert len({hashed[:7] for hashed in bcrypt_runs}) == 1, "the same cost"


def test_blocked_login_says_when_to_come_back_and_costs_no_hash(
    alice: Client, app: Application, frozen: Clock, bcrypt_runs: list[bytes]
) -> None:
    for _ in range(10):
        assert_problem(alice.post("/api/auth/login", WRONG), 401, "not_authenticated")
    runs = len(bcrypt_runs)
    answer = alice.post("/api/auth/login", CREDENTIALS)
    assert_problem(answer, 429, "too_many_attempts")
    wait = int(answer.headers["Retry-After"])
    assert 900 <= wait <= 901
    assert len(bcrypt_runs) == runs
    Client(app, address="192.0.2.2").sign_in("alice")
    frozen.forward(seconds=wait)
    alice.sign_in("alice")


def test_address_of_the_client_behind_a_trusted_proxy_is_what_counts(make_app: MakeApp) -> None:
    trusted = Config.from_environ({"STREAMER_TRUSTED_PROXIES": "192.0.2.1"}).trusted_proxies
    client = Client(make_app(trusted_proxies=trusted)).sign_up("alice")
    stranger, owner = {"X-Forwarded-For": "198.51.100.1"}, {"X-Forwarded-For": "198.51.100.2"}
    for _ in range(10):
        client.post("/api/auth/login", WRONG, headers=stranger, status=401)
    client.post("/api/auth/login", CREDENTIALS, headers=stranger, status=429)
    client.post("/api/auth/login", CREDENTIALS, headers=owner, status=200)


def test_one_address_is_blocked_in_both_of_its_forms(app: Application, alice: Client) -> None:
    for _ in range(10):
        mapped = Client(app, address="::ffff:192.0.2.1").post("/api/auth/login", WRONG)
        assert_problem(mapped, 401, "not_authenticated")
    assert_problem(alice.post("/api/auth/login", CREDENTIALS), 429, "too_many_attempts")


def test_forwarded_address_of_a_stranger_does_not_get_around_the_block(alice: Client) -> None:
    for number in range(10):
        alice.post("/api/auth/login", WRONG, headers={"X-Forwarded-For": f"198.51.100.{number}"}, status=401)
    alice.post("/api/auth/login", CREDENTIALS, headers={"X-Forwarded-For": "198.51.100.99"}, status=429)


def test_login_while_all_places_are_taken_is_told_to_come_back_and_is_not_counted(alice: Client) -> None:
    with ExitStack() as running:
        for _ in range(passwords.RUNNING + passwords.WAITING):
            running.enter_context(passwords._places)
        for _ in range(11):
            answer = alice.post("/api/auth/login", WRONG)
            assert_problem(answer, 503, "busy")
            assert answer.headers["Retry-After"] == "1"
    alice.sign_in("alice")


# refresh and log out


def test_refresh_answers_the_next_session(alice: Client, frozen: Clock) -> None:
    old = alice.session
    new = alice.post("/api/auth/refresh", {"refresh_token": old["refresh_token"]}, status=200).json
    assert new.keys() == old.keys()
    assert new["refresh_token"] != old["refresh_token"]
    assert new["user"] == old["user"]
    alice.session = new
    alice.get("/api/auth/me", status=200)


def test_spent_refresh_token_revokes_its_family(alice: Client) -> None:
    spent = {"refresh_token": alice.session["refresh_token"]}
    new = alice.post("/api/auth/refresh", spent, status=200).json
    assert_problem(alice.post("/api/auth/refresh", spent), 401, "not_authenticated")
    again = alice.post("/api/auth/refresh", {"refresh_token": new["refresh_token"]})
    assert_problem(again, 401, "not_authenticated")
    assert "WWW-Authenticate" in again.headers


def test_expired_refresh_token_is_refused(alice: Client, frozen: Clock) -> None:
    alice.sign_in("alice")
    frozen.forward(days=30)
    answer = alice.post("/api/auth/refresh", {"refresh_token": alice.session["refresh_token"]})
    assert_problem(answer, 401, "not_authenticated")


def test_logout_answers_204_for_every_token_and_ends_the_session(alice: Client) -> None:
    token = {"refresh_token": alice.session["refresh_token"]}
    for body in (token, token, {"refresh_token": "unknown"}, {"refresh_token": ""}):
        answer = alice.post("/api/auth/logout", body, status=204)
        assert answer.body == b""
        assert "Content-Type" not in answer.headers
    assert_problem(alice.post("/api/auth/refresh", token), 401, "not_authenticated")


@pytest.mark.parametrize("path", ["/api/auth/refresh", "/api/auth/logout"])
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["refresh_token"]),
        ({"refresh_token": 1}, ["refresh_token"]),
        ({"refresh_token": "", "x": 1}, ["x"]),
    ],
)
def test_refresh_and_logout_name_every_wrong_field(
    anonymous: Client, path: str, body: dict[str, object], fields: list[str]
) -> None:
    assert fields_of(assert_problem(anonymous.post(path, body), 422, "invalid_input")) == fields


# access tokens


def test_me_is_the_account(alice: Client, make_app: MakeApp) -> None:
    assert alice.get("/api/auth/me", status=200).json == alice.session["user"]
    size = alice.upload(video_bytes(1234), status=201).json["size"]
    me = alice.get("/api/auth/me").json
    assert (me["video_count"], me["bytes_used"], me["quota_bytes"]) == (1, size, None)
    limited = Client(make_app(quota_bytes=5)).sign_up("alice")
    assert limited.get("/api/auth/me").json["quota_bytes"] == 5


def test_head_of_me_has_the_fields_of_get_and_no_body(alice: Client) -> None:
    got, asked = alice.get("/api/auth/me"), alice.head("/api/auth/me", status=200)
    assert asked.body == b""
    assert asked.headers["Content-Length"] == got.headers["Content-Length"]


def test_request_without_token_learns_the_scheme_only(anonymous: Client) -> None:
    answer = anonymous.get("/api/auth/me")
    assert_problem(answer, 401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="streamer"'


@pytest.mark.parametrize("value", ["Basic YWxpY2U6eA==", "Bearer", "bearer ", "Token abc"])
def test_other_schemes_are_no_token(anonymous: Client, value: str) -> None:
    answer = anonymous.get("/api/auth/me", headers={"Authorization": value})
    assert_problem(answer, 401, "not_authenticated")


@pytest.mark.parametrize("token", ["abc", "a.b.c", "W10.x.y", "\xe9", "x" * 5000, "..", "a b"])
def test_garbage_token_is_called_invalid(anonymous: Client, token: str) -> None:
    answer = anonymous.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert_problem(answer, 401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="streamer", error="invalid_token"'


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_scheme_is_read_without_regard_to_case(alice: Client, scheme: str) -> None:
    value = f"{scheme} {alice.session['access_token']}"
    alice.get("/api/auth/me", headers={"Authorization": value}, status=200)


def test_access_token_lives_an_hour(anonymous: Client, frozen: Clock) -> None:
    alice = anonymous.sign_up("alice")
    frozen.forward(seconds=3599)
    alice.get("/api/auth/me", status=200)
    frozen.forward(seconds=2)
    assert_problem(alice.get("/api/auth/me"), 401, "not_authenticated")


def test_refresh_token_is_no_access_token(alice: Client) -> None:
    alice.session["access_token"] = alice.session["refresh_token"]
    assert_problem(alice.get("/api/auth/me"), 401, "not_authenticated")


def test_token_of_another_installation_is_refused(alice: Client, make_app: MakeApp) -> None:
    other = Client(make_app()).sign_up("alice")
    other.session = alice.session
    assert_problem(other.get("/api/auth/me"), 401, "not_authenticated")


SHARED_SECRET = "the same secret in two installations"


def test_token_of_another_installation_with_the_same_secret_is_refused(make_app: MakeApp) -> None:
    alice, other = [Client(make_app(secret_key=SHARED_SECRET)).sign_up("alice") for _ in range(2)]
    assert alice.session["user"]["id"] == other.session["user"]["id"]
    other.session = alice.session
    assert_problem(other.get("/api/auth/me"), 401, "not_authenticated")
    alice.get("/api/auth/me", status=200)


def test_token_stays_refused_where_both_have_deleted_the_account_and_made_it_again(make_app: MakeApp) -> None:
    alice, other = [Client(make_app(secret_key=SHARED_SECRET)).sign_up("alice") for _ in range(2)]
    before = alice.session
    for client in (alice, other):
        client.delete("/api/auth/me", {"password": PASSWORD}, status=204)
        client.session = {}
        client.sign_up("alice")
    assert alice.session["user"]["id"] == other.session["user"]["id"]
    after = alice.session
    for session in (before, after):
        other.session = session
        assert_problem(other.get("/api/auth/me"), 401, "not_authenticated")


def test_token_of_a_data_folder_that_was_begun_anew_is_refused(make_app: MakeApp, tmp_path: Path) -> None:
    data = tmp_path / "again"
    old = Client(make_app(data=data, secret_key=SHARED_SECRET)).sign_up("alice").session
    data.rename(tmp_path / "put away")
    alice = Client(make_app(data=data, secret_key=SHARED_SECRET)).sign_up("alice")
    assert alice.session["user"]["id"] == old["user"]["id"]
    alice.session = old
    assert_problem(alice.get("/api/auth/me"), 401, "not_authenticated")


# a new password


def test_new_password_unlocks_the_account_from_every_address_and_no_other(
    app: Application, alice: Client, frozen: Clock
) -> None:
    alice.sign_in("alice")
    Client(app).sign_up("alice.b")
    strangers = [Client(app, address) for address in ("192.0.2.2", "2001:db8::1")]
    neighbour = {**CREDENTIALS, "username": "alice.b"}
    for stranger in strangers:
        for _ in range(10):
            stranger.post("/api/auth/login", WRONG, status=401)
            stranger.post("/api/auth/login", {**WRONG, "username": "alice.b"}, status=401)
        stranger.post("/api/auth/login", CREDENTIALS, status=429)
    alice.patch("/api/auth/me", {"current_password": PASSWORD, "password": NEW}, status=200)
    for stranger in strangers:
        stranger.sign_in("alice", NEW)
        assert_problem(stranger.post("/api/auth/login", neighbour), 429, "too_many_attempts")


def test_new_password_ends_every_other_session_and_begins_one(app: Application, alice: Client) -> None:
    other = Client(app).sign_in("alice")
    old = dict(alice.session)
    body = {"current_password": PASSWORD, "password": NEW}
    answer = alice.patch("/api/auth/me", body, status=200)
    assert answer.json.keys() == old.keys()
    assert_problem(other.get("/api/auth/me"), 401, "not_authenticated")
    assert_problem(alice.get("/api/auth/me"), 401, "not_authenticated")
    for session in (old, other.session):
        spent = alice.post("/api/auth/refresh", {"refresh_token": session["refresh_token"]})
        assert_problem(spent, 401, "not_authenticated")
    alice.session = answer.json
    alice.get("/api/auth/me", status=200)
    alice.post("/api/auth/refresh", {"refresh_token": answer.json["refresh_token"]}, status=200)
    alice.sign_in("alice", NEW)
    assert_problem(alice.post("/api/auth/login", CREDENTIALS), 401, "not_authenticated")


def test_new_password_needs_the_current_one(alice: Client) -> None:
    body = {"current_password": "not the password", "password": NEW}
    answer = alice.patch("/api/auth/me", body)
    assert_problem(answer, 403, "wrong_password")
    assert "WWW-Authenticate" not in answer.headers
    alice.get("/api/auth/me", status=200)
    alice.sign_in("alice")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["current_password", "password"]),
        ({"password": NEW}, ["current_password"]),
        ({"current_password": PASSWORD, "password": "short"}, ["password"]),
        ({"current_password": PASSWORD, "password": NEW, "username": "eve"}, ["username"]),
        ({"current_password": None, "password": NEW}, ["current_password"]),
        ({"current_password": "x" * 1001, "password": NEW}, ["current_password"]),
    ],
)
def test_change_names_every_wrong_field_and_changes_nothing(
    alice: Client, body: dict[str, object], fields: list[str]
) -> None:
    assert fields_of(assert_problem(alice.patch("/api/auth/me", body), 422, "invalid_input")) == fields
    alice.sign_in("alice")


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("PATCH", {"current_password": "not the password", "password": NEW}),
        ("DELETE", {"password": "not the password"}),
    ],
)
def test_guesses_of_somebody_signed_in_are_throttled(
    alice: Client, bcrypt_runs: list[bytes], method: str, body: object
) -> None:
    send = alice.patch if method == "PATCH" else alice.delete
    for _ in range(10):
        assert_problem(send("/api/auth/me", body), 403, "wrong_password")
    runs = len(bcrypt_runs)
    answer = send("/api/auth/me", body)
    assert_problem(answer, 429, "too_many_attempts")
    assert int(answer.headers["Retry-After"]) > 0
    assert len(bcrypt_runs) == runs


# delete


def stored(config: Config) -> list[str]:
    """The names of all files that videos are kept in."""
    return [name for folder in ("videos", "incoming") for name in os.listdir(config.data / folder)]


def test_deleted_account_leaves_nothing(alice: Client, bob: Client, config: Config) -> None:
    kept = bob.upload(video_bytes(), status=201).json
    before = stored(config)
    for seed in range(3):
        alice.upload(video_bytes(seed=seed), status=201)
    session = alice.session
    assert alice.delete("/api/auth/me", {"password": PASSWORD}, status=204).body == b""

    assert stored(config) == before
    assert_problem(alice.get("/api/auth/me"), 401, "not_authenticated")
    assert_problem(alice.get("/api/videos"), 401, "not_authenticated")
    refused = alice.post("/api/auth/refresh", {"refresh_token": session["refresh_token"]})
    assert_problem(refused, 401, "not_authenticated")
    alice.session = {}
    assert_problem(alice.post("/api/auth/login", CREDENTIALS), 401, "not_authenticated")
    assert bob.get("/api/videos").json["data"][0]["id"] == kept["id"]
    assert bob.get(f"/api/videos/{kept['id']}/stream").body == video_bytes()


def test_name_of_a_deleted_account_can_be_had_again(alice: Client) -> None:
    old = alice.session
    alice.upload(video_bytes(), status=201)
    alice.delete("/api/auth/me", {"password": PASSWORD}, status=204)
    alice.session = {}
    alice.sign_up("alice")
    assert alice.session["user"]["id"] > old["user"]["id"]
    assert alice.get("/api/videos").json["data"] == []
    alice.session = old
    assert_problem(alice.get("/api/auth/me"), 401, "not_authenticated")


def test_deletion_needs_the_password(alice: Client) -> None:
    alice.upload(video_bytes(), status=201)
    assert_problem(alice.delete("/api/auth/me", {"password": "not it"}), 403, "wrong_password")
    problem = assert_problem(alice.delete("/api/auth/me", {}), 422, "invalid_input")
    assert fields_of(problem) == ["password"]
    assert alice.get("/api/auth/me").json["video_count"] == 1


def test_account_whose_password_is_changed_during_the_deletion_stays(
    app: Application, alice: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.upload(video_bytes(), status=201)
    owner = Client(app)
    owner.session = alice.session
    check = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        monkeypatch.setattr(bcrypt, "checkpw", check)
        owner.patch("/api/auth/me", {"current_password": PASSWORD, "password": NEW}, status=200)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    answer = alice.delete("/api/auth/me", {"password": PASSWORD})
    assert_problem(answer, 401, "not_authenticated")
    assert owner.sign_in("alice", NEW).get("/api/auth/me").json["video_count"] == 1
    assert len(stored(config)) == 1


class Body(io.BytesIO):
    """The body of a request, during which something happens."""

    def __init__(self, data: bytes, happen: Callable[[], object]) -> None:
        super().__init__(data)
        self._happen: Callable[[], object] | None = happen

    def read(self, size: int | None = -1) -> bytes:
        happen, self._happen = self._happen, None
        if happen is not None:
            happen()
        return super().read(size)


def test_upload_of_an_account_that_is_deleted_meanwhile_is_refused_and_leaves_nothing(
    alice: Client, config: Config
) -> None:
    data = video_bytes(100_000)
    request = webtest.TestRequest.blank("/api/videos", method="POST", headers=alice.headers)
    request.content_type = "video/mp4"
    request.body_file = Body(data, lambda: alice.delete("/api/auth/me", {"password": PASSWORD}, status=204))
    request.content_length = len(data)
    answer = alice.http.do_request(request, status="*", expect_errors=True)
    assert_problem(answer, 401, "not_authenticated")
    assert stored(config) == []


def test_uploads_at_once_with_the_deletion_leave_nothing(
    app: Application, alice: Client, config: Config
) -> None:
    def upload(seed: int) -> set[int]:
        client = Client(app)
        client.session = alice.session
        return {client.upload(video_bytes(50_000, seed)).status_int for _ in range(8)}

    def delete() -> set[int]:
        client = Client(app)
        client.session = alice.session
        return {client.delete("/api/auth/me", {"password": PASSWORD}).status_int}

    calls = [lambda seed=seed: upload(seed) for seed in range(3)]
    *uploads, deletion = at_once(*calls, delete)
    assert deletion == {204}
    for statuses in uploads:
        assert isinstance(statuses, set), statuses
        assert statuses <= {201, 401}
    assert stored(config) == []


def test_deletion_does_not_wait_for_a_file_that_is_gone(alice: Client, config: Config) -> None:
    alice.upload(video_bytes(), status=201)
    (file,) = Path(config.data / "videos").iterdir()
    file.unlink()
    alice.delete("/api/auth/me", {"password": PASSWORD}, status=204)


# bodies


def send(
    client: Client, method: str, path: str, body: bytes, kind: str | None = "application/json", **environ: Any
) -> webtest.TestResponse:
    """Send any body, with what webtest itself would not let through."""
    request = webtest.TestRequest.blank(path, method=method, headers=client.headers)
    request.body = body
    request.environ |= environ
    request.environ.pop("CONTENT_TYPE", None)
    if kind is not None:
        request.environ["CONTENT_TYPE"] = kind
    if environ.get("CONTENT_LENGTH", "") is None:
        del request.environ["CONTENT_LENGTH"]
    return webtest.TestApp(client.http.app, lint=False).do_request(request, expect_errors=True)


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b"{'username': 'alice'}",
        b'{"username": "alice",}',
        b'{"username": NaN}',
        b'{"username": -Infinity}',
        b'{"username": "\xff"}',
        '{"username": "alice"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"username": "alice"}',
        b'{"username": ' + b"9" * 5000 + b"}",
        b"[" * 65536,
        b'{"a":' * 10000,
        b'{"username": "alice"} {}',
        b'{"username": "a\nb"}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_malformed_json_is_a_bad_request(alice: Client, method: str, path: str, body: bytes) -> None:
    assert_problem(send(alice, method, path, body), 400, "malformed_json")


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1", b"[{}]"])
def test_json_that_is_no_object_is_refused(alice: Client, method: str, path: str, body: bytes) -> None:
    assert fields_of(assert_problem(send(alice, method, path, body), 422, "invalid_input")) == ["body"]


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_body_over_64_kib_is_too_large(alice: Client, method: str, path: str) -> None:
    problem = assert_problem(send(alice, method, path, b"[" * 100_000), 413, "body_too_large")
    assert problem["limit"] == 65536
    assert_problem(send(alice, method, path, b" " * 65536), 400, "malformed_json")


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", None]
)
def test_other_media_types_are_not_taken(alice: Client, method: str, path: str, kind: str | None) -> None:
    answer = send(alice, method, path, b"{}", kind)
    assert "application/json" in assert_problem(answer, 415, "unsupported_media_type")["detail"]


@pytest.mark.parametrize(
    "kind", ["APPLICATION/JSON", "application/json;charset=utf-8", "application/json ;x=1"]
)
def test_media_type_is_read_without_case_and_parameters(alice: Client, kind: str) -> None:
    assert send(alice, "POST", "/api/auth/login", json.dumps(CREDENTIALS).encode(), kind).status_int == 200


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_body_without_declared_length_is_refused(alice: Client, method: str, path: str) -> None:
    answer = send(alice, method, path, b"{}", CONTENT_LENGTH=None)
    assert_problem(answer, 411, "length_required")


@pytest.mark.parametrize("length", ["abc", "-1", "1.5", "1,2"])
def test_length_that_is_no_number_is_a_bad_request(alice: Client, length: str) -> None:
    assert_problem(send(alice, "POST", "/api/auth/login", b"{}", CONTENT_LENGTH=length), 400, "bad_request")


def test_body_that_ends_early_is_a_bad_request(alice: Client) -> None:
    assert_problem(send(alice, "POST", "/api/auth/login", b"{}", CONTENT_LENGTH="3"), 400, "incomplete_body")


@pytest.mark.parametrize(("field", "value"), [("username", "\ud800"), ("password", "pass\udfffword")])
def test_lone_surrogates_are_refused(anonymous: Client, field: str, value: str) -> None:
    for path in ("/api/auth/register", "/api/auth/login"):
        problem = assert_problem(anonymous.post(path, CREDENTIALS | {field: value}), 422, "invalid_input")
        assert fields_of(problem) == [field]


def test_field_whose_name_is_a_lone_surrogate_is_named(anonymous: Client) -> None:
    problem = assert_problem(
        anonymous.post("/api/auth/login", {**CREDENTIALS, "\ud800": 1}), 422, "invalid_input"
    )
    assert fields_of(problem) == ["\ud800"]


@pytest.mark.parametrize(("method", "path"), JSON_ROUTES)
def test_only_what_is_signed_in_gets_to_its_account(anonymous: Client, method: str, path: str) -> None:
    answer = send(anonymous, method, path, b"malformed")
    if path == "/api/auth/me":
        assert_problem(answer, 401, "not_authenticated")
    else:
        assert_problem(answer, 400, "malformed_json")
