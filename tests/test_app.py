"""The application under any host: twice in one process, below a prefix, before a strict server."""

import copy
import json
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from streamer.app import Application, create_app
from streamer.config import Config
from streamer.tokens import load_secret
from tests.concurrency import at_once
from tests.conftest import MakeApp
from tests.helpers import PASSWORD, Client, video_bytes
from tests.wsgi import Answer, call, database_of, environ_of, mounted, open_files, stored_files

DATA = video_bytes(5000)
ROOT = Path(__file__).parent.parent


# --- two in one process


@pytest.fixture
def two(make_app: MakeApp) -> tuple[Application, Application]:
    """Two applications, each with a data folder of its own."""
    return make_app(), make_app()


def test_two_applications_have_nothing_in_common(two: tuple[Application, Application]) -> None:
    first, second = (Client(app).sign_up("alice") for app in two)
    for number in range(3):
        first.upload(video_bytes(100 + number), title=f"first {number}", status=201)
        if number == 0:
            second.upload(video_bytes(200), title="second", status=201)
    assert first.get("/api/videos").json["meta"]["total"] == 3
    assert [v["title"] for v in second.get("/api/videos").json["data"]] == ["second"]
    assert first.get("/api/videos/1/stream").body == video_bytes(100)
    assert second.get("/api/videos/1/stream").body == video_bytes(200)
    assert second.get("/api/videos/2").status_int == 404
    second.delete("/api/videos/1", status=204)
    assert first.get("/api/videos/1").status_int == 200
    assert len(stored_files(two[0].config.data)) == 3
    assert stored_files(two[1].config.data) == []


def test_a_user_of_one_is_a_stranger_in_the_other(two: tuple[Application, Application]) -> None:
    here = Client(two[0]).sign_up("alice")
    there = Client(two[1])
    assert there.post("/api/auth/login", {"username": "alice", "password": PASSWORD}).status_int == 401
    there.sign_up("robert")
    assert call(two[1], "/api/auth/me", headers=here.headers).status == 401
    refresh = {"refresh_token": here.session["refresh_token"]}
    assert there.post("/api/auth/refresh", refresh).status_int == 401
    assert here.post("/api/auth/refresh", refresh).status_int == 200
    assert load_secret(two[0].config.data / "secret.key") != load_secret(two[1].config.data / "secret.key")


def test_two_applications_in_many_threads_never_mix(two: tuple[Application, Application]) -> None:
    clients = [[Client(app).sign_up(f"user{n}") for n in range(3)] for app in two]

    def work(person: int) -> Callable[[], None]:
        def alternate() -> None:
            for turn in range(4):
                for place, app in enumerate(two):
                    client = clients[place][person]
                    name = f"{place} {person} {turn}"
                    made = call(
                        app,
                        f"/api/videos?title={name.replace(' ', '%20')}",
                        "POST",
                        client.headers | {"Content-Type": "video/mp4"},
                        video_bytes(100 + turn, seed=10 * place + person),
                    )
                    assert made.status == 201
                    made.close()
                    listed = call(app, "/api/videos?sort=created_at", headers=client.headers).read().decode()
                    for earlier in range(turn + 1):
                        assert f'"{place} {person} {earlier}"' in listed
                    assert listed.count('"title"') == turn + 1
            for app in two:
                database_of(app).close()

        return alternate

    assert at_once(*map(work, range(3))) == [None] * 3
    for place, app in enumerate(two):
        assert len(stored_files(app.config.data)) == 12
        for person, client in enumerate(clients[place]):
            for video in client.get("/api/videos?sort=size").json["data"]:
                body = client.get(video["links"]["stream"]).body
                assert body == video_bytes(video["size"], seed=10 * place + person)


# --- one process, many


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at descriptors in /proc")
def test_a_server_may_fork_after_the_application_was_made(config: Config) -> None:
    app = create_app(config)
    held = [os.readlink(f"/proc/self/fd/{fd.name}") for fd in os.scandir("/proc/self/fd") if fd.is_symlink()]
    assert not [path for path in held if path.startswith(str(config.data))]
    assert database_of(app).is_closed()


