"""Box and mask AP of the instance branch on hand-made instances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from upsnet.data.categories import CategoryTable
from upsnet.evaluation.instance_ap import (
    ImageInstances,
    average_precision,
    detected_instances,
    true_instances,
)
from upsnet.structures import Category, Detections, Segment

TABLE = CategoryTable(
    (
        Category(5, "sky", False, (0, 0, 255)),
        Category(8, "car", True, (255, 0, 0)),
        Category(9, "dog", True, (0, 255, 0)),
    )
)
CAR, DOG = 1, 2
SIZE = (60, 80)


def detections(*found: tuple[list[float], int, float]) -> Detections:
    """Full-box masks for (box, label, score)."""
    return Detections(
        torch.tensor([box for box, _, _ in found]).reshape(-1, 4),
        torch.tensor([score for _, _, score in found]),
        torch.tensor([label for _, label, _ in found], dtype=torch.int64),
        torch.full((len(found), 28, 28), 5.0),
    )


def truth(*boxes: tuple[list[int], int, bool]) -> tuple[np.ndarray, list[Segment]]:
    """A map of rectangles (box xyxy, category_id, iscrowd) and its segments."""
    panoptic_map = np.zeros(SIZE, np.int32)
    segments = []
    for number, ((x1, y1, x2, y2), category_id, iscrowd) in enumerate(boxes, 1):
        panoptic_map[y1:y2, x1:x2] = number
        area = (x2 - x1) * (y2 - y1)
        segments.append(Segment(number, category_id, iscrowd, (x1, y1, x2 - x1, y2 - y1), area))
    return panoptic_map, segments


def ap(
    true: tuple[np.ndarray, list[Segment]], found: Detections
) -> tuple[dict[str, float | None], dict[int, dict[str, float | None]]]:
    instances = ImageInstances(7, SIZE, true_instances(*true, TABLE), detected_instances(found, SIZE, TABLE))
    return average_precision([instances], TABLE)


def test_detections_equal_to_the_truth_have_full_ap() -> None:
    true = truth(([2, 3, 40, 30], 8, False), ([50, 10, 70, 50], 9, False), ([0, 40, 30, 60], 5, False))
    total, per_class = ap(true, detections(([2, 3, 40, 30], 1, 0.9), ([50, 10, 70, 50], 2, 0.8)))
    assert total == {"box_AP": pytest.approx(100), "mask_AP": pytest.approx(100)}
    assert per_class[DOG] == {"box_AP": pytest.approx(100), "mask_AP": pytest.approx(100)}
    assert set(per_class) == {CAR, DOG}


def test_no_detections_score_zero() -> None:
    total, per_class = ap(truth(([2, 3, 40, 30], 8, False)), detections())
    assert total == {"box_AP": 0, "mask_AP": 0}
    assert per_class == {CAR: {"box_AP": 0, "mask_AP": 0}, DOG: {"box_AP": None, "mask_AP": None}}


def test_a_truth_without_instances_has_no_ap() -> None:
    found = detections(([2, 3, 40, 30], 1, 0.9))
    assert ap(truth(([0, 0, 9, 9], 5, False)), found)[0] == {"box_AP": None, "mask_AP": None}
    assert average_precision([], TABLE)[0] == {"box_AP": None, "mask_AP": None}


def test_a_table_without_things_has_no_ap() -> None:
    stuff_only = CategoryTable(TABLE.categories[:1])
    image = ImageInstances(7, SIZE, (), ())
    assert average_precision([image], stuff_only) == ({"box_AP": None, "mask_AP": None}, {})


def test_detections_inside_a_crowd_region_are_not_held_against_the_network() -> None:
    car, crowd = ([2, 3, 40, 30], 8, False), ([50, 10, 70, 50], 8, True)
    found = detections(([50, 10, 70, 30], 1, 0.95), ([50, 30, 70, 50], 1, 0.94), ([2, 3, 40, 30], 1, 0.9))
    assert ap(truth(car, crowd), found)[0] == {"box_AP": pytest.approx(100), "mask_AP": pytest.approx(100)}
    assert ap(truth(car), found)[0]["mask_AP"] == pytest.approx(100 / 3)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own
def test_the_mask_is_pasted_where_its_box_is_and_only_where_logits_are_positive() -> None:
    found = detections(([10.4, 20.6, 30.0, 40.0], 1, 0.9))
    found.mask_logits[0, :, 14:] = -5.0
    (instance,) = detected_instances(found, SIZE, TABLE)
    mask = rle.decode(instance["segmentation"])
    assert mask.shape == SIZE
    assert mask[20:40, 10:20].all()
    assert mask.sum() == 20 * 10
    assert instance["area"] == 200
    assert instance["bbox"] == pytest.approx([10.4, 20.6, 19.6, 19.4])


def test_masks_and_boxes_are_measured_apart() -> None:
    found = detections(([2, 3, 42, 33], 1, 0.9))
    found.mask_logits[0, 14:] = -5.0
    total, _ = ap(truth(([2, 3, 42, 33], 8, False)), found)
    assert total["box_AP"] == pytest.approx(100)
    assert total["mask_AP"] == pytest.approx(10)  # IoU 0.5: a hit at the first of ten thresholds


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ap(truth(([2, 3, 40, 30], 8, False)), detections(([2, 3, 40, 30], 1, 0.9)))
    assert capsys.readouterr().out == ""
