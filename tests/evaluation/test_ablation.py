"""The rows of an ablation: failed ones, the table, the winner; and the page of strips."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.made_metrics import made_metrics
from upsnet.errors import UpsnetError
from upsnet.evaluation.ablation import (
    Row,
    ablation_table,
    failed_row,
    measured_row,
    read_row,
    scalars,
    winner,
)
from upsnet.evaluation.report import markdown_table
from upsnet.evaluation.runs import run_of_metrics
from upsnet.evaluation.strips_page import strips_page


def row(variant: str, pq: float | None, data: str = "d1") -> Row:
    trained = Row(
        variant=variant, status="trained", mlflow_run="r", data_version=data, checkpoint="c.pt", metrics={}
    )
    return measured_row(trained, made_metrics("mini", variant, PQ=pq))


def test_the_best_pq_wins_and_failed_or_undefined_ones_never_do() -> None:
    rows = [row("a", 50.0), failed_row("b", "why"), row("c", 51.0), row("d", None)]
    assert winner(rows) is rows[2]
    assert winner([rows[1], rows[3]]) is None
    assert winner([]) is None


def test_variants_on_different_data_have_no_winner() -> None:
    with pytest.raises(UpsnetError, match="different data, versions d1, d2"):
        winner([row("a", 50.0), row("b", 51.0, "d2")])


def test_the_table_has_every_variant_and_says_what_failed() -> None:
    table = ablation_table([row("a", 50.0), failed_row("b", "a | loss\nis not finite"), row("c", 51.25)])
    assert [line[0] for line in table.rows] == ["a", "b", "c"]
    assert [line[1] for line in table.rows] == ["50.0", "-", "51.2"]
    assert [line[-1] for line in table.rows] == ["done", "failed: a | loss is not finite", "done, best PQ"]
    assert "Data version d1" in table.note
    assert r"failed: a \| loss" in markdown_table(table)


def test_a_long_failure_is_cut() -> None:
    assert len(failed_row("b", "x" * 5000)["status"]) < 320


def test_a_row_survives_kubeflow_where_all_numbers_are_floats() -> None:
    there = read_row(json.loads(json.dumps(row("a", 50.0)), parse_int=float))
    run = run_of_metrics(there["metrics"], "a")
    assert (run.seed, run.images, scalars(there["metrics"])["ms_total"]) == (1, 60, 12.0)
    with pytest.raises(UpsnetError, match="a row has status"):
        read_row({"status": "done"})


def test_the_page_of_strips_holds_its_pictures_small_and_escapes_names(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (100, 3000, 3), np.uint8)
    for number in range(14):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    page = strips_page(tmp_path, "<b>")
    assert page.count('src="data:image/jpeg;base64,') == 12
    assert "<h1>&lt;b&gt;</h1>" in page
    assert len(page) < 12 * (tmp_path / "0.png").stat().st_size / 4
    assert "no pictures" in strips_page(tmp_path / "gone", "a")
