"""Fixtures for all tests. Those of ``tests/live`` and ``tests/server`` open sockets; the others never do."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis
import pytest

from streamer import clock, passwords
from streamer.app import Application, create_app
from streamer.config import Config
from tests.helpers import Client

# a busy machine is no failure
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """bcrypt at its least cost: a test that hashes should not take a second."""
    monkeypatch.setattr(passwords, "COST", 4)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path / "data", min_free_bytes=0, ffmpeg="off")


@pytest.fixture
def app(config: Config) -> Application:
    return create_app(config)


@pytest.fixture
def anonymous(app: Application) -> Client:
    """A client that has not signed in."""
    return Client(app)


@pytest.fixture
def alice(app: Application) -> Client:
    """A client that has signed in."""
    return Client(app).sign_up("alice")


@pytest.fixture
def bob(app: Application) -> Client:
    """A second client that has signed in, as another user."""
    return Client(app).sign_up("bob")


class Clock:
    """A wall clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = datetime(2026, 5, 4, 3, 2, 1, 654321, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def forward(self, **duration: float) -> None:
        self.time += timedelta(**duration)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stops the clock and gives it to the test."""
    stopped = Clock()
    monkeypatch.setattr(clock, "now", stopped.now)
    return stopped


MakeApp = Callable[..., Application]


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """Makes applications with settings of their own; each has its own data folder unless one is given."""
    made: list[Application] = []

    def make(**settings: object) -> Application:
        settings.setdefault("data", tmp_path / f"data-{len(made)}")
        settings.setdefault("min_free_bytes", 0)
        settings.setdefault("ffmpeg", "off")
        made.append(create_app(Config(**settings)))  # type: ignore[arg-type]
        return made[-1]

    return make
