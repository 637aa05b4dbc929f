"""The MPIJob (kubeflow.org/v2beta1) of a training, typed, with every check made before anything is created.

The operator accepts what it will never run, and says so only in an event: names, policies and resources are
therefore checked here. Worker pods run sshd and carry GPUs, volumes and the environment; the launcher pod
only waits for their ssh and runs mpirun.

The environment reaches the ranks by a file that each worker writes from its own (memory volume, umask 077)
and `rank.sh` sources, not by `mpirun -x`: the names of a Secret's keys need not be known, a value may hold
any character, no credential is on the launcher or travels, and it is the same under Open MPI 4 and 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from components.launchers import naming
from components.launchers.environment import literal, rank_environment, variable
from components.launchers.job import LaunchError, TrainingJob
from components.launchers.mpijob_types import (
    Container,
    MPIJob,
    PodSpec,
    PodTemplate,
    Replica,
    ReplicaSpecs,
    RunPolicy,
    Spec,
)
from components.launchers.settings import LauncherSettings
from components.launchers.step_settings import (
    Fragment,
    Resources,
    StepSettings,
    cpus,
    step_settings,
)

HOSTFILE = "/etc/mpi/hostfile"
SSH_FOLDER = "/home/upsnet/.ssh"
SSH_PORT = 2222
USER = 1000
SERVICE_ACCOUNT = "upsnet-training"
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",  # a large data volume is not gone through at every start
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""With what `Container` says of itself: the pod security level `restricted`."""
PRIVATE_FOLDER = "/run/upsnet"
ENVIRONMENT_FILE = f"{PRIVATE_FOLDER}/environment"
SHARED_MEMORY = "2Gi"
"""Limit of /dev/shm (NCCL, loader processes) where the step mounts none; it counts as memory of the pod."""
LAUNCHER_RESOURCES = Resources(
    requests={"cpu": "100m", "memory": "128Mi"}, limits={"cpu": "1", "memory": "512Mi"}
)
# [registry[:port]/]path[:tag][@digest]
IMAGE_NAME = re.compile(
    r"([a-zA-Z0-9.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def build_manifest(
    job: TrainingJob, settings: LauncherSettings, environ: Mapping[str, str]
) -> dict[str, Any]:
    """The MPIJob of a training as the API takes it.

    Args:
        environ: of the pipeline step: owner pod, MLflow and S3 settings.

    Raises:
        LaunchError: the cluster would refuse it, or never run it.
    """
    _check(job)
    step = step_settings(job)
    spec = Spec(
        slots_per_worker=job.slots_per_worker,
        ssh_auth_mount_path=SSH_FOLDER,
        run_policy=RunPolicy(
            backoff_limit=job.backoff_limit,
            # Only for the case that the launcher is no more: it gives up at timeout_s itself, and says why.
            active_deadline_seconds=job.timeout_s + 60,
            ttl_seconds_after_finished=settings.keep_s,
        ),
        mpi_replica_specs=ReplicaSpecs(
            Launcher=_launcher(job, step, settings), Worker=_workers(job, step, environ)
        ),
    )
    manifest = MPIJob(metadata=_metadata(job, environ), spec=spec)
    return manifest.model_dump(by_alias=True, exclude_none=True)


def launcher_command(job: TrainingJob, settings: LauncherSettings) -> list[str]:
    """The command of the launcher pod: wait for ssh, then mpirun."""
    ssh_wait = str(settings.ssh_wait_s)
    return ["/bin/bash", "-c", _script("launcher.sh"), "launcher.sh", HOSTFILE, ssh_wait, *_mpirun(job)]


def worker_command() -> list[str]:
    """The command of a worker pod: write its environment for the ranks, then sshd."""
    return ["/bin/bash", "-c", _script("worker.sh"), "worker.sh", ENVIRONMENT_FILE]


def _mpirun(job: TrainingJob) -> list[str]:
    rank = ["/bin/bash", "-c", _script("rank.sh"), "rank.sh", ENVIRONMENT_FILE, *job.rank_command]
    # The operator's variables that name the hostfile are Open MPI 4's; version 5 would train here alone.
    hosts = ["--hostfile", HOSTFILE, "-np", str(job.ranks), "--map-by", "slot", "--bind-to", "none"]
    return ["mpirun", *hosts, "--mca", "pml", "ob1", "--mca", "btl", "^openib", *rank]


