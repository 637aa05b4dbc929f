"""The model registry: a trained network becomes a version of a registered model, the best the champion.

Unlike a training, which goes on without MLflow, a registration that fails says so: it is the whole work.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upsnet.errors import UpsnetError
from upsnet.tracking import first_line, legal_name, mlflow_client, tracking_place

CHAMPION = "champion"
"""Alias of the version that others should take."""
CHECKPOINT_TAG = "checkpoint_sha256"
"""Of a version: which file it was made of."""
COMPARABLE = ("data_version", "images")
"""Tags that must agree before the PQ of two versions says which is better."""


@dataclass(frozen=True)
class Registered:
    """A registered version; `reason` says why it is the champion now, or why not."""

    name: str
    version: int
    champion: bool
    reason: str


def register_checkpoint(
    name: str, checkpoint: Path, run_id: str, figures: Mapping[str, float], tags: Mapping[str, Any]
) -> Registered:
    """Logs the network of a checkpoint as a model of its run and registers it as a version.

    The same checkpoint of the same run again gives the same version. The alias `champion` moves to it if
    there is none yet, or if its PQ is better on the same data version and as many images. Figures on other
    data say nothing about which network is better: there it stays.

    Args:
        name: of the registered model, made if it is new.
        checkpoint: file.
        run_id: MLflow run that trained it.
        figures: percent and milliseconds, with `PQ`; they become tags of the version.
        tags: must have `COMPARABLE`.

    Raises:
        CheckpointError: the checkpoint is not good.
        UpsnetError: no file, or MLflow refuses or does not answer.
    """
    if not checkpoint.is_file():
        raise UpsnetError(f"register: there is no checkpoint {checkpoint}; train first")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")  # the server may take long to store a file
    source = _checksum(checkpoint)
    texts = {
        legal_name(key): str(value) for key, value in {**tags, **figures, CHECKPOINT_TAG: source}.items()
    }
    try:
        client = mlflow_client()
        version = _known_version(client, name, run_id, source)
        if version is None:
            version = _new_version(client, name, checkpoint, run_id)
        for key, text in texts.items():
            client.set_model_version_tag(name, str(version), key, text)
        champion, reason = _is_champion(client, name, version, texts)
        if champion:
            client.set_registered_model_alias(name, CHAMPION, str(version))
    except UpsnetError:
        raise
    except Exception as error:
        raise UpsnetError(
            f"register: MLflow at {tracking_place()} did not register {name!r} of run {run_id}: "
            f"{first_line(error)}"
        ) from error
    return Registered(name, version, champion, reason)


def evaluated_run(run_id: str, iteration: int) -> tuple[dict[str, float], dict[str, str]]:
    """Figures and tags of a run, for the checkpoint of an iteration.

    Raises:
        UpsnetError: there is no such run, or this checkpoint was not evaluated in it.
    """
    try:
        data = mlflow_client().get_run(run_id).data
    except Exception as error:
        raise UpsnetError(
            f"register: MLflow at {tracking_place()} does not give run {run_id}: {first_line(error)}"
        ) from error
    measured = data.tags.get("iteration")
    if "PQ" not in data.metrics or any(key not in data.tags for key in COMPARABLE):
        raise UpsnetError(
            f"register: MLflow run {run_id} has no PQ; run 'upsnet evaluate', or 'upsnet sync' if it was away"
        )
    if measured is not None and measured != str(iteration):
        raise UpsnetError(
            f"register: the figures of MLflow run {run_id} are of iteration {measured}, the checkpoint of "
            f"{iteration}; evaluate this checkpoint, or register the other"
        )
    figures = {name: value for name, value in data.metrics.items() if "/" not in name}
    return figures, {name: text for name, text in data.tags.items() if not name.startswith("mlflow.")}


def _checksum(checkpoint: Path) -> str:
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known_version(client: Any, name: str, run_id: str, source: str) -> int | None:
    """The version that was registered from a checkpoint of a run, if there is one."""
    found = client.search_model_versions(f"run_id = '{run_id}'")
    same = [v for v in found if v.name == name and v.tags.get(CHECKPOINT_TAG) == source]
    return max((int(version.version) for version in same), default=None)


def _new_version(client: Any, name: str, checkpoint: Path, run_id: str) -> int:
    from upsnet.serving.packing import log_model

    model_id = log_model(checkpoint, run_id)
    try:
        client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
    return int(client.create_model_version(name, f"models:/{model_id}", run_id, model_id=model_id).version)


def _is_champion(client: Any, name: str, version: int, tags: Mapping[str, str]) -> tuple[bool, str]:
    """Whether a version is to be the champion, and why."""
    current = client.get_registered_model(name).aliases.get(CHAMPION)
    if current is None:
        return True, "the first one"
    if int(current) == version:
        return True, "it has been so"
    there = client.get_model_version(name, current).tags
    for key in COMPARABLE:
        if there.get(key) != tags.get(key):
            return False, (
                f"version {current} stays, measured with {key} {there.get(key)} and not {tags.get(key)}: "
                "not comparable, move the alias by hand if you want it"
            )
    ours, theirs = float(tags["PQ"]), float(there["PQ"])
    if ours > theirs:
        return True, f"PQ {ours:.1f} over {theirs:.1f} of version {current} on the same data"
    return False, f"version {current} stays, PQ {theirs:.1f} over {ours:.1f} on the same data"
