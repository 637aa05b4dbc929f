"""Runs by id, and files of runs, for those who compare them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from upsnet.errors import UpsnetError
from upsnet.tracking.connection import mlflow_client, tracking_place
from upsnet.tracking.names import first_line
from upsnet.tracking.runs import PARENT_TAG

logger = logging.getLogger(__name__)


def read_runs_by_id(run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Runs as `read_runs` gives them; a parent stands for the runs below it.

    Raises:
        UpsnetError: MLflow is missing or does not answer, or has no such run.
    """
    try:
        client = mlflow_client()
        return [_as_read(run) for run_id in run_ids for run in _run_or_children(client, run_id)]
    except Exception as error:
        raise UpsnetError(
            f"MLflow at {tracking_place()} does not give the runs {', '.join(run_ids)}: {first_line(error)}"
        ) from error


def fetch_files(run_id: str, names: Sequence[str], folder: Path) -> None:
    """Copies files and folders of a run into a folder; those that it has not are left out.

    What MLflow does not give is a warning: what is made of them goes without.
    """
    try:
        client = mlflow_client()
        there = {file.path for file in client.list_artifacts(run_id)}
        folder.mkdir(parents=True, exist_ok=True)
        for name in there.intersection(names):
            client.download_artifacts(run_id, name, str(folder))
    except Exception as error:
        logger.warning("MLflow does not give the files of run %s: %s", run_id, first_line(error))


def store_files(run_id: str, files: Sequence[Path]) -> bool:
    """Stores files with a run, in the place of those of the same name; whether it worked, else a warning."""
    try:
        client = mlflow_client()
        for file in files:
            client.log_artifact(run_id, str(file))
    except Exception as error:
        logger.warning("MLflow does not take the files of run %s: %s", run_id, first_line(error))
        return False
    return True


def _run_or_children(client: Any, run_id: str) -> list[Any]:
    run = client.get_run(run_id)
    filtered = f"tags.`{PARENT_TAG}` = '{run_id}'"
    children = client.search_runs([run.info.experiment_id], filtered, max_results=1000)
    return list(reversed(children)) or [run]


def _as_read(run: Any) -> dict[str, Any]:
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "params": dict(run.data.params),
        "tags": dict(run.data.tags),
        "metrics": dict(run.data.metrics),
    }
