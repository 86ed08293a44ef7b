"""The files of a folder by Falcon's static route, on waitress as ours is: ``falcon_files.py FOLDER PORT``."""

import sys

import falcon
import waitress

app = falcon.App()
app.add_static_route("/", sys.argv[1])
waitress.serve(
    app,
    host="127.0.0.1",
    port=int(sys.argv[2]),
    threads=8,
    connection_limit=6000,
    backlog=4096,
    asyncore_use_poll=True,
)
