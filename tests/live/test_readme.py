"""The commands of the README, run as they stand there. CI runs its install and test lines."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

from tests.live.harness import Server

README = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")


def _blocks(heading: str) -> list[str]:
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_the_first_session_works_when_pasted(
    server: Server, program: Callable[[str], str], tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    program("curl")
    clip = tmp_path / "clip.mp4"
    source = ["-f", "lavfi", "-i", "testsrc2=size=160x90", "-t", "1"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, str(clip)], check=True)
    session, player = _blocks("A first session")
    assert "http://127.0.0.1:8000" in session
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session.replace("http://127.0.0.1:8000", server.url)],
        cwd=tmp_path,
        env=clean_environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "copy.mp4").read_bytes() == clip.read_bytes()
    assert (tmp_path / "first-100-bytes").read_bytes() == clip.read_bytes()[:100]
    assert '"title": "Renamed"' in result.stdout
    assert '"code"' not in result.stdout  # no problem document among the answers
    assert "/api/videos/2/stream" in player  # the one that was not deleted


def test_accounts_are_made_from_the_command_line(server: Server) -> None:
    (block,) = _blocks("Configuration")
    for line in block.splitlines():
        command = line.replace(".venv/bin/streamer", "python -m streamer").split()
        assert command[:3] == ["python", "-m", "streamer"]
        result = subprocess.run(
            [sys.executable, *command[1:], "--data", str(server.data)],
            input="a long passphrase\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
    credentials = {"username": "ada", "password": "a long passphrase"}
    assert server.api.post_json("/api/auth/login", credentials).status == 200
