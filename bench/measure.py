"""One measurement: which peer, how much of everything, and what the server uses meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.peers import Peer
from bench.processes import Group
from bench.site import Site
from bench.wire import Endpoint

GIB = 2**30
MIB = 2**20
KIB = 2**10

Figures = dict[str, float]
Rows = dict[str, Figures]
"""Figures by row: the name of the peer, or with the way that it was used: ``ours (form)``."""


@dataclass(frozen=True)
class Options:
    """How much is done: durations in seconds, sizes in bytes."""

    seconds: float = 5
    long_seconds: float = 20
    upload_bytes: int = GIB
    refused_bytes: int = 10 * GIB
    patience_seconds: float = 60
    scale: int = 1
    """Viewers and idle connections are divided by it."""


@dataclass(frozen=True)
class Run:
    """One peer, started, and what it is to be asked for."""

    site: Site
    options: Options
    peer: Peer
    group: Group
    endpoint: Endpoint
    remarks: list[str] = field(default_factory=list)
    """What a figure does not tell, such as the reasons for errors."""


@contextmanager
def counted(run: Run) -> Iterator[Figures]:
    """Count what the server uses while the context lasts.

    Adds ``server seconds`` (of processor time), ``server CPU`` and ``client CPU`` (% of
    one processor), ``RSS MB`` (10^6 bytes, the most there was) and ``written`` (bytes).
    """
    figures: Figures = {}
    run.group.forget_peak()
    before, client, started = run.group.usage(), time.process_time(), time.perf_counter()
    yield figures
    elapsed = time.perf_counter() - started
    used = run.group.usage() - before
    figures["server seconds"] = used.cpu_seconds
    figures["server CPU"] = 100 * used.cpu_seconds / elapsed
    figures["client CPU"] = 100 * (time.process_time() - client) / elapsed
    figures["RSS MB"] = run.group.peak_rss_bytes() / 1e6
    figures["written"] = used.written_bytes
    run.group.check()
