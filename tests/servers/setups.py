"""The table of the matrix: each server and each host, how it is started, and what it is known to do."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

# the answers that a connection may end after
ALL = frozenset({"whole", "range", "head", "not modified", "not satisfiable", "upload", "delete"})
KILLED = -signal.SIGTERM  # of a server that leaves the signal alone, or raises it again when it is done
HOSTS_FOLDER = "tests.servers.apps"
MEDIA = "/media"


@dataclass(frozen=True)
class Setup:
    """One server with one application.

    The command is run in the root of the repository. It may have ``{python}``, ``{bin}``,
    ``{port}``, ``{apps}``, ``{options}`` and ``{app}`` in it; the environment has the
    settings, and what ``apps/httpd.conf`` asks for.
    """

    name: str
    command: str
    needs: tuple[str, ...] = ()
    """The distributions on PyPI."""
    program: str = ""
    """What pip cannot bring."""
    options: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    app: str = "wsgi:application"
    prefix: str = ""
    closes_after: frozenset[str] = frozenset()
    """By design, not by mistake: the test fails as well when a connection goes on."""
    exit_status: int = 0
    refuses_root: bool = False
    noise: str = r"$^"
    """Lines that its log may hold about clients that leave."""

    def with_prefix(self, options: str = "", **settings: str) -> Self:
        """The same server, told the prefix by options or settings of its own."""
        return replace(
            self,
            name=f"{self.name}-prefix",
            options=f"{self.options} {options}",
            settings={**self.settings, **settings},
            prefix=MEDIA,
        )

    def hosting(self, host: str, *needs: str, noise: str = r"$^") -> Self:
        """The same server with a host: a module of ``apps/`` that has mounted the application."""
        return replace(
            self,
            name=f"{host}-{self.name}",
            app=f"{HOSTS_FOLDER}.{host}:application",
            needs=(*self.needs, *needs),
            prefix=MEDIA,
            noise=noise,
        )


def _scripted(name: str, *needs: str, closes_after: frozenset[str] = frozenset()) -> Setup:
    """A server without a command line."""
    command = f"{{python}} -m tests.servers.apps.run {name} {{port}}"
    return Setup(name, command, needs, closes_after=closes_after, exit_status=KILLED)


STREAMER = Setup("streamer", "{python} -m streamer serve --port {port}")
WAITRESS = Setup(
    "waitress",
    "{python} -m waitress --listen=127.0.0.1:{port} {options} {app}",
    closes_after=frozenset({"not modified", "delete"}),
    exit_status=KILLED,
)
GUNICORN = Setup(
    "gunicorn-sync",
    "{python} -m gunicorn --bind 127.0.0.1:{port} {options} {app}",
    ("gunicorn",),
    closes_after=ALL,
)
GTHREAD = replace(
    GUNICORN,
    name="gunicorn-gthread",
    options="--worker-class gthread --threads 8",
    closes_after=frozenset(),
)
UWSGI = Setup(
    "uwsgi-http11-socket",
    "{bin}/uwsgi --http11-socket 127.0.0.1:{port} --module {app} {options}",
    ("pyuwsgi",),
    options="--master --need-app --die-on-term --threads 4 --socket-timeout 60",
)
MOD_WSGI = Setup(
    "mod_wsgi-embedded",
    "apache2 -DFOREGROUND -f {apps}/httpd.conf {options}",
    ("mod_wsgi",),
    "apache2",
    refuses_root=True,
)
GRANIAN = Setup(
    "granian",
    "{python} -m granian --interface wsgi --host 127.0.0.1 --port {port} {options} {app}",
    ("granian",),
    options="--blocking-threads 8",
)
UVICORN = Setup(
    "uvicorn-a2wsgi",
    "{python} -m uvicorn --host 127.0.0.1 --port {port} {app}",
    ("uvicorn", "a2wsgi"),
    app=f"{HOSTS_FOLDER}.asgi:application",
    exit_status=KILLED,
)

SERVERS = [
    STREAMER,
    replace(STREAMER, name="streamer-slow", settings={"STREAMER_FAST_PATHS": "off"}),
    WAITRESS,
    replace(
        WAITRESS,
        name="waitress-tuned",
        options="--threads=8 --asyncore-use-poll --connection-limit=400",
    ),
    WAITRESS.with_prefix(f"--url-prefix={MEDIA}"),
    GUNICORN,
    GTHREAD,
    GTHREAD.with_prefix(SCRIPT_NAME=MEDIA),
    replace(GTHREAD, name="gunicorn-forked", options=f"{GTHREAD.options} --workers 3 --preload"),
    replace(
        GTHREAD, name="gunicorn-gevent", options="--worker-class gevent", needs=(*GTHREAD.needs, "gevent")
    ),
    UWSGI,
    replace(
        UWSGI,
        name="uwsgi-http-socket",
        command=UWSGI.command.replace("http11", "http"),
        closes_after=ALL,
    ),
    MOD_WSGI,
    MOD_WSGI.with_prefix(),
    replace(MOD_WSGI, name="mod_wsgi-daemon", options="-D daemon"),
    Setup("cheroot", "{python} -m cheroot --bind 127.0.0.1:{port} {app}", ("cheroot",), exit_status=KILLED),
    _scripted("bjoern", "bjoern"),
    GRANIAN,
    GRANIAN.with_prefix(f"--url-path-prefix {MEDIA}"),
    _scripted("gevent", "gevent"),
    _scripted("werkzeug", "Werkzeug", closes_after=ALL),
    _scripted("wsgiref", closes_after=ALL),
    Setup("hypercorn", "{python} -m hypercorn --bind 127.0.0.1:{port} wsgi:{app}", ("hypercorn",)),
    UVICORN,
]

HOSTS = [
    GTHREAD.hosting("flask_dispatcher", "Flask", "Werkzeug"),
    WAITRESS.hosting("flask_mount", "Flask"),
    GTHREAD.hosting("django_beside", "Django"),
    # WebOb copies the body of a request before it hands it on, and complains when it ends early
    GTHREAD.hosting("pyramid_view", "pyramid", noise="Socket error processing request|^Traceback"),
    WAITRESS.hosting("werkzeug_dispatcher", "Werkzeug"),
    UVICORN.hosting("starlette_mount", "starlette"),
]
