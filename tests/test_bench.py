"""The bench runs, against our server alone, and reports what it measured. Nothing is said about time."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import load, pattern, wire
from bench.__main__ import Plan, parse, plan_of, run
from bench.plot import svg
from bench.report import Measurement, Results, markdown
from bench.scenarios import SCENARIOS

needs_proc = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc, which only Linux has: run this test on Linux"
)


def whole(row: str, number: int, rate: float, cpu_seconds: float) -> Measurement:
    return Measurement("whole", row, number, {"GB/s": rate, "CPU s/GiB": cpu_seconds, "RSS MB": 40.25})


@pytest.fixture
def results() -> Results:
    return Results(
        {"processor": "a | b"},
        {"rounds": 3},
        [
            whole("ours", 1, 1.5, 0.5),
            whole("nginx", 1, 2, 0.25),
            Measurement("whole", "go", 1, {}, "not installed: go"),
            whole("ours", 2, 1.25, 0.5),
            whole("nginx", 2, 4, 0.125),
            whole("ours", 3, 1, 0.75),
            Measurement("whole", "nginx", 3, {}, "BadAnswer: status 500"),
        ],
    )


def test_report_tells_medians_spans_ratios_and_failures(results: Results) -> None:
    lines = markdown(results).split("\n")
    assert "| nginx | 3 (2-4) | 1.00 | 0.19 | 1.00 | 40.2 |  |" in lines
    assert "| ours | 1.25 (1-1.50) | 0.42 | 0.50 | 2.67 | 40.2 |  |" in lines
    assert "| go | not installed: go | | | | | |" in lines
    assert "- nginx: BadAnswer: status 500" in lines
    assert "| processor | a \\| b |" in lines
    assert len([line for line in lines if line.startswith("## ")]) == 2  # one scenario, and the peers


def test_plot_is_an_image_with_a_bar_for_each_row(results: Results) -> None:
    image = ElementTree.fromstring(svg(results))
    bars = [one.attrib for one in image if one.tag.endswith("rect")][1:]
    assert [float(bar["width"]) > 0 for bar in bars] == [True, True, False]


def test_results_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


@pytest.mark.parametrize(
    ("first", "length"), [(0, 1), (0, 4096), (4095, 2), (5000, 0), (8192, 10000), (123_456, 7)]
)
def test_any_slice_of_the_pattern_is_known(tmp_path: Path, first: int, length: int) -> None:
    pattern.write(tmp_path / "video.mp4", 200_000)
    data = (tmp_path / "video.mp4").read_bytes()
    assert len(data) == 200_000
    assert pattern.expected(first, length) == data[first : first + length]


@pytest.mark.parametrize(
    "data", [b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", b"x" * wire.HEAD_BYTES]
)
def test_answers_without_a_length_are_bad(data: bytes) -> None:
    with pytest.raises(wire.BadAnswer):
        wire.parse_head(data)


def test_head_is_read_once_it_is_complete() -> None:
    data = b"HTTP/1.1 206 Partial\r\ncontent-LENGTH:12\r\nConnection: close\r\n\r\n"
    assert wire.parse_head(data[:-1]) is None
    assert wire.parse_head(data + b"body") == wire.Head(206, 12, len(data), is_last=True)


def test_quantiles_of_few_values() -> None:
    assert [load.quantile([3, 1, 2], share) for share in (0, 0.5, 0.99, 1)] == [1, 2, 3, 3]
    assert load.quantile([], 0.5) == 0


@pytest.mark.parametrize("arguments", [["no-such"], ["--peers", "ours,no-such"]])
def test_unknown_names_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="no-such"):
        plan_of(parse(arguments))


def plan(tmp_path: Path, *scenarios: str) -> Plan:
    places = ["--folder", str(tmp_path), "--output", str(tmp_path / "results")]
    return plan_of(parse([*scenarios, "--quick", "--peers", "ours", *places]))


@needs_proc
def test_every_kind_of_measurement_works_against_our_server(tmp_path: Path) -> None:
    names = ["whole", "ranges-64k", "viewers-100", "idle", "json-list", "upload", "refused"]
    results = run(plan(tmp_path, *names))
    assert [one.failure for one in results.measurements if one.failure] == []
    assert {one.scenario for one in results.measurements} == set(names)
    for scenario in SCENARIOS:
        for row in results.rows(scenario.name):
            assert [name for name in scenario.figures if not results.values(scenario.name, row, name)] == []
    assert results.rows("upload") == ["ours (raw)", "ours (form)"]
    assert results.values("viewers-100", "ours", "errors") == [0]
    assert results.values("idle", "ours", "still open") == results.values("idle", "ours", "answered")
    assert results.values("refused", "ours", "status") == [401]
    assert results.values("refused", "ours", "left MiB") == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def not_there(endpoint: wire.Endpoint, size: int) -> Iterator[load.Ask]:
    return load.same(endpoint, "/nowhere")


def elsewhere(endpoint: wire.Endpoint, size: int) -> Iterator[load.Ask]:
    for ask in load.random_ranges(endpoint, size, 5000):
        yield replace(ask, first=ask.first + 1)


@needs_proc
@pytest.mark.parametrize(("asks", "reason"), [(not_there, "status 404"), (elsewhere, "wrong bytes")])
def test_wrong_answers_are_reported_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asks: object, reason: str
) -> None:
    monkeypatch.setattr(load, "whole", asks)
    failed, measured = run(plan(tmp_path, "whole", "json-item")).measurements
    assert reason in failed.failure
    assert measured.figures["req/s"] > 0
