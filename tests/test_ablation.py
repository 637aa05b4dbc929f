"""Tests of ablation/dvc.yaml on a tiny run of three rows that share one training."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.dvc_pipeline import ROOT, Pipeline
from upsnet.config import load_config, variant_names

ROWS = {
    "trainings": {"upsnet-1": {"variant": "", "seed": 1}},
    "evaluations": {
        "upsnet-1": {"variant": "", "seed": 1, "weights": "upsnet-1"},
        "upsnet_cp-1": {"variant": "upsnet_cp", "seed": 1, "weights": "upsnet-1"},
        "gt_semantic-1": {"variant": "gt_semantic", "seed": 1, "weights": "upsnet-1"},
    },
}


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """After the first run of all its stages."""
    made = Pipeline(tmp_path_factory.mktemp("ablation"))
    (made.folder / "ablation" / "params.yaml").write_text(yaml.safe_dump(ROWS))
    ran = made.repro("ablation/dvc.yaml")
    expected = {"configure", "prepare", "ablation/dvc.yaml:train@upsnet-1"}
    expected |= {
        f"ablation/dvc.yaml:{s}@{row}" for s in ("configure", "evaluate") for row in ROWS["evaluations"]
    }
    assert set(ran) == expected
    return made


def test_nothing_that_is_done_runs_again(ablation: Pipeline) -> None:
    assert ablation.repro("ablation/dvc.yaml") == []


def test_rows_with_the_same_weights_have_figures_of_their_own(ablation: Pipeline) -> None:
    metrics = {
        row: ablation.json(f"runs/ablation/{row}/evaluate/metrics.json") for row in ROWS["evaluations"]
    }
    assert [m["variant"] for m in metrics.values()] == ["", "upsnet_cp", "gt_semantic"]
    assert metrics["gt_semantic-1"]["mIoU"] == 100
    assert metrics["upsnet-1"]["mIoU"] == metrics["upsnet_cp-1"]["mIoU"] < 100


def test_every_row_has_an_mlflow_run_of_its_own(ablation: Pipeline) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{ablation.folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'upsnet'")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["variant"] for run in runs} == {"", "upsnet_cp", "gt_semantic"}
    for run in runs:
        row = next(
            name for name, r in ROWS["evaluations"].items() if r["variant"] == run.data.tags["variant"]
        )
        assert run.data.metrics["PQ"] == ablation.json(f"runs/ablation/{row}/evaluate/metrics.json")["PQ"]


def test_compare_shows_the_rows_beside_the_papers(ablation: Pipeline) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "upsnet.cli", "compare", "runs/ablation", "--out", "runs/compare"],
        cwd=ablation.folder,
        env=ablation.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "UPSNet-CP" in done.stdout
    assert "not run" in (ablation.folder / "runs" / "compare" / "compare.md").read_text()


def test_only_the_row_whose_settings_changed_is_evaluated_again(ablation: Pipeline) -> None:
    variant = ablation.folder / "configs" / "variants" / "upsnet_cp.yaml"
    kept = shutil.copy(variant, variant.with_suffix(".kept"))
    variant.write_text(variant.read_text() + "  heuristic_overlap_thresh: 0.4\n")
    ran = [stage for stage in ablation.repro("ablation/dvc.yaml") if "configure" not in stage]
    shutil.move(kept, variant)
    assert ran == ["ablation/dvc.yaml:evaluate@upsnet_cp-1"]


def test_every_row_of_make_ablation_is_tested_with_weights_of_its_own_training() -> None:
    params = yaml.safe_load((ROOT / "ablation" / "params.yaml").read_text(encoding="utf-8"))
    trainings, evaluations = params["trainings"], params["evaluations"]
    assert {row["variant"] for row in [*trainings.values(), *evaluations.values()]} <= {"", *variant_names()}
    assert set(trainings) <= set(evaluations)
    for name, row in evaluations.items():
        trained = load_config("mini", [v for v in [trainings[row["weights"]]["variant"]] if v])
        tested = load_config("mini", [v for v in [row["variant"]] if v])
        assert trained.training == tested.training, f"{name} is tested with the weights of another training"
        assert row["seed"] == trainings[row["weights"]]["seed"]


def test_metrics_name_the_seed(ablation: Pipeline) -> None:
    assert (
        json.loads((ablation.folder / "runs/ablation/upsnet-1/evaluate/metrics.json").read_text())["seed"]
        == 1
    )
