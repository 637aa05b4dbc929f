"""The model registry and the tree of runs, on a real MLflow with SQLite."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.tiny import tiny_checkpoint
from upsnet.config import TrackingConfig
from upsnet.errors import CheckpointError, UpsnetError
from upsnet.registry import Registered, evaluated_run, register_checkpoint
from upsnet.tracking import (
    PARENT_TAG,
    close_run,
    mlflow_client,
    open_run,
    open_tracker,
    read_runs,
)
from upsnet.tracking.models import model_checkpoint
from upsnet.training.checkpoint import load_model
from upsnet.training.remote import local_checkpoint

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
CONFIG = TrackingConfig(experiment="test")


@pytest.fixture(scope="module", autouse=True)
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with an MLflow of its own; MLflow keeps stores by address, so the path is whole."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("UPSNET_CACHE", str(folder / "cache"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        yield folder


def run_of(run_id: str) -> dict:
    return next(run for run in read_runs("test") if run["run_id"] == run_id)


def test_children_are_below_their_parent_even_where_the_environment_names_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = open_run(CONFIG, "of the back end")
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    parent = open_run(CONFIG, "ablation", params={"preset": "mini"}, tags={"kind": "ablation"})
    children = [open_run(CONFIG, name, parent=parent, tags={"variant": name}) for name in ("a", "b")]
    assert parent == given
    assert len({parent, *children}) == 3
    assert [run_of(child)["tags"][PARENT_TAG] for child in children] == [parent, parent]
    assert run_of(parent)["params"] == {"preset": "mini"}
    assert "variant" not in run_of(parent)["tags"]


def test_a_training_goes_on_with_the_child_that_was_opened_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = open_run(CONFIG, "child", parent=open_run(CONFIG, "parent"))
    monkeypatch.setenv("MLFLOW_RUN_ID", child)
    tracker = open_tracker(CONFIG, tmp_path, run_file=tmp_path / "run.json", run_name="another")
    assert tracker.run_id == child


def test_a_second_attempt_goes_on_with_the_run_of_the_first(tmp_path: Path) -> None:
    parent = open_run(CONFIG, "parent")
    attempts = [open_run(CONFIG, "child", parent=parent, run_file=tmp_path / "run.json") for _ in range(2)]
    assert attempts[0] == attempts[1]


def test_a_closed_run_has_its_figures_tags_and_texts() -> None:
    run_id = open_run(CONFIG, "parent")
    close_run(run_id, "FAILED", metrics={"PQ": 50.0}, tags={"best": "a"}, texts={"table.md": "# table"})
    run = run_of(run_id)
    assert (run["status"], run["metrics"], run["tags"]["best"]) == ("FAILED", {"PQ": 50.0}, "a")
    files = mlflow_client().list_artifacts(run_id)
    assert [file.path for file in files] == ["table.md"]


def test_without_mlflow_runs_have_no_id_and_nothing_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_run(TrackingConfig(mlflow=False), "off") == ""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert open_run(CONFIG, "lost") == ""
    close_run("0" * 32)
    close_run("")
    assert caplog.text.count("MLflow cannot be used") == 2


def register(checkpoint: Path, name: str, pq: float, data: str = "d1", run: str = "") -> Registered:
    run_id = run or open_run(CONFIG, "training")
    figures, tags = {"PQ": pq, "mIoU": 40.0}, {"data_version": data, "images": 60, "preset": "mini"}
    return register_checkpoint(name, checkpoint, run_id, figures, tags)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "iteration-00000002.pt")


def test_a_registered_version_has_the_figures_as_tags_and_is_a_model_of_the_run(
    checkpoint: Path, tmp_path: Path
) -> None:
    run = open_run(CONFIG, "training")
    done = register(checkpoint, "points", 50.0, run=run)
    client = mlflow_client()
    version = client.get_model_version_by_alias("points", "champion")
    assert (int(version.version), done.version, done.champion) == (1, 1, True)
    expected = {"PQ": "50.0", "mIoU": "40.0", "data_version": "d1", "images": "60", "preset": "mini"}
    assert expected.items() <= version.tags.items()
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert (model.source_run_id, model.experiment_id) == (run, client.get_run(run).info.experiment_id)
    uris = ["points@champion", "points/1", "points/latest", model.model_id]
    for uri in [f"runs:/{run}", f"runs:/{run}/model", *(f"models:/{uri}" for uri in uris)]:
        assert load_model(local_checkpoint(uri)).iteration == 2, uri


def test_a_model_that_is_not_there_is_refused(work: Path) -> None:
    run = open_run(CONFIG, "training")
    for uri in ("models:/nobody@champion", "models:/nobody/1", "models:/", "runs:/0000", f"runs:/{run}"):
        with pytest.raises(CheckpointError, match=uri):
            model_checkpoint(uri, work / "cache")


def test_a_run_without_figures_of_the_checkpoint_is_refused() -> None:
    run = open_run(CONFIG, "training")
    with pytest.raises(UpsnetError, match=r"has no PQ; run 'upsnet evaluate'"):
        evaluated_run(run, 2)
    close_run(run, metrics={"PQ": 50.0}, tags={"data_version": "d1", "images": 60, "iteration": 2})
    assert evaluated_run(run, 2)[0] == {"PQ": 50.0}
    with pytest.raises(UpsnetError, match="are of iteration 2, the checkpoint of 3"):
        evaluated_run(run, 3)


def test_the_champion_changes_only_for_a_better_pq_on_the_same_data(checkpoint: Path) -> None:
    made = [register(checkpoint, "champions", *case) for case in [(50.0,), (49.0,), (51.0,), (99.0, "d2")]]
    assert [done.version for done in made] == [1, 2, 3, 4]
    assert [done.champion for done in made] == [True, False, True, False]
    assert "PQ 51.0 over 50.0 of version 1" in made[2].reason
    assert "not comparable" in made[3].reason
    client = mlflow_client()
    assert client.get_model_version_by_alias("champions", "champion").version == 3


@pytest.mark.slow
def test_registering_a_checkpoint_again_makes_no_second_version_but_another_one_does(
    checkpoint: Path, tmp_path: Path
) -> None:
    run = open_run(CONFIG, "training")
    made = [register(checkpoint, "again", 50.0, run=run) for _ in range(2)]
    assert [(done.version, done.champion) for done in made] == [(1, True), (1, True)]
    longer = register(tiny_checkpoint(tmp_path / "b.pt", seed=1), "again", 51.0, run=run)
    assert (longer.version, longer.champion) == (2, True)


def test_after_a_registration_the_environment_still_says_where_mlflow_is(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(checkpoint, "elsewhere", 50.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/other.db"


def test_a_registration_that_fails_says_so(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UpsnetError, match="there is no checkpoint"):
        register(tmp_path / "gone.pt", "gone", 50.0)
    with pytest.raises(UpsnetError, match="did not register 'gone' of run 0000"):
        register(checkpoint, "gone", 50.0, run="0" * 32)
