"""``python -m bench``: what is asked for, peer by peer and round by round."""

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from bench import machine, ours
from bench.measure import MIB, Options, Rows, Run
from bench.peers import PEERS, Peer
from bench.plot import svg
from bench.processes import Group, ServerFailed
from bench.report import Measurement, Results, markdown
from bench.scenarios import SCENARIOS, Scenario, chosen
from bench.site import Site, Unavailable
from bench.wire import BadAnswer

RESULTS = Path(__file__).parent / "results"
QUICK = Options(
    seconds=0.2,
    long_seconds=0.5,
    upload_bytes=16 * MIB,
    refused_bytes=64 * MIB,
    patience_seconds=10,
    scale=50,
)
QUICK_SCENARIOS = ["whole", "ranges-64k", "viewers-100", "idle", "json-item", "upload", "refused"]
_EXPECTED = (Unavailable, ServerFailed, BadAnswer, OSError, ValueError)


@dataclass(frozen=True)
class Plan:
    """What is to be measured, how often, and where to."""

    scenarios: list[Scenario]
    peers: list[Peer]
    rounds: int
    options: Options
    size: int
    folder: Path
    output: Path

    def steps(self) -> Iterator[tuple[int, Scenario, Peer]]:
        """Peers in turn for each scenario, and all of it once per round."""
        for number in range(1, self.rounds + 1):
            for scenario in self.scenarios:
                for peer in self.peers:
                    if scenario.takes(peer):
                        yield number, scenario, peer


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line; a mistake ends the program with status 2."""
    names = ", ".join(scenario.name for scenario in SCENARIOS)
    parser = argparse.ArgumentParser("python -m bench", description=__doc__, epilog=f"scenarios: {names}")
    parser.add_argument("scenarios", nargs="*", help="names, or patterns such as 'viewers-*'; all by default")
    parser.add_argument("--peers", default="", help="names with commas between; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load; viewers stay four times that")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the file that is served")
    parser.add_argument("--quick", action="store_true", help="one round of very little, to see that it runs")
    parser.add_argument("--keep", action="store_true", help="add to the results that are there")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where peers keep their files")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go")
    return parser.parse_args(arguments)


def plan_of(asked: argparse.Namespace) -> Plan:
    """Make a plan. Raises ValueError for names that nothing has."""
    wanted = [name for name in asked.peers.split(",") if name]
    if unknown := set(wanted) - {peer.name for peer in PEERS}:
        known = ", ".join(peer.name for peer in PEERS)
        raise ValueError(f"no peer is called {', '.join(unknown)}; there are {known}")
    options = replace(Options(), seconds=asked.seconds, long_seconds=4 * asked.seconds)
    return Plan(
        scenarios=chosen(asked.scenarios or (QUICK_SCENARIOS if asked.quick else [])),
        peers=[peer for peer in PEERS if not wanted or peer.name in wanted],
        rounds=1 if asked.quick else asked.rounds,
        options=QUICK if asked.quick else options,
        size=(32 if asked.quick else asked.size) * MIB,
        folder=asked.folder,
        output=asked.output,
    )


def run(plan: Plan, *, keep: bool = False) -> Results:
    """Do all that is planned; the results are written after each step."""
    results = Results(machine.describe(plan.folder), _settings(plan))
    saved = plan.output / "results.json"
    if keep and saved.exists():
        results.measurements = Results.load(saved).measurements
    plan.output.mkdir(parents=True, exist_ok=True)
    lacking = {peer.name: peer.lacks() for peer in plan.peers}
    with tempfile.TemporaryDirectory(prefix="streamer-bench-", dir=plan.folder) as folder:
        site = Site(Path(folder), plan.size)
        site.make()
        if any(peer.uses_library and not lacking[peer.name] for peer in plan.peers):
            ours.prepare(site)
        site.warm()
        steps = list(plan.steps())
        for count, (number, scenario, peer) in enumerate(steps, 1):
            _say(f"{count}/{len(steps)} round {number}: {scenario.name}: {peer.name} ... ")
            reason = lacking[peer.name]
            measured = [(peer.name, {}, reason)] if reason else _measure(site, plan.options, scenario, peer)
            for row, figures, failure in measured:
                results.measurements.append(Measurement(scenario.name, row, number, figures, failure))
                _say(" ".join(filter(None, [_first(scenario, row, figures), failure])))
            _say("\n")
            write(results, plan.output)
    return results


_Row = tuple[str, dict[str, float], str]
"""The name of a row, its figures, and why there are none or what else is to be said."""


def _measure(site: Site, options: Options, scenario: Scenario, peer: Peer) -> list[_Row]:
    """Start the peer, measure, stop it: rows of name, figures and failure."""
    try:
        with tempfile.TemporaryDirectory(prefix="peer-", dir=site.folder) as folder:
            Path(folder).chmod(0o755)
            with Group(Path(folder)) as group:
                return _measured(site, options, scenario, peer, group)
    except _EXPECTED as error:
        return [(peer.name, {}, f"{type(error).__name__}: {error}")]


def _measured(site: Site, options: Options, scenario: Scenario, peer: Peer, group: Group) -> list[_Row]:
    try:
        started = Run(site, options, peer, group, peer.start(site, group))
        rows: Rows = scenario.measure(started)
    except _EXPECTED as error:
        group.check()  # if it has ended, that is the reason
        raise error
    return [(row, figures, "; ".join(started.remarks)) for row, figures in rows.items()]


def _first(scenario: Scenario, row: str, figures: dict[str, float]) -> str:
    names = [name for name in (*scenario.figures[:2], "errors", "client CPU") if name in figures]
    shown = ", ".join(f"{figures[name]:.3g} {name}" for name in dict.fromkeys(names))
    return f"[{row}: {shown}]" if figures else ""


def _settings(plan: Plan) -> dict[str, object]:
    return {
        "rounds": plan.rounds,
        "file": f"{plan.size // MIB} MiB",
        "seconds": f"{plan.options.seconds:g}, {plan.options.long_seconds:g} of viewers and idle connections",
        "viewers and idle connections": f"1/{plan.options.scale} of what is named"
        if plan.options.scale > 1
        else "",
    }


def write(results: Results, output: Path) -> None:
    """Write the results as JSON, Markdown and SVG."""
    results.save(output / "results.json")
    (output / "results.md").write_text(markdown(results), encoding="utf-8")
    (output / "results.svg").write_text(svg(results), encoding="utf-8")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Measure, print the tables, tell where they are; the exit status."""
    asked = parse()
    try:
        plan = plan_of(asked)
    except ValueError as error:
        _say(f"{error}\n")
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.pop("PYTHONDEVMODE", None)
    with contextlib.suppress(KeyboardInterrupt):
        results = run(plan, keep=asked.keep)
        print(markdown(results))
        _say(f"written to {plan.output}\n")
        return 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
