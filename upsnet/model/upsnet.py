"""UPSNet: backbone → FPN → instance head + semantic head → panoptic head.

Shapes: N images padded to H x W (multiples of 32); semantic logits (N, S + T, H/4, W/4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from upsnet.config import InferenceConfig, LossWeights, ModelConfig
from upsnet.model.backbone import build_backbone
from upsnet.model.fpn import FPN
from upsnet.model.instance_head import InstanceHead
from upsnet.model.losses import choose_instances, panoptic_loss, semantic_loss, semantic_roi_loss
from upsnet.model.semantic_head import SemanticHead
from upsnet.structures import Detections, ImageBatch, Size, Targets

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NetworkOutput:
    """What the network says about one image, before post-processing.

    Attributes:
        detections: of the instance head, in input pixels.
        semantic_logits: (S + T, H/4, W/4) of the padded input.
        size: height and width of the input without padding.
    """

    detections: Detections
    semantic_logits: Tensor
    size: Size


class UPSNet(nn.Module):
    """The network; the panoptic head has no parameters, so it appears only in the losses and after `predict`.

    Source: UPSNet 3.1, figure 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, num_stuff: int, num_things: int) -> None:
        super().__init__()
        self.num_stuff, self.num_things = num_stuff, num_things
        self.unknown, self.unknown_fraction = config.unknown, config.unknown_fraction
        self.backbone = build_backbone(config)
        self.fpn = FPN(self.backbone.channels, config.fpn_channels, config.global_context)
        self.instance_head = InstanceHead(config, num_things)
        self.semantic_head = SemanticHead(
            config.fpn_channels, config.semantic_channels, num_stuff + num_things
        )
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], weights: LossWeights, semantic_stride: int
    ) -> dict[str, Tensor]:
        """The unweighted losses of one batch.

        Args:
            images: N images.
            targets: one per image, on the same device.
            weights: a loss of weight 0 is not computed.
            semantic_stride: 1 or 4, see `semantic_loss`.

        Returns:
            0-dimensional tensors by the field names of `LossWeights`.
        """
        pyramid = self._pyramid(images)
        kept = [self._kept_instances(t, weights.panoptic > 0) for t in targets]
        losses, kept_mask_logits = self.instance_head.losses(pyramid, images, targets, kept)
        logits = self.semantic_head(pyramid)
        losses["semantic"] = semantic_loss(logits, targets, semantic_stride)
        if weights.semantic_roi > 0:
            losses["semantic_roi"] = semantic_roi_loss(logits, targets)
        if weights.panoptic > 0:
            losses["panoptic"] = panoptic_loss(
                logits, self.num_stuff, targets, kept, kept_mask_logits, self.unknown
            )
        return losses

    @torch.inference_mode()
    def predict(self, images: ImageBatch, settings: InferenceConfig) -> list[NetworkOutput]:
        """Detections and semantic logits of every image."""
        pyramid = self._pyramid(images)
        detections = self.instance_head.detect(pyramid, images, settings)
        logits = self.semantic_head(pyramid)
        return [NetworkOutput(*parts) for parts in zip(detections, logits, images.sizes, strict=True)]

    def _pyramid(self, images: ImageBatch) -> list[Tensor]:
        pixels = (images.pixels.float() - self.mean) / self.std
        for image, (height, width) in zip(pixels, images.sizes, strict=True):
            image[:, height:] = 0
            image[:, :, width:] = 0
        pyramid: list[Tensor] = self.fpn(self.backbone(pixels))
        return pyramid

    def _kept_instances(self, target: Targets, panoptic: bool) -> Tensor:
        """Indices of the gt instances with a channel in the panoptic head."""
        if not panoptic:
            return torch.zeros(0, dtype=torch.int64, device=target.boxes.device)
        return choose_instances(target, self.unknown_fraction if self.unknown else 0.0)


def build_model(config: ModelConfig, num_stuff: int, num_things: int) -> UPSNet:
    """Builds UPSNet with the backbone's starting weights.

    Raises:
        CheckpointError: the backbone's weights cannot be had.
    """
    return UPSNet(config, num_stuff, num_things)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, the affine pairs of frozen batch norms (buffers in torch) included."""
    frozen = [m for m in module.modules() if isinstance(m, FrozenBatchNorm2d)]
    affine: int = sum(m.weight.numel() + m.bias.numel() for m in frozen)
    return affine + sum(p.numel() for p in module.parameters())
