"""Losses of the semantic and the panoptic head; those of the instance head are torchvision's.

Shapes: semantic logits (N, S + T, H/4, W/4) of the padded batch; targets at the input size, per image.
Means go over the pixels that have a truth, and are 0 (with a gradient) where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from upsnet.model.panoptic_head import panoptic_logits
from upsnet.structures import IGNORE, PANOPTIC_IGNORE, Targets

STRIDE = 4
ROI_SIZE = 28


def semantic_loss(logits: Tensor, targets: Sequence[Targets], stride: int) -> Tensor:
    """Pixel-wise cross entropy.

    Args:
        logits: (N, S + T, H/4, W/4).
        targets: one per image.
        stride: 1 upsamples the logits to the input size, 4 compares at a quarter of it.

    Source: UPSNet 3.1.
    Differs: at the full size unless asked (the paper: a quarter).
    """
    height, width = logits.shape[-2] * STRIDE, logits.shape[-1] * STRIDE
    truth = torch.stack([_padded(t.semantic_map, height, width, IGNORE) for t in targets])
    if stride == 1:
        logits = F.interpolate(logits, scale_factor=float(STRIDE), mode="bilinear", align_corners=False)
    return mean_cross_entropy(logits, _strided(truth, stride).long(), IGNORE)


def semantic_roi_loss(logits: Tensor, targets: Sequence[Targets]) -> Tensor:
    """Cross entropy on 28 x 28 crops of the logits inside the gt boxes.

    Source: UPSNet 3.1 (RoI loss).
    """
    boxes = [t.boxes for t in targets]
    crops = roi_align(logits, boxes, ROI_SIZE, spatial_scale=1 / STRIDE, sampling_ratio=1, aligned=True)
    truth = torch.cat([_map_crops(t.semantic_map, t.boxes) for t in targets])
    return mean_cross_entropy(crops, truth.long(), IGNORE)


def panoptic_loss(
    logits: Tensor,
    num_stuff: int,
    targets: Sequence[Targets],
    kept: Sequence[Tensor],
    mask_logits: Sequence[Tensor],
    unknown: bool,
) -> Tensor:
    """Cross entropy over stuff classes, instances and unknown, at a quarter of the input size.

    Args:
        logits: (N, S + T, H/4, W/4).
        num_stuff: S.
        targets: one per image.
        kept: per image the indices of the gt instances with a channel of their own; the others, and crowd
            regions, are unknown.
        mask_logits: per image (K, 28, 28), of the kept instances.
        unknown: whether the unknown channel takes part; without it its pixels are ignored.

    Source: UPSNet 3.1 and 3.2.
    """
    losses = []
    for x, target, k, y in zip(logits, targets, kept, mask_logits, strict=True):
        z = panoptic_logits(x, num_stuff, target.boxes[k] / STRIDE, target.labels[k], y, unknown)
        truth = panoptic_target(target, num_stuff, k)
        truth = _padded(_strided(truth, STRIDE), x.shape[-2], x.shape[-1], PANOPTIC_IGNORE)
        truth = torch.where(truth < len(z), truth, PANOPTIC_IGNORE)
        losses.append(mean_cross_entropy(z[None], truth[None], PANOPTIC_IGNORE))
    return torch.stack(losses).mean()


def panoptic_target(target: Targets, num_stuff: int, kept: Tensor) -> Tensor:
    """(H, W) int64 channels of Z: stuff its class, the k-th kept instance S + k, other thing pixels S + K."""
    unknown = num_stuff + len(kept)
    channel_of = torch.full((len(target.boxes) + 1,), unknown, device=kept.device)
    channel_of[kept + 1] = num_stuff + torch.arange(len(kept), device=kept.device)
    semantic = target.semantic_map.long()
    channels = torch.where(semantic < num_stuff, semantic, channel_of[target.instance_map.long()])
    return torch.where(semantic == IGNORE, PANOPTIC_IGNORE, channels)


def choose_instances(target: Targets, unknown_fraction: float) -> Tensor:
    """Draws which gt instances the panoptic head sees: max(int((1 - fraction) I), 1) of them, in order.

    Source: UPSNet 3.1 (unknown prediction).
    """
    count = len(target.boxes)
    keep = min(count, max(int((1 - unknown_fraction) * count), 1))
    chosen = torch.randperm(count)[:keep].sort().values
    return chosen.to(target.boxes.device)


def mean_cross_entropy(logits: Tensor, truth: Tensor, ignore: int) -> Tensor:
    """Mean cross entropy over the pixels whose truth is not `ignore`; 0 if there are none."""
    if logits.numel() == 0:
        return logits.sum()
    total = F.cross_entropy(logits, truth, ignore_index=ignore, reduction="sum")
    return total / (truth != ignore).sum().clamp(min=1)


def _padded(values: Tensor, height: int, width: int, fill: int) -> Tensor:
    return F.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]), value=fill)


def _strided(values: Tensor, stride: int) -> Tensor:
    """Every stride-th pixel of a map, from the middle of its cell."""
    return values[..., stride // 2 :: stride, stride // 2 :: stride]


def _map_crops(class_map: Tensor, boxes: Tensor) -> Tensor:
    """(I, 28, 28) class ids at the middle of the cells of a 28 x 28 grid in every box."""
    height, width = class_map.shape
    cells = (torch.arange(ROI_SIZE, device=boxes.device) + 0.5) / ROI_SIZE
    x = boxes[:, 0:1] + cells * (boxes[:, 2:3] - boxes[:, 0:1])
    y = boxes[:, 1:2] + cells * (boxes[:, 3:4] - boxes[:, 1:2])
    return class_map[y.long().clamp(0, height - 1)[:, :, None], x.long().clamp(0, width - 1)[:, None, :]]
