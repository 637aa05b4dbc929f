"""What the tests of the launchers share: a cluster of their own, and small jobs for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.launchers.settings import LauncherSettings
from tests.components.launchers.cluster_server import ClusterServer, Operator

QUICK = LauncherSettings(
    poll_s=0.02,
    request_timeout_s=5,
    api_patience_s=20,
    api_pause_s=0.02,
    api_longest_pause_s=0.2,
    log_idle_s=5,
    log_drain_s=10,
    delete_timeout_s=10,
)
STEP = {"KFP_POD_NAME": "training-x7f-train-1", "KFP_POD_UID": "uid-of-the-step"}

StartCluster = Callable[[Operator], ClusterServer]


@pytest.fixture
def start_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartCluster]:
    """Starts an API server, which this process then uses."""
    started: list[ClusterServer] = []

    def start(operator: Operator) -> ClusterServer:
        cluster = ClusterServer(operator)
        started.append(cluster)
        monkeypatch.setenv("KUBECONFIG", str(cluster.write_kubeconfig(tmp_path / "kubeconfig")))
        return cluster

    yield start
    for cluster in started:
        cluster.close()
