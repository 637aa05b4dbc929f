"""Starting weights: torchvision's Mask R-CNN, trained on COCO, fills what UPSNet shares with it.

Backbone, FPN, RPN, box and mask head have the same parts in both, so tensors are joined by name. The class
rows of the heads are re-ordered by the names of the classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights, maskrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

from upsnet.config import ModelConfig
from upsnet.errors import CheckpointError
from upsnet.model.build import build_model
from upsnet.model.class_rows import copy_class_rows, match_names
from upsnet.model.network import Network
from upsnet.model.weights import read_state_dict

KEY = "model.detector_weights"
CLASSES = "roi_heads.box_predictor.cls_score.weight"
BACKGROUND = 0

_CLASS_ROWS = ("box_predictor.cls_score.", "box_predictor.bbox_pred.", "mask_predictor.mask_fcn_logits.")

_PARTS = {
    "backbone": "backbone.",
    "FPN": "fpn.",
    "RPN": "instance_head.rpn.",
    "box head": "instance_head.roi_heads.box_",
    "mask head": "instance_head.roi_heads.mask_",
    "semantic head": "semantic_head.",
}

_OURS_ALONE = {
    "fpn.context.": "global context: no counterpart; starts at zero, so that the pyramid is the file's",
    "semantic_head.": "no counterpart; starts at random",
    "backbone.": "offsets of deformable convolutions: no counterpart; start at zero, as plain convolutions",
}
"""What becomes of the tensors that only we have."""


@dataclass(frozen=True)
class WeightsReport:
    """What was filled, what was not, and why.

    Attributes:
        source: name or file.
        lines: one per part or reason.
        filled: our names of all tensors that were filled.
    """

    source: str
    lines: tuple[str, ...]
    filled: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"starting weights: {self.source}", *(f"  {line}" for line in self.lines)])


def load_detector_weights(model: Network, name: str, thing_names: Sequence[str]) -> WeightsReport:
    """Fills a network with an instance head from a Mask R-CNN R50-FPN of torchvision, in place.

    Classes without a counterpart start at random, with mean and deviation of the trained ones.

    Args:
        model: an `UPSNet` or `MaskRCNN` on ResNet-50.
        name: of torchvision's weights, or the path of a file with the state dict.
        thing_names: T names in the order of our labels.

    Raises:
        CheckpointError: the weights cannot be had, or are of another network.
    """
    source = _read_detector(name)
    targets = model.state_dict()
    if "instance_head.roi_heads.box_predictor.cls_score.weight" not in targets:
        raise CheckpointError(f"{KEY} {name!r}: the network has no instance head to fill; give {KEY}=none")
    if _is_released(name):
        _work_epsilon_in(source, model)
    rows = _class_rows(source, thing_names)
    outcome = {
        key: _ours_alone(key) or _fill(target, _counterpart(key), source, rows)
        for key, target in targets.items()
        if not key.endswith("num_batches_tracked")
    }
    if model.get_submodule("fpn").context is not None:
        for parameter in model.get_submodule("fpn.context").parameters():
            parameter.detach().zero_()
    filled = tuple(key for key, reason in outcome.items() if not reason)
    return WeightsReport(name, (*_part_lines(outcome), *_class_lines(rows, thing_names, source)), filled)


def describe_detector_weights(config: ModelConfig, num_stuff: int, thing_names: Sequence[str]) -> str:
    """What `load_detector_weights` reports of a configured network, without downloading anything.

    Raises:
        CheckpointError: the file is missing, or of another network.
    """
    name = config.detector_weights
    if name in MaskRCNN_ResNet50_FPN_Weights.__members__ and not is_at_hand(name):
        return f"starting weights: {name}, not on this machine yet; 'upsnet train' downloads them (170 MB)"
    model = build_model(config.model_copy(update={"weights": "none"}), num_stuff, len(thing_names))
    return str(load_detector_weights(model, name, thing_names))


def is_at_hand(name: str) -> bool:
    """Whether weights can be read without a download."""
    if Path(name).is_file():
        return True
    known = MaskRCNN_ResNet50_FPN_Weights.__members__.get(name)
    if known is None:
        return False
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(known.url).name).is_file()


def coco_thing_names() -> list[str]:
    """COCO's 80 thing classes, by ascending category_id."""
    return [name for name in _coco_names()[1:] if name]


def _read_detector(name: str) -> dict[str, Tensor]:
    """The state dict by torchvision's present names; its own loader knows the former ones."""
    network = "maskrcnn_resnet50_fpn"
    state = read_state_dict(name, MaskRCNN_ResNet50_FPN_Weights, KEY, network)
    refusal = f"{KEY} {name!r} are not those of torchvision's {network}: "
    if CLASSES not in state or state[CLASSES].ndim != 2:
        raise CheckpointError(f"{refusal}no {CLASSES} in it; give such a file, COCO_V1, or none")
    with torch.device("meta"):
        net = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=len(state[CLASSES]))
    try:
        missing, unknown = net.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{refusal}{str(error)[:300]}") from error
    if missing or unknown:
        raise CheckpointError(
            f"{refusal}{len(missing)} keys missing {missing[:3]}, {len(unknown)} unknown {unknown[:3]}; "
            "give such a file, COCO_V1, or none"
        )
    values: dict[str, Tensor] = net.state_dict()
    return values


