"""waitress, made for video: bytes at the speed of the kernel, and no body that will not be kept.

waitress lets its parts be subclassed and replaced, and this package does nothing else.
``settings`` carries the configuration to all of them; ``loop`` waits for sockets; ``listener``
takes connections and ends those that take too long; ``channel`` is one connection, with
``output`` for what leaves and ``parser`` and ``bodies`` for what comes; ``workers`` are the
threads and ``tasks`` is what they do with a request. Here they are put together.
"""

import select
import signal
import socket
import tempfile
import threading
import time
from types import FrameType

from waitress import wasyncore

from streamer.app import Application
from streamer.errors import CannotListen, ConfigurationError
from streamer.server.listener import Listener
from streamer.server.loop import EpollLoop, PollLoop
from streamer.server.settings import Settings, in_url
from streamer.server.workers import PATIENCE_SECONDS, Workers
from streamer.storage.local import INCOMING

LEAST_END_SECONDS = 1.0  # for worker threads to clear up after clients that are cut
TURN_SECONDS = 1.0  # the longest that the loop waits before it looks at the time


class Server:
    """The application on its addresses. Raises CannotListen or ConfigurationError."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._config = app.config
        has_epoll = hasattr(select, "epoll") and app.config.fast_paths
        self._loop: EpollLoop | PollLoop = EpollLoop() if has_epoll else PollLoop()
        self._workers = Workers(app.config.threads, self._turn)
        self._stops = 0
        self._has_ended = False
        self._ending = threading.RLock()  # a signal handler may interrupt who holds it
        self._next_maintenance = self._drained_by = 0.0
        try:
            settings = Settings(app.config, app.admission)
            self._listeners = [
                Listener(app, map=self._loop, dispatcher=self._workers, adj=settings, sockinfo=address)
                for address in settings.listen
            ]
        except (ValueError, socket.gaierror) as error:
            mistake = f"STREAMER_HOST={app.config.host!r}: want an address or a name of this machine"
            raise ConfigurationError([mistake]) from error
        except OSError as error:
            raise CannotListen(app.config.host, app.config.port, str(error)) from error

    @property
    def address(self) -> str:
        """The URL that the server can be reached at on this machine."""
        first = self._listeners[0]
        return f"http://{in_url(first.effective_host)}:{first.effective_port}"

    def run(self) -> None:
        """Answer requests until ``stop`` is called."""
        # what waitress stores for us belongs to the data folder like everything else
        tempfile.tempdir = str(self._config.data / INCOMING)
        self._workers.start()
        self._workers.join()
        deadline = max(self._drained_by, time.monotonic() + LEAST_END_SECONDS)
        while self._stops == 1 and self._workers.are_busy and time.monotonic() < deadline:
            time.sleep(PATIENCE_SECONDS)
        self._workers.shutdown()
        with self._ending:
            self._has_ended = True
        wasyncore.close_all(self._loop)

    def stop(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Let answers in flight end, for the time that the configuration gives them; again: end at once.

        A signal handler, or called by any thread.
        """
        self._stops += 1
        with self._ending:  # else the loop could see it, and close the trigger before it is pulled
            if not self._has_ended:
                self._listeners[0].trigger.pull_trigger()

    def _turn(self, may_wait: bool) -> None:
        self._loop.turn(TURN_SECONDS if may_wait else 0)
        now = time.monotonic()
        if now >= self._next_maintenance:
            self._next_maintenance = now + TURN_SECONDS
            self._app.housekeeping.tick()
            for listener in self._listeners:
                listener.maintenance(listener.now())
        if self._stops:
            self._drain(now)

    def _drain(self, now: float) -> None:
        """Let nobody in, and end the loop when nobody waits for an answer or the time for it is over."""
        if not self._drained_by:
            self._drained_by = now + self._config.grace
            for listener in self._listeners:
                listener.stop_accepting()
        for listener in self._listeners:
            listener.close_idle()
        is_busy = any(listener.active_channels for listener in self._listeners)
        if self._stops > 1 or not is_busy or now >= self._drained_by:
            for listener in self._listeners:
                listener.close_channels()
            self._workers.end()
