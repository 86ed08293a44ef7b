"""Flask, with werkzeug's dispatcher below it."""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import wsgi
from tests.servers.apps.mounting import PAGE, PREFIX

application = Flask(__name__)
application.wsgi_app = DispatcherMiddleware(application.wsgi_app, {PREFIX: wsgi.application})  # type: ignore[method-assign]


@application.route("/")
def page() -> str:
    return PAGE
