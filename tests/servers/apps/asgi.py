"""The application for ASGI servers."""

from a2wsgi import WSGIMiddleware

import wsgi

application = WSGIMiddleware(wsgi.application)
