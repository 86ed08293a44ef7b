"""One decision with two callers: what a server is told early is what the application answers itself."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import falcon
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.admission import MAX_SMALL_BODY_BYTES, Head
from streamer.app import Application
from streamer.errors import (
    BodyTooLarge,
    InvalidInput,
    LengthMissing,
    MalformedRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    StreamerError,
    UnsupportedMediaType,
)
from streamer.resources.errors import describe
from streamer.resources.receptions import FORM_OVERHEAD_BYTES, FormReception, VideoReception
from tests.conftest import Clock, MakeApp
from tests.helpers import Client, video_bytes
from tests.wsgi import call, stored_files

LIMIT = 10**6
FORM = 'multipart/form-data; boundary="edge"'
METHODS = [*falcon.HTTP_METHODS, "BREW"]
LENGTHS = [0, 1, MAX_SMALL_BODY_BYTES, MAX_SMALL_BODY_BYTES + 1, LIMIT, LIMIT + 1, 10**18, 10**30, None]
KINDS = {
    "json": "application/json",
    "JSON with a charset": "Application/JSON; charset=utf-8",
    "patch": "application/merge-patch+json",
    "video": "video/mp4",
    "VIDEO": "VIDEO/X-Matroska;codecs=a",
    "bytes": "application/octet-stream",
    "form": FORM,
    "form without boundary": "multipart/form-data",
    "form with a long boundary": "multipart/form-data; boundary=" + "x" * 71,
    "text": "text/plain",
    "almost": "videos/mp4",
    "nonsense": ";",
    "empty": "",
    "none": None,
}


class Tokens(NamedTuple):
    """What a client may show."""

    good: str
    bad: str
    expired: str


@pytest.fixture
def app(make_app: MakeApp) -> Application:
    return make_app(max_upload_bytes=LIMIT)


@pytest.fixture
def tokens(app: Application, frozen: Clock) -> Tokens:
    """Of a user who has one video; the last has expired."""
    client = Client(app).sign_up("alice")
    expired = client.session["access_token"]
    frozen.forward(hours=2)
    client.sign_in("alice")
    client.upload(video_bytes(), status=201)
    good = client.session["access_token"]
    return Tokens(good, f"x{good}", expired)


def paths(app: Application) -> Iterator[tuple[str, object]]:
    """Each route with a path that leads to it."""
    for template, resource in app.routes.items():
        yield template.replace("{video_id}", "1"), resource


def heads(authorization: str | None, path: str = "") -> Iterator[Head]:
    query = "title=a" if path == "/api/videos" else ""
    for kind in KINDS.values():
        for length in LENGTHS:
            yield Head("GET", query, authorization, kind, length)


def early(app: Application, path: str, head: Head) -> Any:
    """The reception or None; the error where it is refused."""
    try:
        return app.admission.early(path, head)
    except StreamerError as error:
        return error


# --- who gets what


@pytest.mark.parametrize("method", METHODS)
def test_every_route_and_method(app: Application, tokens: Tokens, method: str) -> None:
    for path, resource in paths(app):
        takes = hasattr(resource, f"on_{method.lower()}")
        rule = getattr(resource, "bodies", {}).get(method)
        for authorization in (
            None,
            "Bearer",
            "Basic eDp5",
            f"Bearer {tokens.bad}",
            f"Bearer {tokens.expired}",
        ):
            for head in heads(authorization):
                found = early(app, path, head._replace(method=method))
                if method == "OPTIONS" or getattr(resource, "public", False):
                    assert not isinstance(found, NotAuthenticated)
                else:
                    assert isinstance(found, NotAuthenticated), (path, head)
                    assert found.presented == (authorization or "").startswith("Bearer")
        for head in heads(f"Bearer {tokens.good}"):
            found = early(app, path, head._replace(method=method))
            assert not isinstance(found, NotAuthenticated | NotFound), (path, head)
            assert isinstance(found, MethodNotAllowed) == (not takes and method != "OPTIONS")
            if (takes and rule is None) or method == "OPTIONS":
                assert isinstance(found, BodyTooLarge) == ((head.content_length or 0) > MAX_SMALL_BODY_BYTES)


def test_every_rule_is_of_a_method_that_its_resource_has(app: Application) -> None:
    for path, resource in paths(app):
        for method in getattr(resource, "bodies", {}):
            assert hasattr(resource, f"on_{method.lower()}"), (path, method)


@pytest.mark.parametrize(
    ("kind", "length", "expected"),
    [
        ("json", MAX_SMALL_BODY_BYTES, None),
        ("JSON with a charset", 0, None),
        ("json", None, None),
        ("json", MAX_SMALL_BODY_BYTES + 1, BodyTooLarge),
        ("json", 10**30, BodyTooLarge),
        ("patch", 10, UnsupportedMediaType),
        ("form", 10, UnsupportedMediaType),
        ("video", 10**30, UnsupportedMediaType),
        ("none", 10, UnsupportedMediaType),
        ("empty", 10, UnsupportedMediaType),
    ],
)
def test_a_small_body_is_json_of_at_most_64_kib(
    app: Application, tokens: Tokens, kind: str, length: int | None, expected: type | None
) -> None:
    for path, resource in paths(app):
        for method in {"POST", "PATCH", "DELETE"} & set(getattr(resource, "bodies", {})):
            if path == "/api/videos" or (kind == "patch" and path == "/api/videos/1"):
                continue
            found = early(app, path, Head(method, "", f"Bearer {tokens.good}", KINDS[kind], length))
            assert found is None if expected is None else isinstance(found, expected), (path, method, found)


@pytest.mark.parametrize(
    ("kind", "length", "expected"),
    [
        ("video", 1, VideoReception),
        ("VIDEO", LIMIT, VideoReception),
        ("bytes", LIMIT, VideoReception),
        ("form", LIMIT + FORM_OVERHEAD_BYTES, FormReception),
        ("video", LIMIT + 1, BodyTooLarge),
        ("form", LIMIT + FORM_OVERHEAD_BYTES + 1, BodyTooLarge),
        ("form", 10**30, BodyTooLarge),
        ("video", None, LengthMissing),
        ("form", None, LengthMissing),
        ("form without boundary", 1000, MalformedRequest),
        ("form with a long boundary", 1000, MalformedRequest),
        ("json", 1000, UnsupportedMediaType),
        ("almost", 1000, UnsupportedMediaType),
        ("none", None, UnsupportedMediaType),
    ],
)
def test_a_video_is_taken_by_a_reception(
    app: Application, tokens: Tokens, kind: str, length: int | None, expected: type
) -> None:
    found = early(app, "/api/videos", Head("POST", "", f"Bearer {tokens.good}", KINDS[kind], length))
    assert type(found) is expected
    assert not [name for name in stored_files(app.config.data) if name.startswith("incoming")]


@pytest.mark.parametrize("query", ["title=", "colour=red", "title=a&title=b", "filename=%2F", "title=%00"])
def test_a_query_is_judged_before_the_body(app: Application, tokens: Tokens, query: str) -> None:
    head = Head("POST", query, f"Bearer {tokens.good}", "video/mp4", 1000)
    assert isinstance(early(app, "/api/videos", head), InvalidInput)


@pytest.mark.parametrize(
    "path", ["/films", "/api", "/api/videos/", "/api/videos/1/2/3", "", "*", "/\xff", "//"]
)
@pytest.mark.parametrize("length", LENGTHS)
def test_where_nothing_is_only_a_large_body_is_refused(
    app: Application, tokens: Tokens, path: str, length: int | None
) -> None:
    found = early(app, path, Head("POST", "", f"Bearer {tokens.good}", "video/mp4", length))
    if (length or 0) > MAX_SMALL_BODY_BYTES:
        assert isinstance(found, NotFound | MethodNotAllowed)
    else:
        assert found is None or isinstance(found, MethodNotAllowed)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_the_scheme_is_written_in_any_case(app: Application, tokens: Tokens, scheme: str) -> None:
    head = Head("POST", "", f"{scheme}{tokens.good} ", "video/mp4", 1000)
    assert isinstance(early(app, "/api/videos", head), VideoReception)


# --- the application by itself


class Untouchable:
    """A body that must not be read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("read")


