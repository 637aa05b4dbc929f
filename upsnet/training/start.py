"""Starts a training from the checkpoint of another one, often of another data set; says what came over."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from upsnet import distributed
from upsnet.config import ModelConfig
from upsnet.data.categories import CategoryTable
from upsnet.errors import CheckpointError
from upsnet.model.network import Network
from upsnet.model.transfer import ClassNames, Transfer, transfer_weights
from upsnet.training.checkpoint import load_model

MUST_AGREE = ("network", "backbone", "norm", "deformable_stages", "fpn_channels")
"""Settings of the network without which little or nothing fits; all others may differ."""

logger = logging.getLogger(__name__)


def start_from(path: Path, model: Network, config: ModelConfig, table: CategoryTable) -> None:
    """Fills a fresh network with the weights of a checkpoint, see `upsnet.model.transfer`.

    Every rank calls it, and all of them have the same weights after it.

    Args:
        path: a checkpoint, or a folder of a training: then its newest good one.
        model: the network.
        config: what it was built from.
        table: its classes.

    Raises:
        CheckpointError: missing, damaged, or of another network.
    """
    loaded = load_model(path)
    differences = [
        f"model.{name} is {getattr(config, name)!r} here and {getattr(loaded.config.model, name)!r} there"
        for name in MUST_AGREE
        if getattr(config, name) != getattr(loaded.config.model, name)
    ]
    if differences:
        raise CheckpointError(
            f"--init-from {path}: is of another network ({'; '.join(differences)}); name a checkpoint of "
            "this network, or configure the checkpoint's"
        )
    source_classes = ClassNames(loaded.table.names, loaded.table.num_stuff)
    classes = ClassNames(table.names, table.num_stuff)
    result = transfer_weights(model, loaded.model.state_dict(), classes, source_classes)
    distributed.broadcast_parameters(model)  # the random rows differ between the ranks
    if distributed.is_main():
        logger.info("starting from %s (iteration %d)", path, loaded.iteration)
        for line in describe(result, classes):
            logger.info("%s", line)


def describe(result: Transfer, classes: ClassNames) -> Iterator[str]:
    """What came from where, in lines."""
    yield f"  {'class':20} {'semantic classes from':28} boxes and masks from"
    for class_id, name in enumerate(classes.names):
        boxes = _origin(result.instances, name) if class_id >= classes.num_stuff else "-"
        yield f"  {name:20} {_origin(result.semantic, name):28} {boxes}"
    yield f"  {len(result.copied)} tensors without classes copied"
    for name, why in result.left.items():
        yield f"  left as built: {name}: {why}"
    if result.unused:
        yield f"  only in the checkpoint: {', '.join(result.unused)}"


def _origin(origins: dict[str, str | None], name: str) -> str:
    """A class that no layer was copied for has no entry."""
    return origins.get(name) or "(random)" if name in origins else "(as built)"
