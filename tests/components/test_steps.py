"""The components' own functions, one after the other on tiny data, as the pipeline `ablation` calls them.

Two variants: one is trained, evaluated, compared and registered; the other fails in its training.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kfp", reason="kfp is not installed")
pytest.importorskip("mlflow", reason="MLflow is not installed")

from kfp import dsl

from components.compare import compare
from components.configure import configure
from components.evaluate import evaluate
from components.prepare import prepare
from components.register import register
from components.train import train, train_in_pod
from tests.components.tiny import TINY
from upsnet.data.shards import PreparedData
from upsnet.errors import ConfigError, UpsnetError
from upsnet.tracking import PARENT_TAG, mlflow_client, read_runs

ROOT = Path(__file__).resolve().parents[2]
MODEL = "upsnet-test"


def as_kubeflow_hands_on(value: Any) -> Any:
    """A value on its way from one step to the next: JSON, in which all numbers are floats."""
    return json.loads(json.dumps(value), parse_int=float)


class Steps:
    """The artifacts of one run of the ablation, and what its steps returned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = self.artifact(dsl.Artifact, "config")
        self.data = self.artifact(dsl.Dataset, "data")

    def artifact(self, kind: type, name: str) -> Any:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return kind(name=path.name, uri=str(path))

    def configure(self, variants: list) -> None:
        self.configured = configure.python_func(
            config=self.config,
            preset="mini",
            variant="",
            variants=variants,
            overrides=TINY,
            experiment="test",
            ablation=True,
        )
        self.items = as_kubeflow_hands_on(self.configured.Output)

    def prepare(self) -> None:
        self.data_version = prepare.python_func(
            config=self.config,
            data=self.data,
            variant=self.configured.name,
            data_source="",
            data_revision="",
            data_remote="",
            volume="",
        ).data_version

    def train(self, item: dict[str, Any], keep_going: bool = True, launcher: str = "local") -> dict[str, Any]:
        checkpoint = self.artifact(dsl.Model, f"{item['variant']}/checkpoint")
        row = train_in_pod.python_func(
            config=self.config,
            data=self.data,
            checkpoint=checkpoint,
            variant=item["variant"],
            config_version=item["config_version"],
            data_version=self.data_version,
            parent_run=item["parent_run"],
            launcher=launcher,
            workers=1,
            gpus_per_worker=0,
            image="",
            volume="",
            timeout_hours=0.1,
            keep_going=keep_going,
            task_config=None,
        )
        return {"checkpoint": checkpoint, "row": as_kubeflow_hands_on(row)}

    def evaluate(self, trained: dict[str, Any]) -> dict[str, Any]:
        kinds = {
            "predictions": dsl.Artifact,
            "metrics": dsl.Metrics,
            "report": dsl.Markdown,
            "strips": dsl.HTML,
        }
        name = trained["row"]["variant"]
        outputs = {key: self.artifact(kind, f"{name}/{key}") for key, kind in kinds.items()}
        row = evaluate.python_func(
            checkpoint=trained["checkpoint"],
            data=self.data,
            row=trained["row"],
            **outputs,
            workers=1,
            keep_going=True,
        )
        return {**trained, **outputs, "row": as_kubeflow_hands_on(row)}

    def compare(self, done: list[dict[str, Any]]) -> None:
        self.table, self.page = self.artifact(dsl.Markdown, "table"), self.artifact(dsl.HTML, "page")
        self.winner = self.artifact(dsl.Model, "winner")
        best = compare.python_func(
            rows=[entry["row"] for entry in done],
            checkpoints=[entry["checkpoint"] for entry in done],
            parent_runs=self.items,
            table=self.table,
            page=self.page,
            winner=self.winner,
        )
        self.best = as_kubeflow_hands_on(best)

    def register(self) -> None:
        self.registered, self.summary = (
            self.artifact(dsl.Metrics, "registered"),
            self.artifact(dsl.Markdown, "s"),
        )
        self.said = register.python_func(
            checkpoint=self.winner,
            row=self.best,
            model_name=MODEL,
            metrics=self.registered,
            summary=self.summary,
        )


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    """After all steps of an ablation of `good`, and of `broken`, whose weights are not there."""
    folder = tmp_path_factory.mktemp("steps")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        patch.setenv("MLFLOW_RUN_ID", "")
        made = Steps(folder / "artifacts")
        broken = {"variant": "upsnet_c", "name": "broken", "overrides": [f"model.weights={folder}/gone.pth"]}
        made.configure([{"variant": "upsnet_c", "name": "good"}, broken])
        made.prepare()
        made.good = made.evaluate(made.train(made.items[0]))
        made.broken = made.evaluate(made.train(made.items[1]))
        made.compare([made.good, made.broken])
        made.register()
        yield made


def test_configure_writes_a_configuration_per_variant(steps: Steps) -> None:
    assert sorted(path.name for path in Path(steps.config.path).iterdir()) == ["broken.yaml", "good.yaml"]
    assert [item["variant"] for item in steps.items] == ["good", "broken"]
    assert steps.configured.version == steps.items[0]["config_version"] != steps.items[1]["config_version"]


def test_a_wrong_variant_ends_the_run_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="upsnet_d"):
        Steps(tmp_path).configure(["", "upsnet_d"])
    assert not (tmp_path / "config").exists()


