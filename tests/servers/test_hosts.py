"""The application mounted under a prefix in every common host."""

import pytest

from tests.live.harness import Api, needs_proc
from tests.servers.apps.mounting import PAGE
from tests.servers.running import Running
from tests.servers.setups import HOSTS
from tests.servers.suite import Suite

pytestmark = [
    needs_proc,
    pytest.mark.parametrize(
        "server", HOSTS, indirect=True, scope="module", ids=[setup.name for setup in HOSTS]
    ),
]


def test_the_host_keeps_its_other_pages(server: Running) -> None:
    host = Api(server.address, server.api.token)
    page = host.get("/")
    assert (page.status, page.body.decode()) == (200, PAGE)
    assert server.api.get("/health").status == 200


class TestHosts(Suite):
    """The whole suite."""
