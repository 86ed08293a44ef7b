"""openapi.json describes the application, all of it and nothing else; the check against it can fail."""

import ast
import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import webtest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31

import streamer
from streamer import inputs, jobs, playability, uploads
from streamer.admission import Head
from streamer.app import Application
from streamer.containers import signatures
from streamer.errors import BodyTooLarge, InsufficientStorage, MalformedRequest, QuotaExceeded
from streamer.ffmpeg import posters
from streamer.middleware import CrossOrigin
from streamer.protocol import captions, draft, tus
from streamer.resources import captions as captions_resource
from streamer.resources import pictures as pictures_resource
from streamer.resources import receptions
from streamer.resources import videos as videos_resource
from streamer.resources.errors import PROBLEMS
from streamer.server.tasks import CODES
from streamer.videos import SORTS
from tests import contract
from tests.contract import METHODS, checked, served_contract
from tests.helpers import Client, video_bytes

DOCUMENT = contract.load()
COMPONENTS = DOCUMENT["components"]
SCHEMAS = COMPONENTS["schemas"]
OPERATIONS = {
    (template, method.upper()): path_item[method]
    for template, path_item in DOCUMENT["paths"].items()
    for method in METHODS
    if method in path_item
}
PROBLEM = "application/problem+json"


def walk(value: object, place: str = "#") -> Iterator[tuple[str, Any]]:
    """Every object and array of a JSON document, with its place."""
    yield place, value
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in members:
        yield from walk(member, f"{place}/{key}")


def target_of(reference: str) -> Any:
    found: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def resolved(item: dict[str, Any]) -> dict[str, Any]:
    return target_of(item["$ref"]) if "$ref" in item else item


def parameter_names(operation: dict[str, Any], where: str) -> set[str]:
    parameters = [resolved(parameter) for parameter in operation.get("parameters", [])]
    return {parameter["name"] for parameter in parameters if parameter["in"] == where}


REFERENCES = {
    value["$ref"]
    for _, value in walk(DOCUMENT)
    if isinstance(value, dict) and isinstance(value.get("$ref"), str)
}


# the document in itself


def test_document_is_openapi_3_1() -> None:
    assert list(Draft202012Validator(OPENAPI_31).iter_errors(DOCUMENT)) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid_and_so_are_its_examples(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    for example in SCHEMAS[name].get("examples", []):
        served_contract().schema(name).validate(example)


def test_every_reference_has_a_target() -> None:
    assert all(reference.startswith("#/components/") for reference in REFERENCES)
    for reference in REFERENCES:
        assert target_of(reference)


def test_every_component_is_used() -> None:
    security = {name for requirement in DOCUMENT["security"] for name in requirement}
    used = REFERENCES | {f"#/components/securitySchemes/{name}" for name in security}
    assert used == {f"#/components/{kind}/{name}" for kind, named in COMPONENTS.items() for name in named}


def test_operation_ids_are_unique_and_links_lead_to_them() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)
    assert {link["operationId"] for link in COMPONENTS["links"].values()} <= set(ids)


def test_every_tag_is_declared_and_used() -> None:
    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == {
        tag["name"] for tag in DOCUMENT["tags"]
    }


def test_every_object_says_whether_it_takes_other_members() -> None:
    for place, value in walk(SCHEMAS):
        if isinstance(value, dict) and value.get("type") == "object":
            assert value["additionalProperties"] is False, place


def test_document_is_printed_with_two_spaces() -> None:
    text = Path(streamer.__file__).with_name("openapi.json").read_text(encoding="utf-8")
    assert text == json.dumps(DOCUMENT, indent=2, ensure_ascii=False) + "\n"


# the document and the application


def methods_of(resource: object) -> set[str]:
    return {name.removeprefix("on_").upper() for name in dir(resource) if name.startswith("on_")}


def test_routes_and_methods_are_those_of_the_application(app: Application) -> None:
    served = {
        (template, method) for template, resource in app.routes.items() for method in methods_of(resource)
    }
    assert set(OPERATIONS) == served


def test_operations_without_a_token_are_those_of_public_resources(app: Application) -> None:
    for (template, method), operation in OPERATIONS.items():
        is_public = getattr(app.routes[template], "public", False) or method == "OPTIONS"
        assert (operation.get("security") == []) == is_public, (template, method)
        is_refused = "401" in operation["responses"]
        assert is_refused == (not is_public or operation["operationId"] in {"login", "refresh"}), template


