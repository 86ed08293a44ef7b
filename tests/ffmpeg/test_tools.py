"""ffmpeg is found where it is, and what is no ffmpeg is told so."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamer.errors import ConfigurationError
from streamer.ffmpeg.tools import Tools, find_tools
from tests.ffmpeg import clips, stand_ins
from tests.live.harness import require

FOLDER = Path(tempfile.gettempdir())
SOME_ENCODERS = {"libx264", "aac", "mjpeg", "webvtt"}
SOME_FILTERS = {"scale", "tile", "select", "format", "transpose", "null"}


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def no_imageio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


def found(setting: str) -> Tools:
    tools = find_tools(setting, FOLDER)
    assert tools is not None
    return tools


def refusal(setting: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        find_tools(setting, FOLDER)
    (line,) = caught.value.mistakes
    assert len(line.splitlines()) == 1
    assert line.startswith(f"STREAMER_FFMPEG={setting!r}: want the path of ffmpeg, or its name on PATH; ")
    return line


def test_ffmpeg_of_the_system_is_found_with_what_it_can_do() -> None:
    path = shutil.which("ffmpeg")
    require(path is not None, "needs ffmpeg on PATH")
    tools = found("auto")
    assert tools.ffmpeg == path
    assert tools.ffprobe is not None
    assert Path(tools.ffprobe).name == "ffprobe"
    assert tools.version[0].isdigit() or tools.version[0] in "nN"
    assert tools.encoders >= SOME_ENCODERS
    assert tools.filters >= SOME_FILTERS


def test_nothing_but_names_is_read_from_the_lists() -> None:
    tools = found(clips.packaged_ffmpeg())
    assert not {"=", "Video", "Audio", "------"} & (tools.encoders | tools.filters)
    assert 100 < len(tools.encoders) < 1000
    assert 100 < len(tools.filters) < 2000


@pytest.mark.usefixtures("empty_path")
def test_ffmpeg_of_imageio_is_found_where_the_system_has_none() -> None:
    packaged = clips.packaged_ffmpeg()
    tools = found("auto")
    assert tools.ffmpeg == packaged
    assert tools.ffprobe is None
    assert tools.encoders >= SOME_ENCODERS
    assert tools.filters >= SOME_FILTERS


def test_it_may_be_turned_off() -> None:
    assert find_tools("off", FOLDER) is None


@pytest.mark.usefixtures("empty_path", "no_imageio")
def test_there_may_be_none() -> None:
    assert find_tools("auto", FOLDER) is None


@pytest.mark.usefixtures("empty_path")
def test_imageio_without_a_program_for_this_machine_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(get_ffmpeg_exe=refuse))
    assert find_tools("auto", FOLDER) is None


def test_broken_one_on_path_is_passed_over(empty_path: Path) -> None:
    packaged = clips.packaged_ffmpeg()
    broken = empty_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert found("auto").ffmpeg == packaged


def test_configured_one_comes_first(tmp_path: Path) -> None:
    program = stand_ins.make(tmp_path, "succeeds")
    tools = found(program)
    assert tools == Tools(
        ffmpeg=program,
        ffprobe=shutil.which("ffprobe"),
        version="7.0-stand-in",
        encoders=frozenset({"libx264", "aac", "mjpeg", "png"}),
        filters=frozenset({"scale", "tile", "null"}),
    )


def test_configured_one_may_be_a_name_on_path(empty_path: Path) -> None:
    program = stand_ins.make(empty_path, "succeeds")
    assert found("succeeds").ffmpeg == program


def test_path_from_here_becomes_one_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = stand_ins.make(tmp_path, "succeeds")
    monkeypatch.chdir(tmp_path)
    assert found("./succeeds").ffmpeg == program


def test_ffprobe_beside_it_comes_first(tmp_path: Path) -> None:
    program = stand_ins.make(tmp_path, "succeeds")
    beside = tmp_path / "ffprobe"
    beside.write_text("#!/bin/sh\n")
    beside.chmod(0o755)
    assert found(program).ffprobe == str(beside)


@pytest.mark.parametrize("name", ["/nowhere/ffmpeg", "no-such-program", "/", "a b\nc", "-y", "/etc/passwd"])
def test_configured_one_that_is_not_there_is_refused(name: str) -> None:
    assert refusal(name).endswith("there is no such program")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("#!/bin/sh\necho ffmpreg version 5\n", "this one failed: it does not say that it is ffmpeg"),
        ("#!/bin/sh\n", "this one failed: it does not say that it is ffmpeg"),
        ("#!/bin/sh\nprintf 'ffmpeg version '\n", "this one failed: it does not say that it is ffmpeg"),
        ("#!/bin/sh\necho no library >&2; exit 1\n", "this one failed: no library"),
        ("#!/nowhere/sh\n", "this one failed: the file: No such file or directory"),
        ("\x7fELF", "this one failed: the file: Exec format error"),
    ],
)
def test_configured_one_that_is_no_ffmpeg_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(content)
    program.chmod(0o755)
    assert refusal(str(program)).endswith(reason)


def versioned(folder: Path, version: str) -> str:
    program = Path(stand_ins.make(folder, "succeeds"))
    program.write_text(program.read_text().replace("7.0-stand-in", version))
    return str(program.rename(folder / "ffmpeg"))


@pytest.mark.parametrize(
    ("version", "told"),
    [("4.4.2-0ubuntu0.22.04.1", "4.4.2"), ("n5.0.3", "5.0.3"), ("5.0", "5.0"), ("2.8.17", "2.8.17")],
)
def test_older_one_is_refused_when_it_is_named(tmp_path: Path, version: str, told: str) -> None:
    program = versioned(tmp_path, version)
    with pytest.raises(ConfigurationError) as caught:
        find_tools(program, FOLDER)
    assert caught.value.mistakes == [f"STREAMER_FFMPEG={program!r}: want ffmpeg 5.1 or later; this is {told}"]


def test_older_one_on_path_is_passed_over(
    empty_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packaged = clips.packaged_ffmpeg()
    old = versioned(empty_path, "4.4.2-0ubuntu0.22.04.1")
    assert found("auto").ffmpeg == packaged
    assert caplog.messages == [f"{old} is passed over: want ffmpeg 5.1 or later; this is 4.4.2"]
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert find_tools("auto", FOLDER) is None


@pytest.mark.parametrize(
    "version",
    ["5.1", "5.1.9-0+deb12u1", "n6.1", "7.0.2-static", "10.0", "N-109468-gd39b34123d", "git-2022-08-01-abc",
     "2024-05-15-git-7b47099bc0-full_build", "UNKNOWN"],
)  # fmt: skip
def test_release_that_is_recent_enough_is_taken_and_a_development_build(tmp_path: Path, version: str) -> None:
    assert found(versioned(tmp_path, version)).version == version


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found(clips.packaged_ffmpeg())
    assert os.listdir(tmp_path) == []
