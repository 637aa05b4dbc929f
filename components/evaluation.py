"""What the step `evaluate` does: runs `upsnet evaluate` for a row that was trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.commands import evaluate_command, run_command
from components.places import say_failure
from upsnet.errors import UpsnetError
from upsnet.evaluation.ablation import TRAINED, Row, failed_row, measured_row, read_row
from upsnet.evaluation.metrics_file import read_metrics
from upsnet.tracking import close_run


def evaluate_variant(
    given: Mapping[str, Any], checkpoint: Path, data: Path, out: Path, workers: int, keep_going: bool
) -> Row:
    """Evaluates a training and returns its row with the figures; a failed training's row stays as it is.

    Raises:
        UpsnetError: the evaluation failed, and `keep_going` is not set.
    """
    row = read_row(given)
    if row["status"] != TRAINED:
        say_failure(str(out), row["status"])
        return row
    try:
        environment = {**os.environ, "MLFLOW_RUN_ID": row["mlflow_run"]}
        run_command(evaluate_command(checkpoint, data, out, workers), environment)
        return measured_row(row, read_metrics(out / "metrics.json"))
    except UpsnetError as error:
        close_run(row["mlflow_run"], "FAILED", tags={"failure": str(error)})
        if not keep_going:
            raise
        print(f"{row['variant']}: {error}")
        say_failure(str(out), str(error))
        return failed_row(row["variant"], str(error), row["mlflow_run"])
