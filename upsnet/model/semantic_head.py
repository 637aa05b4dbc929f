"""Semantic head: every pixel's class from P2..P5.

Shapes: pyramid maps (N, C, H/4, W/4) .. (N, C, H/32, W/32) in; logits (N, S + T, H/4, W/4) out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upsnet.model.deformable import DeformableConv2d

LEVELS = 4


class SemanticHead(nn.Module):
    """One deformable sub-network shared by the four levels, then a 1x1 convolution over all of them.

    Source: UPSNet 3.1, figure 2.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((in_channels, *channels)):
            layers += [DeformableConv2d(narrow, wide), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.classify = nn.Conv2d(LEVELS * channels[-1], num_classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        size = pyramid[0].shape[-2:]
        outputs = [
            F.interpolate(self.layers(level), size=size, mode="bilinear", align_corners=False)
            for level in pyramid[:LEVELS]
        ]
        logits: Tensor = self.classify(torch.cat(outputs, dim=1))
        return logits.float()
