"""Backbones: ResNet and MobileNetV2 of torchvision, cut into the stages res2..res5.

Shapes: an (N, 3, H, W) image gives four maps of strides 4, 8, 16, 32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from upsnet.config import ModelConfig
from upsnet.errors import CheckpointError
from upsnet.model.deformable import DeformableConv2d
from upsnet.model.weights import read_state_dict

# MobileNetV2 is a flat list of blocks; the stem and res2..res5 end before these.
MOBILENET_STAGE_ENDS = (2, 4, 7, 14, 18)


class Backbone(nn.Module):
    """Five stages in a row; the last four are returned.

    Args:
        stages: the stem (stride 4 together with res2) and res2..res5.
        channels: channels of res2..res5.
        frozen: how many stages keep their weights and statistics, counted from the stem.
    """

    def __init__(self, stages: list[nn.Module], channels: tuple[int, ...], frozen: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.frozen = frozen
        for stage in stages[:frozen]:
            stage.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs = []
        features = images
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return outputs[1:]

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for stage in list(self.stages)[: self.frozen]:
            stage.eval()  # batch norm in a frozen stage must not go on averaging
        return self


def build_backbone(config: ModelConfig) -> Backbone:
    """Builds the configured backbone with its starting weights.

    Raises:
        CheckpointError: the weights' name is unknown, or the file is missing or of another network.
    """
    net = torchvision.models.get_model(config.backbone, weights=None, norm_layer=_norm_layer(config.norm))
    _load_weights(net, config)
    if config.backbone == "mobilenet_v2":
        return _mobilenet_backbone(net, config)
    return _resnet_backbone(net, config)


def _resnet_backbone(net: Any, config: ModelConfig) -> Backbone:
    for stage in config.deformable_stages:
        for block in getattr(net, f"layer{stage - 1}"):
            block.conv2 = _made_deformable(block.conv2)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    stages = [stem, net.layer1, net.layer2, net.layer3, net.layer4]
    width = net.fc.in_features
    return Backbone(stages, (width // 8, width // 4, width // 2, width), config.frozen_stages)


def _mobilenet_backbone(net: Any, config: ModelConfig) -> Backbone:
    starts = (0, *MOBILENET_STAGE_ENDS[:-1])
    stages: list[nn.Module] = [net.features[a:b] for a, b in zip(starts, MOBILENET_STAGE_ENDS, strict=True)]
    return Backbone(stages, (24, 32, 96, 320), config.frozen_stages)


def _norm_layer(norm: str) -> Callable[[int], nn.Module]:
    layers: dict[str, Callable[[int], nn.Module]] = {
        "frozen_batch": FrozenBatchNorm2d,
        "batch": nn.BatchNorm2d,
        "group": group_norm,
    }
    return layers[norm]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 32 groups, or 16, 8, ... where 32 do not divide the channels."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def _made_deformable(conv: nn.Conv2d) -> DeformableConv2d:
    deformable = DeformableConv2d(conv.in_channels, conv.out_channels, conv.stride[0], bias=False)
    deformable.conv.weight.data.copy_(conv.weight.data)
    return deformable


def _load_weights(net: nn.Module, config: ModelConfig) -> None:
    if config.weights == "none":
        return
    known = torchvision.models.get_model_weights(config.backbone)
    state = read_state_dict(config.weights, known, "model.weights", config.backbone)
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"model.weights {config.weights!r} are not those of {config.backbone}: {error}"
        ) from error
    # Group norm has no running statistics; the classifier is not used.
    foreign = [
        k for k in unexpected if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    lacking = [k for k in missing if not k.endswith("num_batches_tracked")]
    if foreign or lacking:
        raise CheckpointError(
            f"model.weights {config.weights!r} are not those of {config.backbone}: "
            f"{len(lacking)} keys missing {lacking[:3]}, {len(foreign)} unknown {foreign[:3]}; "
            "give torchvision's ImageNet file of this backbone, or model.weights=none"
        )
