"""The paper's figures for the presets that repeat its experiments.

Source: UPSNet (CVPR 2019), tables 2 and 7; percent, time in milliseconds of the network alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One row of one table of the paper; `figures` by our names, only what the row reports."""

    table: int
    row: str
    split: str
    figures: Mapping[str, float]

    def title(self) -> str:
        """Where the figures stand."""
        return f"paper, table {self.table}, {self.row}, {self.split}"


COCO_VAL_IMAGES = 5000

PAPER_ROWS: Mapping[str, PaperRow] = {
    "coco_r50": PaperRow(
        table=7,
        row="UPSNet (R50)",
        split="COCO val2017",
        figures={
            **{"PQ": 42.5, "SQ": 78.0, "RQ": 52.5},
            **{"PQ_th": 48.6, "SQ_th": 79.4, "RQ_th": 59.6},
            **{"PQ_st": 33.4, "SQ_st": 75.9, "RQ_st": 41.7},
            **{"mIoU": 54.3, "box_AP": 37.8, "mask_AP": 34.3, "network": 167},
        },
    ),
    "coco_r101_dcn": PaperRow(
        table=2,
        row="UPSNet (R101)",
        split="COCO test-dev",
        figures={
            **{"PQ": 46.6, "SQ": 80.5, "RQ": 56.9},
            **{"PQ_th": 53.2, "SQ_th": 81.5, "RQ_th": 64.6},
            **{"PQ_st": 36.7, "SQ_st": 78.9, "RQ_st": 45.3},
        },
    ),
}
"""Preset -> the row that it repeats."""


def paper_row(preset: str, variant: str, images: int) -> PaperRow | None:
    """The row that a run repeats.

    None for a preset that the paper lacks, for every variant of one, and for a set that is not COCO val2017,
    going by its number of images.
    """
    return None if variant or images != COCO_VAL_IMAGES else PAPER_ROWS.get(preset)
