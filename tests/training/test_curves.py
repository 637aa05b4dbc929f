"""Tests of upsnet/training/curves.py."""

import csv
import json
from pathlib import Path

from upsnet.training.curves import write_curves


def test_an_iteration_that_ran_twice_has_its_last_figures_and_rows_are_in_order(tmp_path: Path) -> None:
    lines = [
        {"time": "1", "step": 20, "loss/total": 3.0},
        {"time": "2", "step": 40, "loss/total": 2.0},
        {"time": "3", "step": 20, "loss/total": 2.5},
        {"time": "4", "step": 40, "PQ": 50.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_curves(tmp_path / "log.jsonl", tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"iteration": "20", "loss/total": "2.5", "PQ": ""},
            {"iteration": "40", "loss/total": "2.0", "PQ": "50.0"},
        ]
