"""Feature pyramid with the optional global context branch.

Shapes: maps of strides 4, 8, 16, 32 with any channels in; P2..P6 with C channels out, P6 of stride 64.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


class FPN(FeaturePyramidNetwork):  # type: ignore[misc]
    """torchvision's pyramid, and the mean of res5 added to its top before the top-down path.

    Source: UPSNet 3.1 and 4.1 (global context, COCO only).
    Differs: the paper adds the context before P5 is made; added to the lateral it reaches P2..P5.
    """

    def __init__(self, in_channels: tuple[int, ...], channels: int, global_context: bool) -> None:
        super().__init__(list(in_channels), channels)
        self.context = nn.Linear(in_channels[-1], channels) if global_context else None

    def forward(self, stages: list[Tensor]) -> list[Tensor]:
        laterals = [block(x) for block, x in zip(self.inner_blocks, stages, strict=True)]
        top = laterals[-1]
        if self.context is not None:
            top = top + self.context(stages[-1].mean(dim=(2, 3)))[:, :, None, None]
        merged = [top]
        for lateral in reversed(laterals[:-1]):
            above = F.interpolate(merged[0], size=lateral.shape[-2:], mode="nearest")
            merged.insert(0, lateral + above)
        pyramid: list[Tensor] = [block(x) for block, x in zip(self.layer_blocks, merged, strict=True)]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]
