"""The panoptic head against its dense definition."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.panoptic_head import dense_panoptic
from upsnet.model.panoptic_head import box_windows, panoptic_argmax, panoptic_logits, resize_mask_logits


@st.composite
def scenes(draw):
    """Random heads' outputs: many ties (few distinct values), boxes over, at and outside the border."""
    num_stuff, num_things = draw(st.sampled_from([(0, 2), (2, 0), (1, 1), (3, 2), (20, 18)]))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    count = draw(st.integers(0, 6)) if num_things else 0
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([1, 2, 1000]))

    def values(*shape):
        return (torch.randint(-levels, levels + 1, shape, generator=generator) / levels).float()

    corners = torch.rand(count, 4, generator=generator) * torch.tensor([width, height] * 2) * 1.2 - 1
    boxes = torch.cat([torch.minimum(corners[:, :2], corners[:, 2:]),
                       torch.maximum(corners[:, :2], corners[:, 2:])], dim=1)  # fmt: skip
    labels = torch.randint(1, max(num_things, 1) + 1, (count,), generator=generator)
    logits = values(num_stuff + num_things, height, width)
    return logits, num_stuff, boxes, labels, values(count, 28, 28), draw(st.booleans())


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_running_maxima_give_the_argmax_of_the_dense_tensor_ties_included(scene):
    logits, num_stuff, boxes, labels, mask_logits, unknown = scene
    size = tuple(logits.shape[-2:])
    result = panoptic_argmax(logits, 1, size, num_stuff, boxes, labels, mask_logits, unknown)
    _, expected = dense_panoptic(logits, num_stuff, boxes, labels, mask_logits, unknown)
    assert torch.equal(result.channel, expected)
    assert torch.equal(result.class_id, torch.from_numpy(logits.numpy().argmax(axis=0)))


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_training_logits_equal_the_dense_tensor(scene):
    logits, num_stuff, boxes, labels, mask_logits, unknown = scene
    z = panoptic_logits(logits, num_stuff, boxes, labels, mask_logits, unknown)
    expected, _ = dense_panoptic(logits, num_stuff, boxes, labels, mask_logits, unknown)
    assert torch.equal(z, torch.from_numpy(expected))


def test_upsampling_in_chunks_equals_upsampling_at_once():
    torch.manual_seed(0)
    logits, size = torch.randn(40, 8, 16), (30, 61)
    boxes = torch.tensor([[3.2, 4.7, 40.1, 20.0], [0.0, 0.0, 61.0, 30.0], [60.5, 29.5, 61.0, 30.0]])
    labels, masks = torch.tensor([3, 17, 1]), torch.randn(3, 28, 28)
    result = panoptic_argmax(logits, 4, size, 21, boxes, labels, masks, True)
    full = F.interpolate(logits[None], scale_factor=4.0, mode="bilinear", align_corners=False)[0]
    _, expected = dense_panoptic(full[:, :30, :61], 21, boxes, labels, masks, True)
    assert torch.equal(result.channel, expected)


def test_an_instance_scores_zero_outside_its_box_and_can_win_there():
    logits = torch.full((2, 2, 4), -1.0)  # one stuff and one thing class, both unlikely everywhere
    boxes, labels = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1])
    result = panoptic_argmax(logits, 1, (2, 4), 1, boxes, labels, torch.full((1, 28, 28), -5.0), False)
    assert result.channel[0, 0] == 0  # inside the box the instance scores -6, the stuff class -1
    assert (result.channel.flatten()[1:] == 1).all()  # outside it scores 0


def test_three_hundred_instances_equal_the_dense_definition():
    torch.manual_seed(1)
    logits = torch.randn(10, 40, 50)
    corners = torch.rand(300, 4) * torch.tensor([50.0, 40.0, 50.0, 40.0])
    boxes = torch.cat([torch.minimum(corners[:, :2], corners[:, 2:]),
                       torch.maximum(corners[:, :2], corners[:, 2:])], dim=1)  # fmt: skip
    labels, masks = torch.randint(1, 5, (300,)), torch.randn(300, 28, 28)
    result = panoptic_argmax(logits, 1, (40, 50), 6, boxes, labels, masks, True)
    _, expected = dense_panoptic(logits, 6, boxes, labels, masks, True)
    assert torch.equal(result.channel, expected)


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ([1.2, 2.9, 3.1, 4.0], (2, 1, 4, 4)),
        ([-3.0, -1.0, 99.0, 99.0], (0, 0, 10, 20)),
        ([20.0, 10.0, 20.0, 10.0], (9, 19, 10, 20)),  # an empty box at the corner still has its pixel
        ([5.0, 5.0, 5.0, 5.0], (5, 5, 6, 6)),
    ],
)
def test_boxes_are_rounded_outwards_and_clipped_to_at_least_a_pixel(box, window):
    assert box_windows(torch.tensor([box]), (10, 20)) == [window]


def test_mask_logits_are_resized_into_the_rounded_box():
    crop, window = resize_mask_logits(torch.full((28, 28), 3.0), torch.tensor([0.5, 0.5, 4.5, 2.5]), (8, 8))
    assert window == (0, 0, 3, 5)
    torch.testing.assert_close(crop, torch.full((3, 5), 3.0))
