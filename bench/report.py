"""What came out: kept as JSON, told as Markdown. Medians of the rounds, and ratios against nginx."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

from bench.peers import BASELINE, PEERS
from bench.scenarios import SCENARIOS, Scenario

_CPU = "CPU s/GiB"


@dataclass(frozen=True)
class Measurement:
    """One row of one scenario in one round: figures, or why there are none."""

    scenario: str
    row: str
    """The peer, and in which way it was used."""
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    failure: str = ""
    """Why there are no figures, or what went wrong beside them."""


@dataclass
class Results:
    """All measurements, and the machine they were made on."""

    machine: dict[str, str]
    settings: dict[str, object]
    measurements: list[Measurement] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote. Raises OSError or ValueError."""
        values = json.loads(path.read_text(encoding="utf-8"))
        measurements = [Measurement(**one) for one in values.pop("measurements")]
        return cls(measurements=measurements, **values)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def rows(self, scenario: str) -> list[str]:
        """The rows of a scenario, in the order of the table of peers."""
        order = [peer.name for peer in PEERS]
        names = dict.fromkeys(one.row for one in self.measurements if one.scenario == scenario)
        return sorted(
            names, key=lambda row: order.index(peer_of(row)) if peer_of(row) in order else len(order)
        )

    def values(self, scenario: str, row: str, figure: str) -> list[float]:
        """The figure in each round that has it."""
        return [
            one.figures[figure]
            for one in self.measurements
            if (one.scenario, one.row) == (scenario, row) and figure in one.figures
        ]

    def failures(self, scenario: str, row: str) -> list[str]:
        """What went wrong, each reason once."""
        reasons = [
            one.failure
            for one in self.measurements
            if (one.scenario, one.row) == (scenario, row) and one.failure
        ]
        return list(dict.fromkeys(reasons))

    def baseline(self, scenario: str) -> str | None:
        """The row that the others are compared with."""
        return next((row for row in self.rows(scenario) if peer_of(row) == BASELINE), None)


def peer_of(row: str) -> str:
    """The name of the peer in a row such as ``ours (form)``."""
    return row.partition(" ")[0]


def markdown(results: Results) -> str:
    """The whole report."""
    return "\n".join([*_preamble(results), *_tables(results), *_peers(results)]) + "\n"


def _preamble(results: Results) -> Iterator[str]:
    yield "# Figures of `python -m bench`"
    yield ""
    yield "Medians of all rounds, in brackets the least and the most. Ratios are to nginx in the same run."
    yield "CPU is processor time of all processes of a server, user and system; of one processor where in %."
    yield "RSS is the most resident memory of each process, summed. Client and server share the processors."
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    for name, value in (results.machine | {name: str(v) for name, v in results.settings.items()}).items():
        if value:
            yield f"| {name} | {_cell(value)} |"
    yield ""
    yield "![the first figure of each scenario](results.svg)"


def _tables(results: Results) -> Iterator[str]:
    for scenario in SCENARIOS:
        rows = results.rows(scenario.name)
        if rows:
            yield from ("", f"## {scenario.title}", "", f"`{scenario.name}`", "")
            yield from _table(results, scenario, rows)


def _table(results: Results, scenario: Scenario, rows: list[str]) -> Iterator[str]:
    compared = [figure for figure in (scenario.figures[0], _CPU) if figure in scenario.figures]
    if results.baseline(scenario.name) is None:
        compared = []
    columns = [""]
    for figure in scenario.figures:
        columns += [figure, "÷ nginx"] if figure in compared else [figure]
    yield f"| {' | '.join(columns)} |"
    yield f"| --- |{' ---: |' * (len(columns) - 1)}"
    notes = []
    for row in rows:
        failures = results.failures(scenario.name, row)
        if results.values(scenario.name, row, scenario.figures[0]):
            notes += [f"- {row}: {_cell(failure)}" for failure in failures]
            yield f"| {row} | {' | '.join(_cells(results, scenario, row, compared))} |"
        else:
            yield f"| {row} | {_cell('; '.join(failures))} |{' |' * (len(columns) - 2)}"
    if notes:
        yield from ("", "What went wrong:", "", *notes)


def _cells(results: Results, scenario: Scenario, row: str, compared: list[str]) -> Iterator[str]:
    for figure in scenario.figures:
        values = results.values(scenario.name, row, figure)
        is_first = figure == scenario.figures[0]
        yield _with_span(values) if is_first else _number(median(values)) if values else ""
        if figure in compared:
            yield ratio(results, scenario.name, row, figure)


def ratio(results: Results, scenario: str, row: str, figure: str) -> str:
    """The median of a row by the median of nginx, with two decimals; empty without either."""
    baseline = results.baseline(scenario)
    values = results.values(scenario, row, figure)
    reference = median(results.values(scenario, baseline, figure) or [0]) if baseline else 0
    return f"{median(values) / reference:.2f}" if values and reference else ""


def _with_span(values: list[float]) -> str:
    if len(values) < 2:
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))}-{_number(max(values))})"


def _number(value: float) -> str:
    """Three digits that tell something."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _peers(results: Results) -> Iterator[str]:
    measured = {peer_of(one.row) for one in results.measurements}
    yield from ("", "## Peers", "")
    yield from (f"- **{peer.name}**: {peer.about}." for peer in PEERS if peer.name in measured)
