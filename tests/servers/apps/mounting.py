"""What a host needs that has no mounting of its own: a few lines of PEP 3333."""

from collections.abc import Iterable
from typing import Any

PREFIX = "/media"
PAGE = "the host's own page"


def mount(application: Any, host: Any) -> Any:
    """A WSGI callable that gives to ``application`` what is below PREFIX, and the rest to ``host``."""

    def dispatch(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not f"{path}/".startswith(f"{PREFIX}/"):
            return host(environ, start_response)
        shifted = {
            "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + PREFIX,
            "PATH_INFO": path.removeprefix(PREFIX),
        }
        return application({**environ, **shifted}, start_response)

    return dispatch
