"""The commands of the README, run as they stand there. CI runs its install and test lines."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.containers import ffprobe
from tests.ffmpeg import clips
from tests.live.conftest import StartServer, StartWorker
from tests.live.harness import Api, Server

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")


def _blocks(heading: str) -> list[str]:
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The video that the commands take from the current folder."""
    path = tmp_path / "clip.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=160x90", "-t", "1"]
    subprocess.run([clips.packaged_ffmpeg(), "-v", "error", *source, str(path)], check=True)
    return path


def _paste(
    commands: str, server: Server, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """What a person sees who pastes these commands into one terminal."""
    assert "http://127.0.0.1:8000" in commands
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.replace("http://127.0.0.1:8000", server.url)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert '"code"' not in result.stdout  # no problem document among the answers
    return result


def _ada(server: Server) -> Api:
    """Whoever the first session signs in."""
    credentials = {"username": "ada", "password": "a long passphrase"}
    answer = server.api.post_json("/api/auth/login", credentials)
    assert answer.status == 200, answer
    return Api(server.address, answer.json["access_token"])


def test_the_first_session_works_when_pasted(
    start_server: StartServer, program: Callable[[str], str], clip: Path, clean_environment: dict[str, str]
) -> None:
    program("curl")
    server = start_server(STREAMER_FFMPEG="auto")
    session, player = _blocks("A first session")
    result = _paste(session, server, clip.parent, clean_environment)
    assert clip.with_name("copy.mp4").read_bytes() == clip.read_bytes()
    assert clip.with_name("first-100-bytes").read_bytes() == clip.read_bytes()[:100]
    assert '"title": "Renamed"' in result.stdout
    assert clip.with_name("poster.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    assert "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nHello\n" in result.stdout
    assert "/api/videos/2/stream" in player  # the one that was not deleted


def test_the_session_of_a_resumable_upload_works_when_pasted_after_the_first_one(
    server: Server, program: Callable[[str], str], clip: Path, clean_environment: dict[str, str]
) -> None:
    program("curl")
    first, _ = _blocks("A first session")
    (resumable,) = _blocks("Resumable uploads")
    result = _paste(first + resumable, server, clip.parent, clean_environment)
    size = clip.stat().st_size
    assert size > 2 * 2000  # of which the first piece is
    *_, check, upload, waiting = result.stdout.splitlines()
    assert json.loads(waiting) == {"data": []}
    assert json.loads(check)["accepted"] is True
    shown = json.loads(upload)
    assert (shown["offset"], shown["length"], shown["filename"]) == (size, size, "clip.mp4")
    ada = _ada(server)
    assert ada.get(f"/api/videos/{shown['video_id']}").json["title"] == "In two pieces"
    assert ada.get(f"/api/videos/{shown['video_id']}/stream").body == clip.read_bytes()
    assert len(re.findall(r"PATCH /api/uploads/\w+ 204 ", server.log_path.read_text())) == 2


def test_accounts_are_made_from_the_command_line(server: Server) -> None:
    accounts, _, _ = _blocks("Configuration")
    for line in accounts.splitlines():
        assert _run(line, server, "a long passphrase\n").startswith(("made", "set"))
    assert _ada(server).get("/api/auth/me").json["username"] == "ada"


def test_what_a_crash_has_left_is_removed_from_the_command_line(server: Server) -> None:
    _, cleanup, _ = _blocks("Configuration")
    stray = server.data / "incoming" / ("a" * 32)
    stray.write_bytes(b"left behind")
    assert _run(cleanup.strip(), server) == "removed 1 files of uploads, kept 0\n"
    assert not stray.exists()


def test_a_worker_is_started_as_it_says_there(server: Server, start_worker: StartWorker) -> None:
    ffprobe.require_ffmpeg()
    _, _, worker = _blocks("Configuration")
    started = start_worker(server)
    assert worker.strip().split()[1:] == started.arguments()
    started.stop()


def _run(line: str, server: Server, typed: str = "") -> str:
    """What a command prints that the README has for the data folder of a running server."""
    command = line.replace(".venv/bin/streamer", "python -m streamer").split()
    assert command[:3] == ["python", "-m", "streamer"]
    result = subprocess.run(
        [sys.executable, *command[1:], "--data", str(server.data)],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
