"""What all networks share: how they are called, and how images become their input.

Shapes: N images padded to H x W (multiples of 32); semantic logits (N, S + T, H/4, W/4).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from upsnet.config import InferenceConfig, LossWeights
from upsnet.structures import Detections, GivenInstances, ImageBatch, Size, Targets

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NetworkOutput:
    """What a network says about one image, before post-processing.

    Attributes:
        detections: of the instance head, in input pixels; empty for a network without one.
        semantic_logits: (S + T, H/stride, W/stride) of the padded input.
        size: height and width of the input without padding.
        stride: of the semantic logits.
    """

    detections: Detections
    semantic_logits: Tensor
    size: Size
    stride: int = 4


class Network(nn.Module):
    """A network that trains by `losses` and is used by `predict`.

    Attributes:
        num_stuff, num_things: S and T.
        unknown: whether the panoptic head knows the unknown class; without meaning for the heuristic merge.
        window: whether the multi-scale test of the semantic part slides a window (PSPNet).
    """

    mean: Tensor
    std: Tensor
    unknown = False
    window = False

    def __init__(self, num_stuff: int, num_things: int) -> None:
        super().__init__()
        self.num_stuff, self.num_things = num_stuff, num_things
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    @abstractmethod
    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], weights: LossWeights, semantic_stride: int
    ) -> dict[str, Tensor]:
        """The unweighted losses of one batch.

        Args:
            images: N images.
            targets: one per image, on the same device.
            weights: a loss of weight 0 need not be computed.
            semantic_stride: 1 or 4, see `semantic_loss`.

        Returns:
            0-dimensional tensors by the field names of `LossWeights`, only those that the network has.
        """

    @abstractmethod
    def predict(
        self,
        images: ImageBatch,
        settings: InferenceConfig,
        given: Sequence[GivenInstances] | None = None,
    ) -> list[NetworkOutput]:
        """Detections and semantic logits of every image.

        Args:
            images: N images.
            settings: thresholds of the instance head.
            given: per image the boxes or classes that the instance head takes instead of its own (Table 6).
        """

    @abstractmethod
    def semantic_logits(self, images: ImageBatch) -> Tensor:
        """(N, S + T, H/4, W/4) logits alone, for the multi-scale test."""

    def normalised(self, images: ImageBatch) -> Tensor:
        """(N, 3, H, W) float pixels with ImageNet's mean and deviation; the padding is zero."""
        pixels = (images.pixels.float() - self.mean) / self.std
        for image, (height, width) in zip(pixels, images.sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        return pixels


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, the affine pairs of frozen batch norms (buffers in torch) included."""
    frozen = [m for m in module.modules() if isinstance(m, FrozenBatchNorm2d)]
    affine: int = sum(m.weight.numel() + m.bias.numel() for m in frozen)
    return affine + sum(p.numel() for p in module.parameters())
