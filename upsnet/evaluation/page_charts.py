"""Charts of a web page as SVG: bars of PQ per class, and PQ against run time.

Colours are classes of the page's style sheet, so that light and dark both work; every mark has a tooltip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from upsnet.evaluation.page_rows import PageRow
from upsnet.evaluation.runs import Spread

SHOWN_CLASSES = 24
"""Further ones, in which the runs differ less, are folded up."""
BAR, LABEL, PLOT, VALUE = 17, 136, 150, 36
"""Pixels: height of a bar's row, and widths of label, bar and number."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 52, 210, 14, 44
"""Of the scatter chart and its margins."""
LINE = 15
"""Pixels between the names beside the scatter chart, at least."""


def class_charts(rows: Sequence[PageRow]) -> str:
    """One small bar chart per class, with a bar per row; empty if no run says its classes."""
    charts = [_class_chart(category, title, rows) for category, title in _classes(rows)]
    shown, folded = charts[:SHOWN_CLASSES], charts[SHOWN_CLASSES:]
    parts = [f'<div class="charts">{"".join(shown)}</div>'] if shown else []
    if folded:
        parts.append(
            f'<details><summary>{len(folded)} classes more</summary><div class="charts">{"".join(folded)}'
            "</div></details>"
        )
    return "\n".join(parts)


def scatter_chart(rows: Sequence[PageRow], title: str) -> str:
    """PQ against milliseconds per image; names stand at the right, joined to their points by lines."""
    points = [
        _Point(row.name, time, quality)
        for row in rows
        if (time := row.group.spread("total")) and (quality := row.group.spread("PQ"))
    ]
    if not points:
        return ""
    across = _axis([value for p in points for value in (p.time.low, p.time.high)])
    up = _axis([value for p in points for value in (p.quality.low, p.quality.high)])
    marks = [_point(p, across, up) for p in points]
    labels = _labels(sorted(points, key=lambda p: -p.quality.mean), across, up)
    return (
        f'<svg class="scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{_grid(across, up)}{labels}{''.join(marks)}</svg>"
    )


@dataclass(frozen=True)
class _Point:
    name: str
    time: Spread
    quality: Spread


