"""The confusion matrix of the semantic head as a file: pixels of every true class by predicted class."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from upsnet.storage import write_file

CONFUSION_NAME = "confusion.csv"
TRUE_CLASS, PIXELS = "true class", "pixels"


def write_confusion(confusion: np.ndarray, names: Sequence[str], out: Path) -> None:
    """Writes a (C, C) matrix of pixels: one line per true class, one column per predicted class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([TRUE_CLASS, *names])
    writer.writerows([name, *row] for name, row in zip(names, confusion.tolist(), strict=True))
    write_file(text.getvalue(), out / CONFUSION_NAME)


def read_confusion(out: Path) -> tuple[list[str], np.ndarray] | None:
    """Class names and matrix of an evaluation, None if it wrote none."""
    path = out / CONFUSION_NAME
    if not path.is_file():
        return None
    _, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    return [row[0] for row in rows], np.array([[int(cell) for cell in row[1:]] for row in rows], np.int64)


def shares(confusion: np.ndarray) -> np.ndarray:
    """(C, C) percent of the pixels of each true class; 0 for a class without any."""
    true = confusion.sum(axis=1, keepdims=True)
    percent: np.ndarray = 100 * confusion / np.maximum(true, 1)
    return percent


def confusion_rows(names: Sequence[str], confusion: np.ndarray) -> list[dict[str, Any]]:
    """One row per true class: its pixels, and in percent as what they were predicted."""
    percent = shares(confusion).round(2).tolist()
    return [
        {TRUE_CLASS: name, PIXELS: int(confusion[i].sum()), **dict(zip(names, percent[i], strict=True))}
        for i, name in enumerate(names)
    ]
