"""The tracker against a real MLflow with SQLite, and against servers that do not answer."""

import json
import logging
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.tiny import prepared_sizes
from tests.horovod_workers import ROOT, plain_environment
from upsnet.config import TrackingConfig, load_config
from upsnet.records import log_inputs, switches
from upsnet.tracking import Tracker, git_tags, legal_name, open_tracker

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
URI = "sqlite:///mlflow.db"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A working folder with its own MLflow in the default place."""
    folder = tmp_path_factory.mktemp("work")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        patch.delenv(name, raising=False)
    yield folder
    patch.undo()


@pytest.fixture
def out(work, request):
    return work / request.node.name


def open_in(out: Path, **config) -> Tracker:
    return open_tracker(TrackingConfig(**config), out, run_file=out / "run.json", run_name="a run")


def run_of(tracker: Tracker):
    assert tracker.flush()
    assert tracker.run_id is not None
    return mlflow.MlflowClient(URI).get_run(tracker.run_id)


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_holds_params_metrics_tags_and_files(out, work):
    tracker = open_in(out)
    run_id = tracker.run_id
    tracker.log_params(load_config("mini").model_dump(mode="json"))
    tracker.set_tags({"data_version": "abc", "workers": 2})
    tracker.log_metrics({"loss/total": 2.5, "rate": 0.1}, step=20)
    tracker.log_metrics({"loss/total": 1.5}, step=40)
    tracker.log_text("seed: 1\n", "config.yaml")
    tracker.log_table([{"class": "road", "PQ": 80.0}, {"class": "sky", "PQ": None}], "per_class.json")
    picture = work / "local.png"
    picture.write_bytes(b"png")
    tracker.log_image(picture, "strips/17.png")
    tracker.log_artifact(picture)
    run = run_of(tracker)
    tracker.close()
    assert not list((out / "mlflow_pending").iterdir())

    assert run.info.run_name == "a run"
    assert run.data.params["training.base_rate"] == str(load_config("mini").training.base_rate)
    assert run.data.metrics == {"loss/total": 1.5, "rate": 0.1}
    assert run.data.tags["data_version"] == "abc"
    client = mlflow.MlflowClient(URI)
    assert [m.step for m in client.get_metric_history(run_id, "loss/total")] == [20, 40]
    files = {f.path for folder in ("", "strips") for f in client.list_artifacts(run_id, folder)}
    assert files == {"config.yaml", "per_class.json", "strips", "strips/17.png", "local.png"}
    assert Path(run.info.artifact_uri.removeprefix("file://")).is_relative_to(work / "mlartifacts")
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_training_is_tagged_with_the_name_of_what_it_started_from(out, tmp_path):
    tracker, data = open_in(out), prepared_sizes(tmp_path / "data", [(40, 60)])
    log_inputs(tracker, load_config("mini", ["upsnet_cp"]), data, "coco_r101")
    run = run_of(tracker)
    tracker.close()
    tags, params = run.data.tags, run.data.params
    assert (tags["init_from"], tags["preset"], tags["system"]) == ("coco_r101", "mini", "upsnet_cp")
    assert (tags["seed"], tags["workers"], tags["data_version"]) == ("1", "1", data.version)
    assert (params["merge"], params["unknown"], params["panoptic_loss"]) == ("heuristic", "on", "0.5")
    assert len(params) < 20
    (entry,) = run.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("synthetic", data.version)
    assert json.loads(entry.dataset.profile)["train_images"] == 1


def test_a_loss_that_is_left_out_has_the_weight_zero():
    config = load_config("mini", ["upsnet_c"], ["training.losses.semantic_roi=0"])
    assert switches(config)["panoptic_loss"] == switches(config)["roi_loss"] == "0"


def test_json_lines_are_appended_with_time_and_step(out):
    for step in (1, 2):
        tracker = open_in(out, mlflow=False)
        tracker.log_metrics({"loss/total": 1.0, "bad": float("nan")}, step=step)
        tracker.close()
    assert [(line["step"], line["loss/total"], line["bad"]) for line in lines_of(out)] == [
        (1, 1.0, None),
        (2, 1.0, None),
    ]
    first, second = (datetime.fromisoformat(line["time"]) for line in lines_of(out))
    assert first.utcoffset() == timedelta(0)
    assert first <= second  # two lines may fall into one millisecond


def test_a_later_process_goes_on_with_the_run_of_the_run_file(out):
    first = open_in(out)
    first.log_metrics({"loss": 1.0}, step=1)
    run_id = first.run_id
    first.close()
    second = open_in(out)
    assert second.run_id == run_id
    assert run_of(second).info.status == "RUNNING"
    second.log_metrics({"PQ": 50.0}, step=1)
    assert run_of(second).data.metrics == {"loss": 1.0, "PQ": 50.0}


def test_a_run_file_of_a_deleted_run_starts_a_new_one(out):
    first = open_in(out)
    run_id = first.run_id
    first.close()
    mlflow.MlflowClient(URI).delete_run(run_id)
    second = open_in(out)
    second_id = second.run_id
    second.close()
    assert second_id not in (None, run_id)


def test_a_run_is_found_again_when_its_run_file_is_damaged(out):
    first = open_in(out)
    run_id = first.run_id
    first.close()
    (out / "run.json").write_text("{")
    second = open_in(out)
    assert second.run_id == run_id
    second.close()


def test_the_environment_names_run_and_experiment(out, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
    first = open_in(out)
    experiment = mlflow.MlflowClient(URI).get_experiment(run_of(first).info.experiment_id)
    assert experiment.name == "from the environment"
    monkeypatch.setenv("MLFLOW_RUN_ID", first.run_id)
    assert open_in(out / "elsewhere").run_id == first.run_id


def test_starting_over_begins_a_new_run_with_the_same_params_tags_and_texts(out):
    tracker = open_in(out)
    tracker.log_params({"a": 1})
    tracker.set_tags({"b": 2})
    tracker.log_text("text", "c.txt")
    tracker.log_metrics({"loss": 1.0}, step=9)
    first = tracker.run_id
    tracker.start_over()
    tracker.log_metrics({"loss": 2.0}, step=1)
    run = run_of(tracker)
    assert run.info.run_id != first
    assert (run.data.params, run.data.tags["b"], run.data.metrics) == ({"a": "1"}, "2", {"loss": 2.0})
    assert [f.path for f in mlflow.MlflowClient(URI).list_artifacts(run.info.run_id)] == ["c.txt"]
    assert [line["step"] for line in lines_of(out)] == [1]
    tracker.close()
    later = open_in(out)
    assert later.run_id == run.info.run_id
    later.close()
    old = mlflow.MlflowClient(URI).get_run(first)
    assert (old.data.metrics, old.data.params, old.info.status) == ({"loss": 1.0}, {"a": "1"}, "FINISHED")


def test_a_refused_call_is_one_warning_and_the_next_calls_work(out, caplog):
    tracker = open_in(out)
    tracker.log_params({"a": 1})
    for _ in range(2):
        tracker.log_params({"a": 2})
    tracker.log_metrics({"x": 1.0}, step=1)
    assert run_of(tracker).data.metrics == {"x": 1.0}
    assert [record.levelname for record in caplog.records if "refuses params" in record.message] == [
        "WARNING"
    ]


def test_a_server_that_goes_away_costs_one_warning_and_no_line(out, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
    tracker = open_in(out)
    tracker.log_metrics({"x": 1.0}, step=1)
    for step in range(2, 100):
        tracker.log_metrics({"x": 1.0}, step=step)
    tracker.close()
    assert len(lines_of(out)) == 99
    assert caplog.text.count("cannot be used now (NewConnectionError)") == 1


def test_a_server_that_does_not_answer_is_one_warning_at_the_start(out, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with caplog.at_level(logging.INFO):
            tracker = open_in(out)
    assert tracker.run_id is None
    tracker.log_metrics({"x": 1.0}, step=1)
    tracker.close()
    assert [line["x"] for line in lines_of(out)] == [1.0]
    assert len(caplog.records) == 1
    assert "cannot be used now (ReadTimeoutError)" in caplog.text
    assert "secret" not in caplog.text
    assert "secret" not in "".join(f.read_text() for f in out.rglob("*") if f.is_file())


def test_without_mlflow_there_is_one_warning_and_the_json_lines(tmp_path):
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from pathlib import Path\n"
        "from upsnet.config import TrackingConfig\n"
        "from upsnet.tracking import open_tracker\n"
        f"out = Path({str(tmp_path)!r})\n"
        "tracker = open_tracker(TrackingConfig(), out, run_file=out / 'run.json', run_name='x')\n"
        "tracker.log_metrics({'x': 1}, 1); tracker.log_text('a', 'b'); tracker.close()\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("MLflow cannot be used") == 1
    assert [line["x"] for line in lines_of(tmp_path)] == [1.0]


def test_the_run_file_holds_no_password(out, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{URI}?password=secret")
    open_in(out).close()
    assert "secret" not in (out / "run.json").read_text()


def test_a_rank_that_does_not_write_drops_everything(tmp_path):
    tracker = Tracker(None)
    tracker.log_params({"a": 1})
    tracker.log_metrics({"x": 1.0}, 1)
    tracker.set_tags({"a": 1})
    tracker.log_text("a", "b")
    tracker.log_image(tmp_path / "none.png", "a.png")
    tracker.start_over()
    tracker.close()
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=300))
def test_every_metric_name_becomes_one_that_mlflow_takes(name):
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(legal_name(name))


def test_usual_names_stay_as_they_are():
    for name in ("loss/total", "PQ/tree-merged", "PQ_th", "images per second", "a.b"):
        assert legal_name(name) == name


def test_git_tags_name_the_commit_or_nothing():
    tags = git_tags()
    if tags:
        assert len(tags["git_commit"]) == 40
        assert tags["git_dirty"] in ("True", "False")
