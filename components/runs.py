"""The MLflow runs of a pipeline: one parent per ablation, and flat children that can be filtered alone.

The runs themselves are written by `upsnet train` and `upsnet evaluate`, which go on with the run that
MLFLOW_RUN_ID names. Here they are opened, so that each is in its place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.plan import PlannedVariant
from upsnet.config import Config
from upsnet.tracking import open_run

RUN_ID = "UPSNET_RUN_ID"
"""Environment variable with the id of the Kubeflow run; empty on a laptop."""


def pipeline_run_id() -> str:
    """The Kubeflow run that this step belongs to, empty on a laptop."""
    return os.environ.get(RUN_ID, "")


def open_parent(preset: str, planned: Sequence[PlannedVariant]) -> str:
    """Opens the run of an ablation, and returns its id; empty without MLflow."""
    names = [entry.name for entry in planned]
    return open_run(
        planned[0].config.tracking,
        _ablation_name(preset),
        params={"preset": preset, "variants": ", ".join(names), "seed": planned[0].config.seed},
        tags={**_common_tags(), "preset": preset, "kind": "ablation"},
    )


def open_training(config: Config, name: str, parent: str, run_file: Path, tags: Mapping[str, Any]) -> str:
    """Opens the run of one training, below its parent; an earlier attempt has left its id in `run_file`."""
    own = {"preset": config.preset, "variant": config.variant, "kind": "training"}
    return open_run(
        config.tracking,
        f"{config.preset}+{name}",
        parent=parent,
        run_file=run_file,
        tags={
            **_common_tags(),
            **own,
            **({"ablation": _ablation_name(config.preset)} if parent else {}),
            **tags,
        },
    )


def _ablation_name(preset: str) -> str:
    return f"ablation of {preset}"


def _common_tags() -> dict[str, str]:
    return {"kubeflow_run": pipeline_run_id()} if pipeline_run_id() else {}
