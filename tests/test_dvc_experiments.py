"""Tests of `dvc exp`, `metrics` and `plots` in a git repository, and of a machine that pulls results."""

import csv
import io
import json
import sys
import time
from pathlib import Path

import pytest

from tests.dvc_pipeline import Clone, GitPipeline
from upsnet.data.dvc_lock import locked_data
from upsnet.training.checkpoint import load_model

STAGES = ["configure", "prepare", "train", "evaluate"]
QUEUE_S = 900


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> GitPipeline:
    """After its first run, committed and pushed into a folder."""
    machines = tmp_path_factory.mktemp("machines")
    made = GitPipeline(machines / "first")
    made.dvc("remote", "add", "-d", "storage", str(machines / "remote"))
    assert made.repro() == STAGES
    made.commit("results")
    assert made.run(sys.executable, "-m", "upsnet.data.dvc_remote", "push").returncode == 0
    return made


@pytest.fixture(scope="module")
def tried(project: GitPipeline) -> GitPipeline:
    """With an experiment in the workspace."""
    said = project.dvc("exp", "run", "--set-param", "variant=no_unknown", "--name", "no-unknown")
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in said] == [
        "configure",
        "train",
        "evaluate",
    ]
    return project


def experiments(project: GitPipeline) -> dict[str, dict[str, str]]:
    rows = csv.DictReader(io.StringIO(project.dvc("exp", "show", "--csv")))
    return {row["Experiment"] or row["rev"]: row for row in rows}


def mlflow_tags(project: GitPipeline) -> list[dict[str, str]]:
    """Of all runs, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'upsnet'")
    return [run.data.tags for run in reversed(client.search_runs([experiment.experiment_id]))]


def test_a_second_machine_pulls_results_and_nothing_runs(project: GitPipeline, tmp_path: Path) -> None:
    second = Clone(tmp_path / "second", project)
    assert second.repro("--pull") == []
    assert second.repro() == []
    for path in ("runs/train/final.pt", "runs/evaluate/metrics.json", "runs/evaluate/summary.json"):
        assert (second.folder / path).read_bytes() == (project.folder / path).read_bytes()


def test_checkpoint_and_mlflow_run_name_the_data_by_both_versions(project: GitPipeline) -> None:
    locked = locked_data(project.folder)
    assert locked is not None
    loaded = load_model(project.folder / "runs" / "train" / "final.pt")
    assert loaded.data_dvc_hash == locked.dvc_hash
    tags = mlflow_tags(project)[0]
    assert (tags["data_version"], tags["data_dvc_hash"]) == (loaded.data_version, locked.dvc_hash)


def test_an_experiment_is_a_row_with_its_few_figures_and_what_changed(tried: GitPipeline) -> None:
    rows = experiments(tried)
    row, before = rows["no-unknown"], rows["main"]
    assert (before["variant"], row["variant"], row["model.unknown"]) == ("", "no_unknown", "False")
    figures = tried.json("runs/evaluate/summary.json")
    assert set(figures) == {"PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "box_AP", "mask_AP", "ms"}
    assert float(row["mIoU"]) == figures["mIoU"] != float(before["mIoU"])


def test_metrics_diff_has_one_line_per_figure(tried: GitPipeline) -> None:
    changes = json.loads(tried.dvc("metrics", "diff", "--all", "--json"))
    assert list(changes) == ["runs/evaluate/summary.json"]
    assert set(changes["runs/evaluate/summary.json"]) == set(tried.json("runs/evaluate/summary.json"))


def test_plots_diff_draws_losses_and_pq_per_class_of_both(tried: GitPipeline) -> None:
    plots = json.loads(tried.dvc("plots", "diff", "HEAD", "--json"))
    assert "errors" not in plots
    assert set(plots["data"]) == {"Losses over iterations", "PQ per class"}
    for (plot,) in plots["data"].values():
        assert {row["rev"] for row in plot["content"]["data"]["values"]} == {"HEAD", "workspace"}


def test_going_back_and_forth_trains_nothing_again(tried: GitPipeline) -> None:
    assert "Running stage" not in tried.dvc("exp", "run", "--set-param", "variant=", "--name", "back")
    tried.dvc("exp", "apply", "no-unknown")
    assert tried.json("runs/evaluate/metrics.json")["variant"] == "no_unknown"
    assert tried.repro() == []


@pytest.mark.slow
def test_queued_experiments_run_one_after_another_and_keep_their_mlflow_runs(project: GitPipeline) -> None:
    before = len(mlflow_tags(project))
    for variant in ("no_roi_loss", "upsnet_c"):
        project.dvc("exp", "run", "--queue", "-S", f"variant={variant}", "--name", variant.replace("_", "-"))
    project.dvc("queue", "start")
    deadline = time.monotonic() + QUEUE_S
    while any(word in project.dvc("queue", "status") for word in ("Queued", "Running")):
        assert time.monotonic() < deadline, project.dvc("queue", "status")
        time.sleep(1)
    rows = experiments(project)
    assert {rows[name]["State"] for name in ("no-roi-loss", "upsnet-c")} == {"Success"}
    assert sorted(tags["variant"] for tags in mlflow_tags(project)[before:]) == ["no_roi_loss", "upsnet_c"]
