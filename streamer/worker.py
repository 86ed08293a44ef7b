"""Does what is in the queue, one job after the other, until it is told to end.

Any number of workers may run on one data folder, in threads of ``streamer serve``, in
``streamer worker`` or in both.
"""

import logging
import queue
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import peewee

from streamer import jobs, processing
from streamer.errors import FfmpegFailed, InsufficientStorage, Stopped
from streamer.intake import Intake, is_disk_full
from streamer.models import Job
from streamer.storage.local import FULL, Scratch

logger = logging.getLogger("streamer")

POLL_SECONDS = 1.0
HELD_SECONDS = 1.0  # between two looks whether the job is still ours
BEAT_SECONDS = 5.0  # between two that it is told how far it is, each of which waits for the disk

HOPELESS = {
    "cut_short",
    "encoder_missing",
    "no_picture",
    "no_tracks",
    "no_video",
    "not_an_image",
    "output_too_large",
    "result_unreadable",
    "timed_out",
    "too_much_memory",
    "unreadable",
}
"""What fails in the same way, and at the same cost, however often it is tried."""


class Workers:
    """Some workers, each in a thread of its own, none where there is no ffmpeg."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._stopping = threading.Event()
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    @contextmanager
    def running(self, count: int) -> Iterator[None]:
        """So many that make variants, and one for all that is quick, which must not wait for them.

        When the block ends, they give back what they do.
        """
        lanes = [jobs.QUICK, *[jobs.SLOW] * count] if count and self._intake.tools else []
        threads = [
            threading.Thread(
                target=run, args=(self._intake, self._stopping, steps), name=f"streamer-worker-{number}"
            )
            for number, steps in enumerate(lanes)
        ]
        if threads:
            threads.append(threading.Thread(target=self._pass_on, name="streamer-worker-end"))
        started = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            yield
        finally:
            self._stopping.set()  # whoever passes it on may not have started
            self.stop()
            for thread in started:
                thread.join()

    def stop(self) -> None:
        """Give back what is being done, soon. May be called by a signal handler."""
        self._told.put(None)

    def _pass_on(self) -> None:
        # a handler that sets an event waits for ever where it has interrupted who waits for the event
        self._told.get()
        self._stopping.set()

    def wait(self, seconds: float) -> bool:
        """Whether they were told to stop within so many seconds."""
        return self._stopping.wait(seconds)


def run(intake: Intake, stopping: threading.Event, steps: Sequence[str] = jobs.STEPS) -> None:
    """Do jobs of these steps until ``stopping`` is set; then the running one is given back."""
    try:
        while not stopping.is_set():
            if not _try_to_work(intake, stopping, steps):
                stopping.wait(POLL_SECONDS)
    finally:
        intake.database.close()


def _try_to_work(intake: Intake, stopping: threading.Event, steps: Sequence[str]) -> bool:
    try:
        return work(intake, stopping, steps)
    except (OSError, peewee.DatabaseError) as error:
        logger.warning("cannot work on the queue now: %s", error)
    except Exception:  # nobody would see that the thread has ended
        logger.exception("cannot work on the queue now")
    return False


def work(intake: Intake, stopping: threading.Event, steps: Sequence[str] = jobs.STEPS) -> bool:
    """Do one job of these steps, a lane or all. False if none is due, or what it lacks the next lacks too."""
    if not jobs.waiting(intake.database, steps):
        return False
    with closing(intake.storage.scratch()) as scratch:
        job = jobs.claim(intake.database, scratch.name, steps)
        return job is not None and _do(intake, job, scratch, stopping)


def _do(intake: Intake, job: Job, scratch: Scratch, stopping: threading.Event) -> bool:
    """Do a job. False if it lacks what the next one is likely to lack as well."""
    database = intake.database
    hold = Hold(intake, job, stopping)
    began = time.monotonic()
    try:
        _perform(intake, job, scratch, hold)
    except Stopped:
        jobs.give_back(database, job)
    except Exception as error:  # noqa: BLE001 - a file of a stranger must not end the worker
        if jobs.held(database, job.id, scratch.name) is None:
            logger.info("video %s went while its %s was made", job.video_id, job.step)
        else:
            return _fail(intake, job, error)
    else:
        seconds = time.monotonic() - began
        logger.info("made the %s of video %s in %.1f s", job.step, job.video_id, seconds)
    return True


def _perform(intake: Intake, job: Job, scratch: Scratch, hold: "Hold") -> None:
    """Do a job, and remove what it has left before its end is told: a full disk has no room for both."""
    try:
        processing.perform(intake, job, scratch.path, hold)
    finally:
        shutil.rmtree(scratch.path, ignore_errors=True)


def _fail(intake: Intake, job: Job, error: Exception) -> bool:
    """Tell why a job could not be done. False if it lacks what the next one is likely to lack as well."""
    database = intake.database
    if lacking := _lacking(intake, error):
        logger.warning("the %s of video %s has to wait: %s", job.step, job.video_id, error)
        code, detail = lacking
        if not jobs.postpone(database, job, code):
            jobs.fail(database, job, code, detail, is_final=True)
        return False
    match error:
        case FfmpegFailed(code=code, detail=detail):
            logger.warning("the %s of video %s failed: %s: %s", job.step, job.video_id, code, detail)
            jobs.fail(database, job, code, detail, is_final=code in HOPELESS)
        case _:
            logger.error("the %s of video %s failed", job.step, job.video_id, exc_info=error)
            jobs.fail(database, job, "internal_error", "the log of the server tells what went wrong")
    return True


def _lacking(intake: Intake, error: Exception) -> tuple[str, str] | None:
    """What is missing here, for programs and for people, if it is not the job that has failed."""
    if _wants_room(intake, error):
        return "insufficient_storage", "the disk has no room for this"
    if isinstance(error, FfmpegFailed) and error.code == "ffmpeg_missing":
        return error.code, error.detail
    return None


def _wants_room(intake: Intake, error: Exception) -> bool:
    match error:
        case FfmpegFailed(code="disk_full"):
            # a job that has filled the disk by itself has given the room back
            return is_disk_full(intake)
        case OSError(errno=number):
            return number in FULL
        case peewee.OperationalError():
            return "full" in str(error)
        case _:
            return isinstance(error, InsufficientStorage)


class Hold:
    """A job in the hands of a worker: its lease, and how far it is."""

    def __init__(self, intake: Intake, job: Job, stopping: threading.Event) -> None:
        self._intake = intake
        self._job = job
        self._stopping = stopping
        self._began = time.monotonic()
        self._next_look = self._next_beat = 0.0
        self._fraction = 0.0

    def progress(self, fraction: float) -> None:
        """Take note of how much has been done, from 0 to 1."""
        self._fraction = min(max(fraction, 0.0), 1.0)

    def should_stop(self) -> bool:
        """Whether the work has to end: the worker ends, or the job is not ours any more."""
        now = time.monotonic()
        if self._stopping.is_set():
            return True
        if now < self._next_look:
            return False
        self._next_look = now + HELD_SECONDS
        try:
            return not self._is_held(now)
        except peewee.OperationalError as error:  # such as a full disk; the lease is longer than that
            logger.warning("cannot renew the lease of a job: %s", error)
            return False

    def _is_held(self, now: float) -> bool:
        """Whether the job is still ours; and tell how far it is, now and then."""
        database, job, elapsed = self._intake.database, self._job, now - self._began
        if now < self._next_beat:
            return jobs.held(database, job.id, job.owner) is not None
        self._next_beat = now + BEAT_SECONDS
        eta = elapsed * (1 - self._fraction) / self._fraction if self._fraction else None
        return jobs.beat(database, job, round(self._fraction * 100, 1), eta)
