"""The tables: what is in them, the paper's figures beside ours only where they compare."""

from __future__ import annotations

from typing import Any

from upsnet.evaluation.panoptic_quality import MetricCategory, panoptic_quality
from upsnet.evaluation.report import format_metrics, markdown_report


def metrics(preset: str = "mini", variant: str = "") -> dict[str, Any]:
    sky = {"name": "sky", "isthing": False, "PQ": 50.0, "SQ": 75.0, "RQ": 66.66, "TP": 1, "FP": 0, "FN": 1}
    car = {
        "name": "car|van [x]",
        "isthing": True,
        "PQ": None,
        "SQ": None,
        "RQ": None,
        "TP": 0,
        "FP": 0,
        "FN": 0,
    }
    return {
        **{"preset": preset, "variant": variant, "device": "cpu", "short_side": 128, "long_side": 256},
        **{"images": 60, "milliseconds": {"network": 81.26, "postprocessing": 9.0, "total": 90.26}},
        **{
            "PQ": 50.04,
            "SQ": 75.0,
            "RQ": 66.66,
            "N": 1,
            "PQ_st": 50.04,
            "SQ_st": 75.0,
            "RQ_st": 66.66,
            "N_st": 1,
        },
        **{"PQ_th": None, "SQ_th": None, "RQ_th": None, "N_th": 0},
        **{"mIoU": 61.25, "box_AP": None, "mask_AP": 12.0},
        "per_class": {
            "3": sky | {"IoU": 61.25, "box_AP": None, "mask_AP": None},
            "7": car | {"IoU": None, "box_AP": 20.0, "mask_AP": 12.0},
        },
    }


def rows(markdown: str) -> list[list[str]]:
    return [
        [c.strip() for c in line.strip("|").split(" | ")] for line in markdown.splitlines() if "|" in line
    ]


def test_the_markdown_holds_every_figure_and_a_dash_for_an_empty_group() -> None:
    table = rows(markdown_report(metrics()))
    assert ["PQ", "50.0", "-", "50.0"] in table
    assert ["classes", "1", "0", "1"] in table
    assert ["61.2", "-", "12.0"] in table
    assert ["81.3", "9.0", "90.3"] in table
    assert ["sky", "stuff", "50.0", "75.0", "66.7", "1", "0", "1", "61.2", "-", "-"] in table
    assert [r"car\|van [x]", "thing", "-", "-", "-", "0", "0", "0", "-", "20.0", "12.0"] in table


def test_the_terminal_shows_the_same_figures() -> None:
    text = format_metrics(metrics())
    for part in (
        "50.0",
        "61.2",
        "mask_AP",
        "postprocessing",
        "on cpu",
        "short side 128",
        "60 images",
        "car|van [x]",
    ):
        assert part in text


def test_a_preset_that_the_paper_lacks_is_called_not_comparable() -> None:
    assert "mini: not comparable" in markdown_report(metrics("mini"))
    assert "(42.5)" not in markdown_report(metrics("mini"))


def test_the_papers_figures_stand_beside_ours_with_their_table_named() -> None:
    text = markdown_report({**metrics("coco_r50"), "images": 5000})
    assert "50.0 (42.5)" in text
    assert "- (48.6)" in text
    assert "81.3 (167)" in text
    assert "table 7, UPSNet (R50), COCO val2017" in text
    assert "75.0 (78.0)" in text
    assert "(46.6)" in markdown_report({**metrics("coco_r101_dcn"), "images": 5000})


def test_another_set_than_coco_val2017_is_not_set_beside_the_papers_figures() -> None:
    assert "(42.5)" not in markdown_report(metrics("coco_r50"))


def test_a_system_and_a_switch_of_the_paper_have_rows_of_their_own() -> None:
    text = markdown_report({**metrics("coco_r50", "upsnet_c"), "images": 5000})
    assert "50.0 (41.5)" in text
    assert "table 7, UPSNet-C (R50)" in text
    text = markdown_report({**metrics("coco_r50", "table6_row1"), "images": 5000})
    assert "50.0 (41.2)" in text
    assert "61.2 (" not in text
    text = markdown_report({**metrics("cityscapes_r50", "multi_scale_cityscapes"), "images": 500})
    assert "81.3 (2607)" in text


def test_a_variant_is_another_system_than_the_papers_row() -> None:
    text = markdown_report({**metrics("coco_r50", "no_roi_loss"), "images": 5000})
    assert "(42.5)" not in text
    assert "coco_r50+no_roi_loss: not comparable" in text


def test_the_figures_of_score_alone_can_be_reported() -> None:
    figures = panoptic_quality([], {1: MetricCategory("sky", False, "1")})
    table = rows(markdown_report(figures))
    assert ["PQ", "-", "-", "-"] in table
    assert ["sky", "stuff", "-", "-", "-", "0", "0", "0"] in table
    assert "Milliseconds" not in format_metrics(figures)
