"""Bar chart of PQ per class and picture of the confusion matrix, by matplotlib where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from upsnet.evaluation.confusion import shares

STUFF_COLOR, THING_COLOR = "#4c72b0", "#dd8452"
NUMBERED_CLASSES = 25
"""With more classes the cells are too small for numbers."""


def write_charts(
    metrics: Mapping[str, Any], confusion: tuple[Sequence[str], np.ndarray] | None, out: Path
) -> list[Path]:
    """Writes `pq_per_class.png` and `confusion.png`; returns those that could be drawn.

    Args:
        metrics: content of metrics.json.
        confusion: class names and matrix, see confusion.py.
        out: folder of the evaluation.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    figures = {"pq_per_class.png": pq_chart(metrics)}
    if confusion is not None:
        figures["confusion.png"] = confusion_chart(*confusion)
    written = []
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=100)
        written.append(out / name)
    return written


def pq_chart(metrics: Mapping[str, Any]) -> Any:
    """Bars of PQ, the best class on top; classes without a segment in truth or prediction are left out."""
    from matplotlib.patches import Patch

    measured = [c for c in metrics["per_class"].values() if c["PQ"] is not None]
    classes = sorted(measured, key=lambda c: float(c["PQ"]))
    figure, axes = _figure(8, 1.4 + 0.26 * max(len(classes), 1))
    colors = [THING_COLOR if c["isthing"] else STUFF_COLOR for c in classes]
    bars = axes.barh([c["name"] for c in classes], [c["PQ"] for c in classes], color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set(xlim=(0, 108), xlabel="PQ, percent", title=f"PQ per class, {_name(metrics)}")
    axes.margins(y=0.01)
    axes.legend(
        handles=[Patch(color=THING_COLOR, label="thing"), Patch(color=STUFF_COLOR, label="stuff")],
        loc="lower right",
    )
    return figure


def confusion_chart(names: Sequence[str], confusion: np.ndarray) -> Any:
    """What became of the pixels of every true class, in percent of them."""
    percent, count = shares(confusion), len(names)
    side = 3 + (0.45 if count <= NUMBERED_CLASSES else 0.16) * count
    figure, axes = _figure(side + 1, side)
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    small = 9 if count <= NUMBERED_CLASSES else 6
    axes.set_xticks(range(count), names, rotation=90, fontsize=small)
    axes.set_yticks(range(count), names, fontsize=small)
    axes.set(xlabel="predicted class", ylabel="true class", title="Semantic head: where the pixels go")
    figure.colorbar(image, ax=axes, label="percent of the true class", shrink=0.8)
    if count <= NUMBERED_CLASSES:
        for (row, column), value in np.ndenumerate(percent):
            if value >= 0.5:
                color = "white" if value > 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
    return figure


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of its own, without matplotlib's state for the whole program."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _name(metrics: Mapping[str, Any]) -> str:
    return "+".join(part for part in (metrics.get("preset"), metrics.get("variant")) if part)
