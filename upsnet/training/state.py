"""What a training is at one moment, and thus what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from upsnet import distributed
from upsnet.config import Config
from upsnet.model.network import Network
from upsnet.training.checkpoint import Content

# Settings that change neither the network nor the course of its training.
WITHOUT_EFFECT = {"log_interval", "checkpoint_interval", "keep_checkpoints", "evaluation_interval"}


@dataclass
class TrainState:
    """A training at one moment, the same on every rank.

    Attributes:
        model: the network.
        optimizer: with the momentum of every parameter.
        config: the whole configuration.
        categories: COCO panoptic `categories`, in class_id order.
        data_version: of the prepared data.
        data_dvc_hash: DVC's hash of them; empty where they are not under DVC.
        iteration: iterations done.
        images_seen: images seen by all ranks together; the position in the data and in the schedule.
        best_metric: the best PQ so far, in percent; None before the first evaluation.
        best_iteration: where it was reached.
    """

    model: Network
    optimizer: torch.optim.Optimizer
    config: Config
    categories: list[dict[str, Any]]
    data_version: str
    iteration: int = 0
    images_seen: int = 0
    best_metric: float | None = None
    best_iteration: int = 0
    data_dvc_hash: str = ""

    def content(self) -> Content:
        """What a checkpoint holds; every rank must call it, since it gathers their random states."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "images_seen": self.images_seen,
            "best_metric": self.best_metric,
            "best_iteration": self.best_iteration,
            "random_states": distributed.gather_objects(_random_state()),
            "config": self.config.model_dump(mode="json"),
            "categories": self.categories,
            "data_version": self.data_version,
            "data_dvc_hash": self.data_dvc_hash,
        }

    def restore(self, content: Content) -> None:
        """Takes up a checkpoint. With another number of ranks than then, the random numbers begin anew."""
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.iteration = content["iteration"]
        self.images_seen = content["images_seen"]
        self.best_metric = content["best_metric"]
        self.best_iteration = content["best_iteration"]
        random_states = content["random_states"]
        if len(random_states) == distributed.world_size():
            _set_random_state(random_states[distributed.rank()])
        else:
            seed_random_numbers(self.config.seed, self.images_seen)

    def differences(self, content: Content) -> list[str]:
        """What makes a checkpoint one of another training; empty if this one can go on from it."""
        then = _identity(content["config"], content["data_version"])
        now = _identity(self.config.model_dump(mode="json"), self.data_version)
        return [
            f"{key} was {then.get(key)!r} and is {now.get(key)!r}"
            for key in sorted(then.keys() | now.keys())
            if then.get(key) != now.get(key)
        ]


def seed_random_numbers(seed: int, images_seen: int = 0) -> None:
    """Starts torch's random numbers on all devices from the seed, this process's rank and the position."""
    torch.manual_seed((seed + 1_000_003 * distributed.rank() + 1_000_000_007 * images_seen) % 2**63)


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _identity(config: Mapping[str, Any], data_version: str) -> dict[str, Any]:
    """Everything that the weights depend on, by dotted key; the loader's processes are not part of it."""
    training = {key: value for key, value in config["training"].items() if key not in WITHOUT_EFFECT}
    loader = {key: value for key, value in config["loader"].items() if key != "processes"}
    parts = {"seed": config["seed"], "model": config["model"], "loader": loader, "training": training}
    return {**_dotted(parts), "data version": data_version}


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        flat.update(_dotted(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat
