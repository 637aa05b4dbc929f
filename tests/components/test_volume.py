"""Prepare, train and evaluate with a volume, as pods of a cluster do: the artifacts hold what is small."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("kfp", reason="kfp is not installed")
pytest.importorskip("dvc", reason="DVC is not installed")

from kfp import dsl

from components.configure import configure
from components.evaluate import evaluate
from components.prepare import prepare
from components.train import train
from tests.components.tiny import TINY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step finds in its pod: the program by its name, the id of the run, the volume."""
    program = tmp_path / "bin" / "upsnet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m upsnet.cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("UPSNET_RUN_ID", "run-1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "volume").mkdir()


@pytest.mark.slow
def test_data_and_trainings_lie_on_the_volume_and_a_second_run_finds_the_data_there(tmp_path: Path) -> None:
    def artifact(kind: type, name: str) -> dsl.Artifact:
        return kind(name=name, uri=str(tmp_path / name))

    volume, config = str(tmp_path / "volume"), artifact(dsl.Artifact, "config")
    overrides = [*TINY, "tracking.mlflow=false"]
    common = {"preset": "mini", "variants": [], "overrides": overrides, "experiment": "", "ablation": False}
    configured = configure.python_func(config=config, variant="", **common)
    dvc = {"data_source": "", "data_revision": "", "data_remote": "", "volume": volume}
    made = [artifact(dsl.Dataset, name) for name in ("first", "second")]
    for data in made:
        version = prepare.python_func(config=config, data=data, variant=configured.name, **dvc).data_version
    assert made[0].metadata == made[1].metadata
    assert made[1].metadata["folder"] == f"{volume}/prepared/{version}"
    assert [path.name for path in Path(made[1].path).iterdir()] == ["manifest.json"]
    assert {path.name for path in (tmp_path / "volume" / "prepared").iterdir()} == {version}

    checkpoint = artifact(dsl.Model, "checkpoint")
    row = train.python_func(
        config=config,
        data=made[1],
        checkpoint=checkpoint,
        variant=configured.name,
        config_version=configured.version,
        data_version=version,
        parent_run="",
        launcher="local",
        workers=1,
        gpus_per_worker=0,
        image="",
        volume=volume,
        timeout_hours=0.1,
        keep_going=False,
        task_config=dsl.TaskConfig(),
    )
    assert (tmp_path / "volume" / "runs" / "run-1" / "upsnet" / "log.jsonl").is_file()
    assert [path.name for path in (Path(checkpoint.path) / "checkpoints").iterdir()] == [row["checkpoint"]]

    kinds = {"predictions": dsl.Artifact, "metrics": dsl.Metrics, "report": dsl.Markdown, "strips": dsl.HTML}
    outputs = {name: artifact(kind, name) for name, kind in kinds.items()}
    done = evaluate.python_func(
        checkpoint=checkpoint, data=made[1], row=row, **outputs, workers=1, keep_going=False
    )
    assert (done["status"], done["data_version"], done["mlflow_run"]) == ("done", version, "")
