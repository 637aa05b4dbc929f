"""A folder like Cityscapes as downloaded, through the program: prepare, train from a checkpoint, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.data.tiny_cityscapes import NAMES, TinyCityscapes
from upsnet.cli import app
from upsnet.config import load_config, to_yaml

TINY = [
    *("loader.short_side=[64,64]", "loader.long_side=128", "loader.images_per_worker=2"),
    *("model.fpn_channels=16", "model.mask_channels=16", "model.semantic_channels=[16]"),
    *("model.box_head.channels=32", "model.rpn.pre_nms_top_n=[50,50]", "model.rpn.post_nms_top_n=[50,50]"),
    *("training.reference_batch=2", "training.steps=[]", "training.warmup_iterations=2"),
    *("training.iterations=4", "training.log_interval=2", "inference.short_side=64"),
    *("inference.long_side=128", "evaluation.strips=1", "tracking.mlflow=false"),
]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None, result.exception
    return result.output


def write_config(path: Path, *overrides: str) -> Path:
    path.write_text(to_yaml(load_config("mini", [], [*TINY, *overrides])))
    return path


def test_cityscapes_is_prepared_trained_from_another_data_set_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TinyCityscapes(tmp_path / "raw")
    scenes = ["data.synthetic.train_images=2", "data.synthetic.val_images=1", "data.synthetic.height=64"]
    other = write_config(tmp_path / "scenes.yaml", *scenes, "data.synthetic.width=128")
    run("prepare", "--config", other, "--out", "scenes", "--processes", 1)
    run("train", "--config", other, "--data", "scenes", "--out", "start")

    source = [f"data.cityscapes={{root: {tmp_path / 'raw'}}}", "data.source=cityscapes"]
    config = write_config(tmp_path / "config.yaml", *source)
    assert "prepared data, version" in run("prepare", "--config", config, "--out", "prepared")
    run("train", "--config", config, "--data", "prepared", "--out", "run", "--init-from", "start")
    run("evaluate", "--checkpoint", "run", "--data", "prepared", "--out", "evaluation")

    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert metrics["images"] == len(NAMES["val"])
    # Only classes that occur count: road, sidewalk, building, sky; car, bicycle (the persons are a crowd).
    assert len(metrics["per_class"]) == 19
    assert (metrics["N_st"], metrics["PQ"] >= 0) == (4, True)
    assert {"26", "33"} <= {key for key, figures in metrics["per_class"].items() if figures["FN"]}
    predictions = json.loads((tmp_path / "evaluation/predictions.json").read_text())
    assert [image["image_id"] for image in predictions["annotations"]] == [1_000_000, 1_000_001]
