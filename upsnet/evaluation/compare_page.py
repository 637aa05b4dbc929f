"""A comparison with the paper as one web page that needs no script, no network, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from upsnet.evaluation.compare import OPPOSITE, SAME, WITHIN, Comparison, Layout, LayoutRow
from upsnet.evaluation.compare_output import (
    LEGEND,
    OTHERS_FIGURES,
    STEP_LEGEND,
    others_table,
    row_lines,
    statement,
    steps_table,
)
from upsnet.evaluation.page_overview import STYLE as OVERVIEW_STYLE
from upsnet.evaluation.page_overview import overview
from upsnet.evaluation.paper import OWN_DATA, TIMES
from upsnet.evaluation.report import ReportTable

STYLE = """
:root { color-scheme: light dark; --back: #fcfcfb; --text: #1d2126; --soft: #626b75; --line: #d9dde1;
  --mine: #eef4fb; --bar: #5b84b1; --good: #1c7040; --bad: #a8321f; --open: #7a5b00; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --text: #e4e7ea; --soft: #98a2ad;
  --line: #343a41; --mine: #1b2733; --bar: #6f9cc9; --good: #6ecb93; --bad: #f0907e; --open: #dcb95a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 80rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .5rem; }
p, ul { max-width: 46rem; }
ul { padding-left: 1.2rem; margin: .75rem 0; }
.soft { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; vertical-align: top; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid var(--line); }
tbody tr.first > * { border-top: 1px solid var(--line); }
.word { text-align: left; }
tr.mine td { background: var(--mine); font-weight: 600; }
tr.paper td, td.kind { color: var(--soft); }
code { font-size: .8125rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
""".strip()
COLOURS = {SAME: "good", OPPOSITE: "bad", WITHIN: "open"}


def html_page(comparison: Comparison) -> str:
    """The page; every name in it is escaped."""
    body = "\n".join(
        [
            "<h1>Runs compared, and beside the paper</h1>",
            overview(comparison),
            "<p>Each table has the rows of a table in <cite>UPSNet: A Unified Panoptic Segmentation "
            "Network</cite> (CVPR 2019), with what this program measured for them.</p>",
            _paragraph(LEGEND),
            *map(_section, comparison.layouts),
            *([_others(others_table(comparison.others, OTHERS_FIGURES))] if comparison.others else []),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>UPSNet: runs compared</title>\n<style>\n{STYLE}\n{OVERVIEW_STYLE}\n</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _section(layout: Layout) -> str:
    """One table, the notes to it, and where the order of its rows is reproduced."""
    parts = [f"<h3>{escape(layout.title)}</h3>", _layout_table(layout)]
    if layout.steps:
        parts += [_list(statement(layout)), _steps(steps_table(layout))]
    if layout.notes:
        parts.append(_list(layout.notes, "soft"))
    return "\n".join(parts)


def _layout_table(layout: Layout) -> str:
    rows = "\n".join(_rows(row, layout.figures) for row in layout.rows)
    return _table(("", "", *layout.figures), rows, words=2)


def _rows(row: LayoutRow, figures: Sequence[str]) -> str:
    """The lines of one row, its label once beside them; a cell of ours shows its range when pointed at."""
    lines = row_lines(row, figures)
    written = []
    for number, line in enumerate(lines):
        kind = "paper" if row.group is None else ("mine", "paper", "difference")[number]
        label = _label(row, len(lines)) if number == 0 else ""
        hints = [_range(row, name) if kind == "mine" else "" for name in figures]
        cells = "".join(f"<td{hint}>{escape(text)}</td>" for text, hint in zip(line[2:], hints, strict=True))
        order = " first" if number == 0 else ""
        written.append(
            f'<tr class="{kind}{order}">{label}<td class="word kind">{escape(line[1])}</td>{cells}</tr>'
        )
    return "\n".join(written)


def _label(row: LayoutRow, height: int) -> str:
    command = f"<br><code>{escape(_command(row))}</code>" if row.status == "not run" else ""
    return f'<th class="word" scope="rowgroup" rowspan="{height}">{escape(row.paper.label)}{command}</th>'


def _command(row: LayoutRow) -> str:
    """What a row that was not run begins with."""
    preset = "YOURS.yaml" if row.preset == OWN_DATA else row.preset
    variant = f" --variant {row.paper.variant}" if row.paper.variant else ""
    return f"upsnet configure --preset {preset}{variant}"


def _range(row: LayoutRow, figure: str) -> str:
    ours = row.ours(figure)
    if ours is None or ours.deviation is None:
        return ""
    decimals = 1 if figure in TIMES else 2
    return f' title="{ours.low:.{decimals}f} to {ours.high:.{decimals}f}"'


def _steps(table: ReportTable) -> str:
    rows = "\n".join(_step(row) for row in table.rows)
    return f"{_table(table.columns, rows, words=3)}\n{_paragraph(STEP_LEGEND, 'soft')}"


def _step(cells: Sequence[str]) -> str:
    name, figure, verdict, *numbers = map(escape, cells)
    colour = COLOURS.get(verdict, "soft")
    return (
        f'<tr><th class="word" scope="row">{name}</th><td class="word">{figure}</td>'
        f'<td class="word {colour}">{verdict}</td>{"".join(f"<td>{n}</td>" for n in numbers)}</tr>'
    )


def _others(table: ReportTable) -> str:
    rows = "\n".join(
        f'<tr class="first"><th class="word" scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in table.rows
    )
    return f"<h3>{escape(table.title)}</h3>\n{_table(table.columns, rows, words=1)}"


def _table(columns: Sequence[str], rows: str, words: int) -> str:
    heads = "".join(
        f'<th{" class=word" if number < words else ""} scope="col">{escape(column)}</th>'
        for number, column in enumerate(columns)
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _list(lines: Iterable[str], style: str = "") -> str:
    return "\n".join([f'<ul class="{style}">', *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"])


def _paragraph(text: str, style: str = "") -> str:
    return f'<p class="{style}">{escape(text)}</p>'
