"""The step `train`: one variant under Horovod, in this pod or as an MPIJob."""

from typing import Any

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.image import IMAGE

PASSTHROUGHS = [
    dsl.TaskConfigField.RESOURCES,
    dsl.TaskConfigField.KUBERNETES_TOLERATIONS,
    dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR,
    dsl.TaskConfigField.KUBERNETES_AFFINITY,
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_VOLUMES, apply_to_task=True),
]
"""Settings of the step that go to the MPIJob's pods; the step's own pod only waits, and sees the volumes."""


def _train(
    config: Input[Artifact],
    data: Input[Dataset],
    checkpoint: Output[Model],
    variant: str,
    config_version: str,
    data_version: str,
    parent_run: str,
    launcher: str,
    workers: int,
    gpus_per_worker: int,
    image: str,
    volume: str,
    timeout_hours: float,
    keep_going: bool,
    task_config: dsl.TaskConfig = None,
) -> dict[str, Any]:
    """Trains a variant and returns its row of the comparison.

    The versions are inputs so that Kubeflow takes a training from its cache for the same of both only.

    Args:
        config: folder of resolved configurations.
        data: prepared data.
        checkpoint: folder of the training: newest checkpoint, log, curves.
        variant: name of a configuration.
        config_version: of that configuration.
        data_version: of the data.
        parent_run: MLflow run that this one is shown below; empty: none.
        launcher: local | mpijob.
        workers: pods of the MPIJob; without GPUs, and with `local`, that many processes.
        gpus_per_worker: GPUs of each, with one process per GPU; 0: one process on the CPU.
        image: of the MPIJob's pods.
        volume: folder that all pods see; empty: none.
        timeout_hours: longest time of the training.
        keep_going: a training that fails is a row that says so, and not the end of the run.
        task_config: the step's own settings, for the MPIJob's pods.
    """
    from components.training import Training, train_variant

    training = Training(
        variant=variant,
        config_file=f"{config.path}/{variant}.yaml",
        data_path=data.path,
        data_metadata=data.metadata,
        checkpoint_path=checkpoint.path,
        parent_run=parent_run,
        volume=volume,
        launcher=launcher,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        image=image,
        timeout_hours=timeout_hours,
        task_config=task_config,
    )
    row = train_variant(training, keep_going)
    checkpoint.metadata.update({**row, "config_version": config_version, "data_version": data_version})
    return dict(row)


train = dsl.component(
    _train, base_image=IMAGE, install_kfp_package=False, task_config_passthroughs=PASSTHROUGHS
)
"""The step that waits for an MPIJob, which gets its GPUs, tolerations, node selectors and volumes."""
train_in_pod = dsl.component(_train, base_image=IMAGE, install_kfp_package=False)
"""The step that trains in its own pod, and has its settings for itself."""
