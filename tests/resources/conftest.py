"""Fixtures for what needs an ffmpeg. No worker runs: what is queued stays so."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from streamer import app as assembly
from streamer.app import Application
from streamer.ffmpeg.tools import Tools, find_tools
from tests.conftest import MakeApp
from tests.live.harness import require


@pytest.fixture(scope="session")
def tools() -> Tools | None:
    """The ffmpeg of this machine, looked at once."""
    return find_tools("auto", Path(tempfile.gettempdir()))


@pytest.fixture
def studio(make_app: MakeApp, tools: Tools | None, monkeypatch: pytest.MonkeyPatch) -> Application:
    """An application that has ffmpeg, but no ffprobe, which would look into what only seems to be a video."""
    require(tools is not None, "needs ffmpeg")
    without_ffprobe = tools and replace(tools, ffprobe=None)
    monkeypatch.setattr(assembly, "find_tools", lambda setting, folder: without_ffprobe)
    return make_app(ffmpeg="auto")
