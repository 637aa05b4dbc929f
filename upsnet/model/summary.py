"""How large a network is and how much it computes, part by part, without weights and without computing.

The network is built on torch's meta device, where tensors have shapes but no values. Shapes: one image of
H x W, padded to multiples of 32; R proposals, D detections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from upsnet.config import Config
from upsnet.model.build import build_model
from upsnet.model.instance_head import InstanceHead
from upsnet.model.mask_rcnn import MaskRCNN
from upsnet.model.network import Network, count_parameters
from upsnet.model.pair import NetworkPair
from upsnet.model.upsnet import UPSNet
from upsnet.structures import ImageBatch, Size

TRAINING_ONLY = "auxiliary"
"""Child of a PSPNet that only its training uses; a total leaves it out, as the paper's does."""

PAD = 32
BOX_POOL, MASK_POOL = 7, 14


@dataclass(frozen=True)
class PartSize:
    """Size of one part of a network.

    Attributes:
        name: the child's name, after that of its network where there are two.
        parameters: all, the affine pairs of frozen batch norms included.
        trainable: those that training changes.
        flops: of one image; a multiply-add is two.
        training_only: not used in inference, and not in the total.
    """

    name: str
    parameters: int
    trainable: int
    flops: int
    training_only: bool = False


def network_parts(config: Config, num_stuff: int, num_things: int, size: Size) -> list[PartSize]:
    """Parameters and operations of every part for one image, in the order of the network.

    The box head is counted for all proposals that a test keeps, the mask head for `detections_per_img`. A
    deformable convolution has the operations of an ordinary one and of its offset convolution; sampling the
    taps is interpolation, which is not counted, nor are RoIAlign, norms, activations and post-processing.

    Args:
        config: the network and its test settings; no weights are read.
        num_stuff: S.
        num_things: T.
        size: of the image before padding.
    """
    with torch.device("meta"):
        network = build_model(config.model.model_copy(update={"weights": "none"}), num_stuff, num_things)
    parts = _modules_by_part(network.eval())
    flops = count_flops(parts, lambda: _run(network, config, size))
    return [_part_size(name, modules, flops[name]) for name, modules in parts.items()]


def total(parts: Sequence[PartSize]) -> PartSize:
    """The parts together, without those that only training uses."""
    used = [part for part in parts if not part.training_only]
    return PartSize(
        "total",
        sum(part.parameters for part in used),
        sum(part.trainable for part in used),
        sum(part.flops for part in used),
    )


def count_flops(parts: Mapping[str, Sequence[nn.Module]], run: Callable[[], object]) -> dict[str, int]:
    """Operations inside the modules of every part while `run` calls them; a multiply-add is two.

    Convolutions and matrix products alone have operations, as torch's counter has it.

    Args:
        parts: modules by the part's name; none may lie inside another one.
        run: calls the modules; on the meta device nothing is computed.
    """
    flops = dict.fromkeys(parts, 0)
    with FlopCounterMode(display=False) as counter:

        def add(name: str, sign: int, *_: object) -> None:
            flops[name] += sign * counter.get_total_flops()

        for name, modules in parts.items():
            for module in modules:
                module.register_forward_pre_hook(partial(add, name, -1))
                module.register_forward_hook(partial(add, name, +1))
        run()
    return flops


def summary(config: Config, num_stuff: int, num_things: int) -> str:
    """The table that `configure --summary` prints: a row per part, at the size of its test images."""
    size = (config.inference.short_side, config.inference.long_side)
    parts = network_parts(config, num_stuff, num_things, size)
    padded = _padded(size)
    rois = f"{config.model.rpn.post_nms_top_n[1]} proposals, {config.inference.detections_per_img} detections"
    return "\n".join(
        [
            f"{num_stuff} stuff + {num_things} thing classes",
            f"GFLOPs of one {size[0]} x {size[1]} image, padded to {padded[0]} x {padded[1]}; {rois};",
            "convolutions and matrix products only, 1 multiply-add = 2 FLOPs",
            "",
            f"{'part':24}{'parameters':>12}{'trainable':>12}{'GFLOPs':>10}",
            *map(_line, parts),
            _line(total(parts)),
        ]
    )


def _line(part: PartSize) -> str:
    line = f"{part.name:24}{part.parameters:12,}{part.trainable:12,}"
    if part.training_only:
        return f"{line}{'-':>10}  (in training only, not in the total)"
    return f"{line}{part.flops / 1e9:10,.2f}"


def _modules_by_part(network: Network, prefix: str = "") -> dict[str, list[nn.Module]]:
    """The children by name; two networks side by side and the instance head are taken apart."""
    parts: dict[str, list[nn.Module]] = {}
    for name, child in network.named_children():
        if isinstance(child, Network):
            parts |= _modules_by_part(child, f"{name}.")
        elif isinstance(child, InstanceHead):
            heads = child.roi_heads
            parts[f"{prefix}rpn"] = [child.rpn.head]
            parts[f"{prefix}box_head"] = [heads.box_head, heads.box_predictor]
            parts[f"{prefix}mask_head"] = [heads.mask_head, heads.mask_predictor]
        else:
            parts[f"{prefix}{name}"] = [child]
    return parts


def _part_size(name: str, modules: list[nn.Module], flops: int) -> PartSize:
    return PartSize(
        name,
        sum(count_parameters(module) for module in modules),
        sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad),
        flops,
        name.split(".")[-1] == TRAINING_ONLY,
    )


def _run(network: Network, config: Config, size: Size) -> None:
    """Calls every part once, as `predict` does, but with full numbers of rois of any place and class."""
    if isinstance(network, NetworkPair):
        _run(network.instances, config, size)
        _run(network.semantics, config, size)
        return
    images = ImageBatch(torch.empty(1, 3, *_padded(size), dtype=torch.uint8, device="meta"), (size,))
    if not isinstance(network, UPSNet | MaskRCNN):
        network.semantic_logits(images)
        return
    pyramid = network.fpn(network.backbone(network.normalised(images)))
    network.instance_head.rpn.head(pyramid)
    heads, channels = network.instance_head.roi_heads, config.model.fpn_channels
    proposals, detections = config.model.rpn.post_nms_top_n[1], config.inference.detections_per_img
    heads.box_predictor(heads.box_head(torch.empty(proposals, channels, BOX_POOL, BOX_POOL, device="meta")))
    pooled = torch.empty(detections, channels, MASK_POOL, MASK_POOL, device="meta")
    heads.mask_predictor(heads.mask_head(pooled))
    if isinstance(network, UPSNet):
        network.semantic_head(pyramid)


def _padded(size: Size) -> Size:
    height, width = (-(-side // PAD) * PAD for side in size)
    return height, width
