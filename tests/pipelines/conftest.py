"""Fixtures of the tests of pipelines/: servers, and a small compiled pipeline."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("kfp", reason="kfp is not installed")
pytest.importorskip("kubernetes", reason="the kubernetes client is not installed")

from tests.pipelines.running import clean_environment, write_kubeconfig
from tests.pipelines.servers import KfpServer, KubernetesServer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without settings of Kubeflow, Kubernetes and MLflow."""
    clean_environment(monkeypatch)
    return monkeypatch


@pytest.fixture
def kfp(environment: pytest.MonkeyPatch) -> Iterator[KfpServer]:
    """Kubeflow Pipelines, to which KFP_HOST points."""
    with KfpServer() as server:
        environment.setenv("KFP_HOST", server.url)
        yield server


@pytest.fixture
def kubernetes_api(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KubernetesServer]:
    """The Kubernetes API, to which KUBECONFIG points."""
    with KubernetesServer() as server:
        environment.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", server.url)))
        yield server


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled pipeline: one step, a fan-out of another, and a last one, with Kubernetes settings."""
    from tests.pipelines.small_pipeline import compile_small_pipeline

    return compile_small_pipeline(tmp_path_factory.mktemp("package") / "small.yaml")
