"""What the pipeline step's own settings (`dsl.TaskConfig`) say of the pods, and the checks of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernetes.utils.quantity import parse_quantity
from pydantic import BaseModel, ConfigDict, ValidationError

from components.launchers.job import LaunchError, TrainingJob

Fragment = dict[str, Any]
"""A piece of a pod's specification, in Kubernetes' own words."""

WORKER_DEFAULTS = {"cpu": "1", "memory": "4Gi"}
"""Requests and limits of a worker whose step names none."""


class Resources(BaseModel):
    """Requests and limits of a container."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class StepSettings(BaseModel):
    """`dsl.TaskConfig`, checked. Names as there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    affinity: Fragment | None = None
    tolerations: list[Fragment] = []
    node_selector: dict[str, str] = {}
    env: list[Fragment] = []
    volumes: list[Fragment] = []
    volume_mounts: list[Fragment] = []
    resources: Resources = Resources()


def step_settings(job: TrainingJob) -> StepSettings:
    """The settings of the pods, with the job's GPUs, and requests and limits for everything.

    Raises:
        LaunchError: a setting that the cluster would refuse or never fulfil.
    """
    given = {key: whole_numbers(value) for key, value in (job.task_config or {}).items() if value is not None}
    given["resources"] = {
        kind: {name: str(amount) for name, amount in (amounts or {}).items()}
        for kind, amounts in given.get("resources", {}).items()
        if kind != "claims"
    }
    try:
        settings = StepSettings.model_validate(given)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise LaunchError(f"task_config.{where}: {fault['msg']}; found {fault['input']!r}") from error
    _check_volumes(settings)
    return settings.model_copy(update={"resources": _complete(settings.resources, job)})


def whole_numbers(value: Any) -> Any:
    """The value with floats such as 300.0 as integers: the pipeline hands all numbers on as floats."""
    if isinstance(value, Mapping):
        return {key: whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def gpus(resources: Resources) -> dict[str, str]:
    """The GPUs among the limits, such as `nvidia.com/gpu`."""
    return {name: amount for name, amount in resources.limits.items() if name.endswith("/gpu")}


def cpus(resources: Resources) -> int:
    """Whole CPUs of the limit, at least 1."""
    return max(1, int(_quantity("cpu", resources.limits["cpu"])))


def _complete(resources: Resources, job: TrainingJob) -> Resources:
    """Requests and limits for CPU and memory; the one that is missing is taken from the other."""
    limits = {**resources.requests, **resources.limits}
    if job.gpus_per_worker:
        asked = gpus(Resources(limits=limits)) or {"nvidia.com/gpu": str(job.gpus_per_worker)}
        if set(asked.values()) != {str(job.gpus_per_worker)}:
            raise LaunchError(
                f"GPUs: gpus_per_worker is {job.gpus_per_worker}, the step's settings say {asked}"
            )
        limits.update(asked)
    limits = {**WORKER_DEFAULTS, **limits}
    requests = {**limits, **resources.requests}
    for name, amount in limits.items():
        if _quantity(name, requests[name]) > _quantity(name, amount):
            raise LaunchError(f"resources: the request {name}={requests[name]} is above the limit {amount}")
    for name, amount in gpus(Resources(limits=limits)).items():
        if amount != str(job.slots_per_worker):
            raise LaunchError(
                f"GPUs: {amount} {name} for {job.slots_per_worker} slots per worker; expected one per slot"
            )
    return Resources(requests=requests, limits=limits)


def _quantity(name: str, amount: str) -> Any:
    try:
        quantity = parse_quantity(amount)
    except ValueError as error:
        raise LaunchError(f"resources: {name}={amount!r} is no quantity such as 500m, 4 or 16Gi") from error
    if quantity < 0:
        raise LaunchError(f"resources: {name}={amount} is negative")
    return quantity


def _check_volumes(settings: StepSettings) -> None:
    names = [volume.get("name") for volume in settings.volumes]
    mounted = [mount.get("name") for mount in settings.volume_mounts]
    paths = [str(mount.get("mountPath")) for mount in settings.volume_mounts]
    if len({*names}) < len(names) or len({*paths}) < len(paths):
        raise LaunchError(f"task_config: a volume or a mount path comes twice: {names}, {paths}")
    if missing := sorted({str(name) for name in mounted if name not in names}):
        raise LaunchError(f"task_config: mounted, but not among the volumes: {', '.join(missing)}")
