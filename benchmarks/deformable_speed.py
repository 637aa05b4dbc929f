"""Deformable convolution on the CPU, forward and backward: torchvision's kernel against ours, in one run.

python benchmarks/deformable_speed.py
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from upsnet.model.deformable import sampled_convolution

SHAPES = [(2, 64, 32, 64), (1, 128, 50, 84), (1, 256, 50, 84)]


def seconds(convolve: Callable[[], Tensor], repeats: int = 5) -> float:
    """Fastest of some runs, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        convolve().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    print(f"{'shape':>20}  torchvision ms      ours ms    ratio   ({torch.get_num_threads()} threads)")
    for batch, channels, height, width in SHAPES:
        features = torch.randn(batch, channels, height, width, requires_grad=True)
        offset = (torch.rand(batch, 18, height, width) - 0.5).requires_grad_()
        weight = torch.randn(channels, channels, 3, 3, requires_grad=True)
        theirs = seconds(lambda f=features, o=offset, w=weight: deform_conv2d(f, o, w, padding=1))
        ours = seconds(lambda f=features, o=offset, w=weight: sampled_convolution(f, o, w, None, 1))
        shape = f"{batch}x{channels}x{height}x{width}"
        print(f"{shape:>20}  {1000 * theirs:14.1f}  {1000 * ours:11.1f}  {theirs / ours:6.1f}x")


if __name__ == "__main__":
    main()
