"""The systems of the paper's tables, from training to figures, on a tiny run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from upsnet.config import Config, load_config
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.errors import CheckpointError, TrainingError
from upsnet.evaluation.evaluator import evaluate
from upsnet.inference.oracles import predictor_for
from upsnet.tracking import Tracker
from upsnet.training.checkpoint import LoadedModel, load_model
from upsnet.training.trainer import train

CPU = torch.device("cpu")
TINY = [
    *("data.synthetic.train_images=4", "data.synthetic.val_images=2", "data.synthetic.height=64"),
    *("data.synthetic.width=128", "training.reference_batch=2", "training.iterations=2"),
    *("training.log_interval=1", "model.fpn_channels=16", "model.mask_channels=16"),
    *("model.semantic_channels=[16]", "inference.short_side=64", "inference.long_side=128"),
]
TRAINED = ("upsnet_c", "mask_rcnn", "pspnet", "table6_row1", "table6_row4")


def config(*variants: str) -> Config:
    return load_config("mini", variants, TINY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(config().data, tmp_path_factory.mktemp("systems") / "prepared", processes=1)


@pytest.fixture(scope="module")
def trainings(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of two iterations of every system that has a training of its own."""
    folder = tmp_path_factory.mktemp("trainings")
    for variant in TRAINED:
        train(config(variant), data, folder / variant, tracker=Tracker(None))
    return {variant: folder / variant for variant in TRAINED}


def figures(loaded: LoadedModel, data: PreparedData, *variants: str) -> dict:
    settings = config(*variants)
    predictor = predictor_for(loaded.model, loaded.table, settings.inference, CPU, settings.evaluation)
    return evaluate(predictor, data, settings, table=loaded.table)


@pytest.mark.parametrize("variant", ["upsnet_c", "table6_row1", "table6_row4"])
@pytest.mark.parametrize("merge", [(), ("upsnet_cp",)])
def test_a_training_is_evaluated_with_either_merge(trainings, data, variant, merge):
    metrics = figures(load_model(trainings[variant]), data, *merge)
    assert metrics["images"] == 2
    assert 0 <= metrics["PQ"] < 100


def test_mask_rcnn_and_pspnet_make_one_system(trainings, data):
    pair = load_model(trainings["mask_rcnn"], trainings["pspnet"])
    assert pair.config.variant == pair.config.model.network == "mr_cnn_psp"
    single = figures(pair, data, "mr_cnn_psp")
    semantic = figures(load_model(trainings["pspnet"]), data, "pspnet")
    assert single["mIoU"] == semantic["mIoU"]
    assert semantic["box_AP"] in (None, 0)


def test_the_semantic_part_of_every_system_can_be_tested_over_scales(trainings, data):
    for variant, paths in (("mr_cnn_psp", ("mask_rcnn", "pspnet")), ("upsnet_c", ("upsnet_c",))):
        loaded = load_model(*(trainings[name] for name in paths))
        settings = load_config(
            "mini", [variant], [*TINY, "inference.scales=[48,64]", "inference.mirror=true"]
        )
        predictor = predictor_for(loaded.model, loaded.table, settings.inference, CPU, settings.evaluation)
        multi, single = evaluate(predictor, data, settings), figures(loaded, data, variant)
        assert multi["scales"] == [48, 64]
        assert single["scales"] == []
        assert multi["box_AP"] == single["box_AP"]  # the instance branch stays single scale
        assert multi["milliseconds"]["network"] > 0


def test_networks_that_do_not_fit_together_are_refused(trainings, data):
    with pytest.raises(CheckpointError, match="expected a mask_rcnn and, for the semantic part"):
        load_model(trainings["pspnet"], trainings["mask_rcnn"])
    with pytest.raises(CheckpointError, match="--semantic-checkpoint"):
        figures(load_model(trainings["mask_rcnn"]), data, "mask_rcnn")


def test_the_two_networks_of_mr_cnn_psp_are_trained_apart(data, tmp_path):
    with pytest.raises(TrainingError, match="trained apart"):
        train(config("mr_cnn_psp"), data, tmp_path, tracker=Tracker(None))


def test_each_network_trains_by_its_own_losses(data, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="upsnet"):
        train(config("pspnet"), data, tmp_path / "pspnet", tracker=Tracker(None))
        train(config("mask_rcnn"), data, tmp_path / "mask_rcnn", tracker=Tracker(None))
    lines = [line for line in caplog.messages if line.startswith("iteration 2/2")]
    assert ["auxiliary" in line for line in lines] == [True, False]
    assert ["rpn_box" in line for line in lines] == [False, True]
    assert ["semantic" in line for line in lines] == [True, False]


def test_rows_1_to_6_of_table_6_switch_on_one_thing_after_another():
    rows = [config(f"table6_row{row}") for row in range(1, 6)] + [config()]

    def switches(row: Config) -> list[bool]:
        losses = row.training.losses
        return [
            losses.panoptic > 0,
            row.inference.class_assignment == "mode",
            losses.semantic == config().training.losses.semantic,
            losses.semantic_roi > 0,
            row.model.unknown,
        ]

    for number, row in enumerate(rows):
        assert switches(row) == [place < number for place in range(5)]
