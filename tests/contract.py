"""Holds every answer of the test run against ``streamer/openapi.json``.

``checked(app)`` is the application behind a check: what the contract does not
document raises AssertionError in the test that asked for it. The documented
route, method, status, header fields and body of every answer are looked at, and
the body of every request that was taken.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NoReturn

import referencing
import referencing.jsonschema
from jsonschema import Draft202012Validator, FormatChecker

import streamer

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

DOCUMENT = "urn:contract"
FRAMING = {"content-type", "content-length"}  # OpenAPI has other words for the first
JSON_TYPES = {"application/json", "application/merge-patch+json", "application/problem+json"}
BODILESS = {204, 304}
OVERRIDES = {"PATCH", "DELETE", "HEAD"}  # what X-HTTP-Method-Override makes of a POST
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")

formats = FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return (
        not isinstance(value, str)
        or re.fullmatch(
            r"\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]\d\d:\d\d)",
            value,
            re.ASCII,
        )
        is not None
    )


@formats.checks("uri")
def _is_uri(value: object) -> bool:
    return (
        not isinstance(value, str)
        or re.fullmatch(r"[a-z][a-z0-9+.-]*://[!#-;=?-Z\[\]_a-z~]+", value) is not None
    )


@dataclass(frozen=True)
class Body:
    """The documented media types of a body, each with its schema if it is JSON."""

    schemas: Mapping[str, Draft202012Validator | None]
    is_required: bool = True

    def schema_of(self, media_type: str) -> Draft202012Validator | None:
        """The schema for this media type. Raises KeyError if the contract does not list it."""
        any_subtype = media_type.partition("/")[0] + "/*"
        return self.schemas[media_type if media_type in self.schemas else any_subtype]


@dataclass(frozen=True)
class Field:
    """A documented header field."""

    is_required: bool
    is_integer: bool
    schema: Draft202012Validator


@dataclass(frozen=True)
class Response:
    """The documented answer with one status."""

    fields: Mapping[str, Field]
    body: Body


@dataclass(frozen=True)
class Operation:
    """One documented method of a path."""

    request: Body
    responses: Mapping[int, Response]


class Contract:
    """The document, compiled."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = _with_absolute_references(document)
        resource = referencing.jsonschema.DRAFT202012.create_resource(self._document)
        self._registry = referencing.Registry().with_resource(DOCUMENT, resource)
        self._response = functools.cache(self._named_response)
        any_request = self._document["x-any-request"]["responses"]
        self.any_request = Operation(Body({}), self._responses(any_request))
        self.any_response = self._fields(self._document["x-any-response"]["headers"])
        self.routes = {
            template: {
                method.upper(): self._operation(path_item[method])
                for method in METHODS
                if method in path_item
            }
            for template, path_item in self._document["paths"].items()
        }
        self.route_responses = {
            template: self._fields(path_item.get("x-any-response", {}).get("headers", {}))
            for template, path_item in self._document["paths"].items()
        }
        # what is concrete goes first, as OpenAPI has it
        self._patterns = [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))), template)
            for template in sorted(self.routes, key=lambda template: template.count("{"))
        ]

    def template_of(self, path: str) -> str | None:
        """The path template that a path matches."""
        return next((template for pattern, template in self._patterns if pattern.fullmatch(path)), None)

    def schema(self, name: str) -> Draft202012Validator:
        """One of the schemas that have a name."""
        return self._validator({"$ref": f"{DOCUMENT}#/components/schemas/{name}"})

    def _operation(self, operation: Mapping[str, Any]) -> Operation:
        request = self._resolved(operation.get("requestBody", {}))
        return Operation(self._body(request), self._responses(operation["responses"]))

    def _responses(self, responses: Mapping[str, Any]) -> dict[int, Response]:
        return {
            int(status): self._response(response["$ref"]) if "$ref" in response else self._compiled(response)
            for status, response in responses.items()
        }

    def _named_response(self, reference: str) -> Response:
        return self._compiled(self._resolved({"$ref": reference}))

    def _compiled(self, response: Mapping[str, Any]) -> Response:
        return Response(self._fields(response.get("headers", {})), self._body(response))

    def _fields(self, headers: Mapping[str, Any]) -> dict[str, Field]:
        return {name.lower(): self._field(self._resolved(header)) for name, header in headers.items()}

    def _field(self, header: Mapping[str, Any]) -> Field:
        schema = header["schema"]
        return Field(header.get("required", False), schema.get("type") == "integer", self._validator(schema))

    def _body(self, holder: Mapping[str, Any]) -> Body:
        return Body(
            {
                media_type: self._validator(content["schema"]) if media_type in JSON_TYPES else None
                for media_type, content in holder.get("content", {}).items()
            },
            holder.get("required", True),
        )

    def _validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        return Draft202012Validator(schema, registry=self._registry, format_checker=formats)

    def _resolved(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in item:
            return item
        found: Mapping[str, Any] = self._registry.resolver().lookup(item["$ref"]).contents
        return found


def _with_absolute_references(document: Mapping[str, Any]) -> dict[str, Any]:
    """Lets every part of the document be a schema of its own."""
    text = json.dumps(document).replace('"$ref": "#/', f'"$ref": "{DOCUMENT}#/')
    absolute: dict[str, Any] = json.loads(text)
    return absolute


def load() -> dict[str, Any]:
    """The document, as it is served."""
    document: dict[str, Any] = json.loads(
        files(streamer).joinpath("openapi.json").read_text(encoding="utf-8")
    )
    return document


@functools.cache
def served_contract() -> Contract:
    """The contract of the server."""
    return Contract(load())


def checked(app: WsgiApp, contract: Contract | None = None) -> WsgiApp:
    """The application, of which every answer is held against the contract."""

    def checking(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        exchange = _Exchange(contract or served_contract(), environ)
        body = app(exchange.environ, functools.partial(exchange.start, start_response))
        return exchange.check(body)

    return checking


class _Recorder:
    """The body of a request; remembers what was read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.data = b""

    def read(self, *size: int) -> bytes:
        data: bytes = self._stream.read(*size)
        self.data += data
        return data


class _Exchange:
    """One request and its answer."""

    def __init__(self, contract: Contract, environ: Mapping[str, Any]) -> None:
        self._contract = contract
        self._method = _method(environ)
        self._path: str = environ.get("PATH_INFO") or "/"
        self._template = contract.template_of(self._path)
        self._request_type = _media_type(environ.get("CONTENT_TYPE", ""))
        self._has_request_body = environ.get("CONTENT_LENGTH") not in {None, "", "0"}
        self._status = 0
        self._fields: dict[str, str] = {}
        self.environ = dict(environ)
        if self._request_type in JSON_TYPES:
            self._sent = _Recorder(environ["wsgi.input"])
            self.environ["wsgi.input"] = self._sent

    def start(
        self, start_response: Callable[..., Any], status: str, headers: list[tuple[str, str]], *error: Any
    ) -> Any:
        """Take note of the head of the answer and pass it on."""
        self._status = int(status.split()[0])
        self._fields = {name.lower(): value for name, value in headers}
        return start_response(status, headers, *error)

    def check(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Fail if anything is not documented. Bodies that are not JSON pass through unread."""
        try:
            response = self._documented_response()
            self._check_fields(response)
            schema = self._documented_schema(response)
        except AssertionError:
            _close(body)
            raise
        is_bodiless = self._method == "HEAD" or self._status in BODILESS or not response.body.schemas
        if not is_bodiless and schema is None:
            return body
        data = _collected(body)
        if is_bodiless:
            self._require(not data, f"has a body of {len(data)} bytes, which it must not have")
        elif schema is not None:
            self._check_json(schema, data, "its body")
        return [data]

    def _documented_response(self) -> Response:
        template = self._template
        operations = self._contract.routes.get(template or "", {})
        if template and "OPTIONS" not in operations and self._method == "OPTIONS" and self._status == 200:
            self._check_allow(operations)
            return Response({"allow": self._contract.any_request.responses[405].fields["allow"]}, Body({}))
        operation = operations.get(self._method, self._contract.any_request)
        what = f"the method of {template}" if template else "the path"
        if operation is self._contract.any_request:
            self._require(self._status >= 400, f"{what} is not documented")
        if self._status == 405 or (self._method, self._status) == ("OPTIONS", 204):
            self._check_allow({**operations, "OPTIONS": None})
        self._require(self._status in operation.responses, "the status is not documented")
        if 200 <= self._status < 300:
            self._check_request(operation.request)
        return operation.responses[self._status]

    def _check_allow(self, methods: Iterable[str]) -> None:
        allowed = {method.strip() for method in self._fields.get("allow", "").split(",")}
        self._require(
            allowed == set(methods), f"Allow tells {sorted(allowed)}, documented are {sorted(methods)}"
        )

    def _check_request(self, documented: Body) -> None:
        if not documented.schemas or not (documented.is_required or self._has_request_body):
            return
        try:
            schema = documented.schema_of(self._request_type)
        except KeyError:
            self._fail(f"the media type {self._request_type!r} of the request is not documented")
        if schema is not None:
            self._check_json(schema, self._sent.data, "the body of the request")

    def _check_fields(self, response: Response) -> None:
        of_route = self._contract.route_responses.get(self._template or "", {})
        documented = {**self._contract.any_response, **of_route, **response.fields}
        for name, field in documented.items():
            value = self._fields.get(name)
            self._require(value is not None or not field.is_required, f"the header field {name} is missing")
            if value is not None:
                self._check_field(name, field, value)
        unknown = self._fields.keys() - documented.keys() - FRAMING
        self._require(not unknown, f"the header fields {sorted(unknown)} are not documented")

    def _check_field(self, name: str, field: Field, value: str) -> None:
        is_number = field.is_integer and re.fullmatch("[0-9]+", value)
        error = next(field.schema.iter_errors(int(value) if is_number else value), None)
        self._require(
            error is None, f"the header field {name}: {value!r} is not valid: {error and error.message}"
        )

    def _documented_schema(self, response: Response) -> Draft202012Validator | None:
        """The schema of a body of this media type, None if it is not JSON."""
        given = self._fields.get("content-type")
        if not response.body.schemas:
            is_absent = given is None or self._fields.get("content-length") == "0"
            self._require(is_absent, f"has the Content-Type {given!r} and no documented body")
            return None
        try:
            return response.body.schema_of(_media_type(given or ""))
        except KeyError:
            self._fail(f"the media type {given!r} is not documented")

    def _check_json(self, schema: Draft202012Validator, data: bytes, what: str) -> None:
        try:
            value = json.loads(data)
        except ValueError:
            self._fail(f"{what} is not JSON: {data[:100]!r}")
        for error in schema.iter_errors(value):
            self._fail(f"{what} is not documented at {error.json_path}: {error.message}")

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            self._fail(message)

    def _fail(self, message: str) -> NoReturn:
        raise AssertionError(f"{self._method} {self._path} {self._status}: {message} (streamer/openapi.json)")


def _method(environ: Mapping[str, Any]) -> str:
    method: str = environ["REQUEST_METHOD"]
    override: str = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "").upper()
    return override if method == "POST" and override in OVERRIDES else method


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _collected(body: Iterable[bytes]) -> bytes:
    try:
        return b"".join(body)
    finally:
        _close(body)


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
