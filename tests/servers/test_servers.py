"""The application, alone under every common WSGI server."""

import pytest

from tests.live.harness import needs_proc
from tests.servers.setups import SERVERS
from tests.servers.suite import Suite

pytestmark = [
    needs_proc,
    pytest.mark.parametrize(
        "server", SERVERS, indirect=True, scope="module", ids=[setup.name for setup in SERVERS]
    ),
]


class TestServers(Suite):
    """The whole suite."""
