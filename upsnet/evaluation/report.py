"""Metrics as tables, on a terminal and in Markdown, the paper's figures in brackets where they compare."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import HEAVY_HEAD, Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from upsnet.evaluation.paper import TIMES, PaperRow, paper_row

QUALITY = ("PQ", "SQ", "RQ")
PER_CLASS_COLUMNS = (*QUALITY, "TP", "FP", "FN", "IoU", "box_AP", "mask_AP")
EMPTY = "-"
"""Stands for a figure that nothing in the truth defines."""


@dataclass(frozen=True)
class ReportTable:
    """One table as text, its title above it and a note below; the first `labels` columns hold words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    labels: int = 1


def print_report(metrics: dict[str, Any], console: Console) -> None:
    """Prints the summary and the per-class table of what `evaluate` returned, or of what `score` returned."""
    for table in report_tables(metrics):
        print_table(table, console)


def print_table(table: ReportTable, console: Console, style: Box = HEAVY_HEAD) -> None:
    """Prints one table."""
    console.print(Text(table.title, style="bold"))
    printed = Table(box=style)
    for number, column in enumerate(table.columns):  # on a narrow terminal words break, figures do not
        words = number < table.labels
        printed.add_column(column, justify="left" if words else "right", no_wrap=not words)
    for row in table.rows:
        printed.add_row(*map(Text, row))  # Text, since a class name may look like rich's markup
    console.print(printed)
    if table.note:
        console.print(Text(table.note))


def format_metrics(metrics: dict[str, Any], width: int = 110) -> str:
    """What `print_report` prints, as plain text of at most `width` columns."""
    text = io.StringIO()
    print_report(metrics, Console(file=text, width=width))
    return text.getvalue()


def markdown_report(metrics: dict[str, Any]) -> str:
    """The same tables in Markdown."""
    return "\n\n".join(map(markdown_table, report_tables(metrics))) + "\n"


def markdown_table(table: ReportTable) -> str:
    """One table in Markdown, without a line feed at its end."""
    align = ["---"] * table.labels + ["---:"] * (len(table.columns) - table.labels)
    lines = [f"### {table.title}", "", *map(_markdown_row, (table.columns, align, *table.rows))]
    return "\n".join([*lines, "", table.note] if table.note else lines)


def per_class_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The classes as rows with the same keys: category_id, class, isthing (0 or 1) and the figures."""
    return [
        {
            "category_id": int(category_id),
            "class": figures["name"],
            "isthing": int(figures["isthing"]),
            **{column: figures[column] for column in PER_CLASS_COLUMNS},
        }
        for category_id, figures in metrics["per_class"].items()
    ]


def report_tables(metrics: dict[str, Any]) -> list[ReportTable]:
    """The tables that the metrics hold: panoptic quality, the two branches, run time, classes."""
    paper = paper_row(metrics.get("preset", ""), metrics.get("variant", ""), metrics.get("images", 0))
    tables = [_quality_table(metrics, paper)]
    if "mIoU" in metrics:
        tables.append(_branches_table(metrics, paper))
    if metrics.get("milliseconds"):
        tables.append(_time_table(metrics, paper))
    return [*tables, _class_table(metrics["per_class"])]


def _quality_table(metrics: dict[str, Any], paper: PaperRow | None) -> ReportTable:
    rows = [
        (name, *(_cell(metrics, name + suffix, paper) for suffix in ("", "_th", "_st"))) for name in QUALITY
    ]
    counts = ("classes", *(str(metrics[f"N{suffix}"]) for suffix in ("", "_th", "_st")))
    title = "Panoptic quality, percent"
    if "images" in metrics:
        title += f", {metrics['images']} images"
    return ReportTable(title, ("", "all", "things", "stuff"), (*rows, counts), _note(metrics, paper))


def _branches_table(metrics: dict[str, Any], paper: PaperRow | None) -> ReportTable:
    names = ("mIoU", "box_AP", "mask_AP")
    row = tuple(_cell(metrics, name, paper) for name in names)
    return ReportTable("Semantic head and instance branch, percent", names, (row,))


def _time_table(metrics: dict[str, Any], paper: PaperRow | None) -> ReportTable:
    times = metrics["milliseconds"]
    row = tuple(_cell(times, part, paper) for part in times)
    title = (
        f"Milliseconds per image on {metrics['device']}, short side {metrics['short_side']}, "
        f"long side at most {metrics['long_side']}"
    )
    return ReportTable(title, tuple(times), (row,))


def _class_table(per_class: dict[str, dict[str, Any]]) -> ReportTable:
    """One row per class; columns that the metrics lack (AP, for `score`) are left out."""
    columns = [c for c in PER_CLASS_COLUMNS if any(c in figures for figures in per_class.values())]
    rows = tuple(
        (
            figures["name"],
            "thing" if figures["isthing"] else "stuff",
            *(_cell(figures, c, None) for c in columns),
        )
        for figures in per_class.values()
    )
    return ReportTable("Classes, percent", ("class", "kind", *columns), rows)


def _cell(figures: dict[str, Any], name: str, paper: PaperRow | None) -> str:
    """A figure, the paper's in brackets; counts as they are."""
    value = figures.get(name)
    text = EMPTY if value is None else str(value) if isinstance(value, int) else f"{value:.1f}"
    if paper is not None and name in paper.figures:
        text += f" ({paper.figures[name]:.{0 if name in TIMES else 1}f})"
    return text


def _note(metrics: dict[str, Any], paper: PaperRow | None) -> str:
    if paper is not None:
        time = "; its time is the network's on the authors' GPU" if "network" in paper.figures else ""
        return f"in brackets: {paper.title()}{time}"
    if metrics.get("preset"):
        run = "+".join(part for part in (metrics["preset"], metrics.get("variant", "")) if part)
        return f"{run}: not comparable with the paper's tables"
    return ""


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
