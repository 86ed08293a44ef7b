"""schemathesis asks a running server for whatever openapi.json allows and forbids.

It fails on a 5xx and on every status, media type, header field and body that is
not documented, and on much else: its checks are all on, see ``schemathesis.toml``.
It is signed in, with a password that it does not know, so that it cannot end its
own session.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import contract
from tests.live.harness import require

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = "tests.live.schemathesis_hooks"
MAX_EXAMPLES = 8  # of each operation
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")  # any other whole number asks for other things
START_SECONDS = 20
MAX_UPLOAD_BYTES = 10**6  # so that no length that it thinks of keeps room that the disk has not
RUN_SECONDS = 400  # it takes some 40
# what most combinations of header fields do not come to
RARE = [
    r"POST /api/uploads 201",
    r"HEAD /api/uploads/[0-9a-f]{32} 200",
    r"PATCH /api/uploads/[0-9a-f]{32} 409",
    r"DELETE /api/uploads/[0-9a-f]{32} 204",
]

PASSWORD = "known to nobody but this test"
# what is documented as an example works, so that a login can succeed
EXAMPLE = contract.load()["components"]["schemas"]["Credentials"]["examples"][0]


@dataclass(frozen=True)
class Running:
    """A server that listens, and its log."""

    url: str
    log: Path

    def call(self, method: str, path: str, body: object = None, token: str = "") -> Any:
        """The JSON of an answer; raises HTTPError for a failure."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
            return json.load(answer)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    """A server of its own on a free port."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "streamer", "serve", "--port", "0", "--data", str(folder / "data")]
    settings = os.environ | {"STREAMER_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES)}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout
            line = process.stdout.readline()
            match = re.fullmatch(r"streamer \S+ is ready at (\S+)\n", line)
            assert match, f"{line!r}; the log: {log.read_text()}"
            yield Running(match[1], log)
            assert process.poll() is None, "the server has ended by itself"
        finally:
            process.terminate()
            process.wait(START_SECONDS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


def test_schemathesis_finds_nothing(server: Running, tmp_path: Path) -> None:
    require(shutil.which("ffmpeg") is not None, "needs ffmpeg, without which some requests are answered 501")
    for account in (EXAMPLE, {"username": "owner", "password": PASSWORD}):
        server.call("POST", "/api/auth/register", account)
    token = server.call("POST", "/api/auth/login", {"username": "owner", "password": PASSWORD})[
        "access_token"
    ]
    report = tmp_path / "report.json"
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += [f"--config-file={CONFIG}", "run", f"{server.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {token}", "--checks", "all"]
    command += ["--max-examples", str(MAX_EXAMPLES), "--seed", SEED, "--generation-database", "none"]
    command += ["--no-color", "--report-json-path", str(report)]
    # nothing of the client is measured, and measured it takes twice as long
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    environment = ours | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(report.read_text(encoding="utf-8"))
    paths = contract.load()["paths"].values()
    operations = sum(method in path_item for path_item in paths for method in contract.METHODS)
    assert result["operations"]["tested"] == operations
    assert {phase["status"] for phase in result["phases"].values()} == {"success"}
    log = server.log.read_text()
    assert "Traceback" not in log
    assert [request for request in RARE if not re.search(request, log)] == []
    assert server.call("GET", "/api/auth/me", token=token)["username"] == "owner"
