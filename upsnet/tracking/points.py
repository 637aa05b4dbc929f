"""The figures of a run as JSON lines: what writes them, and what reads them back for MLflow.

One line has `time` (UTC, ISO 8601), `step`, and the figures by name beside them; one that is not finite is
null. A figure at a step is one point.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LOG_NAME = "log.jsonl"
SYSTEM_NAME = "system.jsonl"
LOGS = (LOG_NAME, SYSTEM_NAME)
"""Of training and evaluation, and of the machine."""


@dataclass(frozen=True)
class Point:
    """One figure at one step; `time` in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


def append_line(log: Path, values: Mapping[str, float], step: int) -> None:
    """Writes one line at the end of the log, which is made if it is not there."""
    line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "step": step}
    line.update({name: value if math.isfinite(value) else None for name, value in values.items()})
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def mend(log: Path) -> None:
    """Cuts off a last line without an end, as a killed process or a full disk leaves it."""
    if not log.is_file():
        return
    with log.open("r+b") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def read_points(
    log: Path, start: int = 0, limit: int | None = None
) -> Iterator[tuple[list[Point], int, int]]:
    """The points of every line from byte `start` to byte `limit`, and where the line begins and ends."""
    if not log.is_file():
        return
    with log.open("rb") as file:
        file.seek(start)
        for line in file:
            end = start + len(line)
            if not line.endswith(b"\n") or (limit is not None and end > limit):
                return  # being written at this moment
            yield _points(line), start, end
            start = end


def _points(line: bytes) -> list[Point]:
    """The points of one line, none if it is damaged."""
    try:
        values = json.loads(line)
        time = round(datetime.fromisoformat(values.pop("time")).timestamp() * 1000)
        step = int(values.pop("step"))
        return [Point(n, math.nan if v is None else float(v), time, step) for n, v in values.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


class Repeats:
    """Tells the points that a training logs again after a kill, from its checkpoint or its start on.

    Args:
        begun_at: byte of the log from where on a point counts as repeated if its figure has been at that step
            or a later one; None: none does.
        last_step: of a figure in MLflow, which may have more than a log that was fetched from elsewhere.
    """

    def __init__(self, begun_at: int | None, last_step: Callable[[str], int]) -> None:
        self._begun_at = begun_at
        self._last_step = last_step
        self._last: dict[str, int] = {}

    def new(self, points: list[Point], start: int) -> list[Point]:
        """Those of the line at byte `start` that are not repeated; lines must come in order."""
        if self._begun_at is not None and start >= self._begun_at:
            points = [point for point in points if not self._is_known(point)]
        for point in points:
            self._last[point.name] = max(point.step, self._last.get(point.name, -1))
        return points

    def _is_known(self, point: Point) -> bool:
        return point.step <= max(self._last.get(point.name, -1), self._last_step(point.name))
