"""werkzeug's dispatcher around a small site."""

from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

import wsgi
from tests.servers.apps.mounting import PAGE, PREFIX

application = DispatcherMiddleware(Response(PAGE), {PREFIX: wsgi.application})
