"""A small training for the tests of the launchers."""

from typing import Any

from components.launchers import TrainingJob


def small_job(**changes: Any) -> TrainingJob:
    """Two workers with one rank each."""
    command = (
        "upsnet",
        "train",
        "--config",
        "/data/config.yaml",
        "--data",
        "/data/coco",
        "--out",
        "/data/out",
    )
    values: dict[str, Any] = {
        "name": "mini",
        "run_id": "4f1f2a3b-5c6d",
        "command": command,
        "workers": 2,
        "image": "upsnet:0.1.0",
        "start_timeout_s": 60,
        "timeout_s": 60,
    }
    return TrainingJob(**{**values, **changes})
