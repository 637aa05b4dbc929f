"""Two networks side by side: one detects instances, the other one segments semantically (MR-CNN-PSP).

Shapes: N images padded to H x W; semantic logits (N, S + T, H/4, W/4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from upsnet.config import InferenceConfig, LossWeights
from upsnet.errors import TrainingError
from upsnet.model.mask_rcnn import MaskRCNN
from upsnet.model.network import Network, NetworkOutput
from upsnet.structures import GivenInstances, ImageBatch, Targets


class NetworkPair(Network):
    """A Mask R-CNN and a semantic network that were trained apart.

    Source: UPSNet 4 (the combined method MR-CNN-PSP).
    """

    def __init__(self, instances: MaskRCNN, semantics: Network) -> None:
        super().__init__(instances.num_stuff, instances.num_things)
        self.instances, self.semantics = instances, semantics
        self.window = semantics.window

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], weights: LossWeights, semantic_stride: int
    ) -> dict[str, Tensor]:
        raise TrainingError(
            "model.network mr_cnn_psp is two networks that are trained apart: train the variants mask_rcnn "
            "and pspnet, then evaluate with --checkpoint MASK_RCNN --semantic-checkpoint PSPNET"
        )

    @torch.inference_mode()
    def predict(
        self,
        images: ImageBatch,
        settings: InferenceConfig,
        given: Sequence[GivenInstances] | None = None,
    ) -> list[NetworkOutput]:
        detections = self.instances.detect(images, settings, given)
        logits = self.semantics.semantic_logits(images)
        return [NetworkOutput(*parts) for parts in zip(detections, logits, images.sizes, strict=True)]

    def semantic_logits(self, images: ImageBatch) -> Tensor:
        return self.semantics.semantic_logits(images)
