"""Figures of an interval of iterations: means of the losses, speed and time left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from upsnet.config import LossWeights

LOSS_NAMES = tuple(LossWeights.model_fields)
"""All losses, in the order in which they are exchanged and shown."""


class Meter:
    """Sums up iterations until `summary` is asked for."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._iterations = 0
        self._images = 0
        self._seconds = 0.0

    def add(self, means: Mapping[str, float], images: int, seconds: float) -> None:
        """Adds an iteration: its figures over all ranks, its images on all ranks, and how long it took."""
        for name, value in means.items():
            self._sums[name] += value
        self._iterations += 1
        self._images += images
        self._seconds += seconds

    def summary(self, losses: Iterable[str], rate: float, iterations_left: int) -> dict[str, float]:
        """Means since the start of the interval, under the names they have in the log and in MLflow.

        `loss/<name>` without its weight for each of `losses`, `loss/total` with all weights, the `rate`,
        `images_per_second` over all workers, `data_seconds` spent waiting for a batch per iteration, and
        `seconds_left` at this speed, evaluations and checkpoints not counted.
        """
        return {
            **{f"loss/{name}": self._sums[name] / self._iterations for name in ("total", *losses)},
            "rate": rate,
            "images_per_second": self._images / self._seconds,
            "data_seconds": self._sums["data_seconds"] / self._iterations,
            "seconds_left": self._seconds / self._iterations * iterations_left,
        }


def log_line(iteration: int, last_iteration: int, figures: Mapping[str, float]) -> str:
    """The figures of `Meter.summary` in one line."""
    losses = {name[5:]: value for name, value in figures.items() if name.startswith("loss/")}
    shown = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
    return (
        f"iteration {iteration}/{last_iteration}  {shown}  rate {figures['rate']:.3g}  "
        f"{figures['images_per_second']:.2f} images/s  data {figures['data_seconds']:.3f} s  "
        f"left {_duration(figures['seconds_left'])}"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
