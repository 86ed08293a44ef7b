"""One decision with two callers: what a server is told early is what the application answers itself."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import falcon
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer import uploads
from streamer.admission import MAX_SMALL_BODY_BYTES, Head, effective_method
from streamer.app import Application
from streamer.errors import (
    BodyTooLarge,
    InconsistentLength,
    InvalidInput,
    LengthMissing,
    MalformedRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    StreamerError,
    UnsupportedMediaType,
    UnsupportedTusVersion,
)
from streamer.middleware import REFUSAL
from streamer.models import Upload
from streamer.protocol import draft, tus
from streamer.resources.errors import describe
from streamer.resources.receptions import FORM_OVERHEAD_BYTES, FormReception, VideoReception
from streamer.resources.upload_bodies import AdditionReception, CreationReception
from tests.conftest import Clock, MakeApp
from tests.helpers import Client, video_bytes
from tests.wsgi import call, intake_of, stored_files

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
    "tus": tus.MEDIA_TYPE,
    "draft": draft.MEDIA_TYPE,
}
TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "1000", "Upload-Offset": "0"}
DRAFT = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?0", "Upload-Offset": "0"}
DIALECTS = {"none": {}, "tus": TUS, "draft": DRAFT, "bad": TUS | {"Upload-Length": "x", "Upload-Offset": "x"}}
UPLOAD = f"/api/uploads/{'0' * 32}"
TAKES_LARGE_BODIES = {"/api/videos", "/api/uploads", UPLOAD}


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
        yield template.replace("{video_id}", "1").replace("{upload_id}", "0" * 32), resource


class Fields(dict[str, str]):
    """Header fields; called, it gives the value of one, as servers do."""

    def __call__(self, name: str) -> str | None:
        return self.get(name)


def head_of(
    method: str,
    query: str,
    authorization: str | None,
    kind: str | None,
    length: int | None,
    fields: Mapping[str, str] = {},
) -> Head:
    """A head with these header fields."""
    named = {"Authorization": authorization, "Content-Type": kind, **fields}
    present = {name: value for name, value in named.items() if value is not None}
    return Head(method, query, length, is_chunked=False, field=Fields(present))


def heads(authorization: str | None, path: str = "") -> Iterator[Head]:
    query = "title=a" if path == "/api/videos" else ""
    for fields in DIALECTS.values() if path.startswith("/api/uploads") else [{}]:
        for kind in KINDS.values():
            for length in LENGTHS:
                yield head_of("GET", query, authorization, kind, length, fields)


def early(app: Application, path: str, head: Head) -> Any:
    """The reception or None; the error where it is refused."""
    try:
        return app.admission.early(path, head)
    except StreamerError as error:
        return error


# --- who gets what


@pytest.mark.no_cover  # measured, the same few lines a hundred thousand times take twice as long
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
            if path in TAKES_LARGE_BODIES or (kind == "patch" and path == "/api/videos/1"):
                continue
            found = early(app, path, head_of(method, "", f"Bearer {tokens.good}", KINDS[kind], length))
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
    found = early(app, "/api/videos", head_of("POST", "", f"Bearer {tokens.good}", KINDS[kind], length))
    assert type(found) is expected
    assert not [name for name in stored_files(app.config.data) if name.startswith("incoming")]


@pytest.mark.parametrize(
    ("kind", "length", "fields", "expected"),
    [
        ("none", 0, TUS, CreationReception),
        ("none", None, TUS, CreationReception),
        ("tus", 1000, TUS, CreationReception),
        ("tus", 1001, TUS, BodyTooLarge),
        ("tus", 10**30, TUS, BodyTooLarge),
        ("none", 0, TUS | {"Upload-Length": str(LIMIT)}, CreationReception),
        ("none", 0, TUS | {"Upload-Length": str(LIMIT + 1)}, BodyTooLarge),
        ("none", 0, TUS | {"Upload-Length": "9" * 40}, BodyTooLarge),
        ("none", 0, TUS | {"Upload-Length": "9" * 41}, MalformedRequest),
        ("video", 1000, TUS, UnsupportedMediaType),
        ("none", 1000, TUS, UnsupportedMediaType),
        ("none", 0, {"Upload-Length": "1000"}, UnsupportedTusVersion),
        ("none", 0, TUS | {"Tus-Resumable": "0.2.2"}, UnsupportedTusVersion),
        ("none", 0, {"Tus-Resumable": "1.0.0"}, MalformedRequest),
        ("tus", None, TUS | {"Transfer-Encoding": "chunked"}, LengthMissing),
        ("none", 0, {"Tus-Resumable": "1.0.0", "Upload-Concat": "final;/api/uploads/a"}, CreationReception),
        ("tus", 1, {"Tus-Resumable": "1.0.0", "Upload-Concat": "final;/api/uploads/a"}, BodyTooLarge),
        ("none", 0, TUS | {"Upload-Metadata": "title =="}, MalformedRequest),
        ("none", 0, TUS | {"Upload-Metadata": "title AA=="}, InvalidInput),
        ("none", 0, TUS | {"Idempotency-Key": "\x7f"}, MalformedRequest),
        ("video", LIMIT, DRAFT, CreationReception),
        ("bytes", 1, DRAFT, CreationReception),
        ("video", LIMIT + 1, DRAFT, BodyTooLarge),
        ("video", 10, DRAFT | {"Upload-Complete": "?1", "Upload-Length": "11"}, InconsistentLength),
        ("tus", 10, DRAFT, UnsupportedMediaType),
    ],
)
def test_a_new_upload_is_judged_by_its_head(
    app: Application, tokens: Tokens, kind: str, length: int | None, fields: dict[str, str], expected: type
) -> None:
    head = head_of("POST", "", f"Bearer {tokens.good}", KINDS[kind], length, fields)
    assert type(early(app, "/api/uploads", head)) is expected
    assert not Upload.select().exists(intake_of(app).database)


@pytest.mark.parametrize(
    ("kind", "length", "fields", "expected"),
    [
        ("tus", 0, TUS, AdditionReception),
        ("tus", LIMIT, TUS, AdditionReception),
        ("tus", LIMIT + 1, TUS, BodyTooLarge),
        ("tus", 1, TUS | {"Upload-Length": str(LIMIT + 1)}, BodyTooLarge),
        ("tus", 1, TUS | {"Upload-Offset": str(10**30)}, AdditionReception),  # whose offset is another
        ("tus", None, TUS, LengthMissing),
        ("tus", 1, {"Tus-Resumable": "1.0.0"}, MalformedRequest),
        ("tus", 1, {"Upload-Offset": "0"}, UnsupportedTusVersion),
        ("tus", 1, TUS | {"Upload-Checksum": "md5 AAAA"}, MalformedRequest),
        ("bytes", 1, TUS, UnsupportedMediaType),
        ("none", 0, TUS, UnsupportedMediaType),
        ("draft", LIMIT, DRAFT, AdditionReception),
        ("draft", LIMIT, {"Upload-Complete": "?0", "Upload-Offset": "0"}, AdditionReception),
        ("draft", LIMIT + 1, DRAFT, BodyTooLarge),
        ("draft", 10, {}, MalformedRequest),
        ("draft", 10, DRAFT | {"Upload-Complete": "?1", "Upload-Length": "11"}, InconsistentLength),
        ("tus", 10, DRAFT, UnsupportedMediaType),
    ],
)
def test_more_bytes_of_an_upload_are_judged_by_their_head(
    app: Application, tokens: Tokens, kind: str, length: int | None, fields: dict[str, str], expected: type
) -> None:
    """Whose upload it is, and how far it is, the database knows."""
    head = head_of("PATCH", "", f"Bearer {tokens.good}", KINDS[kind], length, fields)
    assert type(early(app, UPLOAD, head)) is expected


@pytest.mark.parametrize("override", [None, "PATCH", "patch", "DELETE", "GET", "", "BREW"])
def test_only_a_post_can_stand_for_another_method(override: str | None) -> None:
    for method in METHODS:
        if method != "POST":
            assert effective_method(method, override) == method
    if override is None:
        assert effective_method("POST", override) == "POST"
    elif override.upper() in {"PATCH", "DELETE"}:
        assert effective_method("POST", override) == override.upper()
    else:
        with pytest.raises(MalformedRequest) as caught:
            effective_method("POST", override)
        assert caught.value.code == "bad_method_override"


@pytest.mark.parametrize("query", ["title=", "colour=red", "title=a&title=b", "filename=%2F", "title=%00"])
def test_a_query_is_judged_before_the_body(app: Application, tokens: Tokens, query: str) -> None:
    head = head_of("POST", query, f"Bearer {tokens.good}", "video/mp4", 1000)
    assert isinstance(early(app, "/api/videos", head), InvalidInput)


@pytest.mark.parametrize(
    "path", ["/films", "/api", "/api/videos/", "/api/videos/1/2/3", "", "*", "/\xff", "//"]
)
@pytest.mark.parametrize("length", LENGTHS)
def test_where_nothing_is_only_a_large_body_is_refused(
    app: Application, tokens: Tokens, path: str, length: int | None
) -> None:
    found = early(app, path, head_of("POST", "", f"Bearer {tokens.good}", "video/mp4", length))
    if (length or 0) > MAX_SMALL_BODY_BYTES:
        assert isinstance(found, NotFound | MethodNotAllowed)
    else:
        assert found is None or isinstance(found, MethodNotAllowed)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_the_scheme_is_written_in_any_case(app: Application, tokens: Tokens, scheme: str) -> None:
    head = head_of("POST", "", f"{scheme}{tokens.good} ", "video/mp4", 1000)
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
    assert isinstance(head.field, Fields)
    fields = dict(head.field)
    if head.content_length is not None:
        fields["Content-Length"] = str(head.content_length)
    path = f"{path}?{head.query}" if head.query else path
    answer = call(app, path, head.method, fields, extra={"wsgi.input": body})
    told = answer.read()
    is_problem = told and answer.fields["content-type"] == "application/problem+json"
    return answer.status, answer.fields, json.loads(told) if is_problem else {}


BY_THE_HEAD = {400, 401, 404, 405, 411, 413, 415, 422}


@pytest.mark.parametrize("path", ["/api/videos", "/api/uploads", UPLOAD])
def test_what_the_server_has_refused_is_told_as_if_the_application_had(
    app: Application, tokens: Tokens, path: str
) -> None:
    method = "PATCH" if path == UPLOAD else "POST"
    fields = {"Authorization": f"Bearer {tokens.good}", "Content-Type": "text/plain"} | TUS
    by_itself = call(app, path, method, fields | {"Content-Length": "5"}, extra={"wsgi.input": Untouchable()})
    told = json.loads(by_itself.read())
    refusal = UnsupportedMediaType("text/plain", told["detail"].partition("want ")[2])
    early = call(app, path, method, {}, extra={REFUSAL: refusal, "wsgi.input": Untouchable()})
    assert early.status == by_itself.status == 415
    assert json.loads(early.read()) == told
    own = {"x-request-id": ""}
    assert early.fields | own == by_itself.fields | own, "with all that a resource says of itself"


class Nothing:
    """A body whose client has left."""

    def read(self, size: int = -1) -> bytes:
        return b""


@pytest.mark.no_cover  # as above
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
                    # which upload it is, the database knows
                    assert problem["code"] == ("not_found" if path == UPLOAD else "incomplete_body"), case
            else:
                document, named = describe(found)
                assert (status, problem) == (document["status"], document) or method == "HEAD", case
                assert status == document["status"], case
                assert {name: fields.get(name.lower()) for name in named} == named, case
    remove_uploads(app)
    assert len(stored_files(app.config.data)) == 1


def remove_uploads(app: Application) -> None:
    """Those that were made by a head alone."""
    intake = intake_of(app)
    for upload in Upload.select().execute(intake.database):
        assert upload.offset == 0
        uploads.remove(intake, upload)


FIELDS = [
    "Content-Digest",
    "Content-Disposition",
    "Idempotency-Key",
    "Transfer-Encoding",
    "Tus-Resumable",
    "Upload-Checksum",
    "Upload-Complete",
    "Upload-Concat",
    "Upload-Defer-Length",
    "Upload-Draft-Interop-Version",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
]


@pytest.mark.no_cover  # as above
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_no_head_makes_it_fail(app: Application, tokens: Tokens, data: st.DataObject) -> None:
    latin = st.text(st.characters(max_codepoint=255), max_size=20)
    path = data.draw(st.sampled_from([path for path, _ in paths(app)]) | latin.map("/{}".format))
    values = latin | st.sampled_from(
        ["0", "1000", "?0", "?1", "1.0.0", "8", "sha1 =", "final;/", "a b,c", "9" * 50]
    )
    head = head_of(
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
        data.draw(st.sampled_from([{}, TUS, DRAFT]))
        | data.draw(st.dictionaries(st.sampled_from(FIELDS), values)),
    )
    found = early(app, path, head)
    if isinstance(found, StreamerError):
        describe(found)
    elif found is not None:
        found.close()
