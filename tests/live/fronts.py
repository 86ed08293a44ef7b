"""Servers in front of ours, as real processes with the files of ``deploy/``.

Of those files only what every administrator changes is changed here: name,
ports, paths and certificate. What a distribution has around them is written by
this module, with some of its defaults (compression, media types) that could
spoil an answer.
"""

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.live.harness import ROOT, TIMEOUT_SECONDS, Api, Server, eventually, require

DEPLOY = ROOT / "deploy"
NAME = "localhost"


@dataclass(frozen=True)
class Certificate:
    """A certificate for ``localhost`` that signs itself, and its key."""

    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    require(shutil.which("openssl") is not None, "install openssl to run this test")
    made = Certificate(folder / "fullchain.pem", folder / "privkey.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", str(made.key), "-out", str(made.certificate)], check=True, capture_output=True
    )
    return made


@dataclass(frozen=True)
class Place:
    """What the file of an administrator says about the machine."""

    folder: Path
    port: int
    plain_port: int
    upstream: Server
    certificate: Certificate

    def put_into(self, text: str) -> str:
        """The text of a file of ``deploy/`` with name, ports, paths and certificate of this test."""
        for before, after in (
            ("video.example.org/fullchain.pem", "fullchain.pem"),
            ("video.example.org/privkey.pem", "privkey.pem"),
            ("/etc/letsencrypt/live", str(self.certificate.certificate.parent)),
            ("video.example.org", NAME),
            ("127.0.0.1:8000", f"127.0.0.1:{self.upstream.port}"),
            ("/var/lib/streamer", str(self.upstream.data)),
        ):
            text = text.replace(before, after)
        return text


def _nginx(place: Place) -> list[str]:
    site = place.put_into((DEPLOY / "nginx.conf").read_text())
    site = re.sub(r" *listen \[::\].*\n", "", site)  # not every machine of the tests has IPv6
    site = site.replace("listen 443 ssl", f"listen 127.0.0.1:{place.port} ssl")
    site = site.replace("listen 80", f"listen 127.0.0.1:{place.plain_port}")
    (place.folder / "site.conf").write_text(site)
    temporary = "".join(
        f"    {kind}_temp_path {place.folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (place.folder / "nginx.conf").write_text(
        f"daemon off;\npid {place.folder}/pid;\nerror_log stderr;\nworker_processes 1;\n"
        f"{'user root;' if os.getuid() == 0 else ''}\nevents {{}}\n"
        "http {\n    access_log off;\n    gzip on;\n    include /etc/nginx/mime.types;\n"
        f"    default_type application/octet-stream;\n{temporary}    include {place.folder}/site.conf;\n}}\n"
    )
    return ["nginx", "-e", "stderr", "-p", str(place.folder), "-c", str(place.folder / "nginx.conf")]


_APACHE_MODULES = (
    *("mpm_event", "authz_core", "setenvif", "mime", "filter", "deflate", "reqtimeout", "alias"),
    *("headers", "proxy", "proxy_http", "ssl", "xsendfile"),
)


def _apache(place: Place) -> list[str]:
    modules = Path("/usr/lib/apache2/modules")
    require((modules / "mod_xsendfile.so").exists(), "install libapache2-mod-xsendfile to run this test")
    site = place.put_into((DEPLOY / "apache.conf").read_text())
    site = site.replace("*:443", f"*:{place.port}").replace("*:80", f"*:{place.plain_port}")
    (place.folder / "site.conf").write_text(site)
    loads = "".join(f"LoadModule {m}_module {modules}/mod_{m}.so\n" for m in _APACHE_MODULES)
    (place.folder / "apache.conf").write_text(
        f"ServerRoot {place.folder}\nServerName {NAME}\nPidFile pid\nErrorLog /dev/stderr\n"
        f"Mutex file:{place.folder} default\nTypesConfig /etc/mime.types\n{loads}"
        f"Listen 127.0.0.1:{place.port}\nListen 127.0.0.1:{place.plain_port}\n"
        "AddOutputFilterByType DEFLATE text/html text/plain\n"
        f"Include {place.folder}/site.conf\n"
    )
    return ["apache2", "-D", "FOREGROUND", "-f", str(place.folder / "apache.conf")]


def _lighttpd(place: Place) -> list[str]:
    site = place.put_into((DEPLOY / "lighttpd.conf").read_text())
    site = site.replace(r"video\.example\.org", NAME).replace(":443", f"127.0.0.1:{place.port}")
    site = site.replace('"port" => 8000', f'"port" => {place.upstream.port}')
    (place.folder / "site.conf").write_text(site)
    (place.folder / "lighttpd.conf").write_text(
        'server.modules = ("mod_expire")\n'
        f'server.document-root = "{place.folder}"\nserver.bind = "127.0.0.1"\n'
        f'server.port = {place.plain_port}\nserver.upload-dirs = ("{place.folder}")\n'
        'mimetype.assign = ("" => "text/plain")\n'
        f'include "{place.folder}/site.conf"\n'
    )
    return ["lighttpd", "-D", "-f", str(place.folder / "lighttpd.conf")]


def _caddy(place: Place) -> list[str]:
    site = place.put_into((DEPLOY / "Caddyfile").read_text())
    own = place.certificate
    site = site.replace(f"{NAME} {{", f"{NAME}:{place.port} {{\n\ttls {own.certificate} {own.key}", 1)
    options = f"{{\n\tadmin off\n\thttp_port {place.plain_port}\n\thttps_port {place.port}\n}}\n"
    (place.folder / "Caddyfile").write_text(options + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(place.folder / "Caddyfile")]


_COMMANDS: dict[str, Callable[[Place], list[str]]] = {
    "nginx": _nginx,
    "apache2": _apache,
    "caddy": _caddy,
    "lighttpd": _lighttpd,
}


class Front:
    """A server in front of one of ours, which speaks TLS with the world."""

    def __init__(self, program: str, place: Place, certificate: Certificate) -> None:
        self.program = program
        self.port = place.port
        self.plain_port = place.plain_port
        self.url = f"https://{NAME}:{place.port}"
        self.upstream = place.upstream
        self.certificate = certificate
        self._context = ssl.create_default_context(cafile=str(certificate.certificate))

    def api(self, token: str | None = None) -> "FrontApi":
        """A client that has signed in as the user of the template, or with this token."""
        return FrontApi(self, self.upstream.api.token if token is None else token)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(NAME, self.port, timeout=TIMEOUT_SECONDS, context=self._context)


class FrontApi(Api):
    """The REST client, over TLS and through the front."""

    def __init__(self, front: Front, token: str) -> None:
        super().__init__((NAME, front.port), token)
        self._front = front

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        return self._front.connect()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(program: str, folder: Path, upstream: Server, certificate: Certificate) -> Iterator[Front]:
    """Run a server in front of ``upstream``; stop it, and only it, at the end."""
    folder.mkdir()
    searched = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # not on the PATH of every user
    path = shutil.which(program, path=searched)
    require(path is not None, f"install {program} to run this test")
    place = Place(folder, _free_port(), _free_port(), upstream, certificate)
    command = [str(path), *_COMMANDS[program](place)[1:]]
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    log_path = folder / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        eventually(lambda: _listens(place.port) or process.poll() is not None, f"{program} listens")
        assert process.poll() is None, log_path.read_text()
        yield Front(program, place, certificate)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_SECONDS)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
