"""Table 6, rows 7-9: what is replaced by the truth is the truth, and nothing else is."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from upsnet.config import Config, DataConfig, EvaluationConfig, SyntheticConfig, load_config
from upsnet.data.loader import evaluation_batches
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.evaluation.evaluator import evaluate
from upsnet.inference.oracles import OraclePredictor, predictor_for, true_logits
from upsnet.inference.predictor import Predictor
from upsnet.model.build import build_model
from upsnet.structures import IGNORE, Batch, GivenInstances, Targets

CPU = torch.device("cpu")
CONFIG = load_config("mini", overrides=["model.semantic_channels=[16]", "loader.processes=0"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    scenes = SyntheticConfig(train_images=1, val_images=6, seed=2)
    return prepare(DataConfig(synthetic=scenes), tmp_path_factory.mktemp("oracles") / "prepared", processes=1)


def predictor(data: PreparedData, config: Config = CONFIG, **told: bool) -> Predictor:
    torch.manual_seed(0)
    table = data.categories
    model = build_model(config.model, table.num_stuff, table.num_things)
    return predictor_for(model, table, config.inference, CPU, EvaluationConfig(**told))


def batches(data: PreparedData) -> list[Batch]:
    split = data.split("val")
    positions = range(len(split))
    return list(evaluation_batches(split, data.categories, CONFIG.inference, indices=positions, processes=0))


def test_without_an_oracle_nothing_is_told(data):
    assert type(predictor(data)) is Predictor


def test_given_boxes_are_all_detected_and_all_reach_the_panoptic_head(data):
    told = predictor(data, gt_boxes=True)
    assert isinstance(told, OraclePredictor)
    for batch in batches(data):
        (output,) = told.network_outputs(batch)
        boxes = output.detections.boxes
        assert sorted(map(tuple, boxes.tolist())) == sorted(map(tuple, batch.targets[0].boxes.tolist()))
        assert told.instances(output) is output.detections
        scores = output.detections.scores
        assert torch.equal(scores, scores.sort(descending=True).values)


def test_given_classes_are_those_of_the_given_boxes(data):
    told = predictor(data, gt_boxes=True, gt_classes=True)
    for batch in batches(data):
        (output,) = told.network_outputs(batch)
        label_of = {
            tuple(box): label
            for box, label in zip(
                batch.targets[0].boxes.tolist(), batch.targets[0].labels.tolist(), strict=True
            )
        }
        found = zip(output.detections.boxes.tolist(), output.detections.labels.tolist(), strict=True)
        assert all(label_of[tuple(box)] == label for box, label in found)
    assert told.config.class_assignment == "instance"


def test_given_classes_alone_go_to_the_detections_that_overlap_a_true_box(data):
    told = predictor(data)
    batch = batches(data)[0]
    (free,) = told.network_outputs(batch)
    found = free.detections
    assert len(found) > 2
    other = found.labels % data.categories.num_things + 1
    given = GivenInstances(found.boxes[:2], other[:2], give_boxes=False, give_labels=True)
    (output,) = told.model.predict(batch.images, told.config, [given])
    near = box_iou(found.boxes, found.boxes[:2]) >= 0.5
    expected = torch.where(near.any(dim=1), other[:2][near.float().argmax(dim=1)], found.labels)
    assert torch.equal(output.detections.boxes, found.boxes)
    assert output.detections.labels[:2].tolist() == other[:2].tolist()
    alone = near.sum(dim=1) < 2
    assert torch.equal(output.detections.labels[alone], expected[alone])


def test_true_logits_say_the_truth_and_nothing_about_void():
    semantic = torch.tensor([[0, 2, IGNORE]], dtype=torch.uint8)
    target = Targets(1, torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(1, 3), semantic)
    logits = true_logits(target, 3)
    assert logits[:, 0].argmax(0).tolist() == [0, 2, 0]
    assert logits[:, 0, 2].tolist() == [0, 0, 0]


def test_with_everything_true_only_the_masks_of_touching_instances_can_be_wrong(data):
    """The network is untrained, so whatever is right was told."""
    everything = {"gt_boxes": True, "gt_classes": True, "gt_semantic": True}
    blind = evaluate(predictor(data), data, CONFIG)
    boxes = evaluate(predictor(data, gt_boxes=True, gt_classes=True), data, CONFIG)
    semantic = evaluate(predictor(data, gt_semantic=True), data, CONFIG)
    full = evaluate(predictor(data, **everything), data, CONFIG)
    assert blind["PQ"] < 5
    assert semantic["mIoU"] == full["mIoU"] == 100
    assert semantic["PQ_st"] > 90
    assert full["PQ_st"] > 99
    assert full["PQ_th"] > 70
    assert full["PQ"] > max(semantic["PQ"], boxes["PQ"])
    assert full["SQ_th"] > 80


def test_truth_reaches_the_heuristic_merge_too(data):
    config = load_config("mini", ["upsnet_cp"], ["model.semantic_channels=[16]", "loader.processes=0"])
    metrics = evaluate(predictor(data, config, gt_semantic=True), data, config)
    assert metrics["PQ_st"] > 90