def test_head_is_documented_as_get_is() -> None:
    for template in DOCUMENT["paths"]:
        if (template, "HEAD") not in OPERATIONS or template == "/api/uploads/{upload_id}":  # which is of tus
            continue
        get, head = (copy.deepcopy(OPERATIONS[template, method]) for method in ("GET", "HEAD"))
        if parameter_names(get, "header") & {"Range"}:  # which is defined for GET only
            for status in ("206", "416"):
                del get["responses"][status]
            get["parameters"] = [p for p in get["parameters"] if "Range" not in resolved(p)["name"]]
        for operation in (get, head):
            for member in ("operationId", "summary", "description"):
                operation.pop(member, None)
        assert get == head


def test_version_is_that_of_the_package() -> None:
    assert DOCUMENT["info"]["version"] == streamer.__version__


def test_document_is_what_the_server_serves(anonymous: Client) -> None:
    assert anonymous.get("/openapi.json", status=200).json == DOCUMENT


def test_query_parameters_are_those_that_are_read() -> None:
    assert parameter_names(OPERATIONS["/api/videos", "GET"], "query") == set(videos_resource.QUERY)
    assert parameter_names(OPERATIONS["/api/videos", "POST"], "query") == set(receptions.QUERY)
    assert parameter_names(OPERATIONS["/api/uploads", "POST"], "query") == set(receptions.QUERY)
    item = "/api/videos/{video_id}"
    poster, its_captions = (
        OPERATIONS[f"{item}/poster.jpg", "GET"],
        OPERATIONS[f"{item}/captions/{{name}}", "PUT"],
    )
    assert parameter_names(poster, "query") == {*pictures_resource.QUERY, "download"}
    assert parameter_names(its_captions, "query") == set(captions_resource.QUERY)
    assert set(SCHEMAS["VideoChanges"]["properties"]) == set(receptions.DETAILS)
    assert set(SCHEMAS["UploadForm"]["properties"]) == {"video", *receptions.DETAILS}


def test_limits_are_those_of_the_inputs() -> None:
    parameters = COMPONENTS["parameters"]
    assert SCHEMAS["Title"]["maxLength"] == inputs.MAX_TITLE
    assert SCHEMAS["Description"]["maxLength"] == inputs.MAX_DESCRIPTION
    for name in ("Video", "Upload"):
        assert SCHEMAS[name]["properties"]["filename"]["maxLength"] == inputs.MAX_FILENAME
    assert SCHEMAS["UploadList"]["properties"]["data"]["maxItems"] == uploads.MOST_UNFINISHED
    assert parameters["UploadMetadata"]["schema"]["maxLength"] == tus.MAX_METADATA
    assert parameters["VideoId"]["schema"]["maximum"] == inputs.MAX_ID
    assert set(parameters["Sort"]["schema"]["enum"]) == set(SORTS)
    assert tuple(SCHEMAS["VideoStatus"]["enum"]) == jobs.STATUSES
    assert tuple(SCHEMAS["Processing"]["properties"]["step"]["enum"]) == jobs.STEPS
    assert tuple(SCHEMAS["Playable"]["properties"]["remedy"]["enum"]) == get_args(playability.Remedy)
    assert SCHEMAS["Label"]["maxLength"] == inputs.MAX_LABEL
    assert SCHEMAS["Captions"]["properties"]["language"]["maxLength"] == captions.MAX_TAG
    assert tuple(parameters["Width"]["schema"]["enum"]) == posters.WIDTHS
    for name, parse in (("Page", inputs.page), ("Limit", inputs.limit)):
        schema = parameters[name]["schema"]
        assert parse(str(schema["minimum"])) == schema["minimum"]
        assert parse(str(schema["maximum"])) == schema["maximum"]
        for beyond in (schema["minimum"] - 1, schema["maximum"] + 1):
            with pytest.raises(ValueError, match="whole number"):
                parse(str(beyond))


