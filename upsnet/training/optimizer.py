"""The optimizer with the paper's parameter groups, and the schedule of its rate.

The configuration's numbers are for `reference_batch` images per step. The schedule counts in images seen, so
the linear rule holds for any number of workers, also when that number changes between stop and resume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from upsnet.config import TrainingConfig

NORM_LAYERS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Schedule:
    """Rate and length of a training with `global_batch` images per iteration, over all workers.

    Source: UPSNet 3.2 and 6.1; poly rate: UPSNet 4 (for PSPNet); linear rule: Goyal et al. 2017.
    """

    config: TrainingConfig
    global_batch: int

    @property
    def total_images(self) -> int:
        """Training is over when this many images have been seen."""
        return self.config.iterations * self.config.reference_batch

    def iterations_left(self, images_seen: int) -> int:
        """Iterations from here to the end, rounded up; 0 when training is over."""
        return max(0, math.ceil((self.total_images - images_seen) / self.global_batch))

    def rate(self, images_seen: int) -> float:
        """Learning rate of the iteration that starts after `images_seen` images."""
        config = self.config
        reference_iteration = images_seen / config.reference_batch
        rate = config.base_rate * self.global_batch / config.reference_batch
        if config.schedule == "poly":
            # An iteration starts before the end, so even the last one has a rate above 0.
            rate *= max(0.0, 1 - reference_iteration / config.iterations) ** config.poly_power
        else:
            rate *= config.step_factor ** sum(reference_iteration >= step for step in config.steps)
        if reference_iteration < config.warmup_iterations:
            progress = reference_iteration / config.warmup_iterations
            rate *= config.warmup_factor + (1 - config.warmup_factor) * progress
        return rate


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of the parameters that train; `set_rate` must be called before every step."""
    groups = parameter_groups(model, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.base_rate)
    return torch.optim.SGD(groups, lr=config.base_rate, momentum=config.momentum)


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Splits the parameters with `requires_grad` into `weights`, `biases` and `norms`, without empty groups.

    Weights decay. Biases do not, and learn at `bias_rate_factor` times the rate. Weight and bias of norm
    layers do not decay and learn at the plain rate: the paper freezes its norm layers, so it says nothing
    about them, and their bias is one half of a scale and shift pair.
    """
    decay = {"weights": config.weight_decay, "biases": 0.0, "norms": 0.0}
    factor = {"weights": 1.0, "biases": config.bias_rate_factor, "norms": 1.0}
    members: dict[str, list[nn.Parameter]] = {name: [] for name in decay}
    for kind, parameter in _kinds(model):
        members[kind].append(parameter)
    return [
        {"name": name, "params": params, "weight_decay": decay[name], "rate_factor": factor[name]}
        for name, params in members.items()
        if params
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of the coming step in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]


def clip_gradients(optimizer: torch.optim.Optimizer, clip_norm: float) -> None:
    """Scales all gradients so that their joint norm is at most `clip_norm`; 0 leaves them as they are."""
    if clip_norm > 0:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)


def _kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields every parameter that trains once, with the name of its group."""
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                if isinstance(module, NORM_LAYERS):
                    yield "norms", parameter
                else:
                    yield ("biases" if name == "bias" else "weights"), parameter
