"""The paper's Figure 4: two merges of one network's output beside image and truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from upsnet.config import DataConfig, SyntheticConfig, load_config
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.errors import CheckpointError, DataError
from upsnet.evaluation.pictures import draw_merges
from upsnet.model.build import build_model

CPU = torch.device("cpu")
CONFIG = load_config("mini", overrides=["model.semantic_channels=[16]"])


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


def test_four_pictures_stand_side_by_side_for_every_chosen_image(data, tmp_path):
    chosen = data.split("val").image_ids[::2]
    model = network(data)
    written = list(draw_merges(model, data, CONFIG.inference, CPU, tmp_path, chosen))
    assert [path.name for path in written] == [f"{image_id}.png" for image_id in chosen]
    picture = np.array(Image.open(written[0]))
    gap = (picture.shape[1] - 4 * 128) // 3
    assert gap >= 2
    panels = [picture[-64:, left : left + 128] for left in range(0, 4 * (128 + gap), 128 + gap)]
    assert all(panel.shape == (64, 128, 3) for panel in panels)
    assert len({panel.tobytes() for panel in panels}) == 4


def test_an_unknown_image_id_is_named(data, tmp_path):
    with pytest.raises(DataError, match="no id 12; theirs begin with 1000000"):
        list(draw_merges(network(data), data, CONFIG.inference, CPU, tmp_path, [12]))


def test_a_network_without_panoptic_head_is_refused(data, tmp_path):
    with pytest.raises(CheckpointError, match="MaskRCNN has no panoptic head"):
        list(draw_merges(network(data, network="mask_rcnn"), data, CONFIG.inference, CPU, tmp_path, []))
