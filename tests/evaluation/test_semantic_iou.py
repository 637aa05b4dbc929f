"""Mean IoU of the semantic head on hand-made maps."""

from __future__ import annotations

import numpy as np
import pytest

from upsnet.evaluation.semantic_iou import confusion_matrix, semantic_iou
from upsnet.structures import IGNORE


def iou(true: list[list[int]], predicted: list[list[int]]) -> tuple[float | None, list[float | None]]:
    maps = (np.array(true, np.uint8), np.array(predicted, np.uint8))
    return semantic_iou(confusion_matrix(*maps, num_classes=3))


def test_equal_maps_give_one_hundred_and_absent_classes_stay_out_of_the_mean() -> None:
    assert iou([[0, 0, 1]], [[0, 0, 1]]) == (100, [100, 100, None])


def test_the_iou_is_intersection_over_union_of_the_whole_set() -> None:
    mean, per_class = iou([[0, 0, 0, 1]], [[0, 0, 1, 1]])
    assert per_class == [pytest.approx(100 * 2 / 3), pytest.approx(50), None]
    assert mean == pytest.approx((100 * 2 / 3 + 50) / 2)


def test_a_predicted_class_that_the_truth_lacks_lowers_the_others_only() -> None:
    assert iou([[0, 0]], [[0, 2]]) == (50, [50, None, None])


def test_pixels_without_truth_are_left_out() -> None:
    assert iou([[0, IGNORE, IGNORE]], [[0, 1, 2]]) == (100, [100, None, None])


def test_a_set_without_any_truth_has_no_figure() -> None:
    assert iou([[IGNORE]], [[1]]) == (None, [None, None, None])


def test_matrices_of_images_add_up_to_the_matrix_of_the_set() -> None:
    rng = np.random.default_rng(3)
    true, predicted = rng.integers(0, 3, (2, 8, 9), np.uint8)
    halves = confusion_matrix(true[:4], predicted[:4], 3) + confusion_matrix(true[4:], predicted[4:], 3)
    assert (halves == confusion_matrix(true, predicted, 3)).all()
    assert halves[2, 1] == ((true == 2) & (predicted == 1)).sum()
