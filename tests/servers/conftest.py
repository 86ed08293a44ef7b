"""A data folder with a film in it, and the servers that serve copies of it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from streamer.app import create_app
from streamer.config import Config
from tests.helpers import Client, video_bytes
from tests.live.harness import MIB, USERNAME
from tests.servers.running import Running, require_setup
from tests.wsgi import database_of

pytest.register_assert_rewrite("tests.servers.suite")


@pytest.fixture(scope="session")
def film() -> bytes:
    """24 MiB that pass for an MP4: more than the buffers between a server and a client hold."""
    return video_bytes(24 * MIB, seed=24)


@dataclass(frozen=True)
class Stock:
    """A data folder with one account and, as its video 1, the film; a token of the account."""

    data: Path
    token: str


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, film: bytes) -> Stock:
    data = tmp_path_factory.mktemp("stock") / "data"
    app = create_app(Config(data=data, min_free_bytes=0))
    client = Client(app).sign_up(USERNAME)
    assert client.upload_raw(film, status=201).json["id"] == 1
    database_of(app).close()
    return Stock(data, client.session["access_token"])


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, stock: Stock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The server of a set-up, which all tests of a module share; the last of them stops it."""
    setup = request.param
    require_setup(setup)
    folder = tmp_path_factory.mktemp(setup.name)
    data = Path(shutil.copytree(stock.data, folder / "data"))
    running = Running(setup, folder, data, stock.token)
    try:
        yield running.start()
    finally:
        running.end()
        shutil.rmtree(data)  # the log stays
