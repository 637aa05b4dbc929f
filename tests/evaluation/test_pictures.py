"""The paper's Figure 4: two merges of one network's output beside image and truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from upsnet.config import DataConfig, SyntheticConfig, load_config
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.data.transforms import decode_image
from upsnet.errors import CheckpointError, DataError
from upsnet.evaluation.pictures import draw_merges
from upsnet.inference.predictor import Predictor
from upsnet.model.build import build_model
from upsnet.visualize import colorize

CPU = torch.device("cpu")
CONFIG = load_config("mini", overrides=["model.semantic_channels=[16]"])
SURE_OF_LITTLE = {"heuristic_score_thresh": 0.0, "panoptic_score_thresh": 0.0, "stuff_area": 1}
"""Lets what an untrained network says reach the picture."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    scenes = SyntheticConfig(train_images=1, val_images=3, height=64, width=128)
    return prepare(
        DataConfig(synthetic=scenes), tmp_path_factory.mktemp("pictures") / "prepared", processes=1
    )


def network(data: PreparedData, **changes):
    torch.manual_seed(0)
    table = data.categories
    return build_model(CONFIG.model.model_copy(update=changes), table.num_stuff, table.num_things)


def painted(model, data: PreparedData, merge: str) -> np.ndarray:
    """What a predictor of its own says about the first validation image."""
    settings = CONFIG.inference.model_copy(update={"merge": merge} | SURE_OF_LITTLE)
    image = decode_image(data.split("val").read(0).image)
    prediction = Predictor(model, data.categories, settings, CPU).predict_image(image)
    classes = [(s.segment_id, s.class_id) for s in prediction.segments]
    return colorize(prediction.panoptic_map, classes, data.categories.categories)


def test_four_pictures_stand_side_by_side_for_every_chosen_image(data, tmp_path):
    chosen = data.split("val").image_ids[::2]
    model = network(data)
    settings = CONFIG.inference.model_copy(update=SURE_OF_LITTLE)
    written = list(draw_merges(model, data, settings, CPU, tmp_path, chosen))
    assert [path.name for path in written] == [f"{image_id}.png" for image_id in chosen]
    picture = np.array(Image.open(written[0]))
    gap = (picture.shape[1] - 4 * 128) // 3
    assert gap >= 2
    panels = [picture[-64:, left : left + 128] for left in range(0, 4 * (128 + gap), 128 + gap)]
    image, truth, heuristic, upsnet = panels
    record = data.split("val").read(0)
    assert (image == decode_image(record.image).permute(1, 2, 0).numpy()).all()
    assert len(np.unique(truth.reshape(-1, 3), axis=0)) > 3
    assert (heuristic == painted(model, data, "heuristic")).all()
    assert (upsnet == painted(model, data, "panoptic")).all()
    assert (heuristic != upsnet).any()


def test_an_unknown_image_id_is_named(data, tmp_path):
    with pytest.raises(DataError, match="no id 12; theirs begin with 1000000"):
        list(draw_merges(network(data), data, CONFIG.inference, CPU, tmp_path, [12]))


def test_a_network_without_panoptic_head_is_refused(data, tmp_path):
    with pytest.raises(CheckpointError, match="MaskRCNN has no panoptic head"):
        list(draw_merges(network(data, network="mask_rcnn"), data, CONFIG.inference, CPU, tmp_path, []))
