"""The MPIJob (kubeflow.org/v2beta1) as types: Kubernetes' own names, and no others."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from components.launchers.step_settings import Fragment, Resources


class Model(BaseModel):
    """A part of the manifest: Kubernetes' names in camelCase, and no others."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, validate_default=True
    )


class Container(Model):
    """The one container of a pod."""

    name: str
    image: str
    command: list[str] = ["/usr/bin/tini", "--"]  # takes signals and reaps, which a shell as PID 1 does not
    args: list[str]
    env: list[Fragment] = []
    env_from: list[Fragment] = []
    ports: list[Fragment] = []
    readiness_probe: Fragment | None = None
    resources: Resources
    volume_mounts: list[Fragment] = []
    security_context: Fragment = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


class PodSpec(Model):
    """A pod that fits into a namespace of the pod security level `restricted`."""

    containers: list[Container] = Field(min_length=1, max_length=1)
    restart_policy: Literal["Never", "OnFailure"]
    service_account_name: str
    automount_service_account_token: bool = False
    enable_service_links: bool = False  # a Service called mlflow would set MLFLOW_PORT and more
    affinity: Fragment | None = None
    node_selector: dict[str, str] = {}
    tolerations: list[Fragment] = []
    volumes: list[Fragment] = []
    security_context: Fragment


class PodTemplate(Model):
    """A pod and its marks."""

    metadata: Fragment
    spec: PodSpec


class Replica(Model):
    """The launcher, or the workers."""

    replicas: int = Field(ge=1)
    restart_policy: Literal["Never", "OnFailure"]
    template: PodTemplate


class ReplicaSpecs(BaseModel):
    """Both kinds of pods, by the operator's names."""

    Launcher: Replica
    Worker: Replica


class RunPolicy(Model):
    """When a job ends, and what stays."""

    clean_pod_policy: Literal["None", "Running", "All"] = "Running"
    backoff_limit: int = Field(ge=0)
    active_deadline_seconds: int = Field(ge=1)
    ttl_seconds_after_finished: int = Field(ge=0)


class Spec(Model):
    """What the operator reads."""

    slots_per_worker: int = Field(ge=1)
    run_launcher_as_worker: bool = False
    ssh_auth_mount_path: str
    launcher_creation_policy: Literal["AtStartup", "WaitForWorkersReady"] = "WaitForWorkersReady"
    mpi_implementation: Literal["OpenMPI", "Intel", "MPICH"] = "OpenMPI"
    run_policy: RunPolicy
    mpi_replica_specs: ReplicaSpecs


class MPIJob(Model):
    """The whole object."""

    api_version: Literal["kubeflow.org/v2beta1"] = "kubeflow.org/v2beta1"
    kind: Literal["MPIJob"] = "MPIJob"
    metadata: Fragment
    spec: Spec
