"""Where the steps of a run put their files: in KFP's artifacts, or on a volume that all pods see.

Pods of an MPIJob get no artifacts, so there the prepared data and the training's folder lie on the volume,
and the artifacts hold what is small: the manifest, the newest checkpoint, the log.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.runs import pipeline_run_id
from upsnet.errors import UpsnetError

FOLDER = "folder"
"""Key in the metadata of the artifact of prepared data: where they lie, if not in the artifact."""
SMALL_FILES = ("config.yaml", "mlflow_run.json", "log.jsonl", "curves.csv")
CHECKPOINTS = "checkpoints"
FAILURE = "failed.txt"


def check_volume(volume: str) -> None:
    """Raises an UpsnetError if the volume is named and not there."""
    if volume and not Path(volume).is_dir():
        raise UpsnetError(
            f"volume {volume}: is no folder in this pod; mount the claim there, or give volume='' to keep "
            "all in artifacts"
        )


def data_folder(path: str, metadata: Mapping[str, Any]) -> Path:
    """The prepared data that an artifact stands for."""
    return Path(str(metadata.get(FOLDER) or path))


def new_data_folder(volume: str, path: str) -> Path:
    """Where data are prepared: in the artifact, or on the volume, unnamed until their version is known."""
    return Path(volume) / "prepared" / f".{uuid.uuid4().hex}" if volume else Path(path)


def keep_data(made: Path, volume: str, version: str, path: str) -> Path:
    """Gives prepared data on a volume their place by version; the artifact gets their manifest."""
    if not volume:
        return made
    place = made.with_name(version)
    try:
        os.rename(made, place)
    except OSError:  # another run was quicker with the same data
        shutil.rmtree(made)
    Path(path).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(place / "manifest.json", Path(path) / "manifest.json")
    return place


def training_folder(volume: str, path: str, name: str) -> Path:
    """Where a training writes: the artifact, or on the volume a folder that a retry finds again."""
    if not volume:
        return Path(path)
    run = pipeline_run_id() or os.environ.get("KFP_POD_NAME", "") or uuid.uuid4().hex
    return Path(volume) / "runs" / run / name


def keep_training(out: Path, path: str) -> Path:
    """Puts the newest checkpoint and what is small into the artifact, and returns that checkpoint."""
    newest = newest_checkpoint(out)
    artifact = Path(path)
    if out != artifact:
        (artifact / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(newest, artifact / CHECKPOINTS / newest.name)
        for name in SMALL_FILES:
            if (out / name).is_file():
                shutil.copyfile(out / name, artifact / name)
    return artifact / CHECKPOINTS / newest.name


def newest_checkpoint(training: Path) -> Path:
    """The last checkpoint of a training that ended well.

    Raises:
        UpsnetError: there is none.
    """
    found = sorted((training / CHECKPOINTS).glob("iteration-*.pt"))
    if not found:
        raise UpsnetError(
            f"{training / CHECKPOINTS}: holds no checkpoint; expected one at the end of a training"
        )
    return found[-1]


def say_failure(path: str, message: str) -> None:
    """Leaves a word in an artifact whose step failed, as an artifact without any file cannot be handed on."""
    Path(path).mkdir(parents=True, exist_ok=True)
    (Path(path) / FAILURE).write_text(message + "\n", encoding="utf-8")
