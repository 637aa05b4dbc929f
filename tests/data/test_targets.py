"""Targets from the panoptic map."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.tiny import CAR, PERSON, ROAD, SKY, TABLE, segment
from tests.reference.slow_targets import slow_targets
from upsnet.data.targets import targets_from_panoptic
from upsnet.errors import DataError
from upsnet.structures import IGNORE, Segment

SEGMENTS = (
    segment(5, CAR),
    segment(2**24 - 1, PERSON),
    segment(256, ROAD),
    segment(65_536, SKY),
    segment(9, CAR, iscrowd=True),
    segment(4, PERSON),
    segment(77, ROAD, iscrowd=True),
)
IDS = [0, *(s.segment_id for s in SEGMENTS)]


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    ids = draw(st.lists(st.sampled_from(IDS), min_size=height * width, max_size=height * width))
    return np.array(ids, np.int32).reshape(height, width)


@given(maps(), st.permutations(SEGMENTS))
def test_targets_equal_the_pixel_by_pixel_definition(
    panoptic_map: np.ndarray, segments: list[Segment]
) -> None:
    targets = targets_from_panoptic(3, panoptic_map, segments, TABLE)
    boxes, labels, instance_map, semantic_map = slow_targets(panoptic_map, segments, TABLE)
    assert targets.boxes.tolist() == boxes
    assert targets.labels.tolist() == labels
    assert np.array_equal(targets.instance_map.numpy(), instance_map)
    assert np.array_equal(targets.semantic_map.numpy(), semantic_map)


@given(maps())
def test_the_bounding_box_of_every_mask_is_its_box(panoptic_map: np.ndarray) -> None:
    targets = targets_from_panoptic(3, panoptic_map, SEGMENTS, TABLE)
    for mask, box in zip(targets.masks(), targets.boxes.int().tolist(), strict=True):
        x0, y0, x1, y1 = box
        assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
        assert mask[y0, x0:x1].any()
        assert mask[y1 - 1, x0:x1].any()
        assert mask[y0:y1, x0].any()
        assert mask[y0:y1, x1 - 1].any()


def test_targets_have_the_promised_types_and_shapes() -> None:
    targets = targets_from_panoptic(3, np.array([[5, 5, 0], [256, 4, 4]]), SEGMENTS, TABLE)
    assert targets.image_id == 3
    assert (targets.boxes.dtype, tuple(targets.boxes.shape)) == (torch.float32, (2, 4))
    assert (targets.labels.dtype, tuple(targets.labels.shape)) == (torch.int64, (2,))
    assert (targets.instance_map.dtype, tuple(targets.instance_map.shape)) == (torch.int32, (2, 3))
    assert (targets.semantic_map.dtype, tuple(targets.semantic_map.shape)) == (torch.uint8, (2, 3))


def test_a_crowd_is_no_instance_but_its_pixels_keep_their_class() -> None:
    targets = targets_from_panoptic(3, np.array([[9, 9, 256]]), SEGMENTS, TABLE)
    assert tuple(targets.boxes.shape) == (0, 4)
    assert targets.instance_map.tolist() == [[0, 0, 0]]
    assert targets.semantic_map.tolist() == [[2, 2, 0]]


def test_an_image_of_nothing_but_void_has_no_truth() -> None:
    targets = targets_from_panoptic(3, np.zeros((4, 6), np.int32), (), TABLE)
    assert tuple(targets.boxes.shape) == (0, 4)
    assert tuple(targets.labels.shape) == (0,)
    assert tuple(targets.masks().shape) == (0, 4, 6)
    assert (targets.semantic_map == IGNORE).all()


def test_an_instance_of_one_pixel_has_a_box_of_one_pixel() -> None:
    panoptic_map = np.full((5, 7), 256)
    panoptic_map[4, 6] = 5
    assert targets_from_panoptic(3, panoptic_map, SEGMENTS, TABLE).boxes.tolist() == [[6, 4, 7, 5]]


def test_an_instance_that_vanished_in_the_resize_leaves_no_gap_in_the_numbers() -> None:
    targets = targets_from_panoptic(3, np.array([[4, 4, 9]]), SEGMENTS, TABLE)
    assert targets.labels.tolist() == [2]
    assert targets.instance_map.tolist() == [[1, 1, 0]]


def test_an_instance_in_two_parts_has_one_box_around_both() -> None:
    targets = targets_from_panoptic(3, np.array([[5, 256, 256], [256, 256, 5]]), SEGMENTS, TABLE)
    assert targets.boxes.tolist() == [[0, 0, 3, 2]]
    assert targets.masks().tolist() == [[[True, False, False], [False, False, True]]]


def test_a_tensor_and_a_mirrored_view_are_taken_like_an_array() -> None:
    panoptic_map = np.array([[5, 5, 0], [256, 4, 4]], np.int32)
    mirrored = targets_from_panoptic(3, panoptic_map[:, ::-1], SEGMENTS, TABLE)
    assert mirrored.boxes.tolist() == [[1, 0, 3, 1], [0, 1, 2, 2]]
    from_tensor = targets_from_panoptic(3, torch.from_numpy(panoptic_map), SEGMENTS, TABLE)
    assert from_tensor.boxes.tolist() == [[0, 0, 2, 1], [1, 1, 3, 2]]


def test_an_id_that_nobody_described_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"image 3: .*segment id 6"):
        targets_from_panoptic(3, np.array([[5, 6]]), SEGMENTS, TABLE)
    with pytest.raises(DataError, match=r"image 3: .*segment id 16777216"):
        targets_from_panoptic(3, np.array([[2**24]]), SEGMENTS, TABLE)


def test_a_category_that_the_table_lacks_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"image 3: segment 5 has category_id 1234"):
        targets_from_panoptic(3, np.array([[5]]), (segment(5, 1234),), TABLE)


def test_three_hundred_instances_on_a_large_map_are_right_and_quick() -> None:
    rows, columns = np.divmod(np.arange(800 * 1333), 1333)
    cells = (rows * 15 // 800 * 20 + columns * 20 // 1333).reshape(800, 1333)
    ids = np.random.default_rng(1).choice(2**24 - 1, 300, replace=False) + 1
    segments = [segment(int(segment_id), CAR) for segment_id in ids]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        targets = targets_from_panoptic(3, ids[cells].astype(np.int32), segments, TABLE)
        times.append(time.perf_counter() - start)
    assert len(targets.boxes) == 300
    assert torch.equal(targets.instance_map, torch.from_numpy(cells + 1).int())
    assert min(times) < 0.25  # about 0.01 s on one core; masks one by one would take longer than the limit
