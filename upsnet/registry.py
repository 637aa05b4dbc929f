"""The model registry: a checkpoint becomes a version of a registered model, the best of them the champion.

It speaks to MLflow through the client of tracking.py. Unlike a training, which goes on without MLflow, a
registration that fails says so: it is the whole work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upsnet.errors import UpsnetError
from upsnet.tracking import first_line, legal_name, mlflow_client, tracking_place

CHAMPION = "champion"
"""Alias of the version that others should take."""
FOLDER = "checkpoint"
"""Of the run's artifacts, where the registered checkpoint lies."""
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
    """Registers a checkpoint as a version of a model; the same run again gives the same version.

    The alias `champion` moves to it if there is none yet, or if its PQ is better on the same data version and
    as many images. Figures on other data say nothing about which network is better: there it stays.

    Args:
        name: of the registered model, made if it is new.
        checkpoint: file; it is stored with the run.
        run_id: MLflow run that trained it.
        figures: percent and milliseconds, with `PQ`; they become tags of the version.
        tags: must have `COMPARABLE`.

    Raises:
        UpsnetError: no file, or MLflow refuses or does not answer.
    """
    if not checkpoint.is_file():
        raise UpsnetError(f"register: there is no checkpoint {checkpoint}; train first")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")  # the server may take long to store a file
    texts = {legal_name(key): str(value) for key, value in {**tags, **figures}.items()}
    try:
        client = mlflow_client()
        version = _version_of_run(client, name, run_id)
        if version is None:
            client.log_artifact(run_id, str(checkpoint), FOLDER)
            version = _new_version(client, name, f"runs:/{run_id}/{FOLDER}/{checkpoint.name}", run_id)
        for key, text in texts.items():
            client.set_model_version_tag(name, str(version), key, text)
        champion, reason = _is_champion(client, name, version, texts)
        if champion:
            client.set_registered_model_alias(name, CHAMPION, str(version))
    except Exception as error:
        raise UpsnetError(
            f"register: MLflow at {tracking_place()} did not register {name!r} of run {run_id}: "
            f"{first_line(error)}"
        ) from error
    return Registered(name, version, champion, reason)


def _version_of_run(client: Any, name: str, run_id: str) -> int | None:
    """The version that was registered from a run, if there is one."""
    found = client.search_model_versions(f"run_id = '{run_id}'")
    return max((int(version.version) for version in found if version.name == name), default=None)


def _new_version(client: Any, name: str, source: str, run_id: str) -> int:
    try:
        client.create_registered_model(name)
    except Exception as error:
        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
    return int(client.create_model_version(name, source, run_id).version)


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
