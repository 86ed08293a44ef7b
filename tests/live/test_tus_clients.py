"""The clients that people have for resumable uploads, tus-js-client and tuspy, on a line that breaks."""

import contextlib
import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tusclient.client import TusClient
from tusclient.uploader import Uploader

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.cutting import Act, Connection, Event, Line, in_answer, random_cuts
from tests.live.harness import MIB, ROOT, TIMEOUT_SECONDS, Background, Server, eventually, require

NODE = Path(__file__).parent / "node"
CLIENT_SECONDS = 120  # after which a client hangs
RETRY_SECONDS = 0.2
RETRIES = 100  # without progress: the server is back sooner

LONG_BYTES = 300_000_000
LONG_CHUNK_BYTES = 8 * MIB
CUTS = 30
KILLS = 5
HEAD_BYTES = 2048  # more than any request here has

Process = subprocess.Popen[str]


@dataclass(frozen=True)
class Film:
    """A file to upload."""

    path: Path
    size: int
    sha256: str


def _make_film(path: Path, size: int) -> Film:
    """What passes for a video, without holding it: no MiB of it is like another."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for position in range(0, size, MIB):
            block = video_bytes(min(MIB, size - position), seed=position)
            digest.update(block)
            file.write(block)
    return Film(path, size, digest.hexdigest())


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Film]:
    film = _make_film(tmp_path_factory.mktemp("films") / "long.mp4", LONG_BYTES)
    yield film
    film.path.unlink()  # the folders of the last runs are kept


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """Five chunks of one MiB, and a bit: tus-js-client misses the end of a stream that ends with a chunk."""
    return _make_film(tmp_path_factory.mktemp("films") / "short.mp4", 5 * MIB + 12345)


@pytest.fixture(scope="module")
def shared(start_shared_server: StartServer) -> Server:
    """One server for all tests that leave it as it was, but for a video more."""
    return start_shared_server()


@dataclass(frozen=True)
class Uploaded:
    """What a client tells of an upload that it has finished."""

    url: str
    video_url: str
    methods: list[str]
    """Of its requests."""


@contextlib.contextmanager
def _running(command: list[str], **options: Any) -> Iterator[Process]:
    """A process that ends with the context."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class TusJs:
    """tus-js-client; each upload in a process of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment

    @contextlib.contextmanager
    def started(self, server: Server, url: str, film: Film, **options: Any) -> Iterator[Process]:
        """An upload on its way."""
        parameters = {
            "endpoint": f"{url}/api/uploads",
            "token": server.api.token,
            "file": str(film.path),
            "chunkSize": MIB,
            "retryDelays": [RETRY_SECONDS * 1000] * RETRIES,
            **options,
        }
        command = ["node", str(NODE / "upload.js"), json.dumps(parameters)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with _running(command, env=self._environment, **pipes) as process:
            yield process

    def upload(self, server: Server, url: str, film: Film, **options: Any) -> Uploaded:
        """Upload a file to its end."""
        with self.started(server, url, film, **options) as process:
            printed, complaint = process.communicate(timeout=CLIENT_SECONDS)
        assert process.returncode == 0, complaint
        assert printed, "the client has given up without a word"
        told = json.loads(printed)
        return Uploaded(told["uploadUrl"], told["videoLocation"], told["requests"])


@pytest.fixture
def tus_js(clean_environment: dict[str, str]) -> TusJs:
    _require_tus_js()
    return TusJs(clean_environment)


def _require_tus_js() -> None:
    require(shutil.which("node") is not None, "install Node.js (nodejs and npm) to run this test")
    require((NODE / "node_modules").is_dir(), "run npm ci in tests/live/node to run this test")


@pytest.fixture
def tuspy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Uploader]:
    """Makes what uploads a file with tuspy."""
    monkeypatch.setenv("NO_PROXY", "*")

    def make(server: Server, base: str, **options: Any) -> Uploader:
        client = TusClient(f"{base}/api/uploads", headers=server.api.headers)
        options = {"chunk_size": MIB, "metadata": {"filename": "a.mp4"}, **options}
        return client.uploader(retries=RETRIES, retry_delay=RETRY_SECONDS, **options)

    return make


def _finish(uploader: Uploader) -> str:
    """Upload all that is missing; the URL of the video."""
    Background(uploader.upload).outcome(CLIENT_SECONDS)
    return str(uploader.request.response_headers["video-location"])


def _assert_arrived(server: Server, video_url: str, film: Film) -> None:
    """The video is the file, in the folder and for whoever watches it, and nothing else is left."""
    path = urlsplit(video_url).path
    [(file_path,)] = server.query(f"SELECT file_path FROM video WHERE id = {int(path.rpartition('/')[2])}")
    with (server.data / file_path).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == film.sha256
    with contextlib.closing(server.api.connect(TIMEOUT_SECONDS)) as connection:
        connection.request("GET", f"{path}/stream", headers=server.api.headers)
        response = connection.getresponse()
        assert (response.status, response.length) == (200, film.size)
        assert hashlib.file_digest(response, "sha256").hexdigest() == film.sha256  # type: ignore[arg-type]
    server.assert_consistent()
    assert server.incoming() == []


def _kill(server: Server) -> Act:
    """The server dies and is started again, while its clients try to reach it."""

    def act(_: Connection) -> None:
        server.kill()
        server.start()

    return act


def _troubles(server: Server, seed: int) -> list[Event]:
    """What happens to a long upload."""
    chance = random.Random(seed)
    kills = [Event(position, _kill(server)) for position in chance.sample(range(MIB, LONG_BYTES), KILLS)]
    return [*random_cuts(chance, CUTS, LONG_BYTES), *kills]


def _assert_one_upload_made_it(server: Server, line: Line, url: str, video_url: str, film: Film) -> None:
    """All troubles were had, and the client has never begun anew."""
    assert not line.plan
    assert not line.answer_cuts
    logged = server.logged()
    assert [entry.path for entry in logged if entry.method == "POST"] == ["/api/uploads"]
    assert {entry.path for entry in logged if entry.method == "PATCH"} == {urlsplit(url).path}
    print(f"{line.sent / film.size:.2f} times the file was sent")  # noqa: T201
    _assert_arrived(server, video_url, film)
    # pytest keeps the folders of the last runs
    assert server.api.request("DELETE", urlsplit(video_url).path).status == 204


def test_tus_js_client_survives_a_bad_line_and_a_server_that_is_killed(
    server: Server, tus_js: TusJs, long_film: Film
) -> None:
    with Line(lambda: server.address, _troubles(server, seed=1)) as line:
        uploaded = tus_js.upload(server, line.url, long_film, chunkSize=LONG_CHUNK_BYTES)
    _assert_one_upload_made_it(server, line, uploaded.url, uploaded.video_url, long_film)


def test_tuspy_survives_a_bad_line_and_a_server_that_is_killed(
    server: Server, tuspy: Callable[..., Uploader], long_film: Film
) -> None:
    with Line(lambda: server.address, _troubles(server, seed=2)) as line, long_film.path.open("rb") as file:
        uploader = tuspy(server, line.url, file_stream=file, chunk_size=LONG_CHUNK_BYTES)
        video_url = _finish(uploader)
    _assert_one_upload_made_it(server, line, uploader.url, video_url, long_film)


def _three_cuts() -> list[Event]:
    """In the third, the fourth and after the fifth MiB."""
    cuts = [Connection.send_rst, Connection.send_fin, in_answer(Connection.send_rst, 0)]
    return [Event(int(share * MIB), cut) for share, cut in zip([2.3, 3.6, 4.5], cuts, strict=True)]


@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ({}, {"POST", "PATCH", "HEAD"}),
        ({"overridePatchMethod": True}, {"POST", "HEAD"}),
        ({"uploadDataDuringCreation": True}, {"POST", "PATCH", "HEAD"}),
        ({"stream": True, "uploadLengthDeferred": True}, {"POST", "PATCH", "HEAD"}),
        ({"protocol": "ietf-draft-05"}, {"POST", "PATCH", "HEAD"}),
    ],
    ids=["plain", "override", "with-upload", "deferred", "draft"],
)
def test_tus_js_client_goes_on_after_cuts_in_each_of_its_ways(
    shared: Server, tus_js: TusJs, film: Film, options: dict[str, Any], methods: set[str]
) -> None:
    with Line(lambda: shared.address, _three_cuts()) as line:
        uploaded = tus_js.upload(shared, line.url, film, **options)
    assert not line.plan
    assert uploaded.methods.count("HEAD") >= 3
    assert set(uploaded.methods) == methods
    _assert_arrived(shared, uploaded.video_url, film)


@pytest.mark.parametrize("upload_checksum", [False, True], ids=["plain", "checksum"])
def test_tuspy_goes_on_after_cuts(
    shared: Server, tuspy: Callable[..., Uploader], film: Film, upload_checksum: bool
) -> None:
    with Line(lambda: shared.address, _three_cuts()) as line, film.path.open("rb") as file:
        uploader = tuspy(shared, line.url, file_stream=file, upload_checksum=upload_checksum)
        video_url = _finish(uploader)
    assert not line.plan
    _assert_arrived(shared, video_url, film)


@pytest.mark.parametrize("protocol", ["tus-v1", "ietf-draft-05"])
def test_tus_js_client_finds_its_video_when_the_last_answer_is_lost(
    shared: Server, tus_js: TusJs, film: Film, protocol: str
) -> None:
    plan = [Event(film.size, in_answer(Connection.send_rst, 0))]
    with Line(lambda: shared.address, plan) as line:
        uploaded = tus_js.upload(shared, line.url, film, chunkSize=film.size, protocol=protocol)
    assert uploaded.methods == ["POST", "PATCH", "HEAD"]
    _assert_arrived(shared, uploaded.video_url, film)


def test_tuspy_finds_its_video_when_the_last_answer_is_lost(
    shared: Server, tuspy: Callable[..., Uploader], film: Film
) -> None:
    plan = [Event(film.size, in_answer(Connection.send_rst, 0))]
    with Line(lambda: shared.address, plan) as line, film.path.open("rb") as file:
        video_url = _finish(tuspy(shared, line.url, file_stream=file, chunk_size=film.size))
    assert not line.plan
    assert not line.answer_cuts
    _assert_arrived(shared, video_url, film)


def test_parts_that_are_sent_at_the_same_time_become_one_video_and_are_gone(
    server: Server, tus_js: TusJs, film: Film
) -> None:
    plan = [Event(film.size // 2, Connection.send_rst), Event(film.size * 3 // 4, _kill(server))]
    with Line(lambda: server.address, plan) as line:
        uploaded = tus_js.upload(server, line.url, film, parallelUploads=4, chunkSize=MIB // 4)
    assert not line.plan
    assert uploaded.methods.count("POST") == 5  # four parts, and what is made of them
    _assert_arrived(server, uploaded.video_url, film)
    assert server.query("SELECT count(*) FROM upload WHERE kind = 'partial'") == [(0,)]
    assert server.query("SELECT count(*) FROM upload WHERE video_id IS NOT NULL") == [(1,)]


def _rest_of(server: Server, line: Line, film: Film) -> int:
    """How many bytes are missing when a client was killed after half of them, in its first PATCH."""

    def rest() -> int:
        [(offset,)] = server.query("SELECT offset FROM upload")
        return film.size - int(offset)

    most = film.size - film.size // 2 + 2 * HEAD_BYTES
    eventually(
        lambda: rest() <= most and line.sent - (film.size - rest()) <= 2 * HEAD_BYTES,
        "what came of the broken PATCH is kept, to the last byte",
    )
    return rest()


def _assert_only_the_rest_was_sent(line: Line, before: int, rest: int, requests: int) -> None:
    assert rest < line.sent - before <= rest + requests * HEAD_BYTES


def test_a_second_process_sends_what_the_first_one_could_not(
    server: Server, tus_js: TusJs, film: Film, tmp_path: Path
) -> None:
    first: list[Process] = []
    options = {"storage": str(tmp_path / "uploads.json"), "chunkSize": film.size}
    plan = [Event(film.size // 2, lambda _: first[0].kill())]
    with Line(lambda: server.address, plan) as line:
        with tus_js.started(server, line.url, film, **options) as process:
            first.append(process)
            process.wait(CLIENT_SECONDS)
        rest, before = _rest_of(server, line, film), line.sent
        uploaded = tus_js.upload(server, line.url, film, **options)
    assert uploaded.methods == ["HEAD", "PATCH"]
    _assert_only_the_rest_was_sent(line, before, rest, requests=2)
    _assert_arrived(server, uploaded.video_url, film)


def test_tuspy_goes_on_with_an_upload_of_which_only_the_url_is_known(
    shared: Server, tuspy: Callable[..., Uploader], film: Film
) -> None:
    half = film.size // 2
    with Line(lambda: shared.address) as line, film.path.open("rb") as file:
        first = tuspy(shared, line.url, file_stream=file)
        first.upload(stop_at=half)
        before = line.sent
        second = tuspy(shared, line.url, file_stream=file, url=first.url)
        assert second.offset == half
        video_url = _finish(second)
    _assert_only_the_rest_was_sent(line, before, film.size - half, requests=4)
    _assert_arrived(shared, video_url, film)


def _program(language: str) -> str:
    """What the README shows of a client in this language."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## Resumable uploads\n")[2].partition("\n## ")[0]
    blocks = re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, (
        f"the README's section on resumable uploads has {len(blocks)} blocks of {language}"
    )
    return str(blocks[0])


