"""A comparison with the paper on the terminal, in Markdown and as CSV; compare_page.py makes the web page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from upsnet.evaluation.compare import VERDICTS, Comparison, Layout, LayoutRow, Step
from upsnet.evaluation.paper import FIGURES, TIMES
from upsnet.evaluation.report import EMPTY, ReportTable, markdown_table, print_table
from upsnet.evaluation.runs import RunGroup, Spread
from upsnet.storage import make_folder, write_file

LEGEND = (
    "Figures in percent, network in milliseconds. Ours: the mean over the seeds, ± the standard deviation "
    "where there are several. Difference: ours - paper. Not run: the row can be run here, and was not. "
    "Others: a system of another group, which is not built here."
)
STEP_LEGEND = (
    "Each line sets one row against another: by how many points the first is ahead in the paper and here. "
    "Within the spread: the ranges of the two rows over their seeds overlap. With one seed each "
    "the spread is not known. Ahead: in how many of the seeds that both rows have."
)
CSV_COLUMNS = (
    *("table", "title", "row", "status", "preset", "variant", "images", "seeds", "runs", "figure"),
    *("ours", "ours_std", "ours_min", "ours_max", "paper", "difference"),
)
OTHERS_TITLE = "Runs that are in none of these tables"
OTHERS_FIGURES = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "box_AP", "mask_AP", "network")
CELL_WIDTH = 12
"""Columns of a terminal that a figure with its deviation takes."""


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Writes compare.md, compare.csv and compare.html, and returns their paths.

    Raises:
        UpsnetError: the folder cannot be written into.
    """
    from upsnet.evaluation.compare_page import html_page

    contents = {
        "compare.md": markdown_comparison(comparison),
        "compare.csv": csv_comparison(comparison),
        "compare.html": html_page(comparison),
    }
    make_folder(out)
    for name, content in contents.items():
        write_file(content, out / name)
    return [out / name for name in contents]


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Prints every table, in pieces where it is wider than the terminal, and the statements below."""
    for layout in comparison.layouts:
        for figures in _pieces(layout.figures, layout_table(layout, ()), console.width):
            print_table(layout_table(layout, figures), console, SIMPLE_HEAD)
        for line in (*layout.notes, *statement(layout)):
            console.print(Text(line))
        if layout.steps:
            console.print()
            print_table(steps_table(layout), console, SIMPLE_HEAD)
        console.print()
    if comparison.others:
        others = comparison.others
        for figures in _pieces(OTHERS_FIGURES, others_table(others, ()), console.width):
            print_table(others_table(others, figures), console, SIMPLE_HEAD)
    console.print(Text(LEGEND))


def markdown_comparison(comparison: Comparison) -> str:
    """All tables in Markdown."""
    blocks = ["# Our figures beside the paper's", LEGEND]
    for layout in comparison.layouts:
        blocks.append(markdown_table(layout_table(layout, layout.figures)))
        blocks.append("\n".join(f"- {line}" for line in (*layout.notes, *statement(layout))))
        if layout.steps:
            blocks.append(markdown_table(steps_table(layout)))
    if comparison.others:
        blocks.append(markdown_table(others_table(comparison.others, OTHERS_FIGURES)))
    return "\n\n".join(block for block in blocks if block) + "\n"


def csv_comparison(comparison: Comparison) -> str:
    """One line per row and figure, ours unrounded; runs that are in no table have an empty table.

    preset and variant are what was run, or what repeats the row if it was not.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for layout in comparison.layouts:
        for row in layout.rows:
            writer.writerows(_csv_lines(layout, row))
    for group in comparison.others:
        for figure in FIGURES:
            if spread := group.spread(figure):
                writer.writerow(
                    {"status": "run", "figure": figure, **_group_cells(group), **_spread_cells(spread)}
                )
    return text.getvalue()


def layout_table(layout: Layout, figures: Sequence[str]) -> ReportTable:
    """The table with three lines (ours, paper, difference) for a row that was run, one for any other."""
    rows = tuple(line for row in layout.rows for line in row_lines(row, figures))
    return ReportTable(layout.title, ("", "", *figures), rows, labels=2)


def row_lines(row: LayoutRow, figures: Sequence[str]) -> list[tuple[str, ...]]:
    """The lines of one row: its label, what the line holds, the figures."""
    paper = tuple(format_figure(name, row.paper.figures.get(name)) for name in figures)
    if row.group is None:
        kind = "paper (not run)" if row.status == "not run" else "paper (others)"
        return [(row.paper.label, kind, *paper)]
    ours = tuple(format_spread(name, row.ours(name)) for name in figures)
    difference = tuple(format_difference(name, row.difference(name)) for name in figures)
    return [
        (row.paper.label, f"ours, {count_runs(row.group)}", *ours),
        ("", "paper", *paper),
        ("", "difference", *difference),
    ]


