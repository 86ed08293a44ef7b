"""Uploads in both dialects, a request at a time."""

import base64
from typing import Any
from urllib.parse import urlsplit

import webtest

from tests.helpers import Client

VERSION = {"Tus-Resumable": "1.0.0"}
INTEROP = {"Upload-Draft-Interop-Version": "8"}
OFFSET_STREAM = "application/offset+octet-stream"
PARTIAL_UPLOAD = "application/partial-upload"


def metadata(**values: str | bytes) -> str:
    """The value of Upload-Metadata."""
    encoded = {
        key: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
        for key, value in values.items()
    }
    return ",".join(f"{key} {value}".strip() for key, value in encoded.items())


def create(
    client: Client,
    length: int | str | None = None,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> webtest.TestResponse:
    """Make an upload by tus; with ``body``, also its first bytes."""
    fields = dict(VERSION)
    if length is not None:
        fields["Upload-Length"] = str(length)
    if body:
        fields["Content-Type"] = OFFSET_STREAM
    return client._request("POST", "/api/uploads", fields | (headers or {}), body=body, **options)


def created(client: Client, length: int | None, body: bytes = b"", **headers: str) -> str:
    """Make an upload by tus; its path."""
    deferred = {} if length is not None else {"Upload-Defer-Length": "1"}
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return path_of(create(client, length, body, deferred | fields, status=201))


def path_of(answer: webtest.TestResponse) -> str:
    """The path of the upload that an answer leads to."""
    return urlsplit(answer.headers["Location"]).path


def append(
    client: Client,
    path: str,
    offset: int | str,
    body: bytes,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> webtest.TestResponse:
    """Add bytes by tus."""
    fields = {**VERSION, "Upload-Offset": str(offset), "Content-Type": OFFSET_STREAM}
    return client._request("PATCH", path, fields | (headers or {}), body=body, **options)


def offset_of(client: Client, path: str) -> int:
    """Ask by tus how far an upload is."""
    return int(client.head(path, VERSION, status=200).headers["Upload-Offset"])


def create_by_draft(
    client: Client,
    body: bytes = b"",
    *,
    complete: bool = False,
    headers: dict[str, str] | None = None,
    query: str = "",
    **options: Any,
) -> webtest.TestResponse:
    """Make an upload by the draft."""
    fields = {**INTEROP, "Upload-Complete": "?1" if complete else "?0", "Content-Type": "video/mp4"}
    return client._request("POST", f"/api/uploads{query}", fields | (headers or {}), body=body, **options)


def append_by_draft(
    client: Client,
    path: str,
    offset: int | str,
    body: bytes,
    *,
    complete: bool = False,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> webtest.TestResponse:
    """Add bytes by the draft."""
    fields = {
        **INTEROP,
        "Upload-Offset": str(offset),
        "Upload-Complete": "?1" if complete else "?0",
        "Content-Type": PARTIAL_UPLOAD,
    }
    return client._request("PATCH", path, fields | (headers or {}), body=body, **options)
