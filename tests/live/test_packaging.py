"""The unit of systemd and the Dockerfile, as far as they can be tried without a host of either."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from streamer.config import Config
from streamer.server.settings import DESCRIPTORS_PER_CONNECTION, OTHER_DESCRIPTORS
from tests.live.fronts import DEPLOY
from tests.live.harness import ROOT, Server, require

UNIT = (DEPLOY / "streamer.service").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMMANDS = re.sub(r"\\\n\s*", "", re.sub("(?m)^#.*\n", "", DOCKERFILE)).splitlines()
KNOWN = {f"STREAMER_{setting.name.upper()}" for setting in fields(Config)}


def arguments(name: str) -> list[str]:
    """What follows each instruction of this name in the Dockerfile."""
    return [line.partition(" ")[2] for line in COMMANDS if line.startswith(f"{name} ")]


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_only_settings_that_there_are_are_named(path: Path) -> None:
    assert set(re.findall(r"STREAMER_[A-Z_]+", path.read_text())) <= KNOWN


def test_the_unit_is_valid_and_leaves_little_to_an_intruder(tmp_path: Path) -> None:
    require(shutil.which("systemd-analyze") is not None, "install systemd to run this test")
    unit = tmp_path / "streamer.service"
    unit.write_text(UNIT.replace("/opt/streamer/bin/streamer", sys.executable))
    for command in (["verify"], ["security", "--offline=true", "--threshold=20"]):
        result = subprocess.run(
            ["systemd-analyze", *command, str(unit)], capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert command != ["verify"] or not result.stderr


def test_all_that_the_image_is_built_from_is_there() -> None:
    copied = [part for line in arguments("COPY") if "--from" not in line for part in line.split()[:-1]]
    assert [part for part in copied if not (ROOT / part).exists()] == []
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = {setup["metadata"]["license_files"], setup["metadata"]["long_description"].split()[1]}
    assert wanted | {"pyproject.toml", "setup.cfg", "streamer"} == set(copied)


def test_the_unit_lets_it_open_as_many_files_as_its_connections_take() -> None:
    [limit] = re.findall("(?m)^LimitNOFILE=([0-9]+)$", UNIT)
    needed = Config().connections * DESCRIPTORS_PER_CONNECTION + OTHER_DESCRIPTORS
    assert int(limit) >= needed


def test_the_container_is_not_root_and_owns_its_data_folder() -> None:
    assert arguments("USER") == ["streamer"]
    assert arguments("VOLUME") == ["/data"]
    [_, made] = arguments("RUN")
    assert "install -d -o streamer -g streamer -m 0750 /data" in made
    assert COMMANDS.index("VOLUME /data") > COMMANDS.index(f"RUN {made}"), "else the volume is root's"
    assert "STREAMER_DATA=/data" in arguments("ENV")[0]


def test_what_the_container_runs_is_the_command_of_the_readme() -> None:
    command = json.loads(arguments("ENTRYPOINT")[0]) + json.loads(arguments("CMD")[0])
    assert command == ["streamer", "serve"]
    assert "ExecStart=/opt/streamer/bin/streamer serve\n" in UNIT
    assert ".venv/bin/streamer serve" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("text", [UNIT, DOCKERFILE], ids=["unit", "Dockerfile"])
def test_the_first_account_is_made_as_it_says_there(text: str, server: Server) -> None:
    [command] = re.findall(r"(?m)^#.* (?:/opt/streamer/bin/)?streamer (user add .*)$", text)
    words = shlex.split(command.replace("/var/lib/streamer", str(server.data)))
    data = [] if "--data" in words else ["--data", str(server.data)]
    subprocess.run(
        [sys.executable, "-m", "streamer", *words, *data],
        input=b"a long passphrase\n",
        check=True,
        timeout=60,
    )
    credentials = {"username": "ada", "password": "a long passphrase"}
    assert server.api.post_json("/api/auth/login", credentials).status == 200


def test_the_health_check_tells_whether_the_server_is_well(server: Server) -> None:
    [check] = arguments("HEALTHCHECK")
    program, *words = json.loads(check.partition(" CMD ")[2])
    assert program == "python"
    command = [sys.executable, *(word.replace(":8000/", f":{server.port}/") for word in words)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    server.stop()
    assert subprocess.run(command, timeout=60, check=False, stderr=subprocess.DEVNULL).returncode != 0
