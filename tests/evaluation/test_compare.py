"""Runs in the rows of the paper's tables: means, differences, titles, and the verdicts on the order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.evaluation.made_metrics import made_run
from upsnet.errors import UpsnetError
from upsnet.evaluation.compare import (
    NOT_MEASURED,
    OPPOSITE,
    OURS_EQUAL,
    PAPER_EQUAL,
    SAME,
    WITHIN,
    Comparison,
    Layout,
    LayoutRow,
    compare,
    judge,
    parse_tables,
)
from upsnet.evaluation.runs import Run, Spread


def seeds(preset: str, variant: str, images: int, *values: float) -> list[Run]:
    return [
        made_run(preset, variant, seed, images, PQ=value, PQ_th=value + 5, PQ_st=value - 5)
        for seed, value in enumerate(values, start=1)
    ]


def layout_of(comparison: Comparison, table: int) -> Layout:
    return next(layout for layout in comparison.layouts if layout.table == table)


def row_of(layout: Layout, name: str) -> LayoutRow:
    return next(row for row in layout.rows if row.paper.row == name)


def verdicts(layout: Layout, figure: str = "PQ") -> dict[tuple[str, str], str]:
    return {
        (step.better.paper.row, step.base.paper.row): step.verdict
        for step in layout.steps
        if step.figure == figure
    }


def spread(*values: float) -> Spread:
    return Spread(sum(values) / len(values), min(values), max(values), None if len(values) == 1 else 1.0)


def test_a_row_has_the_mean_over_the_seeds_and_the_difference_to_the_paper() -> None:
    layout = layout_of(compare(seeds("coco_r50", "", 5000, 41.0, 42.0, 44.5)), 7)
    row = row_of(layout, "UPSNet")
    ours = row.ours("PQ")
    assert ours is not None
    assert (ours.mean, ours.low, ours.high) == (42.5, 41.0, 44.5)
    assert row.difference("PQ") == 0.0
    assert row.difference("PQ_th") == pytest.approx(47.5 - 48.6)
    assert row.difference("network") == 10.0 - 167
    assert row.status == "run"


def test_rows_that_were_not_run_and_those_of_others_are_told_apart() -> None:
    layout = layout_of(compare(seeds("coco_r50", "", 5000, 41.0)), 1)
    assert {row.paper.row: row.status for row in layout.rows} == {
        **{"JSIS-Net": "others", "RN50-MR-CNN": "others", "MR-CNN-PSP": "not run"},
        **{"UPSNet": "run", "MR-CNN-PSP-M": "not run", "UPSNet-M": "not run"},
    }
    assert row_of(layout, "MR-CNN-PSP").difference("PQ") is None


def test_the_tables_are_those_with_a_run_and_their_columns_those_of_the_paper() -> None:
    coco = compare(seeds("coco_r50", "", 5000, 41.0))
    assert [layout.table for layout in coco.layouts] == [1, 6, 7]
    assert layout_of(coco, 6).figures == ("PQ", "PQ_th", "PQ_st")
    assert layout_of(coco, 1).figures == ("PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "mask_AP")
    assert len(layout_of(coco, 7).figures) == 13
    switch = compare(seeds("coco_r50", "table6_row1", 5000, 41.0))
    assert [layout.table for layout in switch.layouts] == [6]
    cities = compare([*seeds("cityscapes_r50", "", 500, 59.0), *seeds("cityscapes_r50_coco", "", 500, 60.0)])
    assert [layout.table for layout in cities.layouts] == [3, 8]
    assert row_of(layout_of(cities, 3), "UPSNet-COCO").status == "run"
    assert [layout.table for layout in compare(seeds("coco_r101_dcn", "", 5000, 46.0)).layouts] == [2]


def test_the_runs_of_one_data_set_share_a_table_and_parts_of_it_have_their_own() -> None:
    runs = [*seeds("coco_r50", "", 5000, 41.0), *seeds("coco_r50", "upsnet_c", 100, 41.0)]
    layouts = [layout for layout in compare(runs).layouts if layout.table == 7]
    assert len(layouts) == 2
    part = next(layout for layout in layouts if row_of(layout, "UPSNet-C").group)
    assert row_of(part, "UPSNet").group is None
    assert any("100 images; the paper: all 5000" in note for note in part.notes)


def test_other_data_stand_in_for_the_papers_and_the_title_says_so() -> None:
    comparison = compare([*seeds("mini", "", 60, 60.0), *seeds("coco_sample", "upsnet_c", 40, 20.0)])
    titles = [layout.title for layout in comparison.layouts]
    assert titles == [
        "Table 6 layout, measured on mini (60 synthetic scenes) beside the paper's COCO",
        "Table 7 layout, measured on coco_sample (40 sample images of COCO) beside the paper's COCO",
        "Table 7 layout, measured on mini (60 synthetic scenes) beside the paper's COCO",
    ]
    row = row_of(comparison.layouts[2], "UPSNet")
    assert (row.difference("PQ"), row.preset) == (17.5, "mini")
    assert row_of(comparison.layouts[2], "UPSNet-CP").preset == "mini"
    assert "the order of the rows compares" in comparison.layouts[2].notes[0]


def test_data_of_ones_own_can_be_laid_out_as_any_table() -> None:
    runs = [*seeds("street", "", 200, 50.0), *seeds("street", "mr_cnn_psp", 200, 48.0)]
    comparison = compare(runs, [4, 9])
    assert [layout.table for layout in comparison.layouts] == [4, 9]
    assert row_of(comparison.layouts[1], "MR-CNN-PSP").status == "run"
    assert "measured on street (200 images)" in comparison.layouts[0].title


def test_a_table_that_is_asked_for_without_runs_shows_the_paper_alone() -> None:
    comparison = compare(seeds("coco_r50", "", 5000, 41.0), [8])
    assert [layout.title for layout in comparison.layouts] == ["Table 8, Cityscapes val"]
    assert {row.status for row in comparison.layouts[0].rows} == {"not run", "others"}
    assert [group.name for group in comparison.others] == ["coco_r50"]


def test_a_run_that_is_no_row_is_kept_apart() -> None:
    comparison = compare([*seeds("mini", "no_roi_loss", 60, 60.0), *seeds("mini", "", 60, 61.0)])
    assert [group.name for group in comparison.others] == ["mini+no_roi_loss"]


def test_the_order_is_said_both_ways_for_the_systems() -> None:
    good = {"upsnet_c": 59.0, "upsnet_cp": 60.0, "": 61.0}
    runs = [run for variant, value in good.items() for run in seeds("mini", variant, 60, value)]
    found = verdicts(layout_of(compare(runs), 7))
    assert found["UPSNet", "UPSNet-CP"] == found["UPSNet", "UPSNet-C"] == SAME
    assert found["UPSNet-CP", "UPSNet-C"] == PAPER_EQUAL
    assert found["UPSNet", "MR-CNN-PSP"] == NOT_MEASURED
    bad = {"upsnet_c": 61.0, "upsnet_cp": 60.0, "": 59.0}
    runs = [run for variant, value in bad.items() for run in seeds("mini", variant, 60, value)]
    layout = layout_of(compare(runs), 7)
    assert verdicts(layout)["UPSNet", "UPSNet-CP"] == OPPOSITE
    assert verdicts(layout, "PQ_th")["UPSNet-CP", "UPSNet-C"] == SAME  # the paper: -0.2
    assert verdicts(layout, "PQ_st")["UPSNet-CP", "UPSNet-C"] == OPPOSITE  # the paper: +0.2


def test_each_switch_of_table_6_is_set_against_the_row_before() -> None:
    values = {"table6_row1": 50.0, "table6_row2": 51.0, "table6_row3": 50.5, "table6_row4": 50.52, "": 60.0}
    runs = [run for variant, value in values.items() for run in seeds("mini", variant, 60, value)]
    layout = layout_of(compare(runs), 6)
    assert verdicts(layout) == {
        **{("2", "1"): SAME, ("3", "2"): OPPOSITE, ("4", "3"): OURS_EQUAL},
        **{("5", "4"): NOT_MEASURED, ("6", "5"): NOT_MEASURED},
        **{("7", "6"): NOT_MEASURED, ("8", "7"): NOT_MEASURED, ("9", "6"): NOT_MEASURED},
    }
    step = layout.steps[0]
    assert (step.paper, step.ours, step.seeds) == (0.4, 1.0, (1, 1))


def test_rows_are_paired_by_the_seeds_that_both_have() -> None:
    ours = [made_run("mini", "", seed, 60, PQ=value) for seed, value in ((1, 60.0), (2, 50.0), (3, 70.0))]
    base = [
        made_run("mini", "upsnet_cp", seed, 60, PQ=value) for seed, value in ((2, 49.0), (3, 71.0), (4, 1.0))
    ]
    step = next(
        step
        for step in layout_of(compare([*ours, *base]), 7).steps
        if (step.better.paper.row, step.base.paper.row, step.figure) == ("UPSNet", "UPSNet-CP", "PQ")
    )
    assert step.ahead == (1, 2)


@pytest.mark.parametrize(
    ("paper", "better", "base", "verdict"),
    [
        (1.0, [42.0], [41.0], SAME),
        (1.0, [41.0], [42.0], OPPOSITE),
        (-1.0, [41.0], [42.0], SAME),
        (1.0, [42.0, 43.0], [40.0, 41.0], SAME),
        (1.0, [42.0, 43.0], [40.0, 42.5], WITHIN),
        (1.0, [40.0, 42.5], [42.0, 43.0], WITHIN),
        (1.0, [40.0, 43.0], [41.0], WITHIN),
        (1.0, [39.0, 40.0], [41.0], OPPOSITE),
        (1.0, [41.0], [41.01], OURS_EQUAL),
        (0.0, [42.0], [41.0], PAPER_EQUAL),
    ],
)
def test_a_verdict_weighs_the_ranges_over_the_seeds(
    paper: float, better: Sequence[float], base: Sequence[float], verdict: str
) -> None:
    assert judge(paper, spread(*better), spread(*base)) == verdict


def test_what_was_not_measured_gets_no_verdict() -> None:
    assert judge(1.0, None, spread(1.0)) == judge(1.0, spread(1.0), None) == NOT_MEASURED


def test_the_tables_asked_for_are_read_in_order() -> None:
    assert parse_tables("7, 6,7") == (6, 7)
    assert parse_tables("") == ()


@pytest.mark.parametrize(("text", "words"), [("10", "'10'"), ("6,x", "'x'"), ("5", "upsnet benchmark")])
def test_an_unknown_table_is_refused(text: str, words: str) -> None:
    with pytest.raises(UpsnetError, match=words):
        parse_tables(text)


def test_no_runs_are_refused() -> None:
    with pytest.raises(UpsnetError, match="no runs found"):
        compare([])
