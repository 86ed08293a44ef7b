"""The log: one line per event, with the id of its request and without secrets."""

import contextvars
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import webtest

from streamer import logs
from streamer.app import Application
from tests.helpers import PASSWORD, Client, video_bytes

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
EVIL = "evil\n2026-01-01T00:00:00.000Z INFO streamer forged\r\nforged"


@pytest.fixture
def request_id() -> Iterator[str]:
    """The id of a request that is being worked on."""
    token = logs.request_id.set("id-of-request")
    yield "id-of-request"
    logs.request_id.reset(token)


@pytest.fixture(params=["text", "json"])
def formatter(request: pytest.FixtureRequest) -> logging.Formatter:
    return logs.JsonFormatter() if request.param == "json" else logs.TextFormatter()


@pytest.fixture
def text(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(caplog.handler, "formatter", logs.TextFormatter())
    return caplog


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(caplog.handler, "formatter", logs.JsonFormatter())
    return caplog


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    problem = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("streamer", logging.WARNING, "file.py", 1, message, arguments, problem)


def raised(message: str) -> Exception:
    try:
        raise ValueError(message)
    except ValueError as error:
        return error


# formats


def test_text_line_has_time_level_logger_message_and_request_id(request_id: str) -> None:
    line = logs.TextFormatter().format(record("%s is %d", "it", 5))
    assert re.fullmatch(rf"{TIME} WARNING streamer it is 5 request_id=id-of-request", line)


def test_json_line_has_the_same_as_members(request_id: str) -> None:
    event = json.loads(logs.JsonFormatter().format(record("%s is %d", "it", 5)))
    assert re.fullmatch(TIME, event.pop("time"))
    assert event == {
        "level": "WARNING",
        "logger": "streamer",
        "message": "it is 5",
        "request_id": "id-of-request",
    }


def test_event_outside_a_request_has_a_dash_for_its_id() -> None:
    outside = contextvars.Context()
    assert outside.run(logs.TextFormatter().format, record("it")).endswith(" it request_id=-")
    assert json.loads(outside.run(logs.JsonFormatter().format, record("it")))["request_id"] == "-"


def test_time_is_that_of_the_event_in_utc() -> None:
    event = record("it")
    event.created = 1_777_863_721.6543
    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        assert "2026-05-04T03:02:01.654Z" in formatter.format(event)


def test_message_of_a_stranger_stays_on_its_line(formatter: logging.Formatter) -> None:
    assert len(formatter.format(record("got %s", EVIL)).splitlines()) == 1
    assert "forged" in formatter.format(record("got %s", EVIL))


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_kind_of_line_break_begins_a_new_line(formatter: logging.Formatter, separator: str) -> None:
    assert len(formatter.format(record("%s", f"one{separator}two")).splitlines()) == 1


def test_escape_sequences_do_not_reach_the_terminal(formatter: logging.Formatter) -> None:
    assert "\x1b" not in formatter.format(record("%s", "\x1b[2J\x1b[31m"))


def test_exception_is_told_with_its_traceback(formatter: logging.Formatter, request_id: str) -> None:
    told = formatter.format(record("it", error=raised("the reason")))
    assert "Traceback (most recent call last)" in told
    assert "ValueError: the reason" in told
    assert "id-of-request" in told.splitlines()[0]


def test_exception_in_json_stays_on_its_line() -> None:
    (line,) = logs.JsonFormatter().format(record("it", error=raised(EVIL))).splitlines()
    assert "ValueError: evil" in json.loads(line)["exception"]


def test_exception_in_text_cannot_look_like_an_event() -> None:
    first, *others = logs.TextFormatter().format(record("it", error=raised(EVIL))).splitlines()
    assert re.match(TIME, first)
    assert not [line for line in others if re.match(TIME, line)]


@pytest.mark.parametrize(("log_format", "kind"), [("text", logs.TextFormatter), ("json", logs.JsonFormatter)])
def test_configure_sends_every_event_to_standard_error_once(
    log_format: str, kind: type, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    logs.configure(log_format)
    logs.configure(log_format)
    (handler,) = root.handlers
    assert isinstance(handler.formatter, kind)
    logging.getLogger("streamer.anything").info("an event")
    logging.getLogger("streamer.anything").debug("too much")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "an event" in captured.err
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stderr


# the access log


def access_line(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = [line for line in caplog.text.splitlines() if " streamer.access " in line]
    return line


def access_event(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    found = [json.loads(line) for line in caplog.text.splitlines()]
    (event,) = [event for event in found if event["logger"] == "streamer.access"]
    return dict(event)


def test_text_access_line_has_the_facts(alice: Client, text: pytest.LogCaptureFixture) -> None:
    answer = alice.get("/api/auth/me", headers={"X-Request-Id": "abc"})
    assert re.fullmatch(
        rf"{TIME} INFO streamer\.access GET /api/auth/me 200 length=0 bytes={len(answer.body)} "
        r"duration_ms=\d+\.\d user=alice address=192\.0\.2\.1 request_id=abc",
        access_line(text),
    )


def test_json_access_line_has_the_facts_as_members(alice: Client, events: pytest.LogCaptureFixture) -> None:
    answer = alice.get("/api/auth/me", headers={"X-Request-Id": "abc"})
    event = access_event(events)
    duration = event.pop("duration_ms")
    assert isinstance(duration, float)
    assert duration >= 0
    assert re.fullmatch(TIME, event.pop("time"))
    assert event == {
        "level": "INFO",
        "logger": "streamer.access",
        "request_id": "abc",
        "method": "GET",
        "path": "/api/auth/me",
        "status": 200,
        "length": 0,
        "bytes": len(answer.body),
        "user": "alice",
        "address": "192.0.2.1",
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/nothing", 404),
        ("DELETE", "/health", 405),
        ("GET", "/api/auth/me", 401),
        ("POST", "/api/auth/login", 415),
    ],
)
def test_every_answer_has_one_line_with_its_bytes(
    anonymous: Client, events: pytest.LogCaptureFixture, method: str, path: str, status: int
) -> None:
    answer = anonymous._request(method, path)
    event = access_event(events)
    assert (event["method"], event["path"], event["status"]) == (method, path, status)
    assert event["bytes"] == len(answer.body)
    assert event["user"] is None
    assert "message" not in event
    assert event["request_id"] == answer.headers["X-Request-Id"]


def test_nobody_signed_in_is_a_dash_in_text(anonymous: Client, text: pytest.LogCaptureFixture) -> None:
    anonymous.get("/health")
    assert " user=- address=" in access_line(text)


def test_line_tells_how_much_the_client_has_sent(alice: Client, events: pytest.LogCaptureFixture) -> None:
    alice.upload_raw(video_bytes(1234), status=201)
    assert access_event(events)["length"] == 1234


def test_length_that_is_no_number_counts_as_nothing(
    anonymous: Client, events: pytest.LogCaptureFixture
) -> None:
    application = webtest.TestApp(anonymous.http.app, lint=False)
    application.get("/health", extra_environ={"CONTENT_LENGTH": "1_0"}, expect_errors=True)
    assert access_event(events)["length"] == 0


def test_refused_host_has_a_line_too(anonymous: Client, events: pytest.LogCaptureFixture) -> None:
    anonymous.get("/", headers={"Host": "a b"})
    assert access_event(events)["status"] == 400


def test_head_sends_no_bytes(anonymous: Client, events: pytest.LogCaptureFixture) -> None:
    anonymous.head("/health")
    assert access_event(events)["bytes"] == 0


def test_path_of_a_stranger_stays_on_its_line(anonymous: Client, text: pytest.LogCaptureFixture) -> None:
    anonymous.get("/nothing%0A2026-01-01T00:00:00.000Z%20INFO%20forged%0D%E2%80%A8%1B[2J%C3%A9")
    assert len(text.text.splitlines()) == 1
    assert "\x1b" not in text.text


def test_path_of_a_stranger_cannot_forge_facts(anonymous: Client, text: pytest.LogCaptureFixture) -> None:
    anonymous.get("/x%20200%20bytes=1%20user=admin%20address=198.51.100.1")
    words = access_line(text).split(" ")
    assert len(words) == 12
    assert [word for word in words if word.startswith("address=")] == ["address=192.0.2.1"]


def test_address_is_that_of_the_connection(anonymous: Client, events: pytest.LogCaptureFixture) -> None:
    anonymous.get("/", headers={"X-Forwarded-For": "198.51.100.1"})
    assert access_event(events)["address"] == "192.0.2.1"


def test_every_line_of_a_request_has_its_id(
    alice: Client, text: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.resources.representations.user", None)
    answer = alice.get("/api/auth/me", headers={"X-Request-Id": "abc"}, status=500)
    lines = [line for line in text.text.splitlines() if re.match(TIME, line)]
    assert len(lines) == 2
    assert all("request_id=abc" in line for line in lines)
    assert answer.json["request_id"] == "abc"


# failed logins


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [event.getMessage() for event in caplog.records if event.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", ["alice", "ALICE"])
def test_failed_login_is_one_warning_with_the_account_and_the_address(
    alice: Client, text: pytest.LogCaptureFixture, name: str
) -> None:
    alice.post("/api/auth/login", {"username": name, "password": "not the password"}, status=401)
    assert warnings(text) == ["failed login: user=alice address=192.0.2.1"]


@pytest.mark.parametrize("typed", ["hunter2 typed too early", "alice\nfailed", "-", "", "alice "])
def test_failed_login_does_not_tell_a_name_that_no_account_has(
    alice: Client, text: pytest.LogCaptureFixture, typed: str
) -> None:
    alice.post("/api/auth/login", {"username": typed, "password": "hunter2"}, status=401)
    assert warnings(text) == ["failed login: user=- address=192.0.2.1"]
    assert "hunter2" not in text.text


def test_login_that_is_right_or_not_tried_is_no_failed_one(
    alice: Client, text: pytest.LogCaptureFixture
) -> None:
    alice.sign_in("alice")
    alice.post("/api/auth/login", {"username": "alice"}, status=422)
    assert warnings(text) == []


# secrets


def test_no_secret_appears_in_the_log_of_a_whole_session(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = {PASSWORD, "a new password", "wrong password", "in-the-query"}
    client = Client(app).sign_up("alice")

    def remember() -> None:
        secrets.update({client.session["access_token"], client.session["refresh_token"]})

    remember()
    client.post("/api/auth/login", {"username": "alice", "password": "wrong password"}, status=401)
    video = client.upload(video_bytes(), status=201).json
    client.get(f"{video['links']['stream']}?token=in-the-query")
    client.get("/health?q=in-the-query", status=200)
    client.get("/nothing?password=in-the-query", status=404)
    spent = {"refresh_token": client.session["refresh_token"]}
    client.session = client.post("/api/auth/refresh", spent, status=200).json
    remember()
    client.post("/api/auth/refresh", spent, status=401)
    change = {"current_password": PASSWORD, "password": "a new password"}
    client.session = client.patch("/api/auth/me", change, status=200).json
    remember()
    client.post("/api/auth/logout", {"refresh_token": client.session["refresh_token"]}, status=204)
    client.delete("/api/auth/me", {"password": "a new password"}, status=204)
    client.get("/api/auth/me", status=401)

    assert len(secrets) >= 9, "four words, three refresh tokens, an access token of each password"
    for formatter in (logs.TextFormatter(), logs.JsonFormatter(), logging.Formatter()):
        told = "\n".join(formatter.format(event) for event in caplog.records)
        assert told.count("/api/auth/login") >= 2
        assert not [secret for secret in secrets if secret in told]
