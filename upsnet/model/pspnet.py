"""PSPNet: a dilated backbone and pyramid pooling, the semantic half of MR-CNN-PSP.

Shapes: N images padded to H x W (multiples of 32); backbone maps (N, C, H/8, W/8); semantic logits
(N, S + T, H/4, W/4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upsnet.config import InferenceConfig, LossWeights, ModelConfig
from upsnet.errors import ConfigError
from upsnet.model.backbone import build_backbone, group_norm
from upsnet.model.losses import semantic_loss
from upsnet.model.network import Network, NetworkOutput
from upsnet.structures import Detections, GivenInstances, ImageBatch, Size, Targets

STRIDE = 8
"""Stride of the dilated backbone."""

BINS = (1, 2, 3, 6)
DROPOUT = 0.1


class PSPNet(Network):
    """A semantic network of its own; it detects no instances.

    Source: UPSNet 4 (the combined method MR-CNN-PSP); Zhao et al., CVPR 2017.
    Differs: a new layer has group norm unless the backbone has batch norm that learns, see `_head_norm`.
    """

    window = True

    def __init__(self, config: ModelConfig, num_stuff: int, num_things: int) -> None:
        super().__init__(num_stuff, num_things)
        if config.deformable_stages:
            raise ConfigError(
                f"model.deformable_stages {list(config.deformable_stages)}: the convolutions of PSPNet are "
                "dilated, none can be deformable; give model.deformable_stages=[]"
            )
        self.backbone = build_backbone(config)
        dilate(self.backbone.stages[3], 1, 2)
        dilate(self.backbone.stages[4], 2, 4)
        res4, res5 = self.backbone.channels[2:]
        self.pooling = PyramidPooling(res5, res5 // 4, config.norm)
        self.classify = nn.Sequential(
            _conv_norm_relu(res5 + len(BINS) * (res5 // 4), res5 // 4, 3, config.norm),
            nn.Dropout(DROPOUT),
            _classifier(res5 // 4, num_stuff + num_things),
        )
        self.auxiliary = nn.Sequential(
            _conv_norm_relu(res4, res4 // 4, 3, config.norm),
            _classifier(res4 // 4, num_stuff + num_things),
        )

    def losses(
        self, images: ImageBatch, targets: Sequence[Targets], weights: LossWeights, semantic_stride: int
    ) -> dict[str, Tensor]:
        *_, res4, res5 = self.backbone(self.normalised(images))
        losses = {"semantic": semantic_loss(self._logits(res5, images.sizes), targets, semantic_stride)}
        if weights.auxiliary > 0:
            losses["auxiliary"] = semantic_loss(_twice(self.auxiliary(res4)), targets, semantic_stride)
        return losses

    @torch.inference_mode()
    def predict(
        self,
        images: ImageBatch,
        settings: InferenceConfig,
        given: Sequence[GivenInstances] | None = None,
    ) -> list[NetworkOutput]:
        logits = self.semantic_logits(images)
        none = _no_detections(logits.device)
        return [NetworkOutput(none, *parts) for parts in zip(logits, images.sizes, strict=True)]

    @torch.inference_mode()
    def semantic_logits(self, images: ImageBatch) -> Tensor:
        return self._logits(self.backbone(self.normalised(images))[-1], images.sizes)

    def _logits(self, res5: Tensor, sizes: Sequence[Size]) -> Tensor:
        return _twice(self.classify(self.pooling(res5, sizes)))


class PyramidPooling(nn.Module):
    """Means over grids of 1, 2, 3 and 6 cells a side, put beside the features they come from.

    Source: Zhao et al., CVPR 2017, 3.2.
    """

    def __init__(self, in_channels: int, channels: int, norm: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_conv_norm_relu(in_channels, channels, 1, norm) for _ in BINS)

    def forward(self, features: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Joins features and context; what lies in an image's padding is read by nobody, and is 0 after.

        Args:
            features: (N, C, H/8, W/8).
            sizes: of the images without padding, in pixels.

        Returns:
            (N, C + 4 C', H/8, W/8).
        """
        valid = [
            image[None, :, : -(-height // STRIDE), : -(-width // STRIDE)]
            for image, (height, width) in zip(features, sizes, strict=True)
        ]
        # All images of the batch go through a branch at once, for the sake of batch norm.
        context = [
            branch(torch.cat([F.adaptive_avg_pool2d(image, bins) for image in valid]))
            for bins, branch in zip(BINS, self.branches, strict=True)
        ]
        size = (int(features.shape[-2]), int(features.shape[-1]))
        return torch.cat(
            [_beside(image, [c[i : i + 1] for c in context], size) for i, image in enumerate(valid)]
        )


def dilate(stage: nn.Module, before: int, after: int) -> None:
    """Takes the stride out of a stage of a backbone; every later convolution widens instead.

    Each kernel then reads the same places of the image as before, so starting weights keep their meaning:
    every n-th pixel of the new map is the old map.

    Args:
        stage: a stage of stride 2 whose modules are listed in the order in which they run.
        before: dilation up to the convolution with the stride, that of the stage before.
        after: dilation from there on.

    Differs: torchvision's `replace_stride_with_dilation` does the same, to ResNets with bottlenecks only.
    """
    dilation = before
    for conv in (module for module in stage.modules() if isinstance(module, nn.Conv2d)):
        if conv.kernel_size != (1, 1):
            conv.dilation = conv.padding = (dilation, dilation)
        if conv.stride != (1, 1):
            conv.stride, dilation = (1, 1), after


def _beside(image: Tensor, context: Sequence[Tensor], size: Size) -> Tensor:
    """(1, C, h, w) features and their context resized to them, zero padded to (1, C + 4 C', *size)."""
    height, width = int(image.shape[-2]), int(image.shape[-1])
    resized = [F.interpolate(c, size=(height, width), mode="bilinear", align_corners=False) for c in context]
    return F.pad(torch.cat([image, *resized], dim=1), (0, size[1] - width, 0, size[0] - height))


def _twice(logits: Tensor) -> Tensor:
    """Logits at an eighth of the image to a quarter, in float32."""
    return F.interpolate(logits.float(), scale_factor=2.0, mode="bilinear", align_corners=False)


def _conv_norm_relu(in_channels: int, channels: int, kernel: int, norm: str) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, _head_norm(channels, norm), nn.ReLU(inplace=True))


def _head_norm(channels: int, norm: str) -> nn.Module:
    """Norm of a layer without starting weights: frozen statistics, still 0 and 1, would be no norm at all."""
    return nn.BatchNorm2d(channels) if norm == "batch" else group_norm(channels)


def _classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _no_detections(device: torch.device) -> Detections:
    return Detections(
        torch.zeros(0, 4, device=device),
        torch.zeros(0, device=device),
        torch.zeros(0, dtype=torch.int64, device=device),
        torch.zeros(0, 28, 28, device=device),
    )