def takes(parse: Callable[[object], object], value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def matches(schema: dict[str, Any], value: str) -> bool:
    # in JSON Schema $ is the end and nothing else
    pattern = schema.get("pattern", "").replace("$", r"\Z")
    bounds = range(schema.get("minLength", 0), schema["maxLength"] + 1)
    return len(value) in bounds and re.search(pattern, value) is not None


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.text("ab\t\n\x85\u2028 \u00a0_.-/\\", max_size=4)
)
def test_text_is_documented_exactly_as_it_is_taken(value: str) -> None:
    assert matches(SCHEMAS["Title"], value) == takes(inputs.title, value)
    assert matches(SCHEMAS["Description"], value) == takes(inputs.description, value)
    assert matches(SCHEMAS["Label"], value) == takes(inputs.label, value)
    assert matches(COMPONENTS["parameters"]["TitleText"]["schema"], value) == takes(inputs.search, value)
    assert matches(SCHEMAS["Username"], value) == takes(inputs.username, value)
    assert matches(SCHEMAS["NewPassword"], value) == takes(inputs.password, value)
    assert takes(inputs.filename, value) or not matches(
        SCHEMAS["FileName"], value
    )  # odd ones are taken as well


def grammar(name: str) -> re.Pattern[str]:
    """The documented form of a header field of a request."""
    return re.compile(COMPONENTS["parameters"][name]["schema"]["pattern"].replace("$", r"\Z"))


def test_header_fields_of_uploads_are_documented_as_they_are_read() -> None:
    readers: dict[str, Callable[[str], object]] = {
        "UploadMetadata": tus.parse_metadata,
        "UploadChecksum": lambda value: tus.parse_creation(
            {"Upload-Length": "1", "Upload-Checksum": value}.get
        ),
        "UploadConcat": lambda value: tus.parse_creation({"Upload-Length": "1", "Upload-Concat": value}.get),
        "IdempotencyKey": lambda value: receptions.idempotency_key(
            Head("POST", "", None, False, {"Idempotency-Key": value}.get)
        ),
    }
    taken = {
        "UploadMetadata": ["", "filename", "filename Y2xpcA==", "a YQ==,b,c Yw==", "a YQ==, b Yg=="],
        "UploadChecksum": ["sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha256 YQ=="],
        "UploadConcat": ["partial", "final;/api/uploads/1", "final; /api/uploads/1 /api/uploads/2"],
        "IdempotencyKey": ["1", '"1"', '"a b"', "x" * 255],
    }
    refused = {
        "UploadMetadata": ["filename Y2xpcA=", "filename é", ",", "a YQ==,,b Yg==", "ä"],
        "UploadChecksum": ["md5 YQ==", "sha1 a", "YQ=="],
        "UploadConcat": ["final", "final;", "part", "final /api/uploads/1"],
        "IdempotencyKey": ["", '"', '""', "a b", "x" * 256],
    }
    for name, read in readers.items():
        for value in taken[name]:
            read(value)
            assert grammar(name).match(value), (name, value)
        for value in refused[name]:
            assert not grammar(name).match(value), (name, value)
            with pytest.raises(MalformedRequest):
                read(value)


@given(st.text(" ,=AaYQ/+!-é", max_size=12))
def test_metadata_that_is_documented_is_refused_for_nothing_but_keys_that_are_there_twice(value: str) -> None:
    keys = [pair.strip(" ").partition(" ")[0] for pair in value.split(",")]
    if grammar("UploadMetadata").match(value) and len(set(keys)) == len(keys):
        assert set(tus.parse_metadata(value)) == set(keys) - {""}


def test_what_is_offered_to_uploads_is_documented() -> None:
    offered = {name: COMPONENTS["headers"][name]["schema"].get("const") for name in COMPONENTS["headers"]}
    assert offered["TusVersion"] == offered["TusResumable"] == tus.VERSION
    assert offered["TusExtension"] == ",".join(tus.EXTENSIONS)
    assert offered["TusChecksumAlgorithm"] == ",".join(tus.ALGORITHMS)
    assert offered["AllowMethods"] == CrossOrigin.METHODS
    types = {"about:blank", draft.MISMATCHING_OFFSET, draft.INCONSISTENT_LENGTH}
    assert set(SCHEMAS["Problem"]["properties"]["type"]["enum"]) == types
    addition = OPERATIONS["/api/uploads/{upload_id}", "PATCH"]["requestBody"]["content"]
    assert set(addition) == {tus.MEDIA_TYPE, draft.MEDIA_TYPE}


def test_version_of_the_draft_is_named_in_the_words_of_its_module() -> None:
    (version,) = re.findall(r"after version \d+", draft.__doc__ or "")
    (date,) = re.findall(r"editors' copy of (\d+ \w+ \d+)", draft.__doc__ or "")
    for words in ("draft-ietf-httpbis-resumable-upload", version, date):
        assert words in DOCUMENT["info"]["description"]
    assert f"interop version is {draft.INTEROP_VERSION}," in DOCUMENT["info"]["description"]