def steps_table(layout: Layout) -> ReportTable:
    """Row against row."""
    rows = tuple(
        (
            step_name(step),
            step.figure,
            step.verdict,
            format_difference(step.figure, step.paper),
            format_difference(step.figure, step.ours),
            f"{step.seeds[0]}, {step.seeds[1]}",
            f"{step.ahead[0]} of {step.ahead[1]}" if step.ahead[1] > 1 else EMPTY,
        )
        for step in layout.steps
    )
    columns = ("", "figure", "verdict", "paper", "ours", "seeds", "ahead")
    return ReportTable(f"Table {layout.table}, row against row", columns, rows, STEP_LEGEND, labels=3)


def statement(layout: Layout) -> list[str]:
    """Where the order of the paper's rows in PQ is reproduced and where not, one line per verdict."""
    said = [step for step in layout.steps if step.figure == "PQ"]
    lines = []
    for verdict in VERDICTS:
        found = [step for step in said if step.verdict == verdict]
        if found:
            lines.append(f"{_verdict_words(verdict)}: {'; '.join(map(_step_words, found))}.")
    return lines


def others_table(groups: Sequence[RunGroup], figures: Sequence[str]) -> ReportTable:
    """Our figures of runs without a row."""
    rows = tuple(
        (
            group.name,
            f"{count_runs(group)}, {group.images} images",
            *(format_spread(name, group.spread(name)) for name in figures),
        )
        for group in groups
    )
    return ReportTable(OTHERS_TITLE, ("", "", *figures), rows, labels=2)


def step_name(step: Step) -> str:
    """What is set against what."""
    return f"{step.better.paper.label} over {step.base.paper.row}"


def count_runs(group: RunGroup) -> str:
    """Number of seeds, and of runs where some have the same seed."""
    seeds = f"{group.seeds} seed{'s' if group.seeds > 1 else ''}"
    return seeds if group.seeds == len(group.runs) else f"{seeds}, {len(group.runs)} runs"


def format_figure(name: str, value: float | None) -> str:
    """A figure of the paper."""
    return EMPTY if value is None else f"{value:,.{_decimals(name)}f}"


def format_spread(name: str, spread: Spread | None) -> str:
    """A mean with its deviation."""
    if spread is None:
        return EMPTY
    if spread.deviation is None:
        return format_figure(name, spread.mean)
    return f"{format_figure(name, spread.mean)} ±{format_figure(name, spread.deviation)}"


def format_difference(name: str, value: float | None) -> str:
    """A difference with its sign; none for what rounds to zero."""
    if value is None:
        return EMPTY
    rounded = round(value, _decimals(name)) + 0.0
    return f"{rounded:+,.{_decimals(name)}f}" if rounded else format_figure(name, 0.0)


def _decimals(name: str) -> int:
    return 0 if name in TIMES else 1


def _pieces(figures: Sequence[str], words: ReportTable, width: int) -> Iterable[Sequence[str]]:
    """The figures in as few pieces as fit a terminal beside the columns of words, of nearly equal length."""
    labels = sum(max(map(len, column)) + 3 for column in zip(*words.rows, strict=True))
    size = max(1, (width - labels) // CELL_WIDTH)
    count = -(-len(figures) // size)
    size = -(-len(figures) // count)
    return [figures[start : start + size] for start in range(0, len(figures), size)]


def _verdict_words(verdict: str) -> str:
    words = {
        "same sign": "PQ, order of the paper reproduced",
        "opposite": "PQ, opposite order",
        "within the spread": "PQ, within the spread of the seeds",
    }
    return words.get(verdict, f"PQ, {verdict}")


def _step_words(step: Step) -> str:
    paper = format_difference("PQ", step.paper)
    if step.ours is None:
        return f"{step_name(step)} (paper {paper})"
    seeds = ", one seed each" if step.seeds == (1, 1) else ""
    if step.ahead[1] > 1:
        seeds = f", ahead in {step.ahead[0]} of {step.ahead[1]} seeds"
    return f"{step_name(step)} (paper {paper}, ours {format_difference('PQ', step.ours)}{seeds})"


def _csv_lines(layout: Layout, row: LayoutRow) -> Iterable[dict[str, object]]:
    for figure in layout.figures:
        ours, paper = row.ours(figure), row.paper.figures.get(figure)
        if ours is not None or paper is not None:
            yield {
                "table": layout.table,
                "title": layout.title,
                "row": row.paper.label,
                "status": row.status,
                "preset": row.preset,
                "variant": row.paper.variant,
                "figure": figure,
                **(_group_cells(row.group) if row.group else {}),
                **(_spread_cells(ours) if ours else {}),
                "paper": paper,
                "difference": row.difference(figure),
            }


def _group_cells(group: RunGroup) -> dict[str, object]:
    counts = {"images": group.images, "seeds": group.seeds, "runs": len(group.runs)}
    return {"preset": group.preset, "variant": group.system, **counts}


def _spread_cells(spread: Spread) -> dict[str, object]:
    return {
        "ours": spread.mean,
        "ours_std": spread.deviation,
        "ours_min": spread.low,
        "ours_max": spread.high,
    }
