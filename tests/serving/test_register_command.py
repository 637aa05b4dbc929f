"""`upsnet register` on the folder of a training, and `upsnet predict` with the champion."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serving.tiny import tiny_checkpoint
from upsnet import cli
from upsnet.config import TrackingConfig
from upsnet.tracking import close_run, open_run, tracking_uri
from upsnet.tracking.run_file import write_run_id

pytest.importorskip("mlflow", reason="MLflow is not installed")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an evaluated training, and an MLflow with its run."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("UPSNET_CACHE", str(folder / "cache"))
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        tiny_checkpoint(folder / "train/checkpoints/iteration-00000002.pt")
        run = open_run(TrackingConfig(experiment="test"), "mini")
        tags = {"data_version": "d1", "images": 60, "iteration": 2, "preset": "mini"}
        close_run(run, metrics={"PQ": 50.0, "detail/SQ": 60.0}, tags=tags)
        write_run_id(folder / "train" / cli.RUN_FILE, run, tracking_uri())
        yield folder / "train"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the program, run in this process."""
    monkeypatch.setattr("sys.argv", ["upsnet", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_a_registered_training_predicts_by_its_alias(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "register", training, "--name", "mine") == 0
    said = capsys.readouterr().out
    assert "mine version 1, champion: the first one" in said
    assert "mlflow models serve -m models:/mine/1 --env-manager local" in said
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    given = ["--checkpoint", "models:/mine@champion", "--out", tmp_path / "out"]
    assert command(monkeypatch, "predict", tmp_path / "a.png", *given) == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a.png", "a.json", "a.overlay.png"}


def test_a_training_without_a_run_and_a_model_that_is_not_there_end_with_one_message(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tiny_checkpoint(tmp_path / "alone/c.pt")
    assert command(monkeypatch, "register", alone) == 2
    assert "no run of MLflow" in capsys.readouterr().err
    given = ["--checkpoint", "models:/nobody@champion", "--out", tmp_path / "out"]
    assert command(monkeypatch, "predict", tmp_path / "a.png", *given) == 2
    error = capsys.readouterr().err
    assert "models:/nobody@champion" in error
    assert "expected models:/NAME@ALIAS" in error
