"""The application for any WSGI server, configured by the environment: ``wsgi:application``."""

import os

from streamer import logs
from streamer.app import create_app
from streamer.config import Config

config = Config.from_environ(os.environ)
logs.configure(config.log_format)
application = create_app(config)
