"""SIGTERM in the middle, in a process of its own: the MPIJob goes with it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.components.launchers.cluster_server import ClusterServer, idle_operator
from tests.components.launchers.conftest import StartCluster
from tests.horovod_workers import ROOT

LIMIT_S = 60


def keep_training(cluster: ClusterServer, name: str) -> Iterator[None]:
    """An operator whose training never ends."""
    cluster.set_condition(name, "Created")
    cluster.start_workers(name)
    cluster.write(cluster.start_launcher(name, "aaaaa"), "iteration 1")
    yield


def start_step() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.components.launchers.stop_program"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_training_takes_the_job_away(
    start_cluster: StartCluster, number: signal.Signals
) -> None:
    cluster = start_cluster(keep_training)
    step = start_step()
    assert cluster.log_followed.wait(LIMIT_S)
    step.send_signal(number)
    _, err = step.communicate(timeout=LIMIT_S)
    assert step.returncode == 128 + number, err
    assert "Traceback" not in err
    assert cluster.jobs == {}
    assert cluster.pods == {}
    assert [policy for _, policy in cluster.deletions] == ["Foreground"]


def test_sigterm_while_the_job_is_being_created_takes_it_away(start_cluster: StartCluster) -> None:
    cluster = start_cluster(idle_operator)
    cluster.hold_creation = threading.Event()
    step = start_step()
    assert cluster.creation_arrived.wait(LIMIT_S)
    step.send_signal(signal.SIGTERM)
    cluster.hold_creation.set()
    _, err = step.communicate(timeout=LIMIT_S)
    assert step.returncode == 143, err
    assert len(cluster.created) == 1
    assert cluster.jobs == {}


def test_a_second_sigterm_does_not_interrupt_the_deletion(start_cluster: StartCluster) -> None:
    cluster = start_cluster(keep_training)
    cluster.hold_deletion = threading.Event()
    step = start_step()
    assert cluster.log_followed.wait(LIMIT_S)
    step.send_signal(signal.SIGTERM)
    assert cluster.deletion_arrived.wait(LIMIT_S)
    step.send_signal(signal.SIGTERM)
    cluster.hold_deletion.set()
    _, err = step.communicate(timeout=LIMIT_S)
    assert step.returncode == 143, err
    assert cluster.jobs == {}


def test_sigterm_while_the_api_server_is_away_takes_the_job_away_when_it_is_back(
    start_cluster: StartCluster,
) -> None:
    def operator(cluster: ClusterServer, name: str) -> Iterator[None]:
        yield from keep_training(cluster, name)
        cluster.log_followed.wait(LIMIT_S)
        cluster.go_away(1.0)
        away.set()
        yield

    away = threading.Event()
    cluster = start_cluster(operator)
    step = start_step()
    assert away.wait(LIMIT_S)
    step.send_signal(signal.SIGTERM)
    _, err = step.communicate(timeout=LIMIT_S)
    assert step.returncode == 143, err
    assert cluster.jobs == {}
