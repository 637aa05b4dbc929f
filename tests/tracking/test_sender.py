"""What arrives in a real MLflow when answers are lost, processes are killed, and servers change."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")

from upsnet.config import TrackingConfig  # noqa: E402
from upsnet.errors import UpsnetError  # noqa: E402
from upsnet.tracking import Tracker, items, open_tracker, sync_runs  # noqa: E402
from upsnet.tracking.outbox import Journal, Outbox  # noqa: E402
from upsnet.tracking.points import append_line  # noqa: E402
from upsnet.tracking.sender import Sender  # noqa: E402

DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One without runs, to be copied, since MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("mlflow") / "runs.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Path) -> str:
    """An MLflow of this test alone."""
    for name in ("runs.db", "other.db"):
        shutil.copy(database, tmp_path / name)
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


def test_a_training_killed_before_its_first_checkpoint_repeats_no_point(tmp_path: Path) -> None:
    for last in (3, 5):
        tracker = open_in(tmp_path / "out")
        tracker.log_params({"rate": 0.1})
        tracker.begin(resumed=False)
        for step in range(1, last + 1):
            tracker.log_metrics({"loss": 1.0}, step)
        run_id = tracker.run_id
        tracker.close("KILLED")
    assert steps(run_id) == [1, 2, 3, 4, 5]


def test_other_settings_than_those_of_the_killed_training_are_another_run(tmp_path: Path) -> None:
    runs = []
    for rate in (0.1, 0.2):
        tracker = open_in(tmp_path / "out")
        tracker.log_params({"rate": rate})
        tracker.begin(resumed=False)
        tracker.log_metrics({"loss": 1.0}, 1)
        assert tracker.flush()
        runs.append(mlflow.MlflowClient().get_run(tracker.run_id))
        tracker.close("KILLED")
    assert [run.data.params for run in runs] == [{"rate": "0.1"}, {"rate": "0.2"}]
    assert [steps(run.info.run_id) for run in runs] == [[1], [1]]


@pytest.mark.parametrize("kept", [0, 2])
def test_a_folder_that_lacks_the_newest_lines_repeats_no_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """As one that was fetched from S3 after a kill, or a new one for the run of a pipeline."""
    first = open_in(tmp_path / "out")
    first.begin(resumed=False)
    for step in (1, 2, 3, 4):
        first.log_metrics({"loss": 1.0}, step)
        assert first.flush()
        if step == kept:
            shutil.copytree(tmp_path / "out", tmp_path / "fetched")
    run_id = first.run_id
    first.close("KILLED")
    monkeypatch.setenv("MLFLOW_RUN_ID", str(run_id))
    second = open_in(tmp_path / "fetched")
    second.begin(resumed=kept > 0)
    for step in range(kept + 1, 6):
        second.log_metrics({"loss": 1.0}, step)
    second.close()
    assert steps(run_id) == [1, 2, 3, 4, 5]


def test_a_picture_that_is_sent_twice_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (40, 20)).save(path)
    client = mlflow.MlflowClient()
    run_id = client.create_run(client.create_experiment("pictures", tmp_path.as_uri())).info.run_id
    item = {"kind": "image", "name": "progress/17", "step": 3}
    for time in (1000, 1000, 2000):  # a second try, and a training that comes to this step again
        items.send(client, run_id, {**item, "time": time}, path)
    ours = {file.path for file in client.list_artifacts(run_id, "images")}
    client.log_image(run_id, Image.open(path), key="progress/17", step=3, timestamp=1000)
    theirs = {file.path for file in client.list_artifacts(run_id, "images")} - ours
    without_id = [sorted(re.sub(r"[0-9a-f-]{36}", "ID", path) for path in paths) for paths in (ours, theirs)]
    assert without_id[0] == without_id[1]
    assert len(ours) == 2
    assert client.get_run(run_id).data.tags["mlflow.loggedImages"] == "True"


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
