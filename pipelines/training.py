"""The pipeline `training`: configure → prepare → train → evaluate → register."""

from typing import Any

from kfp import dsl

from components.configure import configure
from components.evaluate import evaluate
from components.image import IMAGE
from components.prepare import prepare
from components.register import register
from components.train import train, train_in_pod
from pipelines.step_settings import DAY, HOUR, MINUTE, VOLUME, with_resources, with_services


def build_training(in_pod: bool = False) -> Any:
    """The pipeline; `in_pod`: training in the step's own pod, which then has the GPUs, and no MPIJob."""
    train_step = train_in_pod if in_pod else train

    @dsl.pipeline(name="training", description="Train, evaluate and register one UPSNet.")
    def training(
        preset: str = "coco_r50",
        variants: str = "",
        overrides: list[str] = [],  # noqa: B006  kfp reads the default, nothing changes it
        data_source: str = "",
        data_revision: str = "",
        data_remote: str = "",
        workers: int = 1,
        gpus_per_worker: int = 0,
        worker_cpu: str = "2",
        worker_memory: str = "8Gi",
        evaluation_workers: int = 1,
        launcher: str = "local" if in_pod else "mpijob",
        image: str = IMAGE,
        experiment: str = "upsnet",
        model_name: str = "upsnet",
        volume: str = VOLUME,
        timeout_hours: float = 96.0,
    ) -> None:
        """Trains, evaluates and registers one network.

        Args:
            preset: name in configs/.
            variants: names in configs/variants/, joined by + or spaces; empty: none.
            overrides: section.key=value.
            data_source: git address of the DVC project that versions the data; empty: the image's own.
            data_revision: its git revision.
            data_remote: address of the DVC remote, such as s3://bucket/dvc; empty: the project's own, if any.
            workers: pods of the MPIJob.
            gpus_per_worker: GPUs of each of them, and of the evaluation.
            worker_cpu: CPUs of each of them, and of the evaluation.
            worker_memory: memory likewise.
            evaluation_workers: processes of the evaluation; at most one per GPU.
            launcher: mpijob, or local for Horovod in the step's own pod.
            image: of all steps.
            experiment: MLflow experiment.
            model_name: registered model in MLflow.
            volume: folder that all pods see; empty: all in artifacts, for the local launcher.
            timeout_hours: longest time of the training.
        """
        configured = configure(
            preset=preset,
            variant=variants,
            variants=[],
            overrides=overrides,
            experiment=experiment,
            ablation=False,
        )
        with_services(configured, image, 10 * MINUTE, retries=2)
        prepared = prepare(
            config=configured.outputs["config"],
            variant=configured.outputs["name"],
            data_source=data_source,
            data_revision=data_revision,
            data_remote=data_remote,
            volume=volume,
        ).set_caching_options(False)  # a revision may move; DVC knows what is there already
        with_resources(with_services(prepared, image, DAY, retries=1), worker_cpu, worker_memory)
        trained = train_step(
            config=configured.outputs["config"],
            data=prepared.outputs["data"],
            variant=configured.outputs["name"],
            config_version=configured.outputs["version"],
            data_version=prepared.outputs["data_version"],
            parent_run="",
            launcher=launcher,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            image=image,
            volume=volume,
            timeout_hours=timeout_hours,
            keep_going=False,
        )
        with_resources(
            with_services(trained, image, 14 * DAY, retries=1), worker_cpu, worker_memory, gpus_per_worker
        )
        evaluated = evaluate(
            checkpoint=trained.outputs["checkpoint"],
            data=prepared.outputs["data"],
            row=trained.outputs["Output"],
            workers=evaluation_workers,
            keep_going=False,
        )
        with_resources(
            with_services(evaluated, image, DAY, retries=1), worker_cpu, worker_memory, gpus_per_worker
        )
        registered = register(
            checkpoint=trained.outputs["checkpoint"], row=evaluated.outputs["Output"], model_name=model_name
        )
        with_services(registered, image, HOUR, retries=2)

    return training


training = build_training()
