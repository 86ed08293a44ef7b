"""``kill -9`` under uploads and deletions: nothing acknowledged is lost, nothing is left over."""

import hashlib
import http.client
import os
import random
import secrets
import threading
import time
from dataclasses import dataclass, field

from tests.helpers import video_bytes
from tests.live.harness import Api, Background, Server, sha256, stream_path

KILLS = int(os.environ.get("STREAMER_TEST_KILLS", "5"))
UPLOADERS = 3


@dataclass
class Promises:
    """What the server has acknowledged, and what it was asked for without an answer."""

    kept: dict[int, str] = field(default_factory=dict)  # id → SHA-256 of each 201
    doubtful: set[int] = field(default_factory=set)  # asked to go, no answer
    gone: set[int] = field(default_factory=set)  # each 204
    sent: set[str] = field(default_factory=set)  # SHA-256 of all that was ever sent
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, chance: random.Random) -> int | None:
        """Choose a video to delete; nobody else will."""
        with self.lock:
            candidates = sorted(self.kept.keys() - self.doubtful)
            if not candidates:
                return None
            chosen = chance.choice(candidates)
            self.doubtful.add(chosen)
            return chosen


def _work(api: Api, promises: Promises, seed: int) -> None:
    """Upload and delete until the server is gone."""
    chance = random.Random(seed)
    try:
        for number in range(10_000):
            if number % 3 == 2:
                _delete(api, promises, chance)
            else:
                _upload(api, promises, chance)
    except (OSError, http.client.HTTPException):
        return  # it was killed
    raise AssertionError("the server was never killed")


def _upload(api: Api, promises: Promises, chance: random.Random) -> None:
    # small ones stay in the server's memory, large ones go through its temporary file
    data = video_bytes(chance.choice([100, 70_000, 400_000, 1_500_000]), seed=chance.getrandbits(64))
    with promises.lock:
        promises.sent.add(sha256(data))
    answer = api.send_video(data, len(data))
    assert answer.status == 201, answer
    with promises.lock:
        promises.kept[answer.json["id"]] = sha256(data)


def _delete(api: Api, promises: Promises, chance: random.Random) -> None:
    video_id = promises.take(chance)
    if video_id is None:
        return
    answer = api.delete(video_id)
    assert answer.status == 204, answer
    with promises.lock:
        promises.doubtful.discard(video_id)
        promises.gone.add(video_id)
        del promises.kept[video_id]


def _assert_kept(server: Server, promises: Promises) -> None:
    listed = set(server.api.video_ids())
    assert promises.kept.keys() - promises.doubtful <= listed, "a 201 was lost"
    assert not promises.gone & listed, "a 204 was taken back"
    for video_id in listed:
        digest = hashlib.sha256(server.api.download(video_id)).hexdigest()
        assert digest in promises.sent, f"video {video_id} is not what anybody sent"
        assert promises.kept.setdefault(video_id, digest) == digest, f"video {video_id} has changed"
    # what was asked to go without an answer has now either gone or not
    for video_id in promises.doubtful:
        if video_id not in listed:
            promises.gone.add(video_id)
            del promises.kept[video_id]
    promises.doubtful.clear()
    for video_id in promises.gone:
        assert server.api.get(stream_path(video_id)).status == 404


def test_kill_9_at_random_moments_loses_nothing_and_leaves_nothing(server: Server) -> None:
    first_seed = int(os.environ.get("STREAMER_TEST_SEED", secrets.randbelow(2**32)))
    print(f"STREAMER_TEST_SEED={first_seed} STREAMER_TEST_KILLS={KILLS}")  # noqa: T201 - to run it again
    chance = random.Random(first_seed)
    promises = Promises()
    leftovers = 0
    for _ in range(KILLS):
        seeds = [chance.getrandbits(64) for _ in range(UPLOADERS)]
        workers = [Background(lambda seed=seed: _work(server.api, promises, seed)) for seed in seeds]
        time.sleep(chance.uniform(0.01, 0.5))
        server.kill()
        for worker in workers:
            worker.outcome()
        leftovers += len(server.incoming()) + len(server.query("SELECT file_path FROM orphan"))
        server.start()
        server.assert_consistent()
        _assert_kept(server, promises)
    print(f"{len(promises.kept)} videos kept, {len(promises.gone)} gone, {leftovers} leftovers cleared")  # noqa: T201
    assert promises.kept, "nothing was ever acknowledged, so this test showed nothing"
