"""What has to be done now and then while the application runs, and that no request should wait for."""

import logging
import threading
import time

import peewee

from streamer import cleanup, digests, facts, planning
from streamer.intake import Intake

logger = logging.getLogger("streamer")

INTERVAL_SECONDS = 60.0
CATCH_UP_SECONDS = 30.0  # of what there is much of after an upgrade, each time


class Housekeeping:
    """Looks after the data folder once a minute, in a thread that ends when it is done.

    Whoever has the time calls ``tick``: every request does, and a server that is idle. So nothing
    runs before the first request, and a host may fork until then.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        # nothing can expire faster
        self._interval = min(INTERVAL_SECONDS, intake.config.upload_ttl / 2)
        self._due = time.monotonic() + self._interval
        self._lock = threading.Lock()

    def tick(self) -> None:
        """Begin, if it is time."""
        if time.monotonic() < self._due or not self._lock.acquire(blocking=False):
            return
        self._due = time.monotonic() + self._interval
        try:
            threading.Thread(target=self._run, name="streamer-housekeeping", daemon=True).start()
        except RuntimeError as error:  # the system has no thread to spare
            logger.warning("cannot look after the data folder now: %s", error)
            self._lock.release()

    def _run(self) -> None:
        try:
            look_after(self._intake)
        except (OSError, peewee.DatabaseError) as error:
            logger.warning("cannot look after the data folder now: %s", error)
        finally:
            self._intake.database.close()
            self._lock.release()


def look_after(intake: Intake) -> None:
    """Remove what nobody needs any more, and make up for what has not been looked into or planned yet."""
    cleanup.sweep(intake)
    facts.read_missing(intake.database, intake.storage, time.monotonic() + CATCH_UP_SECONDS)
    planning.plan_missing(intake.database, intake.config, intake.tools, time.monotonic() + CATCH_UP_SECONDS)
    digests.compute_missing(intake.database, intake.storage, time.monotonic() + CATCH_UP_SECONDS)
