"""Reads the metrics.json that `evaluate` and `score` write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from upsnet.errors import UpsnetError


def read_metrics(path: Path) -> dict[str, Any]:
    """The metrics in a file.

    Raises:
        UpsnetError: it cannot be read, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UpsnetError(
            f"{path}: cannot be read as metrics.json ({error}); make it with 'upsnet evaluate'"
        ) from error
    figures = {f"{name}{group}" for name in ("PQ", "SQ", "RQ", "N") for group in ("", "_th", "_st")}
    if (
        not isinstance(values, dict)
        or not values.keys() >= figures | {"per_class"}
        or not all(isinstance(values[name], int | float | None) for name in figures)
        or not isinstance(values["per_class"], dict)
    ):
        raise UpsnetError(f"{path}: holds no metrics; expected the metrics.json of 'upsnet evaluate'")
    return values
