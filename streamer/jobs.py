"""The queue: which step of work on which video waits, runs, or has ended how.

A job is a row. Whoever works takes one by a single conditional UPDATE, and asks once a
second whether it is still its own; the row names the worker's scratch folder, whose lock
tells whether the worker still lives, and a lease stands in where there are no locks. So
any number of workers, in any number of processes, never do the same job at the same time,
and none is lost with its worker.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import peewee

from streamer import clock
from streamer.database import Database
from streamer.models import Job, Video
from streamer.storage import locks
from streamer.storage.local import LocalStorage

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
LEFT_OUT = "left_out"
"""Of what nobody here can do, or shall: it is queued when that changes."""

PROCESSING, READY = "processing", "ready"
STATUSES = (PROCESSING, READY, FAILED)
"""Of a video, which follows from the states of its jobs."""

PROBE, POSTER, CAPTIONS, STORYBOARD, VARIANT = "probe", "poster", "captions", "storyboard", "variant"
QUICK, SLOW = (PROBE, POSTER, CAPTIONS, STORYBOARD), (VARIANT,)
STEPS = QUICK + SLOW
"""In the order in which the queue prefers them: what is seen first goes first."""

_RANKS = {
    key: rank
    for rank, key in enumerate(
        (step, is_backlog) for lane in (QUICK, SLOW) for is_backlog in (False, True) for step in lane
    )
}
"""The order of the queue: of either lane the backlog, which may be a whole library, comes last."""

LEASE = timedelta(seconds=60)
MOST_ATTEMPTS = 3
MOST_LOSSES = 10
BACK_OFF = timedelta(seconds=20)
"""Before the second attempt; four times as long before each further one."""

WAIT, LONGEST_WAIT = timedelta(minutes=10), timedelta(days=1)
"""Between two looks whether there is what was lacking, and until nobody looks any more."""

LONGEST_BACK_OFF = BACK_OFF * 4**MOST_ATTEMPTS

_NO_ERROR = {"error_code": None, "error_detail": None}


def enqueue(
    database: Database,
    video_id: int,
    step: str,
    options: Mapping[str, Any] | None = None,
    *,
    is_backlog: bool = False,
) -> None:
    """Queue a step of work on a video; one that is there already begins anew.

    What belongs to a backlog waits for all that does not. Inside of a transaction, which ends
    with ``settle``.
    """
    _put(database, video_id, step, QUEUED, options or {}, is_backlog)


def leave_out(database: Database, video_id: int, step: str) -> None:
    """Note a step of work that a video needs, for those who can do it. Inside of a transaction."""
    _put(database, video_id, step, LEFT_OUT, {}, is_backlog=True)


def _put(
    database: Database, video_id: int, step: str, state: str, options: Mapping[str, Any], is_backlog: bool
) -> None:
    """Give a video the row of a step, in place of the one that is there."""
    now = clock.now()
    Job.delete().where(Job.video == video_id, Job.step == step).execute(database)
    Job.insert(
        video=video_id,
        step=step,
        rank=_RANKS[step, is_backlog],
        options=json.dumps(options),
        state=state,
        due_at=now,
        created_at=now,
        updated_at=now,
    ).execute(database)


def take_up(database: Database, steps: Collection[str], most: int) -> bool:
    """Queue some of what was left out of these steps. False if nothing was."""
    query = Job.select().where(Job.state == LEFT_OUT, Job.step.in_(steps)).limit(most)
    if not query.exists(database):  # asked without the lock for writing
        return False
    with database.atomic():  # nobody else takes up the same
        for job in list(query.execute(database)):
            enqueue(database, job.video_id, job.step, is_backlog=True)
            settle(database, job.video_id)
    return True


def claim(database: Database, owner: str, steps: Sequence[str] = STEPS) -> Job | None:
    """Take the next job that is due, of the steps of a lane or of all.

    ``owner`` is the name of the scratch folder of who takes it.
    """
    now = clock.now()
    due = Job.select(Job.id).where(_is_due(now, steps))
    job_id = due.order_by(Job.rank, Job.due_at, Job.id).limit(1).scalar(database)
    if job_id is None:
        return None
    taken = {"state": RUNNING, "owner": owner, "leased_until": now + LEASE, "updated_at": now}
    take = Job.update(attempts=Job.attempts + 1, **taken).where(Job.id == job_id, Job.state == QUEUED)
    if not take.execute(database):
        return claim(database, owner, steps)  # somebody else was faster
    return held(database, job_id, owner)


def _is_due(now: datetime, steps: Sequence[str]) -> Any:
    is_wanted = Job.rank.between(_RANKS[steps[0], False], _RANKS[steps[-1], True])
    # what is due later than any back-off was queued before the clock was set back
    return (Job.state == QUEUED) & is_wanted & ((Job.due_at <= now) | (Job.due_at > now + LONGEST_BACK_OFF))


def is_backlog(job: Job) -> bool:
    """Whether it was queued as a part of one."""
    return bool(job.rank == _RANKS[job.step, True])


def held(database: Database, job_id: int, owner: str | None) -> Job | None:
    """The job, if this owner still has it."""
    found: Job | None = Job.select().where(_is_held(job_id, owner)).get_or_none(database)
    return found


def _is_held(job_id: int, owner: str | None) -> Any:
    return (Job.id == job_id) & (Job.owner == owner) & (Job.state == RUNNING)


def beat(database: Database, job: Job, percent: float | None, eta: float | None) -> bool:
    """Renew the lease and tell how far it is, ``eta`` in seconds. False if the job is not held any more."""
    now = clock.now()
    changes = {"percent": percent, "eta": eta, "leased_until": now + LEASE, "updated_at": now}
    return bool(Job.update(**changes).where(_is_held(job.id, job.owner)).execute(database))


def reserve(database: Database, job: Job, size: int) -> None:
    """Keep so many bytes of the disk free for what the job writes."""
    Job.update(reserved=size).where(_is_held(job.id, job.owner)).execute(database)


def finish(database: Database, job: Job) -> bool:
    """The job has been done. False, and nothing has changed, if it is not held any more."""
    return _end(database, job, state=DONE, **_NO_ERROR)


def fail(database: Database, job: Job, code: str, detail: str, *, is_final: bool = False) -> bool:
    """The job could not be done: it is tried again later, but not for ever. False as ``finish``."""
    if is_final or job.attempts >= MOST_ATTEMPTS:
        return _end(database, job, state=FAILED, error_code=code, error_detail=detail)
    due_at = clock.now() + BACK_OFF * 4 ** (job.attempts - 1)
    return _end(database, job, state=QUEUED, due_at=due_at, error_code=code, error_detail=detail)


def postpone(database: Database, job: Job, code: str) -> bool:
    """What the job needs is not there, such as room: it waits. False, and nothing changes, after a day."""
    now = clock.now()
    since = job.created_at if job.error_code == code else now
    if now - since > LONGEST_WAIT:
        return False
    wait = {"due_at": now + WAIT, "created_at": since, "error_code": code, "error_detail": None}
    _end(database, job, state=QUEUED, attempts=Job.attempts - 1, **wait)
    return True


def leave(database: Database, job: Job) -> None:
    """Nobody here shall do it any more."""
    _end(database, job, state=LEFT_OUT, attempts=Job.attempts - 1)


def give_back(database: Database, job: Job) -> None:
    """The job could not be ended, which is not its fault."""
    _end(database, job, state=QUEUED, attempts=Job.attempts - 1)


def _end(database: Database, job: Job, **changes: Any) -> bool:
    free = {"owner": None, "leased_until": None, "reserved": 0, "percent": None, "eta": None}
    with database.atomic():
        update = Job.update(**(free | changes | {"updated_at": clock.now()}))
        if not update.where(_is_held(job.id, job.owner)).execute(database):
            return False
        settle(database, job.video_id)
    return True


def give_back_lost(database: Database, storage: LocalStorage) -> None:
    """Give back the jobs whose worker has died; one that nobody survives fails in the end.

    The worker's lock tells. Where there are no locks between processes, its lease does.
    """
    for job in list(Job.select().where(Job.state == RUNNING).execute(database)):
        if not storage.is_worked_in(job.owner) and (locks.AVAILABLE or job.leased_until <= clock.now()):
            if job.losses >= MOST_LOSSES:
                detail = f"what worked on this was lost {MOST_LOSSES} times"
                fail(database, job, "worker_died", detail, is_final=True)
            else:
                _end(database, job, state=QUEUED, attempts=Job.attempts - 1, losses=Job.losses + 1)


def retry(database: Database, video_id: int) -> bool:
    """Queue what has failed again. False if nothing has."""
    now = clock.now()
    again = {"state": QUEUED, "attempts": 0, "losses": 0, "due_at": now, "created_at": now, **_NO_ERROR}
    with database.atomic():
        failed = [job for job in of(database, [video_id])[video_id] if job.state == FAILED]
        for job in failed:
            Job.update(again, rank=_RANKS[job.step, False]).where(Job.id == job.id).execute(database)
        settle(database, video_id)
    return bool(failed)


def settle(database: Database, video_id: int) -> str:
    """Let the status of a video follow its jobs, and tell it."""
    query = Job.select(Job.state).where(Job.video == video_id)
    states = {state for (state,) in query.tuples().execute(database)}
    status = PROCESSING if states & {QUEUED, RUNNING} else FAILED if FAILED in states else READY
    Video.update(status=status).where(Video.id == video_id).execute(database)
    return status


def of(database: Database, video_ids: Collection[int]) -> dict[int, list[Job]]:
    """The jobs of some videos, in the order of their steps."""
    found: dict[int, list[Job]] = {video_id: [] for video_id in video_ids}
    jobs: Iterable[Job] = Job.select().where(Job.video.in_(video_ids)).execute(database)
    for job in sorted(jobs, key=lambda job: STEPS.index(job.step)):
        found[job.video_id].append(job)
    return found


def waiting(database: Database, steps: Sequence[str] = STEPS) -> bool:
    """Whether a job of these steps is due."""
    due = Job.select(peewee.Value(1)).where(_is_due(clock.now(), steps))
    return bool(due.limit(1).scalar(database))
