"""A real MLflow server that is killed in the middle of a real training, and a run that found it dead."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")

from tests.data.tiny import prepared_sizes  # noqa: E402
from tests.horovod_workers import ROOT, plain_environment  # noqa: E402
from tests.tracking.mlflow_server import MlflowServer  # noqa: E402
from tests.training.run_training import small_config  # noqa: E402
from upsnet.config import TrackingConfig, to_yaml  # noqa: E402
from upsnet.tracking import Synced, open_tracker, sync_runs  # noqa: E402

WAIT_SECONDS = 150


@dataclass
class Outage:
    """What the outage left.

    Attributes:
        client: of the runs.
        training: folder of a training that began before the outage and ended after it.
        said: what it printed.
        code: how it ended.
        lost: folder of a run that began and ended while the server was dead.
        synced: what two calls of `sync_runs` said.
    """

    client: Any
    training: Path
    said: str
    code: int
    lost: Path
    synced: list[Synced]


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Outage:
    folder = tmp_path_factory.mktemp("outage")
    server = MlflowServer(folder / "server")
    patch = pytest.MonkeyPatch()
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        patch.delenv(name, raising=False)
    patch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.start()
    training = _start_training(folder)
    try:
        _wait_for_step(folder / "training", 10)
        server.kill()
        _log_while_it_is_dead(folder / "lost")
        _wait_for_step(folder / "training", 10 + _last_step(folder / "training"))
        server.start()
        synced = [*sync_runs([folder / "lost"]), *sync_runs([folder / "lost"])]
        training.send_signal(signal.SIGTERM)
        said, _ = training.communicate(timeout=WAIT_SECONDS)
    finally:
        training.kill()
        server.kill()
        patch.undo()
    client = mlflow.MlflowClient(server.database)
    return Outage(client, folder / "training", said, training.returncode, folder / "lost", synced)


def _start_training(folder: Path) -> "subprocess.Popen[str]":
    prepared_sizes(folder / "data", [(40, 60)] * 4)
    settings = ["training.iterations=100000", "training.log_interval=1", "training.steps=[90000]"]
    config = small_config(*settings, "training.checkpoint_interval=1000000", "loader.processes=0")
    (folder / "config.yaml").write_text(to_yaml(config))
    arguments = ["--config", folder / "config.yaml", "--data", folder / "data", "--out", folder / "training"]
    return subprocess.Popen(
        [sys.executable, "-m", "upsnet.cli", "train", *map(str, arguments)],
        cwd=ROOT,
        env=plain_environment(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _last_step(out: Path) -> int:
    log = out / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.is_file() else 0


def _wait_for_step(out: Path, step: int) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while _last_step(out) < step:
        assert time.monotonic() < until, f"iteration {_last_step(out)} of {step}"
        time.sleep(0.1)


def _log_while_it_is_dead(out: Path) -> None:
    tracker = open_tracker(TrackingConfig(), out, run_file=out / "mlflow_run.json", run_name="lost")
    tracker.log_params({"switch": "off"})
    tracker.set_tags({"data_version": "abc"})
    tracker.log_text("seed: 1\n", "config.yaml")
    for step in range(1500):
        tracker.log_metrics({"loss": float(step)}, step)
    tracker.close()


def counts(client: Any, out: Path, names: list[str]) -> dict[str, Counter[int]]:
    """How often MLflow has each step of a figure."""
    run_id = json.loads((out / "mlflow_run.json").read_text())["run_id"]
    return {name: Counter(m.step for m in client.get_metric_history(run_id, name)) for name in names}


def logged(out: Path, log: str, name: str) -> list[int]:
    lines = [json.loads(line) for line in (out / log).read_text().splitlines()]
    return [line["step"] for line in lines if name in line]


def test_the_training_goes_on_with_one_warning(outage: Outage) -> None:
    assert outage.code == 143, outage.said
    assert outage.said.count("MLflow") == 1, outage.said
    assert f"upsnet sync {outage.training}" in outage.said


def test_the_run_has_every_point_of_the_training_once(outage: Outage) -> None:
    for log, name in (("log.jsonl", "loss/total"), ("log.jsonl", "rate")):
        there = counts(outage.client, outage.training, [name])[name]
        assert there == Counter(logged(outage.training, log, name))
        assert set(there.values()) == {1}
        assert len(there) >= 20


def test_the_figures_of_the_machine_are_there_once_too(outage: Outage) -> None:
    name = "system/cpu_utilization_percentage"
    there = counts(outage.client, outage.training, [name])[name]
    assert there == Counter(logged(outage.training, "system.jsonl", name))
    assert there


def test_the_training_is_one_run_that_ended_as_it_was_asked_to(outage: Outage) -> None:
    run_id = json.loads((outage.training / "mlflow_run.json").read_text())["run_id"]
    run = outage.client.get_run(run_id)
    assert run.info.status == "KILLED"
    files = (outage.training.parent / "server" / "artifacts").rglob(f"{run_id}/artifacts/*")
    assert [file.name for file in files] == ["config.yaml"]


def test_a_run_without_a_server_is_brought_by_sync(outage: Outage) -> None:
    first, second = outage.synced
    assert first.count > 1500
    assert (second.count, second.run_id) == (0, first.run_id)
    run = outage.client.get_run(first.run_id)
    assert (run.info.run_name, run.info.status) == ("lost", "FINISHED")
    assert (run.data.params, run.data.tags["data_version"]) == ({"switch": "off"}, "abc")
    assert counts(outage.client, outage.lost, ["loss"])["loss"] == Counter(range(1500))
    assert run.info.end_time - run.info.start_time < 60_000  # as it was, not as it was sent
    assert not list((outage.lost / "mlflow_pending").iterdir())


def test_there_is_no_run_but_these_two(outage: Outage) -> None:
    experiment = outage.client.get_experiment_by_name("upsnet")
    assert len(outage.client.search_runs([experiment.experiment_id])) == 2
    assert os.environ.get("MLFLOW_RUN_ID") is None
