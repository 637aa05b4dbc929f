"""Mask R-CNN: UPSNet without its semantic half, one half of MR-CNN-PSP.

Shapes: N images padded to H x W.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from upsnet.config import InferenceConfig, LossWeights, ModelConfig
from upsnet.errors import CheckpointError
from upsnet.model.backbone import build_backbone
from upsnet.model.fpn import FPN
from upsnet.model.instance_head import InstanceHead
from upsnet.model.network import Network, NetworkOutput
from upsnet.structures import Detections, GivenInstances, ImageBatch, Targets


class MaskRCNN(Network):
    """Backbone, FPN and instance head; it detects, but says nothing about stuff.

    Source: UPSNet 4 (the combined method MR-CNN-PSP).
    """

    def __init__(self, config: ModelConfig, num_stuff: int, num_things: int) -> None:
        super().__init__(num_stuff, num_things)
        self.backbone = build_backbone(config)
        self.fpn = FPN(self.backbone.channels, config.fpn_channels, config.global_context)
        self.instance_head = InstanceHead(config, num_things)

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], weights: LossWeights, semantic_stride: int
    ) -> dict[str, Tensor]:
        none = [torch.zeros(0, dtype=torch.int64, device=t.boxes.device) for t in targets]
        return self.instance_head.losses(self._pyramid(images), images, targets, none)[0]

    @torch.inference_mode()
    def detect(
        self,
        images: ImageBatch,
        settings: InferenceConfig,
        given: Sequence[GivenInstances] | None = None,
    ) -> list[Detections]:
        """Detections of every image, see `InstanceHead.detect`."""
        return self.instance_head.detect(self._pyramid(images), images, settings, given)

    def predict(
        self,
        images: ImageBatch,
        settings: InferenceConfig,
        given: Sequence[GivenInstances] | None = None,
    ) -> list[NetworkOutput]:
        raise CheckpointError(_ALONE)

    def semantic_logits(self, images: ImageBatch) -> Tensor:
        raise CheckpointError(_ALONE)

    def _pyramid(self, images: ImageBatch) -> list[Tensor]:
        pyramid: list[Tensor] = self.fpn(self.backbone(self.normalised(images)))
        return pyramid


_ALONE = (
    "a Mask R-CNN alone says nothing about stuff; name the checkpoint of a semantic network beside it "
    "(--semantic-checkpoint), for example of a PSPNet"
)
