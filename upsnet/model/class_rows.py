"""Copies the class rows of a trained head into a head of other classes.

Rows: the first axis of a head's last tensors counts classes. In the semantic classifier these are the S + T
classes by class_id; in the box and the mask predictor the T + 1 labels, background first, where the box
deltas have four rows per label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from upsnet.errors import CheckpointError

_SUFFIXES = re.compile(r"(-(merged|other|stuff))+$")


def copy_class_rows(target: Tensor, source: Tensor, rows: Sequence[int | None]) -> None:
    """Fills a weight or bias of a class head, in place.

    A class without a source gets normally distributed values with the mean and the deviation of the whole
    source tensor.

    Args:
        target: (K * R, ...), K classes with R rows each.
        source: (L * R, ...), L other classes, otherwise of the same shape.
        rows: per target class its class in `source`, 0..L-1, or None.

    Raises:
        CheckpointError: the shapes do not belong to such tensors.
    """
    per_class, rest = divmod(len(target), len(rows)) if rows else (0, len(target))
    if rest or target.shape[1:] != source.shape[1:] or (per_class and len(source) % per_class):
        raise CheckpointError(
            f"class rows cannot be copied: {list(source.shape)} does not fit {list(target.shape)} "
            f"with {len(rows)} classes"
        )
    if not rows:
        return
    values = source.detach().float().cpu()
    mean, deviation = values.mean(), values.std(correction=0)
    wanted = target.detach().unflatten(0, (len(rows), per_class))
    given = values.unflatten(0, (-1, per_class))
    for place, row in zip(wanted, rows, strict=True):
        random = torch.randn(place.shape) * deviation + mean
        place.copy_(random if row is None else given[row])


def match_names(
    target: Sequence[str], source: Sequence[str], meanings: Mapping[str, str] | None = None
) -> list[int | None]:
    """Per target class the source class of the same meaning, or None.

    Names agree whatever their case, underscores, and the endings -merged, -other and -stuff of COCO's groups.

    Args:
        target: names of the target classes.
        source: names of the source classes; of several that agree, the one written alike, else the first.
        meanings: what a target class is called in the source, where the names differ.
    """
    places: dict[str, int] = {}
    for place, name in enumerate(source):
        places.setdefault(_plain(name), place)
    places |= {name: place for place, name in reversed(list(enumerate(source)))}
    other = {_plain(name): meaning for name, meaning in (meanings or {}).items()}
    return [
        _first_known(places, name, _plain(name), _plain(other.get(_plain(name), name))) for name in target
    ]


def _first_known(places: Mapping[str, int], *names: str) -> int | None:
    return next((places[name] for name in names if name in places), None)


def _plain(name: str) -> str:
    return _SUFFIXES.sub("", name.strip().lower().replace("_", " "))
