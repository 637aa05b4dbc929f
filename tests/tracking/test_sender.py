"""What arrives in a real MLflow when answers are lost, processes are killed, and servers change."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")

from upsnet.config import TrackingConfig  # noqa: E402
from upsnet.errors import UpsnetError  # noqa: E402
from upsnet.tracking import Tracker, open_tracker, sync_runs  # noqa: E402
from upsnet.tracking.outbox import Journal, Outbox  # noqa: E402
from upsnet.tracking.points import append_line  # noqa: E402
from upsnet.tracking.sender import Sender  # noqa: E402

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An MLflow of this test alone."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    return f"sqlite:///{tmp_path}/runs.db"


def open_in(out: Path) -> Tracker:
    return open_tracker(TrackingConfig(), out, run_file=out / "run.json", run_name="a run")


def steps(run_id: str | None, name: str = "loss") -> list[int]:
    """The steps of a figure in MLflow, repeated ones too."""
    history = mlflow.MlflowClient().get_metric_history(run_id, name)
    return sorted(Counter(metric.step for metric in history).elements())


class LosesAnswers:
    """MLflow's client, whose answer to the first batch is lost on its way."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def log_batch(self, run_id: str, metrics: Any) -> None:
        self._client.log_batch(run_id, metrics=metrics)
        self.batches.append(len(metrics))
        if len(self.batches) == 1:
            raise ConnectionError("cut")


def test_a_batch_whose_answer_was_lost_is_not_sent_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "out")
    outbox.write_journal(Journal("a run", "upsnet"))
    for step in range(4):
        append_line(outbox.log("log.jsonl"), {"loss": 1.0, "rate": float("nan")}, step)
    sender = Sender(outbox, running=True)
    sender.open()
    client = LosesAnswers(sender._client)
    sender._client = client
    with pytest.raises(ConnectionError):
        sender.send()
    append_line(outbox.log("log.jsonl"), {"loss": 1.0}, 4)
    again = Sender(outbox, running=True)  # as a process after a kill: the journal is all it has
    again.open()
    client._client = again._client
    again._client = client
    again.send()
    assert client.batches == [8, 1]
    assert steps(again.run_id) == [0, 1, 2, 3, 4]


def test_the_iterations_that_a_resumed_training_repeats_come_once(tmp_path: Path) -> None:
    first = open_in(tmp_path / "out")
    for step in (1, 2, 3, 4):
        first.log_metrics({"loss": 1.0}, step)
    first.close("KILLED")
    second = open_in(tmp_path / "out")
    second.begin(resumed=True)
    for step in (3, 4, 5):
        second.log_metrics({"loss": 1.0}, step)
    second.log_metrics({"PQ": 1.0}, 4)  # the first attempt did not come to it
    second.close()
    run_id = json.loads((tmp_path / "out" / "run.json").read_text())["run_id"]
    assert steps(run_id) == [1, 2, 3, 4, 5]
    assert steps(run_id, "PQ") == [4]


def test_the_half_line_of_a_killed_process_is_cut_off(tmp_path: Path) -> None:
    first = open_in(tmp_path / "out")
    first.log_metrics({"loss": 1.0}, 1)
    first.close()
    with (tmp_path / "out" / "log.jsonl").open("a") as log:
        log.write('{"time": "2026-01-01T00:0')
    second = open_in(tmp_path / "out")
    second.log_metrics({"loss": 1.0}, 2)
    run_id = second.run_id
    second.close()
    assert steps(run_id) == [1, 2]
    assert all(json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines())


def test_a_lost_journal_doubles_nothing(tmp_path: Path) -> None:
    first = open_in(tmp_path / "out")
    first.log_metrics({"loss": 1.0}, 1)
    first.close()
    (tmp_path / "out" / "mlflow_sent.json").write_text("")
    second = open_in(tmp_path / "out")
    second.log_metrics({"loss": 1.0}, 2)
    run_id = second.run_id
    second.close()
    assert steps(run_id) == [1, 2]


def test_another_mlflow_gets_the_whole_history_in_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_in(tmp_path / "out")
    first.log_metrics({"loss": 1.0}, 1)
    first.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(UpsnetError, match="another MLflow"):
        list(sync_runs([tmp_path / "out"]))
    second = open_in(tmp_path / "out")
    second.log_metrics({"loss": 1.0}, 2)
    run_id = second.run_id
    second.close()
    assert steps(run_id) == [1, 2]


def test_training_and_evaluation_without_a_server_become_one_run_by_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    training = open_in(tmp_path / "out")
    training.log_metrics({"loss": 1.0}, 1)
    training.close()
    evaluation = open_tracker(
        TrackingConfig(),
        tmp_path / "out" / "evaluate",
        run_file=tmp_path / "out" / "run.json",
        run_name="a run",
    )
    evaluation.log_metrics({"PQ": 1.0}, 0)
    evaluation.log_table([{"class": "road", "PQ": 1.0}], "per_class.json")
    evaluation.close()
    with pytest.raises(UpsnetError, match="run 'upsnet sync' again"):
        list(sync_runs([tmp_path / "out"]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    first, second = sync_runs([tmp_path / "out"])
    assert first.run_id == second.run_id
    assert [synced.count for synced in sync_runs([tmp_path / "out"])] == [0, 0]
    assert (steps(first.run_id), steps(first.run_id, "PQ")) == ([1], [0])
    assert [f.path for f in mlflow.MlflowClient().list_artifacts(first.run_id)] == ["per_class.json"]


def test_starting_over_without_a_server_leaves_two_runs_for_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    first = open_in(tmp_path / "out")
    first.log_params({"a": 1})
    first.log_metrics({"loss": 1.0}, 7)
    first.close()
    second = open_in(tmp_path / "out")
    second.log_params({"a": 2})
    second.start_over()
    second.log_metrics({"loss": 2.0}, 1)
    second.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    old, new = sync_runs([tmp_path / "out"])
    runs = [mlflow.MlflowClient().get_run(synced.run_id) for synced in (old, new)]
    assert [run.data.params for run in runs] == [{"a": "1"}, {"a": "2"}]
    assert (steps(old.run_id), steps(new.run_id)) == ([7], [1])


def test_sync_leaves_a_running_training_alone(tmp_path: Path) -> None:
    tracker = open_in(tmp_path / "out")
    with pytest.raises(UpsnetError, match="another process is sending"):
        list(sync_runs([tmp_path / "out"]))
    tracker.close()


def test_sync_of_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpsnetError, match=r"there is no mlflow_sent\.json"):
        list(sync_runs([tmp_path]))