def _node() -> str:
    _require_tus_js()
    return "node"


@pytest.mark.parametrize(
    ("language", "interpreter"), [("js", _node), ("python", lambda: sys.executable)], ids=["js", "python"]
)
def test_the_programs_of_the_readme_go_on_where_they_were_killed(
    server: Server,
    film: Film,
    tmp_path: Path,
    clean_environment: dict[str, str],
    language: str,
    interpreter: Callable[[], str],
) -> None:
    (tmp_path / "program").write_text(_program(language))
    command = [interpreter(), "program"]
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    first: list[Process] = []
    plan = [Event(film.size // 2, lambda _: first[0].kill())]
    with Line(lambda: server.address, plan) as line:
        parameters = {"URL": line.url, "TOKEN": server.api.token, "FILE": str(film.path)}
        environment = clean_environment | parameters
        with _running(command, cwd=tmp_path, env=environment) as process:
            first.append(process)
            process.wait(CLIENT_SECONDS)
        rest, before = _rest_of(server, line, film), line.sent
        subprocess.run(command, cwd=tmp_path, env=environment, timeout=CLIENT_SECONDS, check=True)
    _assert_only_the_rest_was_sent(line, before, rest, requests=2)
    [video_id] = server.api.video_ids()
    _assert_arrived(server, f"{server.url}/api/videos/{video_id}", film)


def test_the_lock_file_pins_the_client_and_names_no_registry() -> None:
    text = (NODE / "package-lock.json").read_text()
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    wanted = json.loads((NODE / "package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert "resolved" not in text
