"""The application for any WSGI server, configured by the environment: ``wsgi:application``."""

import os

from streamer.app import create_app
from streamer.config import Config

application = create_app(Config.from_environ(os.environ))
