"""A tiny network with random weights, as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.components.tiny import TINY
from upsnet.config import load_config
from upsnet.data.categories import CategoryTable
from upsnet.data.synthetic import CATEGORIES
from upsnet.model.build import build_model
from upsnet.training.checkpoint import write_checkpoint


def tiny_checkpoint(path: Path, seed: int = 0) -> Path:
    """Writes what a training would leave; with another seed, other weights."""
    config = load_config("mini", [], [*TINY, "model.weights=none"])
    table = CategoryTable(CATEGORIES)
    torch.manual_seed(seed)
    model = build_model(config.model, table.num_stuff, table.num_things)
    content = {
        "model": model.state_dict(),
        "optimizer": {"state": torch.zeros(1000)},
        "iteration": 2,
        "config": config.model_dump(mode="json"),
        "categories": table.to_json(),
        "data_version": "d1",
    }
    write_checkpoint(content, path)
    return path