def _ours_alone(key: str) -> str:
    """What becomes of a tensor without a counterpart; empty if it has one."""
    if key.startswith("backbone.") and ".offset." not in key:
        return ""
    return next((words for prefix, words in _OURS_ALONE.items() if key.startswith(prefix)), "")


def _counterpart(key: str) -> str:
    """torchvision's name of one of our tensors."""
    if key.startswith("backbone.stages."):
        stage, rest = key.removeprefix("backbone.stages.").split(".", 1)
        if stage != "0":
            return f"backbone.body.layer{stage}.{rest.replace('.conv2.conv.', '.conv2.')}"
        layer, rest = rest.split(".", 1)
        return f"backbone.body.{'conv1' if layer == '0' else 'bn1'}.{rest}"
    if key.startswith("fpn."):
        return f"backbone.{key}"
    return key.removeprefix("instance_head.")


def _fill(target: Tensor, key: str, source: Mapping[str, Tensor], rows: Sequence[int | None]) -> str:
    """Why a tensor was not filled; empty if it was."""
    if key not in source:
        return "not in the file; at random"
    if any(part in key for part in _CLASS_ROWS):
        if target.shape[1:] != source[key].shape[1:]:
            return "of another shape in the file; at random"
        copy_class_rows(target, source[key], rows)
    elif target.shape != source[key].shape:
        return "of another shape in the file; at random"
    else:
        target.copy_(source[key])
    return ""


def _coco_names() -> list[str]:
    """COCO's names by category_id, background first, empty where an id is not in use."""
    names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return ["" if name in ("N/A", "__background__") else str(name) for name in names]


def _class_rows(source: Mapping[str, Tensor], thing_names: Sequence[str]) -> list[int | None]:
    """Per label of ours, background first, the file's label; None where there is no counterpart."""
    if len(source[CLASSES]) != len(_coco_names()):  # trained on other classes, whose names it does not tell
        return [BACKGROUND, *(None for _ in thing_names)]
    return [BACKGROUND, *match_names(thing_names, _coco_names())]


def _is_released(name: str) -> bool:
    """Whether these are the weights that torchvision released, by name or as a downloaded file."""
    path = Path(name)
    if not path.is_file():
        return True
    released = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.url.rsplit("-", 1)[1].removesuffix(".pth")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(released)


def _work_epsilon_in(source: dict[str, Tensor], model: Network) -> None:
    """The released weights were trained with frozen norms that add no epsilon to the variance; ours do.

    The factor of the norm takes up the difference, so that the features are the same.
    """
    norms = [m for m in model.get_submodule("backbone").modules() if isinstance(m, FrozenBatchNorm2d)]
    for key in [k for k in source if k.endswith(".running_var")] if norms else []:
        factor = key.replace(".running_var", ".weight")
        variance = source[key].double()
        ratio = ((variance + norms[0].eps) / variance.clamp(min=torch.finfo(torch.float32).tiny)).sqrt()
        source[factor] = (source[factor].double() * ratio).to(source[factor].dtype)


def _part_lines(outcome: Mapping[str, str]) -> list[str]:
    """What became of every part of the network, in its order."""
    lines = []
    for part, prefix in _PARTS.items():
        keys = [key for key in outcome if key.startswith(prefix)]
        filled = sum(not outcome[key] for key in keys)
        if filled:
            place = ", in the place of model.weights" if part == "backbone" else ""
            lines.append(f"{part}: filled, {filled} tensors{place}")
        for reason in dict.fromkeys(outcome[key] for key in keys if outcome[key]):
            names = [key for key in keys if outcome[key] == reason]
            count = "" if reason in _OURS_ALONE.values() else f"{len(names)} tensors ({names[0]}, ...) "
            lines.append(f"{part}: {count}{reason}")
    return lines


def _class_lines(
    rows: Sequence[int | None], thing_names: Sequence[str], source: Mapping[str, Tensor]
) -> list[str]:
    count = len(source[CLASSES])
    if count != len(_coco_names()):
        return [f"thing classes: the file has {count} rows and does not name them; all start at random"]
    unmatched = [name for name, row in zip(thing_names, rows[1:], strict=True) if row is None]
    lines = [f"thing classes: {len(thing_names) - len(unmatched)} of {len(thing_names)} found by name"]
    if unmatched:
        lines.append(
            "thing classes without a counterpart, which start at random, spread like the others: "
            + ", ".join(unmatched)
        )
    return lines
