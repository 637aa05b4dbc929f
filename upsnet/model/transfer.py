"""Starts a network from the weights of one that was trained on other classes.

Tensors that do not depend on the classes are copied as they are. Class heads are copied row by row, by the
meaning of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from upsnet.errors import CheckpointError
from upsnet.model.class_rows import copy_class_rows, match_names

MEANINGS = {"sidewalk": "pavement", "vegetation": "tree"}
"""What classes of Cityscapes are called in COCO, where the names differ."""

SEMANTIC_LAYERS = ("semantic_head.classify", "classify.2", "auxiliary.1")
"""Layers with rows for all classes: UPSNet's, and PSPNet's two."""

INSTANCE_LAYERS = tuple(
    f"instance_head.roi_heads.{name}"
    for name in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits")
)
"""Layers with rows for the background and the thing classes."""


@dataclass(frozen=True)
class ClassNames:
    """The classes of a network: names by class_id, the first `num_stuff` of them stuff."""

    names: Sequence[str]
    num_stuff: int

    @property
    def things(self) -> Sequence[str]:
        """Names of the thing classes, in the order of their labels."""
        return self.names[self.num_stuff :]


@dataclass
class Transfer:
    """What became of the tensors.

    Attributes:
        semantic: per class the source class of its semantic rows, None where these are random.
        instances: the same per thing class, of the box and the mask predictor.
        copied: names of the tensors that were copied as they are.
        left: tensors of the network that keep the values they were built with, and why.
        unused: tensors that only the source has.
    """

    semantic: dict[str, str | None] = field(default_factory=dict)
    instances: dict[str, str | None] = field(default_factory=dict)
    copied: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def transfer_weights(
    model: nn.Module, source: Mapping[str, Tensor], classes: ClassNames, source_classes: ClassNames
) -> Transfer:
    """Copies the weights of a trained network into another one of the same kind, in place.

    Classes without a counterpart start at random, with the statistics of the source tensor.

    Args:
        model: the network to fill.
        source: state dict of the trained one.
        classes: of `model`.
        source_classes: of the trained one.

    Returns:
        What came from where.

    Raises:
        CheckpointError: no tensor fits.

    Source: UPSNet 4.2 (the Cityscapes models that start from COCO).
    """
    result = Transfer()
    semantic = match_names(classes.names, source_classes.names, MEANINGS)
    things = match_names(classes.things, source_classes.things, MEANINGS)
    labels = [0, *(None if thing is None else thing + 1 for thing in things)]
    targets = model.state_dict()
    for name, target in targets.items():
        layer = name.rpartition(".")[0]
        if name not in source:
            result.left[name] = "the checkpoint has none"
        elif layer in SEMANTIC_LAYERS and _rows_fit(layer, targets, source):
            copy_class_rows(target, source[name], semantic)
            result.semantic = _origins(classes.names, source_classes.names, semantic)
        elif layer in INSTANCE_LAYERS and _rows_fit(layer, targets, source):
            copy_class_rows(target, source[name], labels)
            result.instances = _origins(classes.things, source_classes.things, things)
        elif target.shape == source[name].shape and layer not in (*SEMANTIC_LAYERS, *INSTANCE_LAYERS):
            target.copy_(source[name])
            result.copied.append(name)
        else:
            result.left[name] = f"{list(target.shape)} here, {list(source[name].shape)} in the checkpoint"
    result.unused = [name for name in source if name not in targets]
    if not result.copied:
        raise CheckpointError("no tensor of the checkpoint fits this network; it is one of another kind")
    return result


def _rows_fit(layer: str, targets: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> bool:
    """Whether one row of the layer's weight is like one of the source's; the bias always is."""
    return targets[f"{layer}.weight"].shape[1:] == source[f"{layer}.weight"].shape[1:]


def _origins(
    names: Sequence[str], sources: Sequence[str], rows: Sequence[int | None]
) -> dict[str, str | None]:
    return {name: None if row is None else sources[row] for name, row in zip(names, rows, strict=True)}
