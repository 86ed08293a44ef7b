"""Pyramid, with the application as a view."""

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.wsgi import wsgiapp2

import wsgi
from tests.servers.apps.mounting import PAGE, PREFIX


def page(request: Request) -> Response:
    return Response(PAGE)


with Configurator() as config:
    config.add_route("page", "/")
    config.add_view(page, route_name="page")
    config.add_route("streamer", f"{PREFIX}/*subpath")
    config.add_view(wsgiapp2(wsgi.application), route_name="streamer")
    application = config.make_wsgi_app()
