"""Starts those servers that have no command line: ``python -m tests.servers.apps.run NAME PORT``."""

import sys
from collections.abc import Callable

HOST = "127.0.0.1"


def bjoern(port: int) -> None:
    import bjoern

    from wsgi import application

    bjoern.run(application, HOST, port)


def gevent(port: int) -> None:
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    from wsgi import application

    WSGIServer((HOST, port), application).serve_forever()


def werkzeug(port: int) -> None:
    from werkzeug.serving import run_simple

    from wsgi import application

    run_simple(HOST, port, application, threaded=True)


def wsgiref(port: int) -> None:
    from wsgiref.simple_server import make_server

    from wsgi import application

    make_server(HOST, port, application).serve_forever()


SERVERS: dict[str, Callable[[int], None]] = {
    "bjoern": bjoern,
    "gevent": gevent,
    "werkzeug": werkzeug,
    "wsgiref": wsgiref,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
