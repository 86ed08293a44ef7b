"""The files of a folder by Starlette's FileResponse, on uvicorn: ``starlette_files.py FOLDER PORT``."""

import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

FOLDER = Path(sys.argv[1])


async def file(request: Request) -> FileResponse:
    return FileResponse(FOLDER / request.path_params["name"])


uvicorn.run(
    Starlette(routes=[Route("/{name}", file)]),
    host="127.0.0.1",
    port=int(sys.argv[2]),
    backlog=4096,
    access_log=False,
    log_level="warning",
    timeout_keep_alive=75,
)
