"""The rows of an ablation: what became of each variant, the table of all, and which one won."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from upsnet.errors import UpsnetError
from upsnet.evaluation.report import EMPTY, ReportTable

TRAINED, DONE = "trained", "done"
FIGURES = (
    *("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "SQ_th", "SQ_st", "RQ_th", "RQ_st"),
    *("mIoU", "box_AP", "mask_AP"),
)
TIMES = ("network", "postprocessing", "total")
TABLE_FIGURES = ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "box_AP", "mask_AP")
COLUMNS = ("variant", *TABLE_FIGURES, "ms", "status")
FAILURE_LENGTH = 300
"""Characters of a failure that go into a row; the log has all of it."""


class Row(TypedDict):
    """One variant. Rows travel between the steps of a pipeline as JSON, in which all numbers are floats.

    Attributes:
        variant: its name in the run.
        status: `trained`, `done` or `failed: <message>`.
        mlflow_run: id, empty without MLflow.
        data_version: of the data that it was trained on.
        checkpoint: file name.
        metrics: those of metrics.json, without the classes; empty before the evaluation.
    """

    variant: str
    status: str
    mlflow_run: str
    data_version: str
    checkpoint: str
    metrics: dict[str, Any]


def read_row(given: Mapping[str, Any]) -> Row:
    """A row as another step wrote it.

    Raises:
        UpsnetError: it is no row.
    """
    if set(given) != set(Row.__annotations__):
        raise UpsnetError(f"a row has {', '.join(sorted(given))}; expected {', '.join(Row.__annotations__)}")
    return cast(Row, dict(given))


def failed_row(variant: str, message: str, mlflow_run: str = "") -> Row:
    """The row of a variant that failed: the first line of the message, and what there is room for."""
    text = " ".join(message.split())
    short = text if len(text) <= FAILURE_LENGTH else f"{text[: FAILURE_LENGTH - 1]}…"
    return Row(
        variant=variant,
        status=f"failed: {short}",
        mlflow_run=mlflow_run,
        data_version="",
        checkpoint="",
        metrics={},
    )


def measured_row(row: Row, metrics: Mapping[str, Any]) -> Row:
    """The row with the figures of its evaluation."""
    kept = {name: value for name, value in metrics.items() if name != "per_class"}
    return {**row, "status": DONE, "metrics": kept}


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures in percent and the times (`ms_...`) that are defined."""
    times = metrics.get("milliseconds") or {}
    found = {name: metrics.get(name) for name in FIGURES} | {f"ms_{name}": times.get(name) for name in TIMES}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def winner(rows: Sequence[Row]) -> Row | None:
    """The row with the best PQ, None if no variant has one.

    Raises:
        UpsnetError: the variants were measured on different data.
    """
    measured = [row for row in rows if row["status"] == DONE and row["metrics"].get("PQ") is not None]
    versions = sorted({row["data_version"] for row in measured})
    if len(versions) > 1:
        raise UpsnetError(f"the variants were trained on different data, versions {', '.join(versions)}")
    return max(measured, key=lambda row: float(row["metrics"]["PQ"]), default=None)


def ablation_table(rows: Sequence[Row]) -> ReportTable:
    """All variants in the order given, the failed ones with their message."""
    best = winner(rows)
    lines = []
    for row in rows:
        figures = scalars(row["metrics"])
        cells = [_cell(figures.get(name)) for name in (*TABLE_FIGURES, "ms_total")]
        status = f"{row['status']}, best PQ" if row is best else row["status"]
        lines.append((row["variant"], *cells, status))
    versions = {row["data_version"] for row in rows if row["data_version"]}
    note = f"Percent, and milliseconds per image. Data version {', '.join(versions)}." if versions else ""
    return ReportTable("Variants of this run", COLUMNS, tuple(lines), note)


def _cell(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.1f}"
