"""The files of a folder by WhiteNoise, on waitress as ours is: ``whitenoise_files.py FOLDER PORT``."""

import sys

import falcon
import waitress
from whitenoise import WhiteNoise

waitress.serve(
    WhiteNoise(falcon.App(), root=sys.argv[1]),
    host="127.0.0.1",
    port=int(sys.argv[2]),
    threads=8,
    connection_limit=6000,
    backlog=4096,
    asyncore_use_poll=True,
)