def _check(job: TrainingJob) -> None:
    """What no type can say."""
    for name in ("workers", "slots_per_worker", "start_timeout_s", "timeout_s"):
        if getattr(job, name) < 1 or getattr(job, name) != int(getattr(job, name)):
            raise LaunchError(f"{name}: found {getattr(job, name)}, expected a whole number of at least 1")
    if job.backoff_limit < 1 or job.gpus_per_worker < 0:
        raise LaunchError(
            f"backoff_limit: found {job.backoff_limit}, expected at least 1, as DNS and ssh may lag; "
            f"gpus_per_worker: found {job.gpus_per_worker}, expected at least 0"
        )
    if not job.command:
        raise LaunchError("command: found nothing, expected the 'upsnet train ...' of one rank")
    if not IMAGE_NAME.fullmatch(job.image):
        raise LaunchError(f"image: found {job.image!r}, expected [registry/]name[:tag], such as upsnet:0.1.0")
    for secret in job.secret_names:
        if not SECRET_NAME.fullmatch(secret):
            raise LaunchError(f"secret_names: {secret!r} is no name of a Secret")


def _metadata(job: TrainingJob, environ: Mapping[str, str]) -> Fragment:
    marks = naming.owner_marks(environ)
    labels = {naming.MANAGED_BY: "upsnet", "app.kubernetes.io/name": "upsnet", **marks.pop("labels")}
    annotations = {naming.RUN_ID: naming.run_id(job), naming.STEP: job.name, **marks.pop("annotations")}
    return {"name": naming.job_name(job), "labels": labels, "annotations": annotations, **marks}


def _launcher(job: TrainingJob, step: StepSettings, settings: LauncherSettings) -> Replica:
    container = Container(
        name="launcher",
        image=job.image,
        args=[literal(part) for part in launcher_command(job, settings)],
        resources=LAUNCHER_RESOURCES,
    )
    # Never: each attempt is a pod of its own, whose log and exit code stay.
    return _replica(1, "Never", container, step, volumes=[])


def _workers(job: TrainingJob, step: StepSettings, environ: Mapping[str, str]) -> Replica:
    env = rank_environment(job.environment, step.env, environ)
    if not any(entry["name"] == "OMP_NUM_THREADS" for entry in env):
        threads = max(1, cpus(step.resources) // job.slots_per_worker)
        env.append(variable("OMP_NUM_THREADS", str(threads)))  # a pod sees all cores of its node
    mounts, volumes = _worker_volumes(step)
    container = Container(
        name="worker",
        image=job.image,
        args=[literal(part) for part in worker_command()],
        env=env,
        env_from=[{"secretRef": {"name": name, "optional": True}} for name in job.secret_names],
        ports=[{"name": "ssh", "containerPort": SSH_PORT}],
        readiness_probe={"tcpSocket": {"port": SSH_PORT}, "initialDelaySeconds": 1, "periodSeconds": 2},
        resources=step.resources,
        volume_mounts=mounts,
    )
    # OnFailure: a worker that ran out of memory comes back, and the next attempt finds its ssh.
    return _replica(job.workers, "OnFailure", container, step, volumes=volumes)


def _worker_volumes(step: StepSettings) -> tuple[list[Fragment], list[Fragment]]:
    """Mounts and volumes: the step's, the private folder, and /dev/shm where the step has none."""
    mounts = [*step.volume_mounts, {"name": "upsnet-private", "mountPath": PRIVATE_FOLDER}]
    volumes = [*step.volumes, _memory("upsnet-private", "1Mi")]
    if not any(mount.get("mountPath") == "/dev/shm" for mount in step.volume_mounts):
        mounts.append({"name": "upsnet-dshm", "mountPath": "/dev/shm"})
        volumes.append(_memory("upsnet-dshm", SHARED_MEMORY))
    return mounts, volumes


def _memory(name: str, limit: str) -> Fragment:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": limit}}


def _replica(
    replicas: int,
    restart: Literal["Never", "OnFailure"],
    container: Container,
    step: StepSettings,
    volumes: list[Fragment],
) -> Replica:
    """Both kinds go where the step's settings say: the launcher, too, may find every node tainted."""
    spec = PodSpec(
        containers=[container],
        restart_policy=restart,
        service_account_name=SERVICE_ACCOUNT,
        security_context=POD_SECURITY,
        affinity=step.affinity,
        node_selector=step.node_selector,
        tolerations=step.tolerations,
        volumes=volumes,
    )
    metadata = {
        "labels": {naming.MANAGED_BY: "upsnet", "app.kubernetes.io/name": "upsnet"},
        "annotations": {"sidecar.istio.io/inject": "false"},
    }
    return Replica(
        replicas=replicas, restart_policy=restart, template=PodTemplate(metadata=metadata, spec=spec)
    )


def _script(name: str) -> str:
    """A script of this package, without its comments."""
    text = (Path(__file__).parent / "scripts" / name).read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
