"""The heuristic merge: cases with known answers, and equality with its slow restatement."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.inference.cases import detections
from tests.reference.heuristic import slow_merge, whole_mask
from upsnet.config import InferenceConfig
from upsnet.inference.heuristic import merge_heuristic
from upsnet.structures import Detections

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
SETTINGS = InferenceConfig(stuff_area=1)


def stuff_map(value: int = 0, size=(10, 10)) -> np.ndarray:
    return np.full(size, value, np.uint8)


def assert_equal_to_the_slow_merge(found: Detections, semantic_map, num_stuff, settings) -> None:
    panoptic_map, segments = merge_heuristic(found, semantic_map, num_stuff, settings)
    masks = [
        whole_mask(y, box, semantic_map.shape) for y, box in zip(found.mask_logits, found.boxes, strict=True)
    ]
    class_ids = (found.labels + num_stuff - 1).tolist()
    expected = slow_merge(masks, found.scores.tolist(), class_ids, semantic_map, num_stuff, settings)
    assert [(s.segment_id, s.class_id, s.score, s.area) for s in segments] == [
        (number, class_id, score, pixels.sum())
        for number, (class_id, score, pixels) in enumerate(expected, 1)
    ]
    expected_map = np.zeros(semantic_map.shape, np.int32)
    for number, (_, _, pixels) in enumerate(expected, 1):
        expected_map[pixels] = number
    assert panoptic_map.dtype == np.int32
    assert np.array_equal(panoptic_map, expected_map)


@st.composite
def scenes(draw):
    """Detections with ties, empty masks and boxes over the border, and a semantic map with all values."""
    num_stuff, num_things = draw(st.sampled_from([(0, 1), (0, 3), (1, 1), (3, 2), (40, 60)]))
    size = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    count = draw(st.sampled_from([0, 1, 2, 5, 20]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    corners = torch.rand(count, 4, generator=generator) * torch.tensor([size[1], size[0]] * 2) * 1.3 - 2
    boxes = torch.cat([torch.minimum(corners[:, :2], corners[:, 2:]),
                       torch.maximum(corners[:, :2], corners[:, 2:])], dim=1)  # fmt: skip
    levels = draw(st.sampled_from([2, 5, 1000]))
    scores = (
        (torch.randint(0, levels + 1, (count,), generator=generator) / levels).sort(descending=True).values
    )
    labels = torch.randint(1, num_things + 1, (count,), generator=generator)
    bias = torch.rand(count, 1, 1, generator=generator) * draw(st.sampled_from([0.0, 4.0])) - 1
    coarse = torch.randn(count, 1, 4, 4, generator=generator) + bias[:, None]
    masks = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")[:, 0]
    semantic = torch.randint(0, num_stuff + num_things, size, generator=generator).to(torch.uint8)
    if draw(st.booleans()):
        semantic[:1] = 255
    return Detections(boxes, scores, labels, masks), semantic.numpy(), num_stuff


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    scenes(),
    st.sampled_from([0.0, 0.4, 0.5, 1.0]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from([0, 1, 5, 100]),
)
def test_it_equals_the_slow_restatement(scene, score_thresh, overlap_thresh, stuff_area):
    settings = InferenceConfig(
        heuristic_score_thresh=score_thresh, heuristic_overlap_thresh=overlap_thresh, stuff_area=stuff_area
    )
    assert_equal_to_the_slow_merge(*scene, settings)


@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("num_stuff", [0, 4])
def test_it_equals_the_slow_restatement_with_none_and_with_hundreds_of_instances(count, num_stuff):
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator) * torch.tensor([120.0, 90.0])
    boxes = torch.cat([corners, corners + 2 + 20 * torch.rand(count, 2, generator=generator)], dim=1)
    found = Detections(
        boxes,
        torch.linspace(1, 0.4, count),
        torch.randint(1, 6, (count,), generator=generator),
        torch.randn(count, 28, 28, generator=generator) + 1,
    )
    semantic_map = torch.randint(0, num_stuff + 5, (100, 130), generator=generator).to(torch.uint8).numpy()
    assert_equal_to_the_slow_merge(found, semantic_map, num_stuff, SETTINGS)


def test_the_better_instance_lies_on_top_and_the_other_one_keeps_the_rest():
    found = detections(((0, 0, 6, 10), 0.9, 1), ((4, 0, 10, 10), 0.8, 2))
    panoptic_map, segments = merge_heuristic(found, stuff_map(), 1, SETTINGS)
    assert panoptic_map[5].tolist() == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    assert [(s.class_id, s.area, round(s.score, 2)) for s in segments] == [(1, 60, 0.9), (2, 40, 0.8)]


@pytest.mark.parametrize(("left", "kept"), [(5, True), (4, False)])
def test_a_mask_goes_when_more_than_half_of_it_is_covered_by_any_class(left, kept):
    found = detections(((0, 0, 10, 10), 0.9, 1), ((left, 0, left + 10, 10), 0.8, 2))
    segments = merge_heuristic(found, stuff_map(size=(10, 20)), 1, SETTINGS)[1]
    assert [s.class_id for s in segments] == ([0, 1, 2] if kept else [0, 1])


def test_a_dropped_mask_covers_nothing():
    found = detections(((0, 0, 10, 10), 0.9, 1), ((4, 0, 14, 10), 0.8, 1), ((10, 0, 20, 10), 0.7, 1))
    segments = merge_heuristic(found, stuff_map(size=(10, 20)), 1, SETTINGS)[1]
    assert [s.area for s in segments] == [100, 100]


@pytest.mark.parametrize(("score", "kept"), [(0.5, True), (0.49, False)])
def test_a_score_below_the_threshold_goes(score, kept):
    segments = merge_heuristic(detections(((0, 0, 5, 5), score, 1)), stuff_map(), 1, SETTINGS)[1]
    assert [s.class_id for s in segments] == ([0, 1] if kept else [0])


def test_empty_masks_go_and_cover_nothing():
    found = detections(((0, 0, 10, 10), 0.9, 1, 0.0), ((0, 0, 5, 10), 0.8, 2))
    panoptic_map, segments = merge_heuristic(found, stuff_map(), 1, SETTINGS)
    assert [(s.class_id, s.area) for s in segments] == [(0, 50), (2, 50)]
    assert panoptic_map[0].tolist() == [2] * 5 + [1] * 5


@pytest.mark.parametrize(("stuff_area", "kept"), [(50, True), (51, False)])
def test_stuff_counts_only_the_pixels_that_are_left(stuff_area, kept):
    settings = InferenceConfig(stuff_area=stuff_area)
    panoptic_map, segments = merge_heuristic(detections(((0, 0, 5, 10), 0.9, 1)), stuff_map(), 1, settings)
    assert [s.class_id for s in segments] == ([0, 1] if kept else [1])
    assert panoptic_map[0].tolist() == ([2] * 5 + [1] * 5 if kept else [1] * 5 + [0] * 5)


def test_thing_pixels_of_the_semantic_map_without_an_instance_are_void():
    semantic_map = stuff_map()
    semantic_map[:4] = 1
    panoptic_map, segments = merge_heuristic(detections(), np.asfortranarray(semantic_map), 1, SETTINGS)
    assert (panoptic_map[:4] == 0).all()
    assert (panoptic_map[4:] == 1).all()
    assert [(s.class_id, s.area, s.score) for s in segments] == [(0, 60, None)]


def test_an_image_of_nothing_has_no_segments():
    panoptic_map, segments = merge_heuristic(detections(), stuff_map(3), 2, SETTINGS)
    assert segments == ()
    assert not panoptic_map.any()


def test_a_rest_without_pixels_is_no_segment_even_when_all_may_be_covered():
    settings = InferenceConfig(stuff_area=1, heuristic_overlap_thresh=1.0)
    found = detections(((0, 0, 10, 10), 0.9, 1), ((2, 2, 8, 8), 0.8, 1))
    panoptic_map, segments = merge_heuristic(found, stuff_map(), 1, settings)
    assert [s.segment_id for s in segments] == [1]
    assert (panoptic_map == 1).all()


def test_the_inputs_are_left_as_they_are():
    semantic_map = stuff_map()
    merge_heuristic(detections(((0, 0, 5, 5), 0.9, 1)), semantic_map, 1, SETTINGS)
    assert not semantic_map.any()
