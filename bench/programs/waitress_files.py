"""The files of a folder on waitress, set up as ours is: ``waitress_files.py falcon|whitenoise FOLDER PORT``.

Served by Falcon's static route or by WhiteNoise.
"""

import sys
from typing import Any

import falcon
import waitress

kind, folder, port = sys.argv[1:]
app: Any = falcon.App()
if kind == "falcon":
    app.add_static_route("/", folder)
else:
    from whitenoise import WhiteNoise

    app = WhiteNoise(app, root=folder)
waitress.serve(
    app,
    host="127.0.0.1",
    port=int(port),
    threads=8,
    connection_limit=6000,
    backlog=4096,
    asyncore_use_poll=True,
)