def test_the_data_version_is_in_artifact_checkpoint_and_mlflow(steps: Steps) -> None:
    from upsnet.training.checkpoint import load_model

    version = PreparedData(Path(steps.data.path)).version
    assert steps.data_version == version == steps.data.metadata["version"]
    assert load_model(Path(steps.good["checkpoint"].path)).data_version == version
    assert steps.good["row"]["data_version"] == version
    (run,) = [run for run in read_runs("test") if run["run_id"] == steps.good["row"]["mlflow_run"]]
    assert run["tags"]["data_version"] == version


def test_a_measured_variant_shows_figures_tables_and_pictures(steps: Steps) -> None:
    metrics = steps.good["metrics"].metadata
    shown = {"PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "box_AP", "mask_AP", "ms_total"}
    assert shown <= set(metrics)
    assert metrics["mIoU"] == steps.good["row"]["metrics"]["mIoU"]
    assert "| PQ |" in Path(steps.good["report"].path).read_text()
    assert "data:image/jpeg;base64," in Path(steps.good["strips"].path).read_text()
    assert (Path(steps.good["predictions"].path) / "predictions.json").is_file()


def test_a_failed_variant_is_a_row_and_its_artifacts_say_so(steps: Steps) -> None:
    status = steps.broken["row"]["status"]
    assert status.startswith("failed: training broken: failed with exit code 2")
    assert "gone.pth" in status
    assert steps.broken["metrics"].metadata == {}
    for name in ("report", "strips"):
        assert "failed" in Path(steps.broken[name].path).read_text()
    for name in ("checkpoint", "predictions"):
        assert "gone.pth" in (Path(steps.broken[name].path) / "failed.txt").read_text()


def test_compare_has_both_variants_and_the_winner_s_checkpoint(steps: Steps) -> None:
    table = Path(steps.table.path).read_text()
    assert "done, best PQ" in table
    assert "failed: training broken" in table
    assert "UPSNet-C" in Path(steps.page.path).read_text()
    (kept,) = (Path(steps.winner.path) / "checkpoints").iterdir()
    (made,) = (Path(steps.good["checkpoint"].path) / "checkpoints").glob("iteration-*.pt")
    assert kept.read_bytes() == made.read_bytes()
    assert steps.best["variant"] == "good"


def test_mlflow_has_one_parent_with_flat_children_that_can_be_filtered_alone(steps: Steps) -> None:
    runs = {run["name"]: run for run in read_runs("test")}
    assert set(runs) == {"ablation of mini", "mini+good", "mini+broken"}
    parent = runs["ablation of mini"]
    children = [runs["mini+good"], runs["mini+broken"]]
    assert [child["tags"][PARENT_TAG] for child in children] == [parent["run_id"]] * 2
    assert [child["tags"]["preset"] for child in children] == ["mini"] * 2
    assert [run["status"] for run in (parent, *children)] == ["FINISHED", "FINISHED", "FAILED"]
    assert "gone.pth" in children[1]["tags"]["failure"]
    assert children[0]["params"]["iterations"] == "2"
    assert children[0]["metrics"]["PQ"] == parent["metrics"]["best/PQ"]
    assert parent["tags"]["failed_variants"] == "broken"
    assert [child["tags"]["ablation"] for child in children] == ["ablation of mini"] * 2


def test_the_parent_has_the_table_of_its_children_and_their_strips(steps: Steps) -> None:
    parent = steps.items[0]["parent_run"]
    client = mlflow_client()
    table = json.loads(Path(client.download_artifacts(parent, "comparison.json")).read_text())
    status, quality = (table["columns"].index(name) for name in ("status", "PQ"))
    done, failed = table["data"]
    assert (done[0], done[status]) == ("good", "done")
    assert done[quality] is not None
    assert (failed[0], failed[quality]) == ("broken", None)
    assert "failed: training broken" in failed[status]
    (folder, *_) = client.list_artifacts(parent, "strips")
    assert [Path(f.path).name for f in client.list_artifacts(parent, folder.path)] == ["00 mini+good.png"]


def test_the_winner_is_registered_with_its_figures(steps: Steps) -> None:
    version = mlflow_client().get_model_version_by_alias(MODEL, "champion")
    assert version.run_id == steps.good["row"]["mlflow_run"]
    assert version.tags["data_version"] == steps.data_version
    assert float(version.tags["PQ"]) == steps.good["row"]["metrics"]["PQ"]
    assert "version 1, champion" in steps.said
    assert steps.said in Path(steps.summary.path).read_text()
    assert "PQ" in steps.registered.metadata


def test_in_a_run_of_one_network_a_failed_training_ends_the_run(steps: Steps) -> None:
    with pytest.raises(UpsnetError, match="abacus"):
        steps.train(steps.items[1], keep_going=False, launcher="abacus")


def test_nothing_is_registered_when_no_variant_succeeded(steps: Steps, tmp_path: Path) -> None:
    alone = Steps(tmp_path)
    alone.items = [{"parent_run": ""}]
    alone.compare([steps.broken])
    assert alone.best == {}
    assert "failed: training broken" in Path(alone.table.path).read_text()
    with pytest.raises(UpsnetError, match="no variant succeeded"):
        alone.register()


def test_both_ways_to_train_are_the_same_function() -> None:
    assert train.python_func is train_in_pod.python_func
