"""What tests need below the HTTP client: the WSGI call itself, and files on the disk."""

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

from streamer.app import Application
from streamer.database import Database
from streamer.intake import Intake


class Answer(NamedTuple):
    """What a WSGI server gets; nothing of the body has been read yet."""

    status: int
    fields: dict[str, str]
    body: Iterable[bytes]

    def read(self) -> bytes:
        """Take the whole body, and close it as PEP 3333 wants."""
        try:
            return b"".join(self.body)
        finally:
            self.close()

    def close(self) -> None:
        """What a server does when the answer has left or its client has."""
        if close := getattr(self.body, "close", None):
            close()


def environ_of(
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The environment of a request. ``extra`` goes in as it is; header names become their CGI names."""
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_HOST": "localhost:80",  # as WebTest has it: links and so entity tags depend on it
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    environ |= extra or {}
    setup_testing_defaults(environ)
    return environ


def call(
    app: Application,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    extra: dict[str, Any] | None = None,
) -> Answer:
    """Ask the application as a server does."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: list[tuple[str, str]], exc_info: object = None) -> Any:
        started.append((status, fields))

    result = app(environ_of(path, method, headers, body, extra), start_response)
    [(status, fields)] = started
    return Answer(int(status[:3]), {name.lower(): value for name, value in fields}, result)


def mounted(app: Application, script_name: str) -> Any:
    """The application as a host sees it that has mounted it under a prefix."""

    def host(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return app({**environ, "SCRIPT_NAME": script_name}, start_response)

    return host


def database_of(app: Application) -> Database:
    """The handle that the application itself uses."""
    resource: Any = app.routes["/api/videos"]
    database: Database = resource.database
    return database


def intake_of(app: Application) -> Intake:
    """Where the application itself puts uploads."""
    resource: Any = app.routes["/api/uploads"]
    intake: Intake = resource.intake
    return intake


def open_files(folder: Path) -> list[str]:
    """The open descriptors of this process that lead to files of videos."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
        if target.startswith((str(folder / "videos") + "/", str(folder / "incoming") + "/")):
            found.append(target)
    return found


def stored_files(folder: Path) -> list[str]:
    """Every file that is or was to become a video."""
    return sorted(
        f"{place}/{entry.name}" for place in ("videos", "incoming") for entry in (folder / place).iterdir()
    )
