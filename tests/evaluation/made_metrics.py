"""Metrics as `evaluate` writes them, with figures made up by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upsnet.evaluation.runs import Run, run_of_metrics


def made_metrics(
    preset: str = "mini", variant: str = "", seed: int | None = 1, images: int = 60, **figures: float | None
) -> dict[str, Any]:
    """The content of a metrics.json; a figure that is not given is 50, a time 10 milliseconds."""
    quality = {f"{name}{group}": 50.0 for name in ("PQ", "SQ", "RQ") for group in ("", "_th", "_st")}
    return {
        **{"preset": preset, "variant": variant, "device": "cpu", "short_side": 128, "long_side": 256},
        **({} if seed is None else {"seed": seed}),
        "images": images,
        "milliseconds": {"network": 10.0, "postprocessing": 2.0, "total": 12.0},
        **quality,
        **{"N": 3, "N_th": 1, "N_st": 2, "mIoU": 50.0, "box_AP": 50.0, "mask_AP": 50.0},
        **figures,
        "per_class": {},
    }


def made_run(*arguments: Any, **figures: Any) -> Run:
    """A run with such metrics."""
    return run_of_metrics(made_metrics(*arguments, **figures), "made")


def made_classes(**values: float | None) -> dict[str, Any]:
    """`per_class` of metrics.json: PQ by name, the first class stuff and all others things."""
    return {
        str(number): {"name": name, "isthing": int(number > 1), "PQ": value}
        for number, (name, value) in enumerate(values.items(), 1)
    }


def write_metrics(folder: Path, metrics: dict[str, Any]) -> Path:
    """Writes metrics.json into a new folder."""
    folder.mkdir(parents=True)
    path = folder / "metrics.json"
    path.write_text(json.dumps(metrics))
    return path
