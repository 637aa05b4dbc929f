"""Reads weights of torchvision, by name or from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from upsnet.errors import CheckpointError


def read_state_dict(name: str, known: type[WeightsEnum], key: str, network: str) -> dict[str, Tensor]:
    """Reads a state dict: torchvision's by name (downloaded once), or a file's.

    Args:
        name: one of `known`, or a path.
        known: torchvision's weights of the network.
        key: of the configuration, for the message.
        network: its name, for the message.

    Raises:
        CheckpointError: an unknown name, a missing or damaged file, a failed download.
    """
    path = Path(name)
    if path.is_file():
        load: Callable[[], Any] = partial(torch.load, path, map_location="cpu", weights_only=True)
    elif name in known.__members__:
        load = partial(known[name].get_state_dict, progress=False, check_hash=True)
    else:
        raise CheckpointError(
            f"{key} {name!r}: no such file, and {network} has {', '.join(known.__members__)} by name; "
            "or 'none' to start without"
        )
    try:
        state = load()
    except Exception as error:  # a download, a pickle and a zip file fail in many ways
        raise CheckpointError(
            f"{key} {name!r} cannot be read ({type(error).__name__}: {error}); "
            "without a network, give the path of the file"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{key} {name!r}: holds no state dict (names and tensors) of {network}")
    return dict(state)