def test_every_header_field_that_pages_may_send_is_documented_and_the_other_way_round() -> None:
    documented = {
        parameter["name"] for parameter in COMPONENTS["parameters"].values() if parameter["in"] == "header"
    }
    elsewhere = {"Authorization", "Content-Type", "X-HTTP-Method-Override", "X-Request-Id"}
    of_libraries = {"X-Requested-With"}
    assert set(CrossOrigin.ALLOWED.split(", ")) == documented | elsewhere | of_libraries


def test_pages_may_read_every_header_field_that_is_documented() -> None:
    documented = {
        name
        for place, value in walk(DOCUMENT)
        if isinstance(value, dict) and "headers" in value and place != "#/components"
        for name in value["headers"]
    }
    to_browsers = {name for name in documented if name.startswith("Access-Control-")} | {
        "Content-Security-Policy",
        "Referrer-Policy",
        "Vary",
        "X-Content-Type-Options",
    }
    always_read = {"Cache-Control", "Content-Length", "Last-Modified"}  # by the Fetch standard
    assert set(CrossOrigin.EXPOSED.split(", ")) == documented - to_browsers - always_read


def test_reasons_of_a_check_are_the_codes_of_the_refusal() -> None:
    *reasons, accepted = SCHEMAS["UploadCheckResult"]["properties"]["reason"]["enum"]
    assert accepted is None
    refusals = (BodyTooLarge, QuotaExceeded, InsufficientStorage)
    assert reasons == [PROBLEMS[refusal].code for refusal in refusals]


def test_media_type_of_every_container_is_documented() -> None:
    pattern = SCHEMAS["Video"]["properties"]["mime_type"]["pattern"]
    containers = [value for value in vars(signatures).values() if isinstance(value, signatures.Container)]
    assert containers
    for container in containers:
        assert re.search(pattern, container.mime_type)