def test_threads_have_connections_of_their_own_and_keep_them(app: Application, alice: Client) -> None:
    database = database_of(app)
    mine = database.connection()
    alice.get("/api/videos", status=200)
    assert database.connection() is mine

    def theirs() -> object:
        call(app, "/api/videos", headers=alice.headers).close()
        connection = database.connection()
        database.close()
        return connection

    [other] = at_once(theirs)
    assert other is not mine
    assert database.connection() is mine


def test_a_folder_that_does_not_exist_is_made(tmp_path: Path) -> None:
    create_app(Config(data=tmp_path / "deep" / "data", min_free_bytes=0, ffmpeg="off"))
    made = {path.name for path in (tmp_path / "deep" / "data").iterdir()}
    assert {"streamer.db", "secret.key", "videos", "incoming"} <= made


def test_a_given_secret_is_used_and_none_is_made(make_app: MakeApp) -> None:
    first, second = (make_app(secret_key="k" * 40) for _ in range(2))
    assert not (first.config.data / "secret.key").exists()
    client = Client(first).sign_up("alice")
    Client(second).sign_up("alice")
    answer = call(second, "/api/auth/me", headers=client.headers)
    assert answer.status == 401
    # the signature is good there; the account of the other database has a credential of its own
    assert json.loads(answer.read())["detail"] == "the access token has been revoked"
    again = make_app(secret_key="k" * 40, data=first.config.data)
    assert call(again, "/api/auth/me", headers=client.headers).status == 200


# --- what a host sees


def test_the_environment_of_the_host_is_not_changed(make_app: MakeApp) -> None:
    networks = Config.from_environ({"STREAMER_TRUSTED_PROXIES": "192.0.2.0/24"}).trusted_proxies
    app = make_app(trusted_proxies=networks)
    environ = environ_of(
        "/health",
        headers={
            "X-Forwarded-For": "203.0.113.9",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "video.example.org",
            "X-Forwarded-Prefix": "/films",
        },
    )
    before = copy.copy(environ)
    app(environ, lambda status, fields, exc_info=None: None)  # type: ignore[arg-type,return-value]
    assert environ == before


@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json", "/nothing"])
def test_an_answer_to_head_has_one_empty_chunk(app: Application, path: str) -> None:
    answer = call(app, path, "HEAD")
    assert answer.body == [b""]
    assert int(answer.fields["content-length"]) > 0


def test_every_answer_without_a_body_has_one_empty_chunk(app: Application, alice: Client) -> None:
    alice.upload(DATA, status=201)
    for method, headers in (
        ("HEAD", {}),
        ("GET", {"If-None-Match": "*"}),
        ("DELETE", {}),
    ):
        answer = call(app, "/api/videos/1", method, alice.headers | headers)
        assert answer.body == [b""], method


def test_an_application_below_a_prefix_is_whole(app: Application) -> None:
    def strip(environ: dict[str, Any], start_response: Any) -> Any:
        if not environ["PATH_INFO"].startswith("/films/"):
            start_response("404 Not Found", [("Content-Length", "0"), ("Content-Type", "text/plain")])
            return [b""]
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/films")
        return mounted(app, "/films")(environ, start_response)

    def ask(path: str, method: str = "GET", body: bytes = b"", kind: str = "application/json") -> Answer:
        return call(strip, path, method, headers | {"Content-Type": kind}, body)  # type: ignore[arg-type]

    headers = Client(app).sign_up("alice").headers
    assert ask("/health").status == 404
    made = ask("/films/api/videos", "POST", DATA, "video/mp4")
    assert made.status == 201
    location = made.fields["location"]
    assert location == "http://localhost:80/films/api/videos/1"
    path = location.removeprefix("http://localhost:80")
    assert ask(f"{path}/stream").read() == DATA
    assert ask(path, "PATCH", b'{"title": "x"}').status == 200
    assert b'"http://localhost:80/films/api/videos"' in ask("/films/").read()
    assert "<http://localhost:80/films/api/videos?page=1>" in ask("/films/api/videos").fields["link"]
    assert ask(path, "DELETE").status == 204


