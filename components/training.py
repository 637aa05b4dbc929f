"""What the step `train` does: opens the MLflow run, has the launcher train, and keeps the checkpoint."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.commands import train_command
from components.launchers import TrainingJob, launcher
from components.places import check_volume, data_folder, keep_training, say_failure, training_folder
from components.runs import open_training, pipeline_run_id
from upsnet.config import read_config
from upsnet.data.shards import PreparedData
from upsnet.errors import UpsnetError
from upsnet.evaluation.ablation import Row, failed_row
from upsnet.storage import make_folder
from upsnet.tracking import close_run

SECRETS = ("mlflow-credentials", "s3-credentials")
RUN_FILE = "mlflow_run.json"


@dataclasses.dataclass(frozen=True)
class Training:
    """The inputs of the step; see components/train.py."""

    variant: str
    config_file: str
    data_path: str
    data_metadata: Mapping[str, Any]
    checkpoint_path: str
    parent_run: str
    volume: str
    launcher: str
    workers: int
    gpus_per_worker: int
    image: str
    timeout_hours: float
    task_config: Any

    @property
    def slots_per_worker(self) -> int:
        """Ranks per pod."""
        return max(1, self.gpus_per_worker)


def train_variant(training: Training, keep_going: bool) -> Row:
    """Trains a variant; with `keep_going`, a training that fails gives a row that says why.

    Raises:
        UpsnetError: the training failed, and `keep_going` is not set.
    """
    run_id = ""
    try:
        check_volume(training.volume)
        out = make_folder(training_folder(training.volume, training.checkpoint_path, training.variant))
        data = PreparedData(data_folder(training.data_path, training.data_metadata))
        shutil.copyfile(training.config_file, out / "config.yaml")
        run_id = _open_run(training, out, data)
        launcher(training.launcher).run(_job(training, out, data, run_id))  # type: ignore[arg-type]
        checkpoint = keep_training(out, training.checkpoint_path)
    except UpsnetError as error:
        close_run(run_id, "FAILED", tags={"failure": str(error)})
        if not keep_going:
            raise
        print(f"{training.variant}: {error}")
        say_failure(training.checkpoint_path, str(error))
        return failed_row(training.variant, str(error), run_id)
    return Row(
        variant=training.variant,
        status="trained",
        mlflow_run=run_id,
        data_version=data.version,
        checkpoint=checkpoint.name,
        metrics={},
    )


def _open_run(training: Training, out: Path, data: PreparedData) -> str:
    tags = {"data_version": data.version, "data_dvc_hash": training.data_metadata.get("dvc_hash") or "none"}
    config = read_config(out / "config.yaml")
    return open_training(config, training.variant, training.parent_run, out / RUN_FILE, tags)


def _job(training: Training, out: Path, data: PreparedData, run_id: str) -> TrainingJob:
    """The training for the launcher; the id of its MLflow run goes before a pod's own, even an empty one."""
    settings = training.task_config
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        settings = dataclasses.asdict(settings)
    return TrainingJob(
        name=training.variant,
        command=train_command(
            out / "config.yaml", data.folder, out, str(training.data_metadata.get("dvc_hash") or "")
        ),
        workers=training.workers,
        slots_per_worker=training.slots_per_worker,
        image=training.image,
        gpus_per_worker=training.gpus_per_worker,
        environment={"MLFLOW_RUN_ID": run_id},
        secret_names=SECRETS,
        task_config=settings,
        timeout_s=int(training.timeout_hours * 3600),
        run_id=pipeline_run_id(),
    )
