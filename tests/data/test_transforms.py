"""Resize, flip and the random draw."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.data.tiny import CAR, ROAD, TABLE, segment
from upsnet.config import LoaderConfig
from upsnet.data.targets import targets_from_panoptic
from upsnet.data.transforms import draw_augmentation, flip, resize, resize_map, resize_scale
from upsnet.structures import Size


def rectangle(size: Size, box: tuple[int, int, int, int]) -> tuple[Tensor, np.ndarray]:
    """A white rectangle on black, and the map that belongs to it: car 8 on road 1."""
    x0, y0, x1, y1 = box
    panoptic_map = np.ones(size, np.int32)
    panoptic_map[y0:y1, x0:x1] = 8
    image = torch.from_numpy((panoptic_map == 8).astype(np.uint8) * 255)
    return image.repeat(3, 1, 1), panoptic_map


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((400, 1000), (533, 1333)),
        ((1000, 400), (1333, 533)),
        ((800, 1333), (800, 1333)),
        ((2000, 3000), (800, 1200)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_the_short_side_is_800_unless_the_long_side_would_pass_1333(size: Size, expected: Size) -> None:
    assert resize_scale(size, 800, 1333) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 1200), st.integers(1, 2000))
def test_no_side_passes_its_limit(height: int, width: int, short_side: int, long_side: int) -> None:
    size = resize_scale((height, width), short_side, long_side)
    assert min(size) <= short_side
    assert max(size) <= long_side
    assert min(size) == short_side or max(size) == long_side


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_scales_a_rectangle_exactly(factor: int) -> None:
    image, panoptic_map = rectangle((10, 14), (3, 2, 9, 7))
    image, panoptic_map = resize(image, panoptic_map, (10 * factor, 14 * factor))
    targets = targets_from_panoptic(1, panoptic_map, (segment(1, ROAD), segment(8, CAR)), TABLE)
    assert targets.boxes.tolist() == [[3 * factor, 2 * factor, 9 * factor, 7 * factor]]
    assert tuple(image.shape) == (3, 10 * factor, 14 * factor)


@pytest.mark.parametrize("new", [(23, 31), (17, 60), (90, 121), (40, 50)])
def test_image_and_map_keep_lying_on_each_other(new: Size) -> None:
    image, panoptic_map = rectangle((40, 50), (11, 7, 34, 29))
    image, panoptic_map = resize(image, panoptic_map, new)
    # Off its edges, where the image is in between, the white rectangle is the car; a shift by a pixel is not.
    assert ((image[0] > 150).numpy() <= (panoptic_map == 8)).all()
    assert ((image[0] < 105).numpy() <= (panoptic_map == 1)).all()
    x, y = (np.arange(n) + 0.5 for n in (new[1], new[0]))
    inside_x = (x * 50 / new[1] > 11) & (x * 50 / new[1] < 34)
    inside_y = (y * 40 / new[0] > 7) & (y * 40 / new[0] < 29)
    assert np.array_equal(panoptic_map == 8, inside_y[:, None] & inside_x[None])


@given(st.integers(1, 60), st.integers(1, 60))
def test_the_map_is_resized_as_torch_does_with_nearest_exact(height: int, width: int) -> None:
    panoptic_map = np.arange(13 * 17).reshape(13, 17)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(panoptic_map)[None, None].double(), (height, width), mode="nearest-exact"
    )
    # Where a centre falls on the border of two pixels, torch's float arithmetic may take either.
    on_border = (((2 * np.arange(height) + 1) * 13) % (2 * height) == 0)[:, None] | (
        ((2 * np.arange(width) + 1) * 17) % (2 * width) == 0
    )
    equal = resize_map(panoptic_map, (height, width)) == expected[0, 0].numpy()
    assert (equal | on_border).all()


def test_ids_up_to_2_to_the_24_survive_the_resize() -> None:
    panoptic_map = np.array([[2**24 - 1, 2**24 - 2]], np.int32)
    resized = resize_map(panoptic_map, (3, 6))
    assert resized.dtype == np.int32
    assert resized.tolist() == [[2**24 - 1] * 3 + [2**24 - 2] * 3] * 3


def test_shrinking_an_image_averages_over_what_it_covers() -> None:
    stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 63, 32)[:, :, :63]
    image, _ = resize(stripes, np.zeros((63, 63), np.int32), (7, 7))  # every centre in the middle of a pixel
    assert (image.float() - 127.5).abs().max() < 30  # without antialias: 0 or 255


def test_a_flip_mirrors_image_boxes_and_maps_alike() -> None:
    image, panoptic_map = rectangle((10, 14), (3, 2, 9, 7))
    image, panoptic_map = flip(image, panoptic_map)
    targets = targets_from_panoptic(1, panoptic_map, (segment(1, ROAD), segment(8, CAR)), TABLE)
    assert targets.boxes.tolist() == [[14 - 9, 2, 14 - 3, 7]]
    assert torch.equal(image[0] == 255, targets.instance_map == 1)
    assert torch.equal(image[0] == 255, targets.semantic_map == 2)


def test_flipping_twice_changes_nothing() -> None:
    image = torch.randint(0, 256, (3, 5, 8), dtype=torch.uint8)
    panoptic_map = np.arange(40).reshape(5, 8)
    twice_image, twice_map = flip(*flip(image, panoptic_map))
    assert torch.equal(twice_image, image)
    assert np.array_equal(twice_map, panoptic_map)


def test_the_draw_depends_on_seed_epoch_and_index_alone() -> None:
    config = LoaderConfig(short_side=(100, 999))
    assert draw_augmentation(config, 1, 2, 3) == draw_augmentation(config, 1, 2, 3)
    others = [draw_augmentation(config, *key) for key in [(1, 2, 3), (4, 2, 3), (1, 4, 3), (1, 2, 4)]]
    assert len({drawn.short_side for drawn in others}) == 4


def test_scales_are_uniform_with_both_ends_and_half_of_the_images_are_flipped() -> None:
    config = LoaderConfig(short_side=(10, 14), flip=0.5)
    drawn = [draw_augmentation(config, 1, 0, index) for index in range(2000)]
    counts = np.bincount([d.short_side for d in drawn], minlength=15)[10:]
    assert len(counts) == 5
    assert counts.min() > 330  # 400 expected, standard deviation 18
    assert counts.max() < 470
    assert 900 < sum(d.flip for d in drawn) < 1100


@pytest.mark.parametrize(("probability", "expected"), [(0.0, {False}), (1.0, {True})])
def test_a_flip_probability_of_0_or_1_is_kept_strictly(probability: float, expected: set[bool]) -> None:
    config = LoaderConfig(flip=probability)
    assert {draw_augmentation(config, 1, 0, index).flip for index in range(200)} == expected