def codes_in_the_source() -> set[str]:
    """The codes of MalformedRequest, each of which stands where it is raised."""
    return {
        str(node.args[0].value)
        for path in Path(streamer.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "MalformedRequest"
        and isinstance(node.args[0], ast.Constant)
    }


def test_error_codes_are_those_of_the_application() -> None:
    documented = set()
    for name, response in COMPONENTS["responses"].items():
        if PROBLEM in response.get("content", {}):
            told = response["content"][PROBLEM]["schema"]["properties"]
            codes = told["code"].get("enum") or [told["code"]["const"]]
            assert codes, name
            documented |= {(told["status"]["const"], code) for code in codes}
    falcon = {(400, "bad_request"), (404, "not_found"), (405, "method_not_allowed")}
    malformed = {(400, code) for code in codes_in_the_source()}
    assert malformed
    assert documented == {
        *PROBLEMS.values(),
        *CODES.items(),
        *malformed,
        *falcon,
        (500, "internal_error"),
    }
    assert set(SCHEMAS["Problem"]["properties"]["code"]["enum"]) == {code for _, code in documented}


def test_every_response_stands_under_its_own_status() -> None:
    for operation in (DOCUMENT["x-any-request"], *OPERATIONS.values()):
        for status, response in operation["responses"].items():
            for media in resolved(response).get("content", {}).values():
                told = media.get("schema", {}).get("properties", {}).get("status", {})
                assert told.get("const", int(status)) == int(status), response


def test_representations_have_the_documented_members(alice: Client) -> None:
    video = alice.upload(video_bytes(), status=201).json
    alice.http.post("/api/uploads", headers=alice.headers | {"Tus-Resumable": "1.0.0", "Upload-Length": "9"})
    listed = alice.get("/api/uploads").json
    tus_fields = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    finished = alice.http.post(
        "/api/uploads", video_bytes(), alice.headers | tus_fields | {"Upload-Length": "1000"}
    ).json
    checked = alice.post("/api/uploads/check", {"size": 1, "filename": "clip.mp4"}).json
    shown = {
        "User": alice.get("/api/auth/me").json,
        "Session": alice.session,
        "Video": video,
        "Uploader": video["uploader"],
        "VideoLinks": video["links"],
        "Upload": finished,
        "UploadLinks": finished["links"],
        "UploadList": listed,
        "UploadCheckResult": checked,
        "VideoPage": alice.get("/api/videos").json,
        "PageMeta": alice.get("/api/videos").json["meta"],
        "Index": alice.get("/").json,
        "IndexLinks": alice.get("/").json["links"],
        "Health": alice.get("/health").json,
    }
    for name, representation in shown.items():
        absent = {"play", "storyboard"} if name == "VideoLinks" else set()
        assert set(SCHEMAS[name]["properties"]) == set(representation) | absent, name
        optional = {"video"} if name == "UploadLinks" else set()
        assert set(SCHEMAS[name]["required"]) == set(representation) - optional, name
    assert set(listed["data"][0]["links"]) == set(SCHEMAS["UploadLinks"]["required"])


# the check can fail

FIELDS = {
    "X-Request-Id": "1",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
JSON = FIELDS | {"Content-Type": "application/json"}
HEALTH = b'{"status": "ok", "checks": {"database": "ok", "storage": "ok"}, "ffmpeg": null}'
NOT_FOUND = b'{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "", "code": "not_found"}'
METHOD_NOT_ALLOWED = (
    b'{"type": "about:blank", "title": "Method Not Allowed", "status": 405, "detail": "",'
    b' "code": "method_not_allowed"}'
)
USER = (
    b'{"id": 1, "username": "alice", "created_at": "2026-05-04T03:02:01.654Z",'
    b' "video_count": 0, "bytes_used": 0, "quota_bytes": null}'
)


class Body:
    """The body of an answer that tells whether it was closed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield self._data

    def close(self) -> None:
        self.is_closed = True


def answering(status: int, fields: dict[str, str], body: Iterable[bytes]) -> webtest.TestApp:
    """A client of an application that gives one answer, after reading the request."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{status} Whatever", list(fields.items()))
        return body

    return webtest.TestApp(checked(application), lint=False)


def ask(
    status: int,
    fields: dict[str, str],
    answer: bytes = b"",
    *,
    method: str = "GET",
    path: str = "/health",
    **request: Any,
) -> None:
    body = Body(answer)
    try:
        answering(status, fields, body).request(path, method=method, expect_errors=True, **request)
    finally:
        assert body.is_closed


OFFER = FIELDS | {
    "Allow": "GET, HEAD, POST, OPTIONS",
    "Tus-Resumable": "1.0.0",
    "Tus-Version": "1.0.0",
    "Tus-Extension": ",".join(tus.EXTENSIONS),
    "Tus-Max-Size": "1000",
    "Tus-Checksum-Algorithm": "sha1,sha256",
    "Upload-Limit": "max-size=1000, max-age=10",
}
DELETE_BY_POST = {"method": "POST", "headers": {"X-HTTP-Method-Override": "delete"}}


def test_documented_answer_passes() -> None:
    ask(200, JSON, HEALTH)
    ask(200, JSON, method="HEAD")
    ask(200, JSON, USER, path="/api/auth/me")
    ask(204, OFFER, method="OPTIONS", path="/api/uploads")
    ask(200, FIELDS | {"Allow": "POST"}, method="OPTIONS", path="/api/uploads/check")
    ask(204, FIELDS, path="/api/videos/1", **DELETE_BY_POST)


PROBLEM_FIELDS = FIELDS | {"Content-Type": PROBLEM}
UNDOCUMENTED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "status": ("the status is not documented", (202, JSON, HEALTH), {}),
    "method": ("the method of /health is not documented", (200, JSON, HEALTH), {"method": "PUT"}),
    "path": ("the path is not documented", (200, JSON, HEALTH), {"path": "/healthy"}),
    "status of an unknown path": (
        "the status is not documented",
        (409, PROBLEM_FIELDS, NOT_FOUND),
        {"path": "/healthy"},
    ),
    "header field": (r"\['x-extra'\] are not documented", (200, JSON | {"X-Extra": "1"}, HEALTH), {}),
    "value of a header field": (
        "x-content-type-options: 'sniff' is not valid",
        (200, JSON | {"X-Content-Type-Options": "sniff"}, HEALTH),
        {},
    ),
    "number in a header field": (
        "retry-after: '-1' is not valid",
        (503, JSON | {"Retry-After": "-1"}, HEALTH),
        {},
    ),
    "URI in a header field": (
        "location: '/api/auth/me' is not valid",
        (201, JSON | {"Location": "/api/auth/me"}, USER),
        {
            "method": "POST",
            "path": "/api/auth/register",
            "body": b'{"username": "alice", "password": "12345678"}',
            "headers": {"Content-Type": "application/json"},
        },
    ),
    "lack of a header field": ("retry-after is missing", (503, JSON, HEALTH), {}),
    "media type": (
        "media type 'text/plain' is not documented",
        (200, FIELDS | {"Content-Type": "text/plain"}, HEALTH),
        {},
    ),
    "lack of a media type": ("media type None is not documented", (200, FIELDS, HEALTH), {}),
    "body": ("is not documented at \\$: 'status' is a required", (200, JSON, b'{"checks": {}}'), {}),
    "member": ("Additional properties", (200, JSON, HEALTH.replace(b"null}", b'null, "x": 1}')), {}),
    "date": ("is not a 'date-time'", (200, JSON, USER.replace(b"-05-", b"-13-")), {"path": "/api/auth/me"}),
    "code": (
        "'not_found' was expected",
        (404, PROBLEM_FIELDS, NOT_FOUND.replace(b"not_found", b"busy")),
        {"path": "/healthy"},
    ),
    "body that is not JSON": ("its body is not JSON", (200, JSON, b"ok"), {}),
    "empty body": ("its body is not JSON", (200, JSON | {"Content-Length": "0"}, b""), {}),
    "body of HEAD": ("has a body of 79 bytes", (200, JSON, HEALTH), {"method": "HEAD"}),
    "body of a 304": (
        "has a body of 1 bytes",
        (304, FIELDS | {"ETag": '"1"'}, b"1"),
        {"path": "/openapi.json"},
    ),
    "media type of a 304": (
        "has the Content-Type 'application/json'",
        (304, JSON | {"ETag": '"1"'}),
        {"path": "/openapi.json"},
    ),
    "Allow of OPTIONS": (
        r"Allow tells \['GET', 'PUT'\]",
        (200, FIELDS | {"Allow": "GET, PUT"}),
        {"method": "OPTIONS"},
    ),
    "Allow of uploads": (
        r"Allow tells \['GET', 'HEAD', 'PATCH'\]",
        (204, OFFER | {"Allow": "GET, HEAD, PATCH"}),
        {"method": "OPTIONS", "path": "/api/uploads"},
    ),
    "OPTIONS of uploads as of other paths": (
        "the status is not documented",
        (200, FIELDS | {"Allow": "GET, HEAD, POST, OPTIONS"}),
        {"method": "OPTIONS", "path": "/api/uploads"},
    ),
    "header field of uploads elsewhere": (
        r"\['tus-resumable'\] are not documented",
        (200, JSON | {"Tus-Resumable": "1.0.0"}, HEALTH),
        {},
    ),
    "method that stands in the place of another": (
        "^DELETE /health 204: the method of /health is not documented",
        (204, FIELDS),
        DELETE_BY_POST,
    ),
    "Allow of a 405": (
        r"Allow tells \['GET', 'HEAD'\]",
        (405, PROBLEM_FIELDS | {"Allow": "GET, HEAD"}, METHOD_NOT_ALLOWED),
        {"method": "PUT"},
    ),
    "media type of a request": (
        "the media type 'text/plain' of the request is not documented",
        (204, FIELDS),
        {"method": "POST", "path": "/api/auth/logout", "headers": {"Content-Type": "text/plain"}},
    ),
    "media type of a body that may be missing": (
        "the media type 'text/plain' of the request is not documented",
        (201, FIELDS),
        {
            "method": "POST",
            "path": "/api/uploads",
            "body": b"1",
            "headers": {"Content-Type": "text/plain"},
        },
    ),
    "body of a request": (
        "the body of the request is not documented at",
        (204, FIELDS),
        {
            "method": "POST",
            "path": "/api/auth/logout",
            "body": b'{"token": ""}',
            "headers": {"Content-Type": "application/json"},
        },
    ),
}


@pytest.mark.parametrize("what", UNDOCUMENTED)
def test_undocumented_fails(what: str) -> None:
    message, answer, request = UNDOCUMENTED[what]
    with pytest.raises(AssertionError, match=message):
        ask(*answer, **request)


def test_failure_names_method_path_and_status() -> None:
    with pytest.raises(AssertionError, match=r"^GET /health 202: "):
        ask(202, JSON, HEALTH)


def test_bytes_of_a_video_pass_through_unread(alice: Client, app: Application) -> None:
    bodies = []

    def observed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        bodies.append(app(environ, start_response))
        return bodies[-1]

    alice.upload(video_bytes(), status=201)
    request = webtest.TestRequest.blank("/api/videos/1/stream", headers=alice.headers)
    body = checked(observed)(request.environ, lambda *arguments: None)
    assert body is bodies[0]
    assert b"".join(body) == video_bytes()
