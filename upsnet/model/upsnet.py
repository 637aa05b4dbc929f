"""UPSNet: backbone → FPN → instance head + semantic head → panoptic head.

Shapes: N images padded to H x W (multiples of 32); semantic logits (N, S + T, H/4, W/4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from upsnet.config import InferenceConfig, LossWeights, ModelConfig
from upsnet.model.backbone import build_backbone
from upsnet.model.fpn import FPN
from upsnet.model.instance_head import InstanceHead
from upsnet.model.losses import choose_instances, panoptic_loss, semantic_loss, semantic_roi_loss
from upsnet.model.network import Network, NetworkOutput
from upsnet.model.semantic_head import SemanticHead
from upsnet.structures import GivenInstances, ImageBatch, Targets


class UPSNet(Network):
    """The network; the panoptic head has no parameters, so it appears only in the losses and after `predict`.

    Source: UPSNet 3.1, figure 1.
    """

    def __init__(self, config: ModelConfig, num_stuff: int, num_things: int) -> None:
        super().__init__(num_stuff, num_things)
        self.unknown, self.unknown_fraction = config.unknown, config.unknown_fraction
        self.backbone = build_backbone(config)
        self.fpn = FPN(self.backbone.channels, config.fpn_channels, config.global_context)
        self.instance_head = InstanceHead(config, num_things)
        self.semantic_head = SemanticHead(
            config.fpn_channels, config.semantic_channels, num_stuff + num_things
        )

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], weights: LossWeights, semantic_stride: int
    ) -> dict[str, Tensor]:
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
    def predict(
        self,
        images: ImageBatch,
        settings: InferenceConfig,
        given: Sequence[GivenInstances] | None = None,
    ) -> list[NetworkOutput]:
        pyramid = self._pyramid(images)
        detections = self.instance_head.detect(pyramid, images, settings, given)
        logits = self.semantic_head(pyramid)
        return [NetworkOutput(*parts) for parts in zip(detections, logits, images.sizes, strict=True)]

    @torch.inference_mode()
    def semantic_logits(self, images: ImageBatch) -> Tensor:
        logits: Tensor = self.semantic_head(self._pyramid(images))
        return logits

    def _pyramid(self, images: ImageBatch) -> list[Tensor]:
        pyramid: list[Tensor] = self.fpn(self.backbone(self.normalised(images)))
        return pyramid

    def _kept_instances(self, target: Targets, panoptic: bool) -> Tensor:
        """Indices of the gt instances with a channel in the panoptic head."""
        if not panoptic:
            return torch.zeros(0, dtype=torch.int64, device=target.boxes.device)
        return choose_instances(target, self.unknown_fraction if self.unknown else 0.0)
