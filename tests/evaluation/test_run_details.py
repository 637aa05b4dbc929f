"""Runs of a real MLflow by id: with classes and pictures, and their page on the parent."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.made_metrics import made_classes, made_metrics
from upsnet import cli
from upsnet.config import TrackingConfig
from upsnet.errors import UpsnetError
from upsnet.evaluation.run_details import log_to_parent, with_details
from upsnet.evaluation.runs import collect_runs
from upsnet.tracking import close_run, mlflow_client, open_run
from upsnet.visualize import save_png, strip

pytest.importorskip("mlflow", reason="MLflow is not installed")
CONFIG = TrackingConfig(experiment="test")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Id of a parent of two evaluated runs."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        panels = {title: np.zeros((32, 64, 3), np.uint8) for title in ("image", "truth", "prediction")}
        save_png(strip(panels), folder / "17.png")
        parent = open_run(CONFIG, "ablation")
        for variant, quality in (("", 60.0), ("upsnet_c", 55.0)):
            evaluated(parent, variant, quality, folder / "17.png")
        yield parent


def evaluated(parent: str, variant: str, quality: float, picture: Path) -> None:
    """A run below the parent as `upsnet evaluate` leaves it."""
    tags = {"preset": "mini", "variant": variant, "seed": 1, "images": 60}
    run = open_run(CONFIG, f"mini+{variant}", parent=parent, tags=tags, params={"network": "upsnet"})
    metrics = made_metrics("mini", variant, PQ=quality) | {"per_class": made_classes(sky=quality, car=30.0)}
    figures = {"PQ": quality, "ms_per_image": 12.0}
    close_run(run, metrics=figures, texts={"metrics.json": json.dumps(metrics)})
    mlflow_client().log_artifact(run, str(picture), "strips")


def test_a_parent_stands_for_the_runs_below_it(parent: str) -> None:
    runs = collect_runs([], run_ids=[parent])
    assert [(run.system, run.figures["PQ"], run.mlflow_parent) for run in runs] == [
        ("", 60.0, parent),
        ("upsnet_c", 55.0, parent),
    ]
    (one,) = collect_runs([], run_ids=[runs[1].mlflow_run])
    assert one.system == "upsnet_c"


def test_classes_and_pictures_are_fetched(parent: str) -> None:
    with with_details(collect_runs([], run_ids=[parent])) as runs:
        assert [run.classes["1"]["PQ"] for run in runs] == [60.0, 55.0]
        assert all(run.strips is not None and (run.strips / "17.png").is_file() for run in runs)


def test_compare_reads_runs_by_id_and_its_files_go_to_their_parent(
    parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compare"
    monkeypatch.setattr("sys.argv", ["upsnet", "compare", "--mlflow-run", parent, "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (None, 0)
    assert f"stored with MLflow run {parent}" in capsys.readouterr().out
    page = (out / "compare.html").read_text()
    assert page.count("<img ") == 4
    assert "car (thing)" in page
    files = {file.path for file in mlflow_client().list_artifacts(parent)}
    assert files == {"compare.md", "compare.csv", "compare.html"}


def test_runs_without_a_common_parent_have_nowhere_to_go(parent: str, tmp_path: Path) -> None:
    alone = open_run(CONFIG, "alone", tags={"preset": "mini", "images": 60})
    mlflow_client().log_metric(alone, "PQ", 1.0)
    assert log_to_parent(collect_runs([], run_ids=[parent, alone]), [tmp_path / "x"]) == ""
    assert log_to_parent(collect_runs([], run_ids=[alone]), [tmp_path / "x"]) == ""


def test_a_run_that_is_not_there_and_one_that_was_not_evaluated_are_refused(parent: str) -> None:
    with pytest.raises(UpsnetError, match="does not give the runs 0000"):
        collect_runs([], run_ids=["0000"])
    with pytest.raises(UpsnetError, match="was not evaluated"):
        collect_runs([], run_ids=[open_run(CONFIG, "new")])
