"""The configuration as waitress wants it, and what this process may have open."""

import logging
from typing import Any

from waitress.adjustments import Adjustments

from streamer.admission import Admission
from streamer.config import Config

try:
    import resource
except ImportError:  # Windows, where sockets are no descriptors
    resource = None  # type: ignore[assignment]

logger = logging.getLogger("streamer.server")

SMALL_READ_BYTES = 16 * 1024  # of a socket, while its peer has shown nothing
LARGE_READ_BYTES = 256 * 1024  # while it sends a body that is wanted
SEND_BUFFERS_BYTES = 32 * 2**20  # of all sockets together: viewers who stall fill theirs
LARGE_SEND_BUFFER_BYTES = 2 * 2**20  # as much as fast readers make use of
SMALL_SEND_BUFFER_BYTES = 128 * 1024  # enough for a film; Linux doubles it
DESCRIPTORS_PER_CONNECTION = 2  # the socket, and the file that it sends or receives
OTHER_DESCRIPTORS = 100  # databases of the worker threads, pipes, the log


class Settings(Adjustments):
    """waitress hands its adjustments to every part of it; ours carry what our parts need as well."""

    def __init__(self, config: Config, admission: Admission) -> None:
        super().__init__(**_adjustments(config))
        # waitress counts what is in the map, which holds the listening sockets and triggers too
        self.connection_limit += 2 * len(self.listen)
        self.config = config
        self.admission = admission


def _adjustments(config: Config) -> dict[str, Any]:
    return {
        "host": config.host,
        "port": config.port,
        "threads": config.threads,
        "ident": "streamer",
        "server_name": in_url(config.host),  # for links in answers to requests without a Host
        "backlog": 4096,
        "connection_limit": _connections_that_fit(config.connections),
        "asyncore_use_poll": True,
        "max_request_header_size": config.header_bytes,
        "max_request_body_size": 2**64,  # more than admission ever lets in
        # the application resolves X-Forwarded-* itself, under every server alike
        "clear_untrusted_proxy_headers": False,
    }


def in_url(host: str) -> str:
    """A host as it is written in a URL."""
    return f"[{host.strip('[]')}]" if ":" in host else host


def _connections_that_fit(wanted: int) -> int:
    """So many connections as may be open at once: the process asks for more descriptors if it may."""
    if resource is None:
        return wanted
    needed = wanted * DESCRIPTORS_PER_CONNECTION + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
        except (OSError, ValueError):  # macOS has another limit, which it does not tell
            pass
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    fitting = max(1, (soft - OTHER_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION)
    logger.warning(
        "%d connections instead of %d: the process may have %d files open (ulimit -n), and needs %d",
        fitting,
        wanted,
        soft,
        needed,
    )
    return fitting
