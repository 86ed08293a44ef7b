"""Every failure ends in a problem document."""

import inspect
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import falcon
import peewee
import pytest
import webtest

from streamer import database, errors, logs
from streamer.app import Application
from streamer.config import Config
from streamer.errors import FieldError, StreamerError
from streamer.middleware import AccessLog, LogEntry, SafeHeaders
from streamer.resources.errors import PROBLEMS, install
from tests.conftest import MakeApp
from tests.helpers import PASSWORD, Client, video_bytes
from tests.wsgi import database_of

# never answered to a request: they end the start, or work in the background, or are the root of the tree, or
# carry their own code
BESIDE_THE_TABLE = {
    errors.StreamerError,
    errors.ConfigurationError,
    errors.DatabaseTooNew,
    errors.DatabaseUnusable,
    errors.SecretUnusable,
    errors.CannotListen,
    errors.MalformedRequest,
    errors.MediaUnreadable,
    errors.FfmpegFailed,
    errors.Stopped,
}


def assert_problem(answer: webtest.TestResponse, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_int, answer.content_type) == (status, "application/problem+json")
    problem: dict[str, Any] = answer.json
    assert problem["type"] == "about:blank"
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    return problem


class Failing:
    """A resource that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise self.error


def answer_to(error: BaseException, method: str = "GET") -> webtest.TestResponse:
    app = falcon.App(middleware=[AccessLog(), SafeHeaders()])
    install(app)
    resource = Failing(error)
    resource.on_head = resource.on_get  # type: ignore[attr-defined]
    app.add_route("/", resource)
    return webtest.TestApp(app).request("/", method=method, expect_errors=True)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What was logged so far, as text."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(caplog.handler, "formatter", logs.TextFormatter())
    return lambda: caplog.text


# what we foresee


def test_every_failure_that_can_reach_a_client_is_in_the_table() -> None:
    tree = {
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, StreamerError)
    }
    assert set(PROBLEMS) == tree - BESIDE_THE_TABLE


def test_no_two_failures_have_the_same_code() -> None:
    codes = [problem.code for problem in PROBLEMS.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@pytest.mark.parametrize(
    ("error", "status", "code", "fields", "members"),
    [
        (
            errors.InvalidInput(FieldError("a", "is b"), FieldError("c", "is d")),
            422,
            "invalid_input",
            {},
            {"errors": [{"field": "a", "message": "is b"}, {"field": "c", "message": "is d"}]},
        ),
        (errors.MalformedRequest("malformed_x", "detail"), 400, "malformed_x", {}, {}),
        (errors.UnsupportedMediaType("a/b", "c/d"), 415, "unsupported_media_type", {}, {}),
        (errors.LengthMissing("x"), 411, "length_required", {}, {}),
        (errors.ClientDisconnected(1, 2), 400, "incomplete_body", {}, {}),
        (errors.NotFound("x"), 404, "not_found", {}, {}),
        (
            errors.NotAuthenticated("x"),
            401,
            "not_authenticated",
            {"WWW-Authenticate": 'Bearer realm="streamer", error="invalid_token"'},
            {},
        ),
        (
            errors.NotAuthenticated("x", presented=False),
            401,
            "not_authenticated",
            {"WWW-Authenticate": 'Bearer realm="streamer"'},
            {},
        ),
        (errors.WrongPassword("x"), 403, "wrong_password", {}, {}),
        (errors.UsernameTaken("x"), 409, "username_taken", {}, {}),
        (errors.RegistrationClosed("x"), 403, "registration_closed", {}, {}),
        (errors.TooManyAttempts(77), 429, "too_many_attempts", {"Retry-After": "77"}, {}),
        (errors.Busy("x"), 503, "busy", {"Retry-After": "1"}, {}),
        (errors.Unavailable("x"), 503, "unavailable", {"Retry-After": "10"}, {}),
        (errors.NotAVideo("x"), 415, "not_a_video", {}, {}),
        (errors.NotAnImage("x"), 415, "not_an_image", {}, {}),
        (errors.NoPictures("x"), 409, "no_pictures", {}, {}),
        (errors.NothingFailed("x"), 409, "nothing_failed", {}, {}),
        (errors.FfmpegMissing(), 501, "ffmpeg_missing", {}, {}),
        (errors.BodyTooLarge(12), 413, "body_too_large", {}, {"limit": 12}),
        (errors.QuotaExceeded(20, 15), 413, "quota_exceeded", {}, {"quota": 20, "used": 15}),
        (errors.InsufficientStorage(3), 507, "insufficient_storage", {}, {"available": 3}),
        (errors.PreconditionFailed("x"), 412, "precondition_failed", {}, {}),
        (errors.RangeNotSatisfiable(10), 416, "range_not_satisfiable", {"Content-Range": "bytes */10"}, {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_foreseen_failure_is_told_with_its_facts(
    error: StreamerError, status: int, code: str, fields: dict[str, str], members: dict[str, object]
) -> None:
    answer = answer_to(error)
    problem = assert_problem(answer, status, code)
    assert problem["detail"] == str(error)
    known = {"type", "title", "status", "detail", "code"}
    assert {name: value for name, value in problem.items() if name not in known} == members
    for name in ("WWW-Authenticate", "Retry-After", "Content-Range"):
        assert answer.headers.get(name) == fields.get(name)


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("x"),
        errors.BodyTooLarge(1),
        errors.InvalidInput(),
        errors.InsufficientStorage(0),
        KeyError(),
    ],
)
def test_title_is_the_phrase_of_the_status_line(error: Exception) -> None:
    answer = answer_to(error)
    assert answer.status == f"{answer.json['status']} {answer.json['title']}"


# what Falcon refuses


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (falcon.HTTPBadRequest(), 400, "bad_request"),
        (falcon.HTTPBadRequest(title="A", description="the reason"), 400, "bad_request"),
        (falcon.HTTPUnauthorized(challenges=["Bearer"]), 401, "unauthorized"),
        (falcon.HTTPForbidden(), 403, "forbidden"),
        (falcon.HTTPNotFound(), 404, "not_found"),
        (falcon.HTTPMethodNotAllowed(["GET", "HEAD"]), 405, "method_not_allowed"),
        (falcon.HTTPUnsupportedMediaType(), 415, "unsupported_media_type"),
        (falcon.HTTPInternalServerError(), 500, "internal_server_error"),
        (falcon.HTTPServiceUnavailable(retry_after=9), 503, "service_unavailable"),
        (falcon.HTTPInvalidHeader("bad", "X-Field"), 400, "bad_request"),
        (falcon.HTTPRouteNotFound(), 404, "not_found"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_of_falcon_becomes_a_problem_document(error: falcon.HTTPError, status: int, code: str) -> None:
    answer = answer_to(error)
    problem = assert_problem(answer, status, code)
    assert error.description is None or problem["detail"] == error.description
    for name, value in dict(error.headers or {}).items():
        assert answer.headers[name] == value


def test_unknown_path_says_that_nothing_is_there(anonymous: Client) -> None:
    assert_problem(anonymous.get("/nothing/here"), 404, "not_found")


@pytest.mark.parametrize(("path", "allowed"), [("/health", "GET, HEAD"), ("/api/auth/login", "POST")])
def test_method_that_a_path_does_not_take_learns_those_that_it_does(
    alice: Client, path: str, allowed: str
) -> None:
    answer = alice.delete(path)
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == f"{allowed}, OPTIONS"


@pytest.mark.parametrize("method", ["BREW", "get", "GET ", "X" * 1000])
def test_unknown_method_is_a_problem_document(app: Application, method: str) -> None:
    answer = webtest.TestApp(app, lint=False).request("/health", method=method, expect_errors=True)
    assert answer.status_int in {400, 405, 501}
    assert_problem(answer, answer.status_int, answer.json["code"])


@pytest.mark.parametrize(
    "host",
    ["a b", "evil.example/path", "a@b", "a:b", "a:123456", "[::1", "ho\u00dft", "a,b", '"><script>'],
)
@pytest.mark.parametrize("path", ["/", "/health", "/api/videos"])
def test_bad_host_is_refused_and_not_repeated(app: Application, host: str, path: str) -> None:
    answer = webtest.TestApp(app, lint=False).get(path, headers={"Host": host}, expect_errors=True)
    assert_problem(answer, 400, "bad_host")
    assert host not in answer.text


@pytest.mark.parametrize(
    "host", ["localhost", "video.example.org:8443", "[2001:db8::1]", "[::1]:80", "my_nas"]
)
def test_good_host_is_taken(app: Application, host: str) -> None:
    answer = webtest.TestApp(app).get("/", headers={"Host": host})
    assert answer.json["links"]["health"] in {f"http://{host}/health", f"http://{host}:80/health"}


@pytest.mark.parametrize("host", ["", None])
def test_links_name_the_server_where_the_request_does_not(app: Application, host: str | None) -> None:
    request = webtest.TestRequest.blank("/")
    del request.environ["HTTP_HOST"]
    if host is not None:
        request.environ["HTTP_HOST"] = host
    answer = webtest.TestApp(app, lint=False).do_request(request)
    assert answer.json["links"]["health"] in {"http://localhost/health", "http://localhost:80/health"}


# what nobody foresaw


class Teapot(Exception):
    """Not one of ours."""


@pytest.mark.parametrize(
    "error", [Teapot("a secret"), KeyError(), RecursionError(), peewee.DatabaseError("x")]
)
def test_unexpected_error_is_in_the_log_under_the_request_id_and_not_in_the_answer(
    log: Callable[[], str], error: Exception
) -> None:
    answer = answer_to(error)
    problem = assert_problem(answer, 500, "internal_error")
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text
    (line,) = [line for line in log().splitlines() if "ERROR" in line]
    assert f"request_id={problem['request_id']}" in line
    assert "Traceback (most recent call last)" in log()
    assert type(error).__name__ in log()


def test_missing_file_of_a_video_is_told_as_internal_error(
    app: Application, alice: Client, config: Config, log: Callable[[], str]
) -> None:
    stream = alice.upload(video_bytes(), status=201).json["links"]["stream"]
    (file,) = (config.data / "videos").iterdir()
    file.unlink()
    answer = webtest.TestApp(app).get(stream, headers=alice.headers, expect_errors=True)
    problem = assert_problem(answer, 500, "internal_error")
    for field in ("ETag", "Last-Modified", "Repr-Digest", "Content-Disposition"):
        assert field not in answer.headers, "it is of the video, which is not what was sent"
    assert file.name not in answer.text
    assert problem["request_id"] in log()
    assert "FileNotFoundError" in log()


def test_client_that_goes_is_no_unexpected_error(log: Callable[[], str]) -> None:
    answer_to(errors.ClientDisconnected(1, 2))
    assert "Traceback" not in log()


def test_foreseen_failure_has_no_traceback_in_the_log(anonymous: Client, log: Callable[[], str]) -> None:
    anonymous.get("/api/auth/me", status=401)
    assert "Traceback" not in log()


# the database


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
def test_locked_database_says_to_come_back(config: Config, make_app: MakeApp, log: Callable[[], str]) -> None:
    alice = Client(make_app(data=config.data)).sign_up("alice")
    writer = sqlite3.connect(config.data / "streamer.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    answer = alice.post("/api/auth/login", {"username": "alice", "password": PASSWORD})
    assert alice.get("/api/auth/me").status_int == 200, "readers go on"
    writer.close()
    assert_problem(answer, 503, "busy")
    assert answer.headers["Retry-After"] == "1"
    assert "database is locked" in log()
    assert "locked" not in answer.json["detail"]
    alice.sign_in("alice")


def test_full_disk_below_the_database_is_insufficient_storage(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(database.Database):  # type: ignore[misc]
        def __init__(self, path: str, **options: Any) -> None:
            if "pragmas" in options:  # the handle of the application: the database may not grow
                options["pragmas"] = {**options["pragmas"], "max_page_count": 1}
            super().__init__(path, **options)

    monkeypatch.setattr(database, "Database", Full)
    alice = Client(make_app()).sign_up("alice")
    video = alice.upload(video_bytes(), status=201).json["links"]["self"]
    answer = alice.patch(video, {"description": "long " * 1000})
    assert assert_problem(answer, 507, "insufficient_storage")["available"] == 0
    assert alice.get(video).json["description"] == ""
    alice.patch(video, {"description": "short"}, status=200)


@pytest.mark.parametrize(
    "reason",
    ["unable to open database file", "disk I/O error", "attempt to write a readonly database"],
)
def test_a_data_folder_that_does_not_work_is_unavailable_and_one_line_in_the_log(
    log: Callable[[], str], reason: str
) -> None:
    answer = answer_to(peewee.OperationalError(reason))
    problem = assert_problem(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "10"
    assert reason not in problem["detail"]
    [line] = [line for line in log().splitlines() if " streamer.access " not in line]
    assert "ERROR" in line
    assert reason in line
    assert "Traceback" not in log()


@pytest.mark.usefixtures("impatient")
def test_a_database_that_is_a_folder_now_is_unavailable_and_comes_back(
    config: Config, make_app: MakeApp
) -> None:
    app = make_app(data=config.data)
    alice = Client(app).sign_up("alice")
    database_of(app).close()
    kept = config.data.rename(config.data.with_name("kept"))
    (config.data / "streamer.db").mkdir(parents=True)
    answer = alice.get("/api/auth/me")
    assert_problem(answer, 503, "unavailable")
    assert answer.headers["Retry-After"] == "10"
    (config.data / "streamer.db").rmdir()
    config.data.rmdir()
    kept.rename(config.data)
    alice.get("/api/auth/me", status=200)


def test_other_failure_of_the_database_is_unexpected(log: Callable[[], str]) -> None:
    assert_problem(answer_to(peewee.OperationalError("no such table: x")), 500, "internal_error")
    assert "no such table" in log()
    assert "Traceback" in log()


# the request id


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 64, "0123-abc"])
def test_request_id_of_the_client_is_taken(anonymous: Client, given: str, log: Callable[[], str]) -> None:
    answer = anonymous.get("/nothing", headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given
    assert f"request_id={given}" in log()


@pytest.mark.parametrize("given", ["", " ", "x" * 65, "a b", "a;b", "é", "a=b", "<a>"])
def test_strange_request_id_is_replaced(anonymous: Client, given: str) -> None:
    answer = anonymous.get("/nothing", headers={"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Request-Id"])


def test_each_request_has_an_id_of_its_own(anonymous: Client) -> None:
    assert len({anonymous.get("/health").headers["X-Request-Id"] for _ in range(3)}) == 3


# HEAD


@pytest.mark.parametrize("path", ["/nothing", "/api/auth/login", "/api/auth/me", "/api/videos/1"])
def test_head_of_an_error_is_that_of_get_without_a_body(anonymous: Client, path: str) -> None:
    got, asked = anonymous.get(path), anonymous.head(path)
    assert asked.body == b""
    assert asked.status == got.status
    assert asked.content_type == "application/problem+json"
    assert asked.headers["Content-Length"] == got.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize("error", [errors.NotFound("x"), Teapot(), falcon.HTTPNotFound()])
def test_head_that_fails_has_no_body(error: Exception) -> None:
    answer = answer_to(error, "HEAD")
    assert answer.body == b""
    assert answer.content_type == "application/problem+json"


class Closing:
    """A body that tells the access log that it was closed."""

    def __init__(self, log_entry: LogEntry, closed: list[bool]) -> None:
        self.log_entry = log_entry
        self.closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"media"])

    def close(self) -> None:
        self.closed.append(True)
        self.log_entry.close(0)


def test_body_that_an_error_replaces_is_closed_and_has_no_line_of_its_own(log: Callable[[], str]) -> None:
    closed: list[bool] = []

    class Late:
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            resp.stream = Closing(req.context.log_entry, closed)  # type: ignore[assignment]
            raise errors.NotFound("too late")

    app = falcon.App(middleware=[AccessLog(), SafeHeaders()])
    install(app)
    app.add_route("/", Late())
    answer = webtest.TestApp(app).get("/", expect_errors=True)
    assert_problem(answer, 404, "not_found")
    assert closed == [True]
    (line,) = log().splitlines()
    assert f"GET / 404 length=0 bytes={len(answer.body)} " in line
