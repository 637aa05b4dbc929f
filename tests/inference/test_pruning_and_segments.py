"""Pruning, class assignment and the numbering of segments on cases with known answers."""

import numpy as np
import pytest
import torch

from tests.inference.cases import detections
from upsnet.config import InferenceConfig
from upsnet.inference.pruning import prune
from upsnet.inference.segments import assign_classes, build_segments, resize_map
from upsnet.model.panoptic_head import PanopticArgmax
from upsnet.structures import Detections

SETTINGS = InferenceConfig()


def kept_scores(found: Detections) -> list[float]:
    return [round(score, 2) for score in prune(found, (100, 100), SETTINGS).scores.tolist()]


def test_only_detections_above_the_score_stay():
    found = detections(((0, 0, 10, 10), 0.9, 1), ((50, 50, 60, 60), 0.6, 1), ((0, 50, 9, 60), 0.61, 2))
    assert kept_scores(found) == [0.9, 0.61]


def test_nms_is_across_classes():
    found = detections(((0, 0, 10, 10), 0.9, 1), ((0, 0, 10, 9), 0.8, 2))
    assert kept_scores(found) == [0.9]


def test_a_mask_covered_by_more_than_three_tenths_on_its_class_canvas_goes():
    first = ((0, 0, 50, 40), 0.9, 1)
    covered = ((30, 0, 80, 40), 0.8, 1)  # 40 % of it lies under the first
    touching = ((36, 0, 86, 40), 0.8, 1)  # 28 %
    assert kept_scores(detections(first, covered)) == [0.9]
    assert kept_scores(detections(first, touching)) == [0.9, 0.8]


def test_other_classes_have_their_own_canvas():
    found = detections(((0, 0, 50, 40), 0.9, 1), ((30, 0, 80, 40), 0.8, 2))
    assert kept_scores(found) == [0.9, 0.8]


def test_empty_masks_go():
    assert kept_scores(detections(((0, 0, 10, 10), 0.9, 1, 0.0))) == []


def test_no_detection_is_fine():
    assert len(prune(detections(), (100, 100), SETTINGS)) == 0


def decisions(channel, class_id) -> PanopticArgmax:
    return PanopticArgmax(torch.tensor(channel), torch.tensor(class_id))


@pytest.mark.parametrize(
    ("semantic", "expected"),
    [
        ([[2, 2, 2, 0]], 2),  # agrees: its own class
        ([[0, 0, 0, 2]], 0),  # a stuff class has three quarters: that stuff class
        ([[0, 0, 2, 3]], 2),  # half is not more than half
        ([[3, 3, 3, 0]], 2),  # another thing class never wins
    ],
)
def test_the_semantic_mode_wins_only_as_stuff_and_with_a_majority(semantic, expected):
    found = detections(((0, 0, 4, 1), 0.9, 1))  # label 1 of 2 stuff classes: class 2
    result = assign_classes(decisions([[2, 2, 2, 2]], semantic), found, 2, 4, SETTINGS)
    assert result.tolist() == [expected]


def test_class_assignment_can_be_switched_off():
    settings = InferenceConfig(class_assignment="instance")
    found = detections(((0, 0, 4, 1), 0.9, 1))
    assert assign_classes(decisions([[2] * 4], [[0] * 4]), found, 2, 4, settings).tolist() == [2]


def test_an_instance_without_pixels_keeps_its_class():
    found = detections(((0, 0, 4, 1), 0.9, 2))
    assert assign_classes(decisions([[0] * 4], [[0] * 4]), found, 2, 4, SETTINGS).tolist() == [3]


def test_segments_are_numbered_without_gaps_and_unknown_is_void():
    channels = np.array([[0, 0, 1, 2, 2, 3, 4, 4]])  # 2 stuff classes, 2 instances, unknown is 4
    panoptic, segments = build_segments(channels, np.array([2, 3]), np.array([0.9, 0.8]), 2, 0)
    assert panoptic.tolist() == [[1, 1, 2, 3, 3, 4, 0, 0]]
    assert [(s.segment_id, s.class_id, s.area) for s in segments] == [
        (1, 0, 2),
        (2, 1, 1),
        (3, 2, 2),
        (4, 3, 1),
    ]
    assert segments[2].score == pytest.approx(0.9)
    assert segments[0].score is None


def test_an_instance_that_became_stuff_joins_that_stuff_segment():
    channels = np.array([[0, 0, 2, 2, 3]])
    panoptic, segments = build_segments(channels, np.array([0, 3]), np.array([0.9, 0.8]), 2, 0)
    assert panoptic.tolist() == [[1, 1, 1, 1, 2]]
    assert [(s.class_id, s.area) for s in segments] == [(0, 4), (3, 1)]


def test_small_stuff_becomes_void_and_small_things_stay():
    channels = np.array([[0, 0, 0, 1, 2]])
    panoptic, segments = build_segments(channels, np.array([2]), np.array([0.9]), 2, 3)
    assert panoptic.tolist() == [[1, 1, 1, 0, 2]]
    assert [s.class_id for s in segments] == [0, 2]


def test_an_image_of_unknown_pixels_has_no_segments():
    panoptic, segments = build_segments(np.full((2, 2), 3), np.zeros(0, int), np.zeros(0), 3, 0)
    assert panoptic.tolist() == [[0, 0], [0, 0]]
    assert segments == ()


@pytest.mark.parametrize("size", [(7, 11), (480, 640), (1, 1), (427, 640)])
def test_maps_are_resized_to_exactly_the_original_size(size):
    values = torch.arange(30 * 40).reshape(30, 40)
    resized = resize_map(values, size)
    assert resized.shape == size
    assert resized.dtype == values.dtype
    assert resized.unique().numel() <= values.numel()
