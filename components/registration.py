"""What the step `register` does: hands the winner's checkpoint and figures to the model registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.places import newest_checkpoint
from components.runs import pipeline_run_id
from upsnet.errors import UpsnetError
from upsnet.evaluation.ablation import DONE, read_row, scalars
from upsnet.registry import register_checkpoint


def register_row(given: Mapping[str, Any], training: Path, model_name: str) -> str:
    """Registers the checkpoint of a row; returns what became of it in words.

    Raises:
        UpsnetError: no variant succeeded, or MLflow refuses.
    """
    if not given:
        raise UpsnetError("register: no variant succeeded, see the table of 'compare'; nothing to register")
    row = read_row(given)
    if row["status"] != DONE:
        raise UpsnetError(f"register: {row['variant']} is {row['status']!r}; expected an evaluated training")
    if not row["mlflow_run"]:
        return f"{row['variant']}: not registered, since MLflow was not used"
    metrics = row["metrics"]
    tags = {
        "preset": metrics["preset"],
        "variant": row["variant"],
        "data_version": row["data_version"],
        "images": int(metrics["images"]),
        **({"kubeflow_run": pipeline_run_id()} if pipeline_run_id() else {}),
    }
    done = register_checkpoint(
        model_name, newest_checkpoint(training), row["mlflow_run"], scalars(metrics), tags
    )
    state = "champion" if done.champion else "not the champion"
    return f"{row['variant']}: registered as {done.name} version {done.version}, {state}: {done.reason}"
