"""The log of a training as a CSV table, which DVC plots."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from upsnet.storage import write_file


def write_curves(log: Path, out: Path) -> None:
    """Turns JSON lines into one row per iteration and one column per figure.

    An iteration that a stop and a resume ran twice has the figures of its last time.
    """
    rows: dict[int, dict[str, object]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        figures = json.loads(line)
        rows.setdefault(figures.pop("step"), {}).update(figures)
    columns = dict.fromkeys(name for row in rows.values() for name in row if name != "time")
    text = io.StringIO()
    writer = csv.DictWriter(text, ["iteration", *columns], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"iteration": step, **row} for step, row in sorted(rows.items()))
    write_file(text.getvalue(), out)
