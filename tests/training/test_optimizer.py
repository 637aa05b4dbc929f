import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from upsnet.config import TrainingConfig
from upsnet.training.optimizer import (
    Schedule,
    build_optimizer,
    clip_gradients,
    parameter_groups,
    set_rate,
)

PAPER = TrainingConfig()
POLY = TrainingConfig(schedule="poly", base_rate=0.01, iterations=220_000)
BATCHES = st.integers(1, 256)


def tiny_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.GroupNorm(2, 4),
        nn.BatchNorm2d(4),
        nn.ConvTranspose2d(4, 2, 2),
        nn.Linear(2, 2),
    )


def test_every_parameter_that_trains_is_in_one_group_of_its_kind():
    network = tiny_network()
    network[4].weight.requires_grad = False
    groups = {group["name"]: group for group in parameter_groups(network, PAPER)}
    conv, group_norm, batch_norm, up, linear = network

    def ids(*parameters):
        return sorted(map(id, parameters))

    assert ids(*groups["weights"]["params"]) == ids(conv.weight, up.weight)
    assert ids(*groups["biases"]["params"]) == ids(conv.bias, up.bias, linear.bias)
    norms = (group_norm.weight, group_norm.bias, batch_norm.weight, batch_norm.bias)
    assert ids(*groups["norms"]["params"]) == ids(*norms)


def test_only_weights_decay_and_biases_learn_twice_as_fast():
    optimizer = build_optimizer(tiny_network(), PAPER)
    set_rate(optimizer, 0.01)
    seen = {group["name"]: (group["weight_decay"], group["lr"]) for group in optimizer.param_groups}
    assert seen == {"weights": (1e-4, 0.01), "biases": (0.0, 0.02), "norms": (0.0, 0.01)}
    assert all(group["momentum"] == 0.9 for group in optimizer.param_groups)


def test_a_parameter_shared_by_two_layers_is_trained_once():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    network[1].weight = network[0].weight
    assert sum(len(group["params"]) for group in parameter_groups(network, PAPER)) == 1


def test_the_paper_s_schedule_at_its_own_batch():
    schedule = Schedule(PAPER, global_batch=16)

    def rate(iteration):
        return schedule.rate(iteration * 16)

    assert rate(0) == pytest.approx(0.002)
    assert rate(750) == pytest.approx(0.011)
    assert rate(1500) == rate(59_999) == pytest.approx(0.02)
    assert rate(60_000) == rate(79_999) == pytest.approx(0.002)
    assert rate(80_000) == rate(89_999) == pytest.approx(0.0002)
    assert schedule.iterations_left(0) == 90_000


def test_the_poly_rate_falls_as_a_power_of_what_is_left():
    schedule = Schedule(POLY, global_batch=16)

    def rate(iteration):
        return schedule.rate(iteration * 16)

    assert rate(0) == pytest.approx(0.001)
    assert rate(1500) == pytest.approx(0.01 * (1 - 1500 / 220_000) ** 0.9)
    assert rate(110_000) == pytest.approx(0.01 * 0.5**0.9)
    assert rate(80_000) == pytest.approx(0.01 * (14 / 22) ** 0.9)  # without the default's steps
    linear = Schedule(POLY.model_copy(update={"poly_power": 1.0}), global_batch=16)
    assert linear.rate(165_000 * 16) == pytest.approx(0.0025)


@given(BATCHES, st.integers(1, 1000))
def test_the_poly_rate_only_falls_after_the_warm_up_and_is_positive_in_the_last_iteration(batch, iterations):
    config = TrainingConfig(schedule="poly", iterations=iterations, warmup_iterations=0)
    schedule = Schedule(config, batch)
    starts = range(0, schedule.iterations_left(0) * batch, batch)
    rates = [schedule.rate(images_seen) for images_seen in starts]
    assert all(after < before for before, after in itertools.pairwise(rates))
    assert rates[-1] > 0
    assert schedule.rate(starts[-1] + batch) >= 0  # training is over; a power of less than 0 is no number


def test_two_workers_take_eight_times_the_iterations_at_an_eighth_of_the_rate():
    schedule = Schedule(PAPER, global_batch=2)
    assert schedule.iterations_left(0) == 720_000
    assert schedule.rate(1500 * 16) == pytest.approx(0.0025)
    assert schedule.rate(1500 * 16 - 2) < 0.0025


def test_iterations_are_rounded_up():
    schedule = Schedule(TrainingConfig(reference_batch=4, iterations=5, steps=(3,)), global_batch=3)
    assert schedule.total_images == 20
    assert schedule.iterations_left(0) == 7
    assert schedule.iterations_left(18) == 1
    assert schedule.iterations_left(21) == 0


@given(st.sampled_from([PAPER, POLY]), BATCHES, st.integers(0, 4_000_000))
def test_the_rate_is_linear_in_the_batch_wherever_training_is(config, batch, images_seen):
    one = Schedule(config, global_batch=1).rate(images_seen)
    assert math.isclose(Schedule(config, global_batch=batch).rate(images_seen), batch * one)


@given(BATCHES, BATCHES, st.integers(0, 3_000_000))
def test_a_change_of_workers_neither_loses_nor_repeats_images(before, after, images_seen):
    first, second = Schedule(PAPER, before), Schedule(PAPER, after)
    seen = images_seen // before * before
    end = seen + second.iterations_left(seen) * after
    assert end >= min(seen, first.total_images)
    if seen < first.total_images:
        assert first.total_images <= end < first.total_images + after


def test_without_warm_up_the_first_rate_is_the_base_rate():
    schedule = Schedule(TrainingConfig(warmup_iterations=0), global_batch=16)
    assert schedule.rate(0) == pytest.approx(0.02)


@pytest.mark.parametrize(("clip_norm", "expected"), [(1.0, 1.0), (100.0, 5.0), (0.0, 5.0)])
def test_gradients_are_clipped_to_their_joint_norm(clip_norm, expected):
    network = nn.Linear(1, 1)
    optimizer = build_optimizer(network, PAPER)
    network.weight.grad, network.bias.grad = torch.full((1, 1), 3.0), torch.full((1,), 4.0)
    clip_gradients(optimizer, clip_norm)
    norm = torch.stack([network.weight.grad.flatten(), network.bias.grad]).norm()
    assert norm.item() == pytest.approx(expected, rel=1e-4)
