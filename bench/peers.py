"""The servers that are compared: how each is found, started and asked.

A row of ``PEERS`` is all there is to a peer. ``lacks`` tells why it cannot run
here, ``start`` starts its processes in a group and gives its endpoint.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from bench import ours, web
from bench.processes import Group, free_port
from bench.site import PROGRAMS, SMALL, VIDEO, Site, build, installed
from bench.wire import Endpoint


@dataclass(frozen=True)
class Peer:
    """A server in one configuration."""

    name: str
    about: str
    """How it is set up, for the reader of the results."""
    lacks: Callable[[], str]
    """Why it cannot run on this machine; empty if it can."""
    start: Callable[[Site, Group], Endpoint]
    uses_library: bool = False
    """Whether it serves the library of our own server."""
    uploads: tuple[str, ...] = ()
    """In which ways a file can be uploaded: ``raw``, ``form``, ``put``."""


def _files(port: int) -> Endpoint:
    return Endpoint(port, video=f"/{VIDEO}", small=f"/{SMALL}")


# web servers


def _nginx(listening: str = "") -> Callable[[Site, Group], Endpoint]:
    def start(site: Site, group: Group) -> Endpoint:
        port = free_port()
        config = web.nginx_files(site, group.folder, port, listening)
        group.spawn(["nginx", "-c", config, "-p", group.folder])
        group.wait_for(port)
        return replace(_files(port), put="/put/", refused="/refused/video.mp4")

    return start


def _start_apache(site: Site, group: Group) -> Endpoint:
    port = free_port()
    group.spawn(["apache2", "-DFOREGROUND", "-f", web.apache_files(site, group.folder, port)])
    group.wait_for(port)
    return _files(port)


def _apache_lacks() -> str:
    if reason := installed("apache2"):
        return reason
    return "" if web.APACHE_MODULES.is_dir() else f"no modules in {web.APACHE_MODULES}"


def _start_lighttpd(site: Site, group: Group) -> Endpoint:
    port = free_port()
    group.spawn(["lighttpd", "-D", "-f", web.lighttpd_files(site, group.folder, port)])
    group.wait_for(port)
    return _files(port)


# programs that take a folder and a port


def _start_go(site: Site, group: Group) -> Endpoint:
    built = build(
        site, "go", ["go", "build", "-o", "server", str(PROGRAMS / "server.go")], site.folder / "go"
    )
    return _start_program(site, group, built / "server")


def _start_send(site: Site, group: Group) -> Endpoint:
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", "send"]
    built = build(site, "send", command, site.folder / "npm")
    (group.folder / "node_modules").symlink_to(built / "node_modules")
    return _start_program(site, group, "node", PROGRAMS / "send.js")


def _start_stream(site: Site, group: Group) -> Endpoint:
    return _start_program(site, group, "node", PROGRAMS / "stream.js")


def _start_program(site: Site, group: Group, *command: str | Path) -> Endpoint:
    port = free_port()
    group.spawn([*command, site.docroot, str(port)])
    group.wait_for(port)
    return _files(port)


def _python(name: str, *kind: str) -> Callable[[Site, Group], Endpoint]:
    return lambda site, group: _start_program(site, group, sys.executable, PROGRAMS / f"{name}.py", *kind)


def _packages(*names: str) -> Callable[[], str]:
    def lacks() -> str:
        present = {distribution.name.lower() for distribution in metadata.distributions()}
        missing = [name for name in names if name not in present]
        return f"not installed: {', '.join(missing)} (pip install '.[bench]')" if missing else ""

    return lacks


# ours


def _serve(**settings: str) -> Callable[[Site, Group], Endpoint]:
    return lambda site, group: ours.sign_in(site, ours.serve(site, group, **settings))


def _behind_nginx(**settings: str) -> Callable[[Site, Group], Endpoint]:
    def start(site: Site, group: Group) -> Endpoint:
        inner = ours.serve(site, group, STREAMER_TRUSTED_PROXIES="127.0.0.1", **settings)
        port = free_port()
        config = web.nginx_proxy(site, group.folder, port, inner)
        group.spawn(["nginx", "-c", config, "-p", group.folder])
        group.wait_for(port)
        return ours.sign_in(site, port)

    return start


def _start_gunicorn(site: Site, group: Group) -> Endpoint:
    return ours.sign_in(site, ours.gunicorn(site, group))


_NO_FAST_PATHS = {"STREAMER_FAST_PATHS": "off"}
_X_ACCEL = {"STREAMER_SENDFILE": "x-accel-redirect"}
BASELINE = "nginx"

PEERS = (
    Peer(
        "nginx",
        "one worker, sendfile, tcp_nopush, no access log; uploads by its dav module",
        lambda: installed("nginx"),
        _nginx(),
        uploads=("put",),
    ),
    Peer(
        "nginx-sndbuf",
        "the same with sndbuf=256k, which keeps many viewers within the memory that Linux has for TCP",
        lambda: installed("nginx"),
        _nginx(" sndbuf=256k"),
    ),
    Peer(
        "ours",
        "`streamer serve`, one process, with its access log, every request authenticated",
        lambda: "",
        _serve(),
        uses_library=True,
        uploads=("raw", "form"),
    ),
    Peer(
        "ours-plain",
        "the same with STREAMER_FAST_PATHS=off",
        lambda: ours.lacking(_NO_FAST_PATHS),
        _serve(**_NO_FAST_PATHS),
        uses_library=True,
        uploads=("raw",),
    ),
    Peer(
        "ours-gunicorn",
        "our application on gunicorn: one worker, gthread, 16 threads, its sendfile",
        _packages("gunicorn"),
        _start_gunicorn,
        uses_library=True,
        uploads=("raw",),
    ),
    Peer(
        "nginx-proxy-ours",
        "nginx in front of ours as in the README, with kept connections between them; both are counted",
        lambda: installed("nginx"),
        _behind_nginx(),
        uses_library=True,
    ),
    Peer(
        "nginx-accel-ours",
        "the same with STREAMER_SENDFILE=x-accel-redirect: nginx sends the bytes",
        lambda: installed("nginx") or ours.lacking(_X_ACCEL),
        _behind_nginx(**_X_ACCEL),
        uses_library=True,
    ),
    Peer(
        "apache",
        "event MPM, one worker process of 256 threads, sendfile, no access log",
        _apache_lacks,
        _start_apache,
    ),
    Peer(
        "lighttpd", "its one process, sendfile, no access log", lambda: installed("lighttpd"), _start_lighttpd
    ),
    Peer(
        "go",
        "http.ServeContent, one process on all processors as Go does, no log",
        lambda: installed("go"),
        _start_go,
    ),
    Peer(
        "node-send",
        "`send`, which express.static is made of, without Express around it, one process, no log",
        lambda: installed("node", "npm"),
        _start_send,
    ),
    Peer(
        "node-stream",
        "fs.createReadStream and a Range taken apart by hand, one process, no log",
        lambda: installed("node"),
        _start_stream,
    ),
    Peer(
        "starlette",
        "FileResponse on uvicorn with uvloop and httptools, one process, no access log",
        _packages("starlette", "uvicorn", "uvloop", "httptools"),
        _python("starlette_files"),
    ),
    Peer(
        "falcon-static",
        "Falcon's static route on stock waitress, 8 threads as ours, no log",
        _packages("falcon", "waitress"),
        _python("waitress_files", "falcon"),
    ),
    Peer(
        "whitenoise",
        "WhiteNoise on stock waitress, 8 threads as ours, no log",
        _packages("whitenoise", "waitress"),
        _python("waitress_files", "whitenoise"),
    ),
)
