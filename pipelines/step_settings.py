"""What the pipelines' steps get from Kubernetes: image, secrets, volume, resources, limits of time, retries.

Names are those of k8s/. On a laptop none of it applies.
"""

from __future__ import annotations

from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.runs import RUN_ID

DATA_CLAIM, VOLUME = "upsnet-data", "/data"
MLFLOW_CONFIG = "mlflow-config"
MLFLOW_SECRET, MLFLOW_KEYS = "mlflow-credentials", ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
S3_SECRET = "s3-credentials"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")
RUN_LABEL = "metadata.labels['pipeline/runid']"
GPU = "nvidia.com/gpu"
SHARED_MEMORY = "4Gi"
"""Most that loader processes and NCCL may take of /dev/shm; it counts as the pod's memory."""
MINUTE, HOUR, DAY = 60, 3600, 24 * 3600


def with_services(task: PipelineTask, image: Any, timeout_s: int, retries: int) -> PipelineTask:
    """A step with image, MLflow, S3, the data volume, a limit of time and retries.

    Secrets and keys that are not there leave their variables out: not every cluster has all of them.
    """
    task.set_container_image(image)
    kubernetes.use_field_path_as_env(task, RUN_ID, RUN_LABEL)
    kubernetes.use_config_map_as_env(
        task, MLFLOW_CONFIG, {"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"}, optional=True
    )
    kubernetes.use_secret_as_env(task, MLFLOW_SECRET, {key: key for key in MLFLOW_KEYS}, optional=True)
    kubernetes.use_secret_as_env(task, S3_SECRET, {key: key for key in S3_KEYS}, optional=True)
    kubernetes.mount_pvc(task, DATA_CLAIM, VOLUME)
    kubernetes.set_timeout(task, timeout_s)
    task.set_retry(num_retries=retries, backoff_duration="30s", backoff_factor=2.0)
    return task


def with_resources(task: PipelineTask, cpu: Any, memory: Any, gpus: Any = None) -> PipelineTask:
    """A step with requests and limits, GPUs with the toleration of their nodes, and shared memory."""
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    given = [cpu, memory]
    if gpus is not None:
        task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
        kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
        given.append(gpus)
    # Settings alone do not carry a parameter into a loop; registered, it is an input of the step.
    task.register_pipeline_channels([value for value in given if not isinstance(value, str | int)])
    kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=SHARED_MEMORY)
    return task