@dataclass(frozen=True)
class _Axis:
    """A range of values and the round ones in it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float, start: float, end: float) -> float:
        """Where a value lies between two pixels."""
        return start + (end - start) * (value - self.low) / (self.high - self.low)


def _classes(rows: Sequence[PageRow]) -> list[tuple[str, str]]:
    """Category ids and titles, those first in which the rivals differ most."""
    titles: dict[str, str] = {}
    for run in (run for row in rows for run in row.group.runs):
        for category, figures in run.classes.items():
            titles[category] = f"{figures['name']} ({'thing' if figures.get('isthing') else 'stuff'})"
    spans = {}
    for category in titles:
        spreads = [(spread, row.told) for row in rows if (spread := row.group.class_spread(category))]
        means = [spread.mean for spread, told in spreads if not told]
        if spreads:
            spans[category] = max(means, default=0.0) - min(means, default=0.0)
    return [(category, titles[category]) for category in sorted(spans, key=lambda c: (-spans[c], titles[c]))]


def _class_chart(category: str, title: str, rows: Sequence[PageRow]) -> str:
    spreads = [(row, row.group.class_spread(category)) for row in rows]
    best = max((spread.mean for row, spread in spreads if spread and not row.told), default=0.0)
    bars = "".join(_bar(number, *pair, best, title) for number, pair in enumerate(spreads))
    first = spreads[0][1]
    line = "" if first is None else _reference(first.mean, len(rows), rows[0].name)
    width, height = LABEL + PLOT + VALUE, len(rows) * BAR + 4
    said = f"PQ of {title}: " + ", ".join(f"{row.name} {s.mean:.1f}" for row, s in spreads if s)
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">{bars}{line}</svg>'
        "</figure>"
    )


def _bar(number: int, row: PageRow, spread: Spread | None, best: float, title: str) -> str:
    """A name, a bar with the range over the seeds, and the number at the right."""
    top = number * BAR + 2
    middle = top + BAR / 2
    at = f'y="{middle + 4:.0f}"'
    faint = " faint" if row.told else ""
    label = f'<text class="label{faint}" x="{LABEL - 6}" {at}>{escape(_cut(row.name))}</text>'
    if spread is None:
        return f'<g>{label}<text class="none" x="{LABEL}" {at}>not defined</text></g>'
    kind = " told" if row.told else " best" if spread.mean >= best else ""
    length = PLOT * spread.mean / 100
    whisker = ""
    if spread.deviation is not None:
        low, high = (LABEL + PLOT * value / 100 for value in (spread.low, spread.high))
        whisker = f'<path class="range" d="M{low:.1f} {middle}H{high:.1f}"/>'
    return (
        f"<g><title>{escape(f'{row.name}, {title}: {_words(spread)}')}</title>{label}"
        f'<rect class="bar{kind}" x="{LABEL}" y="{top + 2}" width="{max(length, 0.5):.1f}" '
        f'height="{BAR - 4}"/>{whisker}<text class="number{faint or kind}" '
        f'x="{LABEL + PLOT + VALUE - 2}" {at}>{spread.mean:.1f}</text></g>'
    )


def _reference(value: float, rows: int, name: str) -> str:
    x = LABEL + PLOT * value / 100
    return (
        f'<path class="reference" d="M{x:.1f} 0V{rows * BAR + 4}">'
        f"<title>{escape(f'{name}: {value:.1f}')}</title></path>"
    )


def _point(point: _Point, across: _Axis, up: _Axis) -> str:
    x, y = _position(point, across, up)
    left, right = (_x(across, value) for value in (point.time.low, point.time.high))
    low, high = (_y(up, value) for value in (point.quality.low, point.quality.high))
    said = f"{point.name}: PQ {_words(point.quality)}; {_words(point.time)} ms per image"
    return (
        f'<g class="point"><title>{escape(said)}</title><path class="range" '
        f'd="M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {low:.1f}V{high:.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/></g>'
    )


def _labels(points: Sequence[_Point], across: _Axis, up: _Axis) -> str:
    """The names from top to bottom, far enough apart, each with a line to its point."""
    tops: list[float] = []
    for point in points:
        y = _position(point, across, up)[1]
        tops.append(max(y, tops[-1] + LINE) if tops else y)
    last = float(HEIGHT - BOTTOM)
    for number in range(len(tops) - 1, -1, -1):  # those that ran out at the bottom move up
        tops[number] = min(tops[number], last)
        last = tops[number] - LINE
    parts = []
    for point, top in zip(points, tops, strict=True):
        x, y = _position(point, across, up)
        edge = WIDTH - RIGHT
        text = f"{_cut(point.name, 24)} {point.quality.mean:.1f}"
        parts.append(
            f'<path class="leader" d="M{x:.1f} {y:.1f}L{edge + 4} {top:.1f}H{edge + 12}"/>'
            f'<text class="name" x="{edge + 16}" y="{top + 4:.1f}">{escape(text)}</text>'
        )
    return "".join(parts)


def _grid(across: _Axis, up: _Axis) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in across.ticks:
        x = _x(across, tick)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}">{tick:g}</text>')
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text class="tick up" x="{LEFT - 8}" y="{y + 4:.1f}">{tick:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 6}">milliseconds per image</text>')
    turned = f"translate(14 {(TOP + bottom) / 2:.0f}) rotate(-90)"
    parts.append(f'<text class="axis" transform="{turned}">PQ, percent</text>')
    return "".join(parts)


def _axis(values: Sequence[float]) -> _Axis:
    """A range with some room around the values, and three to seven round values in it."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.12, abs(high) * 0.02, 0.5)
    low, high = max(low - room, 0.0), high + room
    step = next(
        s
        for power in range(-1, 7)
        for s in (10**power, 2 * 10**power, 5 * 10**power)
        if (high - low) / s <= 7
    )
    first = int(low / step) + (low > int(low / step) * step)
    count = int((high - first * step) / step) + 1
    return _Axis(low, high, tuple(round((first + n) * step, 6) for n in range(count)))


def _position(point: _Point, across: _Axis, up: _Axis) -> tuple[float, float]:
    return _x(across, point.time.mean), _y(up, point.quality.mean)


def _x(axis: _Axis, value: float) -> float:
    return axis.place(value, LEFT, WIDTH - RIGHT)


def _y(axis: _Axis, value: float) -> float:
    return axis.place(value, HEIGHT - BOTTOM, TOP)


def _words(spread: Spread) -> str:
    if spread.deviation is None:
        return f"{spread.mean:.1f}"
    return f"{spread.mean:.1f} ({spread.low:.1f} to {spread.high:.1f} over the seeds)"


def _cut(name: str, length: int = 23) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
