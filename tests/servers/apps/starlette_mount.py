"""Starlette, with the application mounted through a2wsgi."""

from a2wsgi import WSGIMiddleware
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import wsgi
from tests.servers.apps.mounting import PAGE, PREFIX


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(PAGE)


application = Starlette(routes=[Route("/", page), Mount(PREFIX, app=WSGIMiddleware(wsgi.application))])
