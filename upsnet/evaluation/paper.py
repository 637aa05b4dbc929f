"""The paper's figures, row by row, and what repeats a row here.

They stand in paper_tables.csv beside this file: tables 1 to 9 with everything that they report, the preset
and variant that repeat a row, the rows it is compared with, and where the paper contradicts itself.
Figures have our names; percent, and milliseconds for `network`, `postprocessing` and `total`.

Source: UPSNet (CVPR 2019), tables 1 to 9.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

QUALITY_FIGURES = tuple(f"{name}{group}" for group in ("", "_th", "_st") for name in ("PQ", "SQ", "RQ"))
TIMES = ("network", "postprocessing", "total")
FIGURES = (*QUALITY_FIGURES, "mIoU", "box_AP", "mask_AP", *TIMES)

VAL_IMAGES = {"COCO": 5000, "Cityscapes": 500, "Internal": 1139}
"""Validation images of the paper's data sets, by which a part of them is told from the whole."""

OWN_DATA = "own data"
"""The preset of the paper's own data set, which nobody else has: any preset of one's own."""

SAME_AS = {"no_unknown": "table6_row5"}
"""Variants that are a row of Table 6 by another name."""
NETWORKS = ("upsnet", "mask_rcnn", "pspnet", "mr_cnn_psp")
MULTI_SCALE = "multi_scale"


@dataclass(frozen=True)
class PaperRow:
    """One row of one table.

    Attributes:
        row: its name in the table; `label` is longer where the table has switches only (Table 6).
        preset, variant: what repeats it here, see `OWN_DATA`; preset empty for the systems of others.
        system: see `system_of`.
        over: names of the rows that it is compared with.
        switches: Table 6, what is on.
        figures: by our names, only what the row reports.
        note: where the paper contradicts itself.
    """

    table: int
    dataset: str
    split: str
    row: str
    label: str
    backbone: str
    preset: str
    variant: str
    system: str
    over: tuple[str, ...]
    switches: tuple[str, ...]
    figures: Mapping[str, float]
    note: str

    def title(self) -> str:
        """Where the figures stand."""
        return f"paper, table {self.table}, {self.row} ({self.backbone}), {self.dataset} {self.split}"


def system_of(variant: str, network: str = "", scales: Sequence[object] = ()) -> str:
    """The system that a run is, however its variant was spelt: empty for UPSNet, else names joined by `+`.

    Args:
        variant: variants joined by `+`; every `multi_scale...` among them means the multi-scale test.
        network: `model.network`; empty: as the variant says.
        scales: `inference.scales`; not empty means the multi-scale test, too.
    """
    parts = [part for part in variant.split("+") if part]
    network = network or next((part for part in parts if part in NETWORKS), "")
    names = [] if network in ("", "upsnet") else [network]
    parts = [SAME_AS.get(part, part) for part in parts]
    names += [part for part in parts if part not in NETWORKS and not part.startswith(MULTI_SCALE)]
    if scales or any(part.startswith(MULTI_SCALE) for part in parts):
        names.append(MULTI_SCALE)
    return "+".join(names)


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """All rows of all tables, in the paper's order."""
    text = resources.files("upsnet.evaluation").joinpath("paper_tables.csv").read_text(encoding="utf-8")
    return tuple(map(_parse, csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))))


def paper_row(preset: str, variant: str, images: int) -> PaperRow | None:
    """The row that a run repeats, the one that says most where several tables have it.

    None for a preset or a variant that the paper lacks, and for a set that is not the paper's, going by its
    number of images.
    """
    system = system_of(variant)
    rows = [
        row
        for row in paper_rows()
        if row.preset and (row.preset, row.system) == (preset, system) and images == VAL_IMAGES[row.dataset]
    ]
    return max(rows, key=lambda row: len(row.figures), default=None)


def _parse(cells: dict[str, str]) -> PaperRow:
    return PaperRow(
        table=int(cells["table"]),
        dataset=cells["dataset"],
        split=cells["split"],
        row=cells["row"],
        label=cells["label"] or cells["row"],
        backbone=cells["backbone"],
        preset=cells["preset"],
        variant=cells["variant"],
        system=system_of(cells["variant"]),
        over=tuple(name for name in cells["over"].split("; ") if name),
        switches=tuple(cells["switches"].split()),
        figures={name: float(cells[name]) for name in FIGURES if cells[name]},
        note=cells["note"],
    )
