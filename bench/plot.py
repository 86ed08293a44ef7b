"""The first figure of each scenario as bars, in SVG."""

from collections.abc import Iterator
from html import escape
from statistics import median

from bench.report import Results, peer_of
from bench.scenarios import SCENARIOS, Scenario

WIDTH = 760
BAR_HEIGHT = 14
PITCH = 19
LABEL_WIDTH = 200
VALUE_WIDTH = 110
_COLOURS = {"ours": "#c2410c", "nginx": "#15803d"}
_OTHER = "#64748b"
_OURS_INSIDE = "#fb923c"


def svg(results: Results) -> str:
    """All panels, one below the other; a failed row has no bar."""
    parts: list[str] = []
    top = 10
    for scenario in SCENARIOS:
        rows = results.rows(scenario.name)
        if rows:
            parts += _panel(results, scenario, rows, top)
            top += 34 + PITCH * len(rows)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
        f'viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{top}" fill="white"/>', *parts, "</svg>"]) + "\n"


def _panel(results: Results, scenario: Scenario, rows: list[str], top: int) -> Iterator[str]:
    figure = scenario.figures[0]
    medians = {row: median(results.values(scenario.name, row, figure) or [0]) for row in rows}
    most = max(medians.values()) or 1
    yield _text(10, top + 12, f"{scenario.title} ({figure})", ' font-weight="bold"')
    for number, (row, value) in enumerate(medians.items()):
        y = top + 20 + PITCH * number
        width = value / most * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)
        yield _text(LABEL_WIDTH - 8, y + 11, row, ' text-anchor="end"')
        yield (
            f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" '
            f'fill="{_colour(row)}"/>'
        )
        shown = f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
        yield _text(LABEL_WIDTH + width + 6, y + 11, shown if value else "no figure", "")


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y}"{attributes}>{escape(text)}</text>'


def _colour(row: str) -> str:
    peer = peer_of(row)
    return _COLOURS.get(peer, _OURS_INSIDE if "ours" in peer else _OTHER)
