"""Our own server under the bench: its settings, its account, its library."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bench import pattern, wire
from bench.processes import Group, ServerFailed, free_port
from bench.site import ROOT, Site
from bench.wire import Endpoint
from streamer.config import unknown_settings

LISTED = 20
"""How many videos are in the library: the file and small ones."""
SMALL_BYTES = 64 * 1024
_ACCOUNT = {"username": "bench", "password": "a long passphrase"}
_JSON = "Content-Type: application/json"
_DEFAULTS = {
    "STREAMER_PORT": "0",
    "STREAMER_REGISTRATION": "open",
    "STREAMER_CONNECTIONS": "4000",
    "STREAMER_MIN_FREE_BYTES": "0",
}


def environment(site: Site, **settings: str) -> dict[str, str]:
    """The variables for our server; those of the caller's own are emptied, which is not set."""
    emptied = {name: "" for name in os.environ if name.startswith("STREAMER_")}
    return emptied | {"STREAMER_DATA": str(site.data), **_DEFAULTS, **settings}


def lacking(settings: dict[str, str]) -> str:
    """The reason why the installed version cannot run so: the settings it does not know; or nothing."""
    unknown = unknown_settings(settings)
    return f"this version has no {', '.join(unknown)}" if unknown else ""


def serve(site: Site, group: Group, **settings: str) -> int:
    """Start ``streamer serve``; its port. Raises ServerFailed."""
    command = [sys.executable, "-m", "streamer", "serve"]
    process = group.spawn(command, environment(site, **settings), reads_output=True)
    return _announced_port(process, group)


def _announced_port(process: subprocess.Popen[str], group: Group) -> int:
    line = process.stdout.readline() if process.stdout else ""
    port = urlsplit(line.split()[-1]).port if " is ready at " in line else None
    if port is None:
        raise ServerFailed(f"said {line!r}; log: {group.log_tail}")
    return port


def gunicorn(site: Site, group: Group) -> int:
    """Start gunicorn with our application, as the README recommends; its port."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(ROOT), "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "1", "--worker-class", "gthread", "--threads", "16", "--keep-alive", "75"]
    command += ["--worker-connections", "10000", "--backlog", "4096", "wsgi:application"]
    group.spawn(command, environment(site))
    group.wait_for(port)
    return port


def call(port: int, method: str, path: str, body: object = None, token: str = "") -> dict[str, object]:
    """A request of the API and its answer, both JSON. Raises BadAnswer unless it is 200 or 201."""
    content = json.dumps(body).encode() if body is not None else b""
    fields = [_JSON, f"Content-Length: {len(content)}"]
    head = Endpoint(port, "", "", _authorization(token)).request(method, path, *fields)
    answer, data = wire.exchange(port, head + content)
    if answer.status not in {200, 201}:
        raise wire.BadAnswer(f"{method} {path}: {answer.status} {data[:200]!r}")
    return dict(json.loads(data))


def _authorization(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n" if token else ""


def sign_in(site: Site, port: int) -> Endpoint:
    """Begin a session; the endpoint of the one who is signed in."""
    token = str(call(port, "POST", "/api/auth/login", _ACCOUNT)["access_token"])
    return Endpoint(
        port=port,
        video=f"/api/videos/{site.video_id}/stream",
        small="/health",
        fields=_authorization(token),
        refused="/api/videos?filename=refused.mp4",
        lists=(f"/api/videos?limit={LISTED}", f"/api/videos/{site.video_id}"),
    )


def prepare(site: Site) -> None:
    """Make the account and fill the library, through the API."""
    folder = site.folder / "prepare"
    folder.mkdir()
    with Group(folder) as group:
        port = serve(site, group)
        call(port, "POST", "/api/auth/register", _ACCOUNT)
        endpoint = sign_in(site, port)
        site.video_id = upload(endpoint, site.video)
        small = folder / "small.mp4"
        pattern.write(small, SMALL_BYTES)
        for _ in range(LISTED - 1):
            upload(endpoint, small)


def upload(endpoint: Endpoint, path: Path) -> int:
    """Send a file as the body of a request; the id of the video."""
    fields = ["Content-Type: video/mp4", f"Content-Length: {path.stat().st_size}"]
    head = endpoint.request("POST", f"/api/videos?filename={path.name}", *fields)
    return created(endpoint.port, head, path, b"")


def upload_form(endpoint: Endpoint, path: Path) -> int:
    """Send a file as a part of a form; the id of the video."""
    boundary = "4b1d9e7c-bench"
    before = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\nA form\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="{path.name}"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    ).encode()
    after = f"\r\n--{boundary}--\r\n".encode()
    length = len(before) + path.stat().st_size + len(after)
    fields = [f"Content-Type: multipart/form-data; boundary={boundary}", f"Content-Length: {length}"]
    head = endpoint.request("POST", "/api/videos", *fields)
    return created(endpoint.port, head + before, path, after)


def created(port: int, before: bytes, path: Path, after: bytes) -> int:
    """Send bytes, a file, bytes; the id in the answer. Raises BadAnswer unless it is a 201."""
    with wire.connect(port, timeout=300) as connection, path.open("rb") as file:
        connection.sendall(before)
        connection.sendfile(file)
        connection.sendall(after)
        head, body = wire.read_head(connection)
        body = wire.read_body(connection, head, body)
        wire.want(head, 201, body[:200])
    return int(json.loads(body)["id"])


def delete(endpoint: Endpoint, video_id: int) -> None:
    """Delete a video, so that its room can be used again."""
    with wire.connect(endpoint.port) as connection:
        connection.sendall(endpoint.request("DELETE", f"/api/videos/{video_id}", "Connection: close"))
        if not connection.recv(32).startswith(b"HTTP/1.1 204"):
            raise wire.BadAnswer(f"video {video_id} was not deleted")
