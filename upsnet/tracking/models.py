"""Checkpoints that lie in MLflow: models by name, version or alias, and what runs have logged."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from upsnet.errors import CheckpointError
from upsnet.tracking.connection import mlflow_client, tracking_place, tracking_uri
from upsnet.tracking.names import first_line

SCHEMES = ("models:/", "runs:/")
EXPECTED = "expected models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID or runs:/RUN_ID/model"


def is_model_uri(place: str | Path) -> bool:
    """Whether a checkpoint is named by MLflow."""
    return str(place).startswith(SCHEMES)


def model_checkpoint(uri: str, cache: Path) -> Path:
    """The checkpoint of a model in MLflow, on this machine.

    Args:
        uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/MODEL_ID`, `runs:/RUN_ID[/model]`.
        cache: folder of the copies; a model never changes, so a second call takes what is there.

    Raises:
        CheckpointError: there is no such model, it has no checkpoint, or MLflow does not answer.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")  # a checkpoint may take long
    try:
        client = mlflow_client()
        model_id = _model_id(client, uri)
        folder = cache / model_id
        if not folder.is_dir():
            _download(client.get_logged_model(model_id).artifact_location, folder)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{uri}: cannot be had from MLflow at {tracking_place()} ({first_line(error)}); {EXPECTED}"
        ) from error
    found = sorted(folder.rglob("*.pt"))
    if not found:
        raise CheckpointError(f"{uri}: this model has no checkpoint; expected one of 'upsnet register'")
    return found[0]


def _model_id(client: Any, uri: str) -> str:
    """MLflow's id of the model that a URI names."""
    if uri.startswith("runs:/"):
        return _model_of_run(client, uri.removeprefix("runs:/"), uri)
    from mlflow.store.artifact.utils import models

    find: Any = models.get_model_name_and_version
    found = find(client, uri.rstrip("/"))  # or the id of a model, alone
    return _model_of(client.get_model_version(*found), uri) if len(found) == 2 else str(found[0])


def _model_of(version: Any, uri: str) -> str:
    model_id = version.model_id or (version.source or "").removeprefix("models:/")
    if not model_id.startswith("m-"):
        raise CheckpointError(
            f"{uri}: was not registered by 'upsnet register'; its source is {version.source}"
        )
    return str(model_id)


def _model_of_run(client: Any, rest: str, uri: str) -> str:
    """The model that a run logged last."""
    run_id, _, name = rest.strip("/").partition("/")
    outputs = client.get_run(run_id).outputs
    models = [
        client.get_logged_model(output.model_id) for output in (outputs.model_outputs if outputs else [])
    ]
    models = [model for model in models if name in ("", model.name)]
    if not models:
        raise CheckpointError(f"{uri}: this run has no such model; log one with 'upsnet register'")
    return str(max(models, key=lambda model: model.creation_timestamp).model_id)


def _download(location: str, folder: Path) -> None:
    """Fetches the model's checkpoint; the folder appears whole or not at all."""
    import mlflow

    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = tempfile.mkdtemp(dir=folder.parent, prefix=".")
    try:
        got = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{location.rstrip('/')}/artifacts", dst_path=beside, tracking_uri=tracking_uri()
        )
        os.replace(got, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