def asked(
    app: Application, path: str, head: Head, body: object
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """What the application answers to a head."""
    named = {
        "Authorization": head.authorization,
        "Content-Type": head.content_type,
        "Content-Length": None if head.content_length is None else str(head.content_length),
    }
    fields = {name: value for name, value in named.items() if value is not None}
    path = f"{path}?{head.query}" if head.query else path
    answer = call(app, path, head.method, fields, extra={"wsgi.input": body})
    told = answer.read()
    is_problem = told and answer.fields["content-type"] == "application/problem+json"
    return answer.status, answer.fields, json.loads(told) if is_problem else {}


BY_THE_HEAD = {400, 401, 404, 405, 411, 413, 415, 422}


class Nothing:
    """A body whose client has left."""

    def read(self, size: int = -1) -> bytes:
        return b""


@pytest.mark.parametrize("show", ["good", "bad", "expired", None])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_application_by_itself_decides_the_same(
    app: Application, tokens: Tokens, method: str, show: str | None
) -> None:
    authorization = f"Bearer {getattr(tokens, show)}" if show else None
    for path, resource in [*paths(app), ("/films", None)]:
        takes_body = method in getattr(resource, "bodies", {})
        for head in heads(authorization, path):
            head = head._replace(method=method)
            found = early(app, path, head)
            if (method, path, found) == ("DELETE", "/api/videos/1", None) and show == "good":
                continue  # which succeeds
            status, fields, problem = asked(app, path, head, Nothing())
            case = (path, head, found, status, problem)
            if not isinstance(found, StreamerError):
                assert problem.get("code") not in {"unsupported_media_type", "body_too_large"}, case
                if status == 411:  # a chunked body, which our server measures
                    assert head.content_length is None, case
                elif takes_body and (head.content_length or 0):
                    assert problem["code"] == "incomplete_body", case
            else:
                document, named = describe(found)
                assert (status, problem) == (document["status"], document) or method == "HEAD", case
                assert status == document["status"], case
                assert {name: fields.get(name.lower()) for name in named} == named, case
    assert len(stored_files(app.config.data)) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_no_head_makes_it_fail(app: Application, tokens: Tokens, data: st.DataObject) -> None:
    latin = st.text(st.characters(max_codepoint=255), max_size=20)
    path = data.draw(st.sampled_from([path for path, _ in paths(app)]) | latin.map("/{}".format))
    head = Head(
        data.draw(st.sampled_from(METHODS) | st.text("ABC!#$%&'*+-.^_`|~019", min_size=1, max_size=5)),
        data.draw(
            latin | st.sampled_from(["title=%", "title=%ff", "&&=&", "title", "=", "title=a;filename=b"])
        ),
        data.draw(st.none() | latin | latin.map("Bearer {}".format) | st.just(f"Bearer {tokens.good}")),
        data.draw(
            st.none()
            | latin
            | st.sampled_from([kind for kind in KINDS.values() if kind])
            | latin.map("multipart/form-data; {}".format)
            | latin.map("multipart/form-data; boundary={}".format)
            | latin.map('multipart/form-data; boundary="{}'.format)
        ),
        data.draw(st.none() | st.integers(0, 10**40)),
    )
    found = early(app, path, head)
    if isinstance(found, StreamerError):
        describe(found)
    elif found is not None:
        found.close()
