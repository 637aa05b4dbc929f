"""The made outputs: every instance survives both merges, so that post-processing has its full work."""

import pytest
import torch

from tests.model.cases import mini_model
from upsnet.config import load_config
from upsnet.evaluation.benchmark.inputs import made_output, made_table, random_images
from upsnet.inference.predictor import Predictor

S, T = 4, 3


@pytest.mark.parametrize("instances", [0, 1, 10, 50])
@pytest.mark.parametrize("size", [(200, 325), (325, 200), (256, 512)])
@pytest.mark.parametrize("merge", ["panoptic", "heuristic"])
def test_every_made_instance_is_in_the_panoptic_map(merge, size, instances):
    config = load_config("coco_r50", [], [f"inference.merge={merge}", "inference.stuff_area=64"]).inference
    predictor = Predictor(mini_model(S, T), made_table(S, T), config, torch.device("cpu"))
    prediction = predictor.postprocess(made_output(size, S, T, instances, seed=1), 0, size, 0.0)
    things = [segment for segment in prediction.segments if segment.score is not None]
    assert len(things) == instances
    assert {segment.class_id for segment in things} == {S + i % T for i in range(instances)}
    assert prediction.panoptic_map.shape == size
    stuff = {segment.class_id for segment in prediction.segments if segment.score is None}
    assert stuff <= set(range(S))
    if instances <= 10:
        assert len(stuff) == S
        share = sum(segment.area for segment in things) / (size[0] * size[1])
        assert share > 0.1 if instances else share == 0


def test_made_outputs_have_the_shapes_of_a_network_s():
    output = made_output((61, 90), S, T, 5, seed=1)
    (real,) = mini_model(S, T).eval().predict(random_images((61, 90), 1), load_config("mini").inference)
    assert output.semantic_logits.shape == real.semantic_logits.shape
    assert (output.size, output.stride) == (real.size, real.stride)
    assert output.detections.mask_logits.shape[1:] == real.detections.mask_logits.shape[1:]
    assert output.detections.boxes.min() >= 0
    assert (output.detections.boxes[:, 2:] <= torch.tensor([90, 61])).all()
    assert output.detections.scores.diff().max() < 0


def test_the_same_seed_makes_the_same_inputs():
    first, second, other = (made_output((64, 96), S, T, 5, seed) for seed in (1, 1, 2))
    assert torch.equal(first.semantic_logits, second.semantic_logits)
    assert torch.equal(first.detections.boxes, second.detections.boxes)
    assert not torch.equal(first.semantic_logits, other.semantic_logits)
    assert torch.equal(random_images((64, 96), 1).pixels, random_images((64, 96), 1).pixels)


def test_made_tables_have_the_classes_that_are_asked_for():
    table = made_table(53, 80)
    assert (table.num_stuff, table.num_things) == (53, 80)
