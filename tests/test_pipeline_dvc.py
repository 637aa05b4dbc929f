"""Tests of dvc.yaml on a tiny run: what runs, what does not run again, and what is left for DVC and MLflow.

It runs in a copy of the project without git, with as many workers as `make run` has.
"""

import json

import pytest

from tests.dvc_pipeline import TINY, WORKERS, Pipeline

STAGES = ["configure", "prepare", "train", "evaluate"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """After the first run, of all stages."""
    made = Pipeline(tmp_path_factory.mktemp("pipeline"))
    assert made.repro(workers=WORKERS) == STAGES
    return made


@pytest.fixture(scope="module")
def evaluated_again(pipeline: Pipeline) -> Pipeline:
    """After a second run with other evaluation settings."""
    pipeline.choose(f"{TINY} inference.stuff_area=7 evaluation.strips=1")
    assert pipeline.repro() == ["configure", "evaluate"]
    return pipeline


@pytest.mark.parametrize("workers", ["1", "2", "3"])
def test_unchanged_inputs_run_nothing_whatever_the_number_of_workers(
    pipeline: Pipeline, workers: str
) -> None:
    assert pipeline.repro(workers=workers) == []


def test_the_metrics_are_those_of_the_configured_images(pipeline: Pipeline) -> None:
    metrics = pipeline.json("runs/evaluate/metrics.json")
    assert (metrics["images"], metrics["preset"]) == (3, "mini")
    shown = json.loads(pipeline.dvc("metrics", "show", "--json"))
    assert shown[""]["data"]["runs/evaluate/summary.json"]["data"]["PQ"] == metrics["PQ"]


def test_the_plots_have_every_loss_and_every_class(pipeline: Pipeline) -> None:
    plots = json.loads(pipeline.dvc("plots", "show", "--json"))
    assert "errors" not in plots
    losses = plots["data"]["Losses over iterations"][0]["content"]["data"]["values"]
    assert {row["iteration"] for row in losses} == {"1", "2"}
    assert len([key for key in losses[0] if key.startswith("loss/")]) == 9
    classes = plots["data"]["PQ per class"][0]["content"]["data"]["values"]
    assert len(classes) == len(pipeline.json("runs/evaluate/metrics.json")["per_class"])


def test_a_changed_evaluation_does_not_train_again(evaluated_again: Pipeline) -> None:
    assert len(list((evaluated_again.folder / "runs/evaluate/strips").iterdir())) == 1


def test_training_and_evaluation_are_one_mlflow_run(evaluated_again: Pipeline) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{evaluated_again.folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'upsnet'")
    (run,) = client.search_runs([experiment.experiment_id])
    metrics = evaluated_again.json("runs/evaluate/metrics.json")
    assert run.info.status == "FINISHED"
    assert run.data.params["iterations"] == "2"
    assert run.data.metrics["PQ"] == metrics["PQ"]
    assert {"seed", "images"}.isdisjoint(run.data.metrics)
    assert [m.step for m in client.get_metric_history(run.info.run_id, "PQ")] == [0, 0]  # evaluated twice
    losses = client.get_metric_history(run.info.run_id, "loss/panoptic")
    assert [entry.step for entry in losses] == [1, 2]
    tags = {"preset": "mini", "variant": "", "data_version": data_version(evaluated_again)}
    assert tags.items() <= run.data.tags.items()
    artifacts = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert {
        "config.yaml",
        "metrics.json",
        "per_class.json",
        "confusion.json",
        "charts",
        "strips",
    } <= artifacts


def test_the_per_class_table_in_mlflow_has_one_row_per_class(evaluated_again: Pipeline) -> None:
    tables = list((evaluated_again.folder / "mlartifacts").rglob("per_class.json"))
    assert len(tables) == 1
    rows = json.loads(tables[0].read_text())["data"]
    assert len(rows) == len(evaluated_again.json("runs/evaluate/metrics.json")["per_class"])


def data_version(pipeline: Pipeline) -> str:
    from upsnet.data.shards import PreparedData

    return PreparedData(pipeline.folder / "runs" / "prepared").version


def test_a_changed_training_trains_anew_on_the_same_data(evaluated_again: Pipeline) -> None:
    evaluated_again.choose(
        f"{TINY} training.iterations=3 training.reference_batch=2 tracking.mlflow=false",
        variant="no_roi_loss",
    )
    assert evaluated_again.repro() == ["configure", "train", "evaluate"]
    log = (evaluated_again.folder / "runs/train/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3]
    assert "loss/semantic_roi" not in (evaluated_again.folder / "runs/train/curves.csv").read_text()
    assert evaluated_again.json("runs/evaluate/metrics.json")["variant"] == "no_roi_loss"
