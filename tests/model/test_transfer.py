"""Weights of one network in another one of other classes: every row is looked at."""

import json
from pathlib import Path

import pytest
import torch

from tests.model.cases import mini_config, mini_model
from upsnet.config import load_config
from upsnet.data.categories import CategoryTable
from upsnet.data.cityscapes import cityscapes_categories
from upsnet.errors import CheckpointError
from upsnet.model.build import build_model
from upsnet.model.transfer import INSTANCE_LAYERS, SEMANTIC_LAYERS, ClassNames, transfer_weights

SOURCE = ClassNames(
    ("tree-merged", "Road", "pavement-merged", "sky-other-merged", "car", "person", "traffic light"), 4
)
TARGET = ClassNames(("road", "sidewalk", "pole", "traffic light", "vegetation", "person", "rider", "car"), 5)
SEMANTIC_ROWS = [1, 2, None, 6, 0, 5, None, 4]
LABEL_ROWS = [0, 2, None, 1]
"""Background, person, rider, car: their labels in the source."""


@pytest.fixture(scope="module")
def source() -> dict[str, torch.Tensor]:
    return mini_model(4, 3, seed=1).state_dict()


def class_layers(network: str) -> set[str]:
    """Names of the layers whose shapes depend on the number of classes."""
    config = mini_config(network=network)
    few, many = (build_model(config, *classes).state_dict() for classes in ((4, 3), (5, 7)))
    return {name.rpartition(".")[0] for name in few if few[name].shape != many[name].shape}


def test_every_row_is_that_of_the_class_of_the_same_meaning(source):
    model = mini_model(5, 3, seed=2)
    result = transfer_weights(model, source, TARGET, SOURCE)
    state = model.state_dict()
    heads = [(layer, SEMANTIC_ROWS, 1) for layer in SEMANTIC_LAYERS[:1]]
    heads += [(layer, LABEL_ROWS, 4 if "bbox" in layer else 1) for layer in INSTANCE_LAYERS]
    for layer, rows, per_class in heads:
        for kind in ("weight", "bias"):
            ours, theirs = state[f"{layer}.{kind}"], source[f"{layer}.{kind}"]
            assert len(ours) == len(rows) * per_class
            for place, row in enumerate(rows):
                mine = ours[place * per_class : (place + 1) * per_class]
                if row is not None:
                    assert torch.equal(mine, theirs[row * per_class : (row + 1) * per_class]), (layer, place)
                elif kind == "weight":
                    assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.3)
                    assert not any(torch.equal(mine[0], other) for other in theirs)
    assert result.semantic == {
        **{"road": "Road", "sidewalk": "pavement-merged", "pole": None, "traffic light": "traffic light"},
        **{"vegetation": "tree-merged", "person": "person", "rider": None, "car": "car"},
    }
    assert result.instances == {"person": "person", "rider": None, "car": "car"}


def test_everything_without_classes_is_copied_as_it_is(source):
    model = mini_model(5, 3, seed=2)
    result = transfer_weights(model, source, TARGET, SOURCE)
    heads = {f"{layer}.{kind}" for layer in class_layers("upsnet") for kind in ("weight", "bias")}
    state = model.state_dict()
    assert set(result.copied) == set(state) - heads
    assert all(torch.equal(state[name], source[name]) for name in result.copied)
    assert (result.left, result.unused) == ({}, [])


def test_tensors_of_other_shapes_stay_as_built_and_are_named(source):
    model = mini_model(5, 3, seed=2, global_context=True, semantic_channels=(64, 32))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = transfer_weights(model, source, TARGET, SOURCE)
    after = model.state_dict()
    assert {name.rpartition(".")[0] for name in result.left} == {
        *("fpn.context", "semantic_head.classify"),
        *("semantic_head.layers.2.conv",),
    }
    assert result.left["fpn.context.weight"] == "the checkpoint has none"
    assert result.left["semantic_head.classify.weight"] == (
        "[8, 128, 1, 1] here, [7, 256, 1, 1] in the checkpoint"
    )
    assert all(torch.equal(after[name], before[name]) for name in result.left)
    assert result.semantic == {}
    assert result.instances["car"] == "car"


def test_tensors_that_only_the_source_has_are_named():
    source = mini_model(4, 3, seed=1, global_context=True).state_dict()
    result = transfer_weights(mini_model(5, 3), source, TARGET, SOURCE)
    assert result.unused == ["fpn.context.weight", "fpn.context.bias"]


def test_the_rows_of_pspnet_are_copied_too():
    config = mini_config(network="pspnet")
    source, model = build_model(config, 4, 3).state_dict(), build_model(config, 5, 3)
    result = transfer_weights(model, source, TARGET, SOURCE)
    for layer in ("classify.2", "auxiliary.1"):
        assert torch.equal(model.state_dict()[f"{layer}.weight"][7], source[f"{layer}.weight"][4])
    assert (result.semantic["car"], result.instances, result.left) == ("car", {}, {})


@pytest.mark.parametrize("network", ["upsnet", "mask_rcnn", "pspnet"])
def test_the_layers_with_class_rows_are_known_in_every_network(network):
    assert class_layers(network) <= {*SEMANTIC_LAYERS, *INSTANCE_LAYERS}


def test_a_source_of_which_nothing_fits_is_refused():
    with pytest.raises(CheckpointError, match="no tensor of the checkpoint fits"):
        transfer_weights(mini_model(5, 3), {"other.weight": torch.zeros(1)}, TARGET, SOURCE)


def test_classes_of_coco_give_those_of_cityscapes_their_rows(coco_sample_dir: Path):
    values = json.loads((coco_sample_dir / "annotations/panoptic_val2017.json").read_text())
    coco, cityscapes = CategoryTable.from_json(values["categories"], "coco"), cityscapes_categories()
    assert (coco.num_stuff, coco.num_things) == (53, 80)
    config = mini_config(network="pspnet")
    source = build_model(config, 53, 80).state_dict()
    names = [ClassNames(table.names, table.num_stuff) for table in (cityscapes, coco)]
    result = transfer_weights(build_model(config, 11, 8), source, *names)
    alike = ("road", "traffic light", "person", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    others = {
        **{"sidewalk": "pavement-merged", "building": "building-other-merged", "fence": "fence-merged"},
        **{"wall": "wall-other-merged", "vegetation": "tree-merged", "sky": "sky-other-merged"},
        **{"pole": None, "traffic sign": None, "terrain": None, "rider": None},
    }
    assert result.semantic == {**{name: name for name in alike}, **others}


def test_a_coco_network_with_two_semantic_layers_and_no_global_context_leaves_nothing_out():
    coco = load_config("coco_r50", [], ["model.semantic_channels=[128,128]", "model.global_context=false"])
    assert coco.model == load_config("cityscapes_r50_coco").model
