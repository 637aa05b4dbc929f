"""Classes and pictures of runs that were read from MLflow, and the way back: what was made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from upsnet.evaluation.metrics_file import read_metrics
from upsnet.evaluation.runs import Run

FILES = ("metrics.json", "strips")


@contextmanager
def with_details(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """The runs, those of MLflow with their classes and, as long as the block lasts, their picture strips."""
    with tempfile.TemporaryDirectory() as folder:
        yield [_detailed(run, Path(folder)) for run in runs]


def log_to_parent(runs: Iterable[Run], files: Sequence[Path]) -> str:
    """Stores files with the MLflow run that all these runs are below.

    Returns:
        Its id; empty where there is no such run, or MLflow does not take the files, which is a warning.
    """
    parents = {run.mlflow_parent for run in runs}
    parent = parents.pop() if len(parents) == 1 else ""
    if not parent:
        return ""
    from upsnet.tracking.lookup import store_files

    return parent if store_files(parent, files) else ""


def _detailed(run: Run, folder: Path) -> Run:
    if not run.mlflow_run or run.classes:
        return run
    from upsnet.tracking.lookup import fetch_files

    home = folder / run.mlflow_run
    fetch_files(run.mlflow_run, FILES, home)
    metrics, strips = home / "metrics.json", home / "strips"
    classes = read_metrics(metrics).get("per_class") or {} if metrics.is_file() else {}
    return replace(run, classes=classes, strips=strips if strips.is_dir() else None)
