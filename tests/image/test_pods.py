"""The image's steps make a file system in which two pods train under mpirun, as an MPIJob's pods do.

Takes 20 to 30 minutes and a network; `make test-image` keeps the file system in runs/image for the next time
(UPSNET_IMAGE_ROOT names another place).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.launchers import TrainingJob
from components.launchers.manifest import build_manifest, launcher_command, worker_command
from components.launchers.settings import LauncherSettings
from tests.image.pods import Cluster

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("debootstrap", "ip", "setpriv", "ssh-keygen", "unshare")
ITERATIONS = 20
PATIENCE_S = 900
SMALL = [
    "data.synthetic.train_images=16",
    "data.synthetic.val_images=4",
    f"training.iterations={ITERATIONS}",
    "training.warmup_iterations=0",
    "tracking.mlflow=false",
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's file system, made by its own script."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"pods without a cluster need root and {', '.join(missing or PROGRAMS)}")
    folder = Path(os.environ.get("UPSNET_IMAGE_ROOT") or tmp_path_factory.mktemp("image") / "root")
    subprocess.run([ROOT / "image" / "debian_root.sh", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def job() -> TrainingJob:
    command = (
        "upsnet",
        "train",
        "--config",
        "/data/config.yaml",
        "--data",
        "/data/prepared",
        "--out",
        "/data/run",
    )
    return TrainingJob("mini", command, workers=2, image="upsnet:0.1.0", environment={"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def cluster(image: Path, job: TrainingJob, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A network with a launcher and two workers, whose names and hostfile are those the operator gives."""
    name = build_manifest(job, LauncherSettings(), {})["metadata"]["name"]
    workers = [f"{name}-worker-{number}.{name}.upsnet.svc" for number in range(job.workers)]
    hostfile = "".join(f"{worker} slots={job.slots_per_worker}\n" for worker in workers)
    with Cluster(image, tmp_path_factory.mktemp("pods"), [f"{name}-launcher", *workers], hostfile) as made:
        yield made


@pytest.fixture(scope="module")
def trained(cluster: Cluster, job: TrainingJob) -> dict[str, str]:
    """The logs of all pods of a training that ended well, by name of the pod."""
    launcher, *workers = cluster.addresses
    logs = {name: cluster.folder / f"{name}.log" for name in cluster.addresses}
    steps = [
        ["upsnet", "configure", "--preset", "mini", "--out", "/data/config.yaml", *SMALL],
        ["upsnet", "prepare", "--config", "/data/config.yaml", "--out", "/data/prepared"],
    ]
    for step in steps:
        wait(cluster.start(launcher, step, {}, logs[launcher]), logs[launcher])
    replica = build_manifest(job, LauncherSettings(), {})["spec"]["mpiReplicaSpecs"]["Worker"]
    variables = {
        entry["name"]: entry["value"] for entry in replica["template"]["spec"]["containers"][0]["env"]
    }
    sshds = [cluster.start(name, worker_command(), variables, logs[name]) for name in workers]
    try:
        began = time.monotonic()
        command = launcher_command(job, LauncherSettings())
        wait(cluster.start(launcher, command, {}, logs[launcher]), logs[launcher])
        print(f"{ITERATIONS} iterations in 2 pods under mpirun: {time.monotonic() - began:.0f} s")
    finally:
        for sshd in sshds:
            cluster.stop(sshd)
    return {name: log.read_text() for name, log in logs.items()}


def wait(process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for a pod that has to end well."""
    try:
        code = process.wait(PATIENCE_S)
    finally:
        Cluster.stop(process)
    assert code == 0, f"exit code {code}; its log:\n{log.read_text()}"


def test_two_pods_train_together_to_the_last_iteration(trained: dict[str, str], cluster: Cluster) -> None:
    lines = (cluster.data / "run" / "log.jsonl").read_text().splitlines()
    assert max(json.loads(line)["step"] for line in lines) == ITERATIONS
    assert list((cluster.data / "run" / "checkpoints").iterdir())


def test_every_worker_was_reached_by_ssh(trained: dict[str, str]) -> None:
    workers = [text for name, text in trained.items() if "-worker-" in name]
    assert len(workers) == 2
    assert all("Accepted publickey for upsnet" in text for text in workers)


def test_what_they_wrote_belongs_to_the_image_s_user(trained: dict[str, str], cluster: Cluster) -> None:
    owners = {path.stat().st_uid for path in cluster.data.rglob("*")}
    assert owners == {1000}


def test_the_compiler_and_what_only_the_build_needs_are_gone(image: Path) -> None:
    assert not [name for name in ("g++", "make", "mpicxx") if (image / "usr/bin" / name).exists()]


def test_neither_keys_nor_history_are_in_the_image(image: Path) -> None:
    assert list((image / "etc/ssh").glob("ssh_host_*")) == []
    app = image / "opt/upsnet"
    assert sorted(path.name for path in app.iterdir() if path.name.startswith(".")) == [".venv"]
    assert list((image / "tmp").iterdir()) == []
