"""Flask, with the application mounted by hand and no view around it."""

from flask import Flask

import wsgi
from tests.servers.apps.mounting import PAGE, mount

application = Flask(__name__)
application.wsgi_app = mount(wsgi.application, application.wsgi_app)  # type: ignore[method-assign]


@application.route("/")
def page() -> str:
    return PAGE
