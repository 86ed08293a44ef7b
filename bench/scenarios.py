"""What is measured: each scenario drives one started peer and tells figures.

A figure of a scenario is a number with a unit; the first one is what peers are
compared by. ``CPU s/GiB`` is processor time of all processes of the server, user
and system, per GiB of bodies; ``client CPU`` is the share of one processor that the
client took.
"""

import fnmatch
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bench import idle, load, uploads
from bench.measure import GIB, KIB, MIB, Figures, Rows, Run, counted
from bench.peers import Peer
from bench.probe import Probe
from bench.viewers import Audience


@dataclass(frozen=True)
class Scenario:
    """A row of ``SCENARIOS``: its name on the command line, its title, its figures with units."""

    name: str
    title: str
    figures: tuple[str, ...]
    measure: Callable[[Run], Rows]
    takes: Callable[[Peer], bool] = lambda peer: True
    """Which peers can be measured so."""


def _measure_whole(run: Run) -> Rows:
    asks = load.whole(run.endpoint, run.site.size)
    load.run(run.endpoint.port, asks, 1, 0, checked_every=1)
    with counted(run) as figures:
        tally = load.run(run.endpoint.port, asks, 1, run.options.seconds, checked_every=10**9)
    figures["GB/s"] = tally.body_bytes / tally.seconds / 1e9
    figures["CPU s/GiB"] = figures["server seconds"] * GIB / tally.body_bytes
    return {run.peer.name: figures}


def _ranges(length: int) -> Callable[[Run], Rows]:
    def measure(run: Run) -> Rows:
        size = min(length, run.site.size)
        asks = load.random_ranges(run.endpoint, run.site.size, size)
        load.run(run.endpoint.port, asks, 16, 0.2, checked_every=4)
        with counted(run) as figures:
            tally = load.run(run.endpoint.port, asks, 16, run.options.seconds)
        figures["CPU s/GiB"] = figures["server seconds"] * GIB / tally.body_bytes
        return {run.peer.name: figures | _rates(tally)}

    return measure


def _rates(tally: load.Tally) -> Figures:
    return {"req/s": tally.rate, "p50 ms": tally.quantile_ms(0.5), "p99 ms": tally.quantile_ms(0.99)}


def _document(number: int) -> Callable[[Run], Rows]:
    def measure(run: Run) -> Rows:
        asks = load.same(run.endpoint, run.endpoint.lists[number])
        load.run(run.endpoint.port, asks, 8, 0.3)
        with counted(run) as figures:
            tally = load.run(run.endpoint.port, asks, 8, run.options.seconds)
        figures["CPU ms/req"] = figures["server seconds"] * 1000 / len(tally.latencies)
        return {run.peer.name: figures | _rates(tally)}

    return measure


def _probe(run: Run) -> Probe:
    """Measures beside the load how long a small answer takes on a connection of its own."""
    return Probe(run.endpoint.port, run.endpoint.request("GET", run.endpoint.small))


def _waits(probe: Probe) -> Figures:
    seen = probe.finish()
    return {"p50 ms": seen.quantile_ms(0.5), "p99 ms": seen.quantile_ms(0.99), "errors": seen.errors}


def _viewers(count: int) -> Callable[[Run], Rows]:
    def measure(run: Run) -> Rows:
        seconds = run.options.long_seconds
        number = max(10, count // run.options.scale)
        with _probe(run) as probe, Audience(run.endpoint, run.site.size, number, seconds) as audience:
            audience.arrive()
            with counted(run) as figures:
                probe.begin()
                seen = audience.watch(seconds)
            figures |= _waits(probe)
        run.remarks.extend(
            f"{times} viewers: {error}" for error, times in Counter(seen.errors).most_common(3)
        )
        figures["slow viewers"] = seen.slow
        figures["errors"] += len(seen.errors)
        figures["MB/s"] = seen.body_bytes / seen.seconds / 1e6
        figures["CPU s/GiB"] = figures["server seconds"] * GIB / max(1, seen.body_bytes)
        figures["visits %"] = 100 * seen.visited
        return {run.peer.name: figures}

    return measure


def _measure_idle(run: Run) -> Rows:
    request = run.endpoint.request("GET", run.endpoint.small)
    with _probe(run) as probe, idle.Crowd(run.endpoint.port, request, 2000 // run.options.scale) as crowd:
        with counted(run) as figures:
            time.sleep(run.options.long_seconds)
        probe.begin()
        time.sleep(run.options.long_seconds)
        figures |= _waits(probe)
        figures["answered"] = crowd.answered
        figures["still open"] = crowd.still_open()
    return {run.peer.name: figures}


_LATENCY = ("p50 ms", "p99 ms")
_COST = ("CPU s/GiB", "RSS MB", "client CPU")
_VIEWERS = ("p99 ms", "p50 ms", "slow viewers", "errors", "MB/s", "server CPU", *_COST, "visits %")


def _has_lists(peer: Peer) -> bool:
    return peer.uses_library


SCENARIOS = (
    Scenario("whole", "The whole file on one connection", ("GB/s", *_COST), _measure_whole),
    Scenario(
        "ranges-1m",
        "Random ranges of 1 MiB on 16 kept connections",
        ("req/s", *_LATENCY, *_COST),
        _ranges(MIB),
    ),
    Scenario(
        "ranges-64k",
        "Random ranges of 64 KiB on 16 kept connections",
        ("req/s", *_LATENCY, *_COST),
        _ranges(64 * KIB),
    ),
    *(
        Scenario(
            f"viewers-{count}",
            f"{count} viewers at 1 MB/s, a tenth of them stalled: the wait for something small meanwhile",
            _VIEWERS,
            _viewers(count),
        )
        for count in (100, 500, 1000, 2000)
    ),
    Scenario(
        "idle",
        "2,000 idle connections: their cost, and then the wait for something small",
        ("server CPU", "p99 ms", "p50 ms", "errors", "answered", "still open", "RSS MB"),
        _measure_idle,
    ),
    Scenario(
        "json-list",
        "JSON: a list of 20 videos, on 8 kept connections",
        ("req/s", *_LATENCY, "CPU ms/req", "RSS MB", "client CPU"),
        _document(0),
        _has_lists,
    ),
    Scenario(
        "json-item",
        "JSON: one video, on 8 kept connections",
        ("req/s", *_LATENCY, "CPU ms/req", "RSS MB", "client CPU"),
        _document(1),
        _has_lists,
    ),
    Scenario(
        "upload",
        "An upload of 1 GiB until it is on the disk",
        ("MB/s", "CPU s/GiB", "written/byte", "RSS MB", "client CPU"),
        uploads.measure_upload,
        lambda peer: bool(peer.uploads),
    ),
    Scenario(
        "refused",
        "An upload of 10 GiB without credentials: until the answer has come",
        ("seconds", "sent MiB", "written MiB", "left MiB", "status", "server seconds"),
        uploads.measure_refused,
        lambda peer: bool(peer.uploads),
    ),
)


def chosen(patterns: list[str]) -> list[Scenario]:
    """The scenarios whose names match one of the patterns; all for no patterns. Raises ValueError."""
    for pattern in patterns:
        if not fnmatch.filter([scenario.name for scenario in SCENARIOS], pattern):
            raise ValueError(f"no scenario is called {pattern!r}")
    return [
        scenario
        for scenario in SCENARIOS
        if not patterns or any(fnmatch.fnmatch(scenario.name, pattern) for pattern in patterns)
    ]
