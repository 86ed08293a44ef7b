"""``kill -9`` of server and worker at work on a queue: in the end all is done, and nothing is left."""

import os
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from streamer.storage import locks
from tests.containers import ffprobe
from tests.ffmpeg import clips
from tests.live import films
from tests.live.conftest import StartServer, StartWorker
from tests.live.harness import Server, eventually, needs_proc

KILLS = int(os.environ.get("STREAMER_TEST_KILLS", "8"))
VIDEOS = 20
WAIT_SECONDS = 240  # for all that is left to do after the last kill

pytestmark = needs_proc  # which tells of the programs that run


def _small(name: str, *arguments: str) -> Callable[[Path], Path]:
    picture = "testsrc=s=160x120:r=10:d=1"
    return lambda folder: clips.film(folder / name, picture, *arguments, sound="sine=d=1")


MAKERS = [
    _small("plays.mp4", *clips.H264, *clips.AAC, "-movflags", "+faststart"),
    _small("faststart.mp4", *clips.H264, *clips.AAC),
    _small("remux.mkv", *clips.H264, *clips.AAC),
    _small("transcode.mkv", "-c:v", "mpeg4", "-c:a", "libmp3lame"),
]
STEPS = [{"poster", "storyboard"}, *[{"poster", "storyboard", "variant"}] * 3]


def test_kill_9_of_server_and_worker_at_random_moments_loses_no_work(
    start_server: StartServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    ffprobe.require_ffmpeg()
    seed = int(os.environ.get("STREAMER_TEST_SEED", secrets.randbelow(2**32)))
    print(f"STREAMER_TEST_SEED={seed} STREAMER_TEST_KILLS={KILLS}")  # noqa: T201 - to run it again
    chance = random.Random(seed)
    server = start_server(STREAMER_FFMPEG="auto")
    clips_of_all_kinds = [make(tmp_path).read_bytes() for make in MAKERS]
    worker = start_worker(server)
    wanted, interrupted = {}, []
    for kill in range(KILLS):
        for number in range(VIDEOS * kill // KILLS, VIDEOS * (kill + 1) // KILLS):
            kind = number % len(MAKERS)
            wanted[server.api.upload(clips_of_all_kinds[kind])] = STEPS[kind]
        interrupted.append(_kill(chance.choice([server, worker]), chance))
    for video_id, steps in wanted.items():
        found = films.finished(server, video_id, WAIT_SECONDS)
        assert (found["status"], found["error"]) == ("ready", None)
        assert films.jobs_of(server, video_id) == dict.fromkeys(steps, "done")
        assert ("?variant=web" in found["links"]["play"]) == ("variant" in steps)
    # who made the last thing may still tidy up after it
    eventually(lambda: not films.leftovers(server), "scratch is empty")
    films.assert_whole(server)
    assert films.programs(server.data) == []
    print(f"{sum(interrupted)} of {KILLS} kills came in the middle of a job")  # noqa: T201
    assert any(interrupted), "nobody was killed at work, so this test showed nothing"


def _kill(victim: Server, chance: random.Random) -> bool:
    """Kill one of them soon, and start it again; whether it was in the middle of a job."""
    time.sleep(chance.uniform(0.01, 0.4))
    victim.kill()
    owners = [owner for (owner,) in victim.query("SELECT owner FROM job WHERE state = 'running'")]
    dead = [victim.data / "scratch" / owner for owner in owners if _is_dead(victim, owner)]
    eventually(
        lambda: not any(map(films.programs, dead)), "ffmpeg has ended with the process that started it", 2
    )
    victim.start()
    assert not any(folder.exists() for folder in dead), "what it has left is removed at the next start"
    return bool(dead)


def _is_dead(server: Server, owner: str) -> bool:
    """Whether nobody works in a scratch folder any more: then nobody has locked it."""
    try:
        with open(server.data / "scratch" / f"{owner}.lock", "rb+") as lock:
            return locks.try_lock(lock.fileno())
    except FileNotFoundError:  # the other one is just done with it
        return False
