"""The registry on an MLflow server that keeps its artifacts in S3; clients know nothing of S3."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.tiny import tiny_checkpoint
from tests.storage.servers import BUCKET, Server, free_port, rclone_server, running
from upsnet.config import TrackingConfig
from upsnet.registry import register_checkpoint
from upsnet.tracking import open_run
from upsnet.training.checkpoint import load_model, read_checkpoint
from upsnet.training.remote import local_checkpoint

pytestmark = pytest.mark.slow
pytest.importorskip("mlflow", reason="MLflow is not installed")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The S3 server behind the MLflow server."""
    folder = tmp_path_factory.mktemp("server")
    with rclone_server(folder / "s3") as s3:
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/runs.db"]
        command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
        environment = {**s3.variables(), "MLFLOW_S3_ENDPOINT_URL": s3.url}
        with running(command, port, environment), pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
            patch.setenv("UPSNET_CACHE", str(folder / "cache"))
            for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", *s3.variables()):
                patch.delenv(name, raising=False)
            yield s3


def test_a_model_goes_to_s3_through_the_server_and_comes_back(storage: Server, tmp_path: Path) -> None:
    run = open_run(TrackingConfig(experiment="test"), "training")
    tags = {"data_version": "d1", "images": 60}
    given = tiny_checkpoint(tmp_path / "c.pt")
    done = register_checkpoint("proxied", given, run, {"PQ": 50.0}, tags)
    assert (done.version, done.champion) == (1, True)
    assert [file.name for file in storage.bucket.rglob("*.pt")] == ["checkpoint.pt"]
    for uri in ("models:/proxied@champion", f"runs:/{run}/model"):
        back = local_checkpoint(uri)
        assert load_model(back).iteration == 2
    trained, stored = read_checkpoint(given)["model"], read_checkpoint(back)["model"]
    assert all(stored[name].equal(trained[name]) for name in trained)
