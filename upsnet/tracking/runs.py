"""Runs of MLflow by id: made, taken up, written to, ended and read."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upsnet.config import TrackingConfig
from upsnet.errors import UpsnetError
from upsnet.tracking.connection import home, is_refusal, mlflow_client, tracking_place, tracking_uri
from upsnet.tracking.names import first_line, legal_name
from upsnet.tracking.run_file import read_run_id, write_run_id

logger = logging.getLogger(__name__)

PARENT_TAG = "mlflow.parentRunId"
"""What the MLflow UI nests a run by; it shows one level."""
KEY_TAG = "upsnet_key"
"""Known before the run is made, see `find_by_key`."""


def open_run(
    config: TrackingConfig,
    name: str,
    *,
    parent: str = "",
    run_file: Path | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> str:
    """Opens a run that another process goes on with through `MLFLOW_RUN_ID`, such as a parent of others.

    Args:
        config: whether there is MLflow, and which experiment.
        name: of a new run.
        parent: id of the run that it is shown below, in the parent's experiment. Without one, the run of
            `MLFLOW_RUN_ID` is taken, which a pipeline's back end may have opened; a child never is that run.
        run_file: as in `open_tracker`; the run that it names, of an earlier attempt, goes before all others.
        params: settings.
        tags: what may change later.

    Returns:
        Id of the run; empty where MLflow is not configured or cannot be used, which is a warning.
    """
    if not config.mlflow:
        return ""
    try:
        client = mlflow_client()
        known = read_run_id(run_file, tracking_uri()) if run_file else ""
        given = known or ("" if parent else os.environ.get("MLFLOW_RUN_ID", ""))
        run_id = given if given and take_up(client, given) else new_run(client, config, name, parent)
        if run_file:
            write_run_id(run_file, run_id, tracking_uri())
        log_params(client, run_id, {legal_name(k): str(v)[:6000] for k, v in (params or {}).items()})
        set_tags(client, run_id, {legal_name(k): str(v)[:5000] for k, v in (tags or {}).items()})
    except Exception as error:
        logger.warning("MLflow cannot be used, run %r is not logged: %s", name, first_line(error))
        return ""
    return run_id


def close_run(
    run_id: str,
    status: str = "FINISHED",
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Ends a run that `open_run` opened, with figures, tags, and texts by artifact name.

    What MLflow refuses is a warning; without a run id, nothing happens.
    """
    if not run_id:
        return
    try:
        client = mlflow_client()
        log_metrics(client, run_id, {legal_name(k): float(v) for k, v in (metrics or {}).items()}, 0)
        set_tags(client, run_id, {legal_name(k): str(v)[:5000] for k, v in (tags or {}).items()})
        for name, text in (texts or {}).items():
            client.log_text(run_id, text, name)
        client.set_terminated(run_id, status)
    except Exception as error:
        logger.warning("MLflow cannot be used, run %s is not ended: %s", run_id, first_line(error))


def read_runs(experiment: str) -> list[dict[str, Any]]:
    """All runs of an MLflow experiment, oldest first.

    Each has `run_id`, `name`, `status`, `params`, `tags`, and the last values of `metrics`.

    Raises:
        UpsnetError: MLflow is missing or does not answer, or has no such experiment.
    """
    uri, where = tracking_uri(), tracking_place()
    database = Path(where.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not database.is_file():  # MLflow would make one
        raise UpsnetError(f"MLflow: there is no {database}; set MLFLOW_TRACKING_URI to where the runs are")
    try:
        client = mlflow_client()
        found = client.get_experiment_by_name(experiment)
        known = [] if found else [e.name for e in client.search_experiments()]
        runs = _all_runs(client, found.experiment_id) if found else []
    except Exception as error:
        raise UpsnetError(f"MLflow at {where} cannot be read: {first_line(error)}") from error
    if found is None:
        raise UpsnetError(f"MLflow at {where} has no experiment {experiment!r}; it has {', '.join(known)}")
    return [
        {
            "run_id": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "params": dict(run.data.params),
            "tags": dict(run.data.tags),
            "metrics": dict(run.data.metrics),
        }
        for run in reversed(runs)
    ]


def new_run(client: Any, config: TrackingConfig, name: str, parent: str) -> str:
    """Makes a run in the configured experiment, or below a parent in the parent's."""
    if parent:
        experiment_id, tags = client.get_run(parent).info.experiment_id, {PARENT_TAG: parent}
    else:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.experiment
        experiment_id, tags = find_experiment(client, experiment, tracking_uri()), {}
    return str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)


def take_up(client: Any, run_id: str, running: bool = True) -> bool:
    """Whether MLflow knows the run; it is then shown as running if asked for."""
    from mlflow.exceptions import MlflowException

    try:
        if client.get_run(run_id).info.lifecycle_stage != "active":
            return False
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" and is_refusal(error):
            return False
        raise
    if running:
        client.update_run(run_id, status="RUNNING")
    return True


def make_run(client: Any, experiment: str, name: str, key: str, started: int) -> str:
    """Makes a run with a tag by which `find_by_key` finds it.

    Args:
        client: MLflow's.
        experiment: name, made if it is new.
        name: of the run.
        key: that nothing else has.
        started: milliseconds since 1970.
    """
    experiment_id = find_experiment(client, experiment, tracking_uri())
    return str(client.create_run(experiment_id, started, {KEY_TAG: key}, name).info.run_id)


def find_by_key(client: Any, experiment: str, key: str) -> str:
    """Id of the run that `make_run` made, although its answer was lost; empty if it did not."""
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], f"tags.{KEY_TAG} = '{key}'") if found else []
    return str(runs[0].info.run_id) if runs else ""


def find_experiment(client: Any, name: str, uri: str) -> str:
    """Id of the experiment, made if it is new; a local store keeps its artifacts in `home()`."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = uri.startswith("sqlite:")
    return str(client.create_experiment(name, (home() / "mlartifacts").resolve().as_uri() if local else None))


def _all_runs(client: Any, experiment_id: str) -> list[Any]:
    """The runs of an experiment, newest first, page by page."""
    runs, token = [], None
    while True:
        page = client.search_runs([experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    entries = [Param(name, value) for name, value in params.items()]
    for start in range(0, len(entries), 100):
        client.log_batch(run_id, params=entries[start : start + 100])


def set_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def log_metrics(client: Any, run_id: str, values: Mapping[str, float], step: int) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, step) for name, value in values.items()]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
