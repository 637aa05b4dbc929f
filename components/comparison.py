"""What the step `compare` does: table and page of all rows, the winner's checkpoint, the parent run's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from components.places import keep_training, say_failure
from upsnet.evaluation.ablation import DONE, Row, ablation_table, read_row, winner
from upsnet.evaluation.compare import compare
from upsnet.evaluation.compare_page import html_page
from upsnet.evaluation.report import markdown_table, print_table
from upsnet.evaluation.run_details import with_details
from upsnet.evaluation.runs import run_of_metrics
from upsnet.records import comparison_row
from upsnet.storage import write_file
from upsnet.tracking import close_run, show_children


def compare_variants(
    given: Sequence[Mapping[str, Any]],
    training_folders: Mapping[str, Path],
    parent_run: str,
    table: Path,
    page: Path,
    kept: Path,
) -> dict[str, Any]:
    """Writes tables and page, keeps the winner's training, and ends the MLflow parent.

    Returns:
        the winner's row, empty if no variant succeeded.
    """
    rows = [read_row(row) for row in given]
    variants = ablation_table(rows)
    print_table(variants, Console(width=160))
    text = f"{markdown_table(variants)}\n"
    web = comparison_page(rows)
    write_file(text, table)
    write_file(web, page)
    best = winner(rows)
    _end_parent(parent_run, rows, best, {"variants.md": text, "compare.html": web})
    if best is None:
        say_failure(str(kept), "no variant succeeded")
        return {}
    keep_training(training_folders[best["variant"]], str(kept))
    return dict(best)


def comparison_page(rows: Sequence[Row]) -> str:
    """The web page of the measured variants; their classes and pictures are in MLflow."""
    runs = [
        replace(run_of_metrics(row["metrics"], row["variant"]), mlflow_run=row["mlflow_run"])
        for row in rows
        if row["status"] == DONE
    ]
    if not runs:
        return "<p>no variant was measured</p>\n"
    with with_details(runs) as detailed:
        return html_page(compare(detailed))


def _table_row(row: Row) -> dict[str, Any]:
    """A variant in the table that MLflow shows."""
    figures = comparison_row(row["metrics"]) if row["status"] == DONE else {}
    return {"variant": row["variant"], "status": row["status"], **figures}


def _end_parent(parent_run: str, rows: Sequence[Row], best: Row | None, texts: Mapping[str, str]) -> None:
    failed = [row["variant"] for row in rows if row["status"] != DONE]
    tags = {
        "failed_variants": ", ".join(failed),
        "best_variant": best["variant"] if best else "",
        "data_version": best["data_version"] if best else "",
    }
    children = [row["mlflow_run"] for row in rows if row["mlflow_run"]]
    show_children(parent_run, children, [_table_row(row) for row in rows])
    # Under a name of its own, so that the parent has no bar beside the children's.
    figures = {"best/PQ": float(best["metrics"]["PQ"])} if best else {}
    close_run(parent_run, "FINISHED" if best else "FAILED", metrics=figures, tags=tags, texts=texts)
