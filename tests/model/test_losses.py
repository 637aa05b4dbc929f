"""Losses of the semantic and the panoptic head on cases small enough to work out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.model.cases import targets_with
from upsnet.model.losses import (
    choose_instances,
    mean_cross_entropy,
    panoptic_loss,
    panoptic_target,
    semantic_loss,
    semantic_roi_loss,
)
from upsnet.structures import IGNORE, PANOPTIC_IGNORE, Targets

WINDOWS = [(8, 8, 40, 40), (48, 16, 80, 56)]


def perfect_logits(target: Targets, num_classes: int, sure: float = 50.0) -> torch.Tensor:
    """(1, C, H/4, W/4) logits that say what the target says."""
    truth = target.semantic_map[2::4, 2::4].long()
    truth = torch.where(truth == IGNORE, 0, truth)
    return sure * F.one_hot(truth, num_classes).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("stride", [1, 4])
def test_uniform_logits_cost_the_logarithm_of_the_number_of_classes(stride):
    loss = semantic_loss(torch.zeros(1, 7, 16, 24), [targets_with(WINDOWS)], stride)
    assert loss.item() == pytest.approx(math.log(7), rel=1e-5)


def test_perfect_logits_cost_nothing():
    target = targets_with(WINDOWS)
    assert semantic_loss(perfect_logits(target, 7), [target], 4).item() == pytest.approx(0, abs=1e-6)


def test_pixels_of_the_padding_and_of_void_cost_nothing():
    target = targets_with([], (61, 90))
    logits = torch.zeros(1, 7, 16, 24)
    logits[:, 0] = 100.0  # sure, and wrong nearly everywhere
    truth = target.semantic_map.long()
    wrong = ((truth != 0) & (truth != IGNORE)).sum() / (truth != IGNORE).sum()
    assert semantic_loss(logits, [target], 1).item() == pytest.approx(100 * wrong.item(), rel=1e-5)


def test_a_mean_over_no_pixel_is_zero_and_has_a_gradient():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = mean_cross_entropy(logits, torch.full((1, 4, 4), IGNORE), IGNORE)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_roi_loss_counts_each_box_alike_whatever_its_size():
    target = targets_with([(0, 0, 8, 8), (32, 16, 96, 64)])  # labels 1 and 2: classes 4 and 5
    logits = torch.zeros(1, 7, 16, 24)
    logits[:, 4] = 100.0  # right in the small box, wrong in the large one
    assert semantic_roi_loss(logits, [target]).item() == pytest.approx(50.0, rel=1e-4)


def test_the_roi_loss_without_instances_is_zero():
    assert semantic_roi_loss(torch.randn(1, 7, 16, 24), [targets_with([])]).item() == 0


def test_the_panoptic_target_knows_stuff_instances_unknown_and_void():
    target = targets_with(WINDOWS)
    crowd = target.semantic_map.clone()
    crowd[60:, :8] = 6  # a thing class without an instance: a crowd region
    target = Targets(1, target.boxes, target.labels, target.instance_map, crowd)
    channels = panoptic_target(target, 4, torch.tensor([1]))  # instance 0 is left out
    assert channels[0, 90] == PANOPTIC_IGNORE
    assert channels[2, 90] == 0
    assert channels[30, 60] == 4  # the kept instance
    assert channels[20, 20] == 5  # the instance left out
    assert channels[63, 0] == 5  # the crowd region


def test_panoptic_targets_beyond_channel_255_are_trained():
    """Channel 255 must not be taken for the semantic IGNORE = 255."""
    windows = [(x, y, x + 4, y + 4) for y in range(0, 64, 4) for x in range(0, 96, 4)][:300]
    target = targets_with(windows)
    channels = panoptic_target(target, 4, torch.arange(300))
    assert (channels[target.instance_map == 252] == 255).all()
    assert (channels != PANOPTIC_IGNORE).sum() == 64 * 96 - (target.semantic_map == IGNORE).sum()


def test_perfect_heads_have_no_panoptic_loss_and_a_left_out_instance_is_unknown():
    target = targets_with(WINDOWS)
    logits = perfect_logits(target, 7)
    for kept in (torch.tensor([0, 1]), torch.tensor([1])):
        masks = torch.full((len(kept), 28, 28), 50.0)
        loss = panoptic_loss(logits, 4, [target], [kept], [masks], unknown=True)
        assert loss.item() == pytest.approx(0, abs=1e-3)


def test_without_the_unknown_class_left_out_pixels_are_ignored():
    target = targets_with(WINDOWS)
    logits = perfect_logits(target, 7)
    none = torch.zeros(0, dtype=torch.int64)
    loss = panoptic_loss(logits, 4, [target], [none], [torch.zeros(0, 28, 28)], unknown=False)
    assert loss.item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 1), (2, 1), (3, 2), (10, 7)])
def test_seventy_percent_of_the_instances_keep_their_channel_but_at_least_one(count, kept):
    windows = [(i, i, i + 5, i + 5) for i in range(0, 5 * count, 5)]
    chosen = choose_instances(targets_with(windows), 0.3)
    assert len(chosen) == kept
    assert chosen.unique().equal(chosen)


def test_every_instance_is_left_out_now_and_then():
    target = targets_with([*WINDOWS, (0, 50, 8, 60), (84, 0, 90, 9)])
    torch.manual_seed(0)
    draws = torch.cat([choose_instances(target, 0.3) for _ in range(200)])
    assert (torch.bincount(draws, minlength=4) < 180).all()
    assert (torch.bincount(draws, minlength=4) > 60).all()
