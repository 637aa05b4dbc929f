"""Runs from files, folders and a real MLflow with SQLite, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.made_metrics import made_metrics, made_run, write_metrics
from upsnet.config import TrackingConfig, load_config
from upsnet.errors import UpsnetError
from upsnet.evaluation.runs import collect_runs, group_runs, run_of_metrics, without_copies


def test_a_run_has_the_figures_of_its_file(tmp_path: Path) -> None:
    metrics = made_metrics("mini", "upsnet_c", 7, PQ=41.5, box_AP=None)
    (run,) = collect_runs([write_metrics(tmp_path / "a", metrics)])
    assert (run.preset, run.system, run.seed, run.images, run.device) == ("mini", "upsnet_c", 7, 60, "cpu")
    assert (run.figures["PQ"], run.figures["network"], run.figures["total"]) == (41.5, 10.0, 12.0)
    assert "box_AP" not in run.figures
    assert run.source == str(tmp_path / "a" / "metrics.json")


def test_network_and_scales_tell_the_system_where_the_variant_does_not() -> None:
    metrics = made_metrics("coco_r50") | {"network": "mr_cnn_psp", "scales": [480, 544]}
    assert run_of_metrics(metrics, "made").system == "mr_cnn_psp+multi_scale"


def test_folders_are_searched_and_a_copy_is_no_second_run(tmp_path: Path) -> None:
    first = write_metrics(tmp_path / "deep" / "in" / "a", made_metrics(seed=1))
    write_metrics(tmp_path / "b", made_metrics(seed=2))
    (tmp_path / "copy").mkdir()
    shutil.copy(first, tmp_path / "copy")
    assert sorted(run.seed or 0 for run in collect_runs([tmp_path, first])) == [1, 2]


def test_a_copy_that_does_not_say_its_seed_is_no_second_run_either() -> None:
    unknown, known, other = made_run(seed=None), made_run(seed=3), made_run(seed=4)
    for runs in ([unknown, known, other], [known, unknown, other]):
        assert [run.seed for run in without_copies(runs)] == [3, 4]


def test_runs_that_differ_in_the_seed_only_are_one_group() -> None:
    runs = [made_run(seed=seed, PQ=value) for seed, value in ((1, 40.0), (2, 41.0), (3, 45.0))]
    groups = group_runs([*runs, made_run("mini", "upsnet_c"), made_run(images=5), made_run("coco_sample")])
    assert len(groups) == 4
    group = next(g for g in groups if len(g.runs) == 3)
    spread = group.spread("PQ")
    assert spread is not None
    assert (spread.mean, spread.low, spread.high) == (42.0, 40.0, 45.0)
    assert spread.deviation == pytest.approx(7**0.5)  # ((-2)² + (-1)² + 3²) / 2
    assert group.seeds == 3


def test_a_figure_that_one_run_lacks_is_the_mean_of_the_others() -> None:
    (group,) = group_runs([made_run(seed=1, PQ=40.0), made_run(seed=2, PQ=None)])
    spread = group.spread("PQ")
    assert spread is not None
    assert (spread.mean, spread.deviation) == (40.0, None)


def test_two_runs_of_one_seed_count_as_one_seed_and_unknown_seeds_each() -> None:
    (group,) = group_runs([made_run(seed=1, PQ=1.0), made_run(seed=1, PQ=2.0), made_run(seed=None)])
    assert (group.seeds, len(group.runs)) == (2, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": ""}, "which preset"),
        ({"seed": "one"}, "seed|one"),
        ({"images": "many"}, "many"),
        ({"mIoU": "high"}, "high"),
        ({"milliseconds": 3}, "evaluate again"),
        ({"PQ": "high"}, "holds no metrics"),
    ],
)
def test_a_file_with_something_else_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write_metrics(tmp_path / "a", made_metrics() | change)
    with pytest.raises(UpsnetError, match=words) as caught:
        collect_runs([path])
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_no_json_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "empty").mkdir()
    for name in ("none.json", "bad.json", "empty"):
        with pytest.raises(UpsnetError, match=name):
            collect_runs([tmp_path / name])


def test_the_figures_of_score_are_refused(tmp_path: Path) -> None:
    metrics = made_metrics()
    del metrics["preset"], metrics["images"]
    with pytest.raises(UpsnetError, match="upsnet score"):
        collect_runs([write_metrics(tmp_path / "a", metrics)])


@pytest.fixture(scope="module")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with an MLflow that holds two evaluated runs and a training without evaluation."""
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    from upsnet.records import log_evaluation, switches
    from upsnet.tracking import open_tracker

    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        # Its own address, since MLflow keeps one connection per address, whatever the working folder.
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/runs.db")
        for name, overrides, figures in (
            ("one", ["seed=3"], {"PQ": 40.0}),
            ("two", ["inference.scales=[96,128]"], {"PQ": 42.0, "box_AP": None}),
            ("training only", [], None),
        ):
            config = load_config("mini", ["upsnet_c"], overrides)
            out = folder / name
            tracker = open_tracker(TrackingConfig(), out, run_file=out / "run.json", run_name=name)
            tracker.log_params(switches(config))
            tracker.set_tags({"preset": config.preset, "variant": config.variant, "seed": config.seed})
            tracker.log_metrics({"validation/PQ": 5.0}, step=10)
            if figures is not None:
                metrics = made_metrics("mini", "upsnet_c", **figures)  # type: ignore[arg-type]
                path = write_metrics(out / "evaluate", metrics | {"seed": config.seed, "device": ""})
                log_evaluation(tracker, metrics, path.parent, 20)
            tracker.close()
    return folder


def test_the_evaluated_runs_of_an_mlflow_experiment_are_read(
    mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_folder}/runs.db")
    one, two = collect_runs([], "upsnet")
    assert (one.preset, one.system, one.seed, one.images) == ("mini", "upsnet_c", 3, 60)
    assert (one.figures["PQ"], one.figures["network"], one.figures["box_AP"]) == (40.0, 10.0, 50.0)
    assert (two.system, two.seed, two.figures["PQ"]) == ("upsnet_c+multi_scale", 1, 42.0)
    assert "box_AP" not in two.figures
    assert "one" in one.source


def test_a_run_in_a_file_and_in_mlflow_is_one_run(
    mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_folder}/runs.db")
    assert len(collect_runs([mlflow_folder / "one" / "evaluate"], "upsnet")) == 2


def test_an_experiment_that_is_not_there_and_one_without_evaluations_are_refused(
    mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow_folder}/runs.db")
    with pytest.raises(UpsnetError, match=r"no experiment 'nothing'; it has .*upsnet"):
        collect_runs([], "nothing")
    with pytest.raises(UpsnetError, match="none of its runs was evaluated"):
        collect_runs([], "Default")


def test_an_mlflow_that_is_not_there_is_refused_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UpsnetError, match=r"there is no mlflow\.db"):
        collect_runs([], "upsnet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.db").write_text("no database " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/text.db?password=secret")
    with pytest.raises(UpsnetError, match=r"text.db cannot be read: .*not a database") as caught:
        collect_runs([], "upsnet")
    assert "secret" not in str(caught.value)