# --- a strict server


def strict(app: Application, path: str, method: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """Ask through the validator of the standard library, which also looks at how the answer is taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = call(validator(app), path, method, headers, body)  # type: ignore[arg-type]
        data = b"".join(iter(answer.body))
        answer.close()
    return Answer(answer.status, answer.fields, [data])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("HEAD", "/", {}, 200),
        ("GET", "/openapi.json", {"If-None-Match": "*"}, 304),
        ("GET", "/api/videos", {}, 200),
        ("GET", "/api/videos?page=0", {}, 422),
        ("GET", "/api/videos/1", {}, 200),
        ("HEAD", "/api/videos/1", {}, 200),
        ("GET", "/api/videos/1", {"If-None-Match": "*"}, 304),
        ("GET", "/api/videos/1/stream", {}, 200),
        ("HEAD", "/api/videos/1/stream", {}, 200),
        ("HEAD", "/api/videos/1/stream", {"If-None-Match": "*"}, 304),
        ("GET", "/api/videos/1/stream", {"If-None-Match": "*"}, 304),
        ("GET", "/api/videos/1/stream", {"If-Match": '"x"'}, 412),
        ("GET", "/api/videos/1/stream", {"Range": "bytes=1-2"}, 206),
        ("GET", "/api/videos/1/stream", {"Range": "bytes=1-2,70-90"}, 206),
        ("GET", "/api/videos/1/stream", {"Range": "bytes=9999-"}, 416),
        ("OPTIONS", "/api/videos/1", {}, 200),
        ("PUT", "/api/videos/1", {}, 405),
        ("GET", "/nothing", {}, 404),
        ("DELETE", "/api/videos/1", {}, 204),
    ],
)
def test_a_strict_server_finds_nothing_wrong(
    app: Application,
    alice: Client,
    config: Config,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
) -> None:
    alice.upload(DATA, status=201)
    answer = strict(app, path, method, alice.headers | headers)
    assert answer.status == status
    assert open_files(config.data) == []


@pytest.mark.parametrize("kind", ["video/mp4", "multipart/form-data; boundary=limit"])
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_strict_server_can_take_an_upload(
    app: Application, alice: Client, kind: str, is_whole: bool
) -> None:
    body = DATA
    if "form" in kind:
        head = b'--limit\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
        body = head + DATA + b"\r\n--limit--\r\n"
    headers = alice.headers | {"Content-Type": kind}
    sent = body if is_whole else body[:-30]
    length = {"Content-Length": str(len(body))}
    answer = strict_upload(app, headers | length, sent)
    assert answer.status == (201 if is_whole else 400)


def strict_upload(app: Application, headers: dict[str, str], body: bytes) -> Answer:
    """As ``strict``, with a declared length of its own."""
    length = headers.pop("Content-Length")

    def host(environ: dict[str, Any], start_response: Any) -> Any:
        return validator(app)(environ | {"CONTENT_LENGTH": length}, start_response)

    answer = call(host, "/api/videos", "POST", headers, body)  # type: ignore[arg-type]
    return Answer(answer.status, answer.fields, [answer.read()])


# --- wsgi.py


def test_the_module_for_servers_reads_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_DATA", str(tmp_path / "films"))
    monkeypatch.setenv("STREAMER_REGISTRATION", "closed")
    application = runpy.run_path(str(ROOT / "wsgi.py"))["application"]
    assert isinstance(application, Application)
    assert application.config.data == tmp_path / "films"
    assert application.config.registration is False
    assert call(application, "/health").status == 200


def test_a_wrong_setting_ends_the_module_for_servers(tmp_path: Path) -> None:
    environ = {**os.environ, "STREAMER_DATA": str(tmp_path / "films"), "STREAMER_QUOTA_BYTES": "much"}
    done = subprocess.run(
        [sys.executable, "-c", "import wsgi"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "STREAMER_QUOTA_BYTES" in done.stderr
    assert not (tmp_path / "films").exists()
