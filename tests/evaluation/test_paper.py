"""The paper's figures: every row parses, they agree with each other where no note says otherwise."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from upsnet.config import load_config, preset_names
from upsnet.evaluation.paper import (
    FIGURES,
    OWN_DATA,
    QUALITY_FIGURES,
    VAL_IMAGES,
    PaperRow,
    paper_row,
    paper_rows,
    system_of,
)

SHARED = Path(__file__).resolve().parents[3] / "shared"
CLASSES = {"COCO": (80, 53), "Cityscapes": (8, 11), "Internal": (10, 17)}
OTHER_NAMES = {"UPSNet-M": "UPSNet-50-M", "UPSNet-101-M-COCO": "UPSNet-101-M"}
"""Rows of Table 3 as Table 8 calls them."""


def rows_of(table: int) -> list[PaperRow]:
    return [row for row in paper_rows() if row.table == table]


def row_of(table: int, name: str) -> PaperRow:
    return next(row for row in rows_of(table) if row.row == name)


def reference(name: str) -> list[dict[str, str]]:
    path = SHARED / "reference" / name
    if not path.is_file():
        pytest.skip(f"the reference tables ({path}) are not on this machine")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def pairs() -> Iterator[tuple[PaperRow, PaperRow]]:
    """Rows that two tables have."""
    for short, full in ((1, 7), (3, 8), (4, 9)):
        names = {row.row: row for row in rows_of(full)}
        for row in rows_of(short):
            other = names.get(row.row) or names.get(OTHER_NAMES.get(row.row, ""))
            if other is not None:
                yield row, other
    yield row_of(6, "6"), row_of(7, "UPSNet")


def test_every_table_has_all_its_rows() -> None:
    counts = {table: len(rows_of(table)) for table in range(1, 10)}
    assert counts == {1: 6, 2: 6, 3: 10, 4: 2, 5: 6, 6: 9, 7: 8, 8: 9, 9: 4}


@pytest.mark.parametrize("row", paper_rows(), ids=lambda row: f"{row.table}-{row.dataset}-{row.row}")
def test_every_row_has_figures_in_their_range(row: PaperRow) -> None:
    assert row.figures.keys() <= set(FIGURES)
    assert row.figures
    for name, value in row.figures.items():
        assert 0 < value < (100 if name not in FIGURES[-3:] else 20_000)
    assert set(row.over) <= {other.row for other in rows_of(row.table)}
    assert row.dataset in VAL_IMAGES
    things, stuff = CLASSES[row.dataset]
    if row.figures.keys() >= {"PQ", "PQ_th", "PQ_st"} and "does not follow" not in row.note:
        both = things * row.figures["PQ_th"] + stuff * row.figures["PQ_st"]
        assert row.figures["PQ"] == pytest.approx(both / (things + stuff), abs=0.1)


def test_every_row_is_a_preset_with_variants_that_load() -> None:
    for row in paper_rows():
        if row.preset and row.preset != OWN_DATA:
            assert row.preset in preset_names()
            load_config(row.preset, [name for name in row.variant.split("+") if name])


def test_every_contradiction_between_two_tables_is_noted_in_both_rows() -> None:
    for row, other in pairs():
        for here, there in ((row, other), (other, row)):
            noted = dict(re.findall(r"(\w+) (\d+\.\d)(?=[;.]|$)", here.note.split("does not")[0]))
            differing = {
                name: str(there.figures[name])
                for name in here.figures.keys() & there.figures.keys()
                if here.figures[name] != there.figures[name]
            }
            if here.table == 7 and there.table == 6:  # Table 6 says what Table 1 says
                assert differing.items() <= noted.items()
            else:
                assert {name: noted.get(name) for name in differing} == differing
                assert len(differing) == 0 or f"able {there.table}" in here.note
    assert "RQ 52.5" in row_of(1, "UPSNet").note
    assert "PQ 43.0" in row_of(1, "UPSNet-M").note


def test_the_rows_of_table_6_switch_on_one_after_another() -> None:
    rows = rows_of(6)[:6]
    for before, after in itertools.pairwise(rows):
        assert after.switches[:-1] == before.switches
        assert after.over == (before.row,)
    assert rows[5].system == ""
    assert [row.system for row in rows_of(6)[6:]] == ["gt_boxes", "gt_boxes_classes", "gt_semantic"]


def test_the_figures_are_those_of_the_reference_tables() -> None:
    names = {"AP_box": "box_AP", "AP_mask": "mask_AP"}
    checked = 0
    for line in reference("paper_tables.csv"):
        if line["table"] == "README":
            continue
        found = [
            r for r in rows_of(int(line["table"])) if (r.row, r.dataset) == (line["model"], line["dataset"])
        ]
        assert len(found) == 1, line
        names["time_ms"] = "total" if line["table"] == "5" else "network"
        figures = {names.get(k, k): float(v) for k, v in line.items() if v and names.get(k, k) in FIGURES}
        extra = {"network", "postprocessing"} if line["table"] == "5" else set()
        assert {name: v for name, v in found[0].figures.items() if name not in extra} == figures
        checked += 1
    assert checked == len(paper_rows()) - len(rows_of(6))


def test_table_6_is_that_of_the_reference_table() -> None:
    for line, row in zip(reference("paper_table6.csv"), rows_of(6), strict=True):
        switches = list(line)[1:9]
        on = tuple(name + ("?" if line[name] == "?" else "") for name in switches if line[name] != "0")
        assert (row.row, row.switches) == (line["row"], on)
        assert row.figures == {name: float(line[name]) for name in ("PQ", "PQ_th", "PQ_st")}


def test_every_figure_stands_in_the_papers_text() -> None:
    path = SHARED / "paper" / "upsnet.txt"
    if not path.is_file():
        pytest.skip(f"the paper's text ({path}) is not on this machine")
    said = set(re.findall(r"\d+\.\d|\d+", path.read_text().replace(",", "")))
    for row in paper_rows():
        for name, value in row.figures.items():
            text = str(value) if name in (*QUALITY_FIGURES, "mIoU", "box_AP", "mask_AP") else f"{value:.0f}"
            assert text in said, (row.table, row.row, name)


@pytest.mark.parametrize(
    ("preset", "variant", "images", "table", "name"),
    [
        ("coco_r50", "", 5000, 7, "UPSNet"),
        ("coco_r50", "upsnet_cp", 5000, 7, "UPSNet-CP"),
        ("coco_r50", "upsnet", 5000, 7, "UPSNet"),
        ("coco_r50", "mr_cnn_psp+multi_scale_coco", 5000, 7, "MR-CNN-PSP-M"),
        ("coco_r50", "table6_row3", 5000, 6, "3"),
        ("coco_r50", "gt_semantic", 5000, 6, "9"),
        ("coco_r101_dcn", "", 5000, 2, "UPSNet"),
        ("cityscapes_r50", "", 500, 8, "UPSNet"),
        ("cityscapes_r50_coco", "", 500, 3, "UPSNet-COCO"),
        ("cityscapes_r101_coco", "multi_scale_cityscapes", 500, 8, "UPSNet-101-M"),
    ],
)
def test_a_run_of_the_papers_experiment_has_its_fullest_row(
    preset: str, variant: str, images: int, table: int, name: str
) -> None:
    row = paper_row(preset, variant, images)
    assert row is not None
    assert (row.table, row.row) == (table, name)


@pytest.mark.parametrize(
    ("preset", "variant", "images"),
    [
        ("mini", "", 5000),
        ("coco_r50", "", 60),
        ("cityscapes_r50", "", 5000),
        ("coco_r50", "no_roi_loss", 5000),
        ("", "", 5000),
    ],
)
def test_any_other_run_has_no_row(preset: str, variant: str, images: int) -> None:
    assert paper_row(preset, variant, images) is None


@pytest.mark.parametrize(
    ("variant", "network", "scales", "system"),
    [
        ("", "", (), ""),
        ("upsnet", "upsnet", (), ""),
        ("upsnet_c+multi_scale_sample", "upsnet", (), "upsnet_c+multi_scale"),
        ("", "upsnet", (480, 544), "multi_scale"),
        ("mask_rcnn", "mr_cnn_psp", (), "mr_cnn_psp"),
        ("", "mr_cnn_psp", (480,), "mr_cnn_psp+multi_scale"),
        ("mr_cnn_psp", "", (), "mr_cnn_psp"),
        ("pspnet", "pspnet", (), "pspnet"),
        ("no_unknown", "upsnet", (), "table6_row5"),
    ],
)
def test_a_system_is_told_from_variant_network_and_scales(
    variant: str, network: str, scales: tuple[int, ...], system: str
) -> None:
    assert system_of(variant, network, scales) == system
