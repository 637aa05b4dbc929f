"""Deformable 3x3 convolution (v1: offsets only), fast on the CPU too.

Shapes: features (N, C, H, W); offsets (N, 2 * 9, H', W'), the (y, x) shift of every tap in pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

TAPS = 9


class DeformableConv2d(nn.Module):
    """A deformable convolution with its own offset convolution.

    The offsets start at zero, where it equals an ordinary convolution.

    Source: UPSNet 3.1 (semantic head), Dai et al. 2017.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.offset = nn.Conv2d(in_channels, 2 * TAPS, 3, stride=stride, padding=1)
        self.conv = DeformConv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        # torchvision's kernel does not know bfloat16 on every device, so autocast stops here.
        offset = self.offset(features).float()
        # Nor does the meta device, on which operations are counted, know autocast: it stands for the CPU.
        with torch.autocast("cuda" if features.is_cuda else "cpu", enabled=False):
            if features.is_cuda:
                output: Tensor = self.conv(features.float(), offset)
                return output
            return sampled_convolution(
                features.float(), offset, self.conv.weight, self.conv.bias, self.conv.stride[0]
            )


def sampled_convolution(
    features: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, stride: int
) -> Tensor:
    """What torchvision's `deform_conv2d` computes, by sampling the taps and one matrix product.

    On the CPU torchvision's backward pass is scalar code; `grid_sample` is vectorised
    (`benchmarks/deformable_speed.py` measures the ratio).

    Args:
        features: (N, C, H, W).
        offset: (N, 18, H', W').
        weight: (C', C, 3, 3), applied with padding 1.
        bias: (C',) or None.
        stride: of the convolution.

    Returns:
        (N, C', H', W').
    """
    batch, channels, height, width = features.shape
    rows, columns = offset.shape[-2:]
    shift = offset.view(batch, TAPS, 2, rows, columns)
    tap = torch.arange(TAPS, device=features.device).view(TAPS, 1, 1)
    y = shift[:, :, 0] + tap // 3 - 1 + stride * torch.arange(rows, device=features.device)[:, None]
    x = shift[:, :, 1] + tap % 3 - 1 + stride * torch.arange(columns, device=features.device)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    taps = F.grid_sample(
        features,
        grid.view(batch, TAPS * rows, columns, 2),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    output = weight.flatten(1) @ taps.view(batch, channels * TAPS, rows * columns)
    if bias is not None:
        output = output + bias[:, None]
    return output.view(batch, -1, rows, columns)
