"""Puts our runs into the rows of the paper's tables, and says where the order of the rows is reproduced.

Runs of the same preset, system and number of images are one group: a row's mean and spread over the seeds.
On the paper's own data sets a group goes to the rows of its preset. On any other data (`mini`, a sample, data
of one's own) no figure can be the paper's; there a group stands in for the row of the same system, and what
compares is the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from upsnet.errors import UpsnetError
from upsnet.evaluation.paper import FIGURES, VAL_IMAGES, PaperRow, paper_rows
from upsnet.evaluation.runs import Run, RunGroup, Spread, group_runs

TABLES = (1, 2, 3, 4, 6, 7, 8, 9)
"""Tables of quality; Table 5, run time, is that of `upsnet benchmark`."""
STAND_IN_TABLES = (6, 7)
"""Layouts for runs on other data than the paper's, unless others are asked for."""
STEP_FIGURES = ("PQ", "PQ_th", "PQ_st")
OTHER_DATA = {"mini": "synthetic scenes", "coco_sample": "sample images of COCO"}
"""What the images of a preset without a data set in the paper are; `images` for all others."""

SAME, OPPOSITE, WITHIN = "same sign", "opposite", "within the spread"
PAPER_EQUAL, OURS_EQUAL, NOT_MEASURED = "equal in the paper", "equal here", "not measured"
VERDICTS = (SAME, OPPOSITE, WITHIN, PAPER_EQUAL, OURS_EQUAL, NOT_MEASURED)


@dataclass(frozen=True)
class LayoutRow:
    """A row of the paper and what was measured for it.

    Attributes:
        group: None for a row that was not run, or that is a system of others.
        preset: what the row is run with here.
    """

    paper: PaperRow
    group: RunGroup | None
    preset: str

    @property
    def status(self) -> str:
        """`run`, `not run`, or `others` for a system that is not built here."""
        return "run" if self.group else "not run" if self.paper.preset else "others"

    def ours(self, figure: str) -> Spread | None:
        """Our figure."""
        return self.group.spread(figure) if self.group else None

    def difference(self, figure: str) -> float | None:
        """Ours - paper, None where one of them is missing."""
        ours = self.ours(figure)
        return ours.mean - self.paper.figures[figure] if ours and figure in self.paper.figures else None


@dataclass(frozen=True)
class Step:
    """Whether one row is above another here as in the paper, for one figure.

    Attributes:
        paper, ours: difference better - base; `ours` None where one of them was not run.
        seeds: number of seeds of better and base.
        ahead: in how many of the seeds that both were run with `better` is above `base`, and how many these
            are. Rows that share their weights differ by this alone, however far apart the seeds lie.
        verdict: one of `VERDICTS`.
    """

    better: LayoutRow
    base: LayoutRow
    figure: str
    paper: float
    ours: float | None
    seeds: tuple[int, int]
    ahead: tuple[int, int]
    verdict: str


@dataclass(frozen=True)
class Layout:
    """One table of the paper with our figures; `figures` are its columns."""

    table: int
    title: str
    notes: tuple[str, ...]
    figures: tuple[str, ...]
    rows: tuple[LayoutRow, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Comparison:
    """All layouts, and the groups that are in none of them."""

    layouts: tuple[Layout, ...]
    others: tuple[RunGroup, ...]


def parse_tables(text: str) -> tuple[int, ...]:
    """The numbers in a text such as `6,7`; empty for an empty text.

    Raises:
        UpsnetError: no number, or a table that is not compared.
    """
    numbers = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        if part not in map(str, TABLES):
            hint = "; table 5 is that of 'upsnet benchmark'" if part == "5" else ""
            raise UpsnetError(
                f"--tables {text}: there is no table {part!r} to compare; "
                f"expected some of {', '.join(map(str, TABLES))}{hint}"
            )
        numbers.append(int(part))
    return tuple(sorted(set(numbers)))


def compare(runs: Iterable[Run], tables: Sequence[int] = ()) -> Comparison:
    """Lays the runs out as the paper's tables.

    Args:
        runs: in any order.
        tables: of `TABLES`; empty: those that have at least one of the runs, Tables 6 and 7 for runs on other
            data than the paper's. A table that is asked for and that no run is in is shown without ours.

    Raises:
        UpsnetError: no runs.
    """
    groups = group_runs(runs)
    if not groups:
        raise UpsnetError(
            "compare: no runs found; give metrics.json files, folders of them, or an experiment"
        )
    layouts: list[Layout] = []
    for table in tables or TABLES:
        found = [_layout(table, part) for part in _by_data(groups) if _belongs(table, part[0], bool(tables))]
        found = [layout for layout in found if any(row.group for row in layout.rows)]
        layouts += found or ([_layout(table, [])] if tables else [])
    placed = {id(row.group) for layout in layouts for row in layout.rows}
    return Comparison(tuple(layouts), tuple(group for group in groups if id(group) not in placed))


def judge(paper: float, better: Spread | None, base: Spread | None) -> str:
    """The verdict on a difference of `paper` points, see `VERDICTS`.

    Within the spread: the ranges of the two rows over their seeds overlap.
    """
    if better is None or base is None:
        return NOT_MEASURED
    if abs(paper) < 0.05:  # the paper has one decimal
        return PAPER_EQUAL
    several = better.deviation is not None or base.deviation is not None
    if several and better.low <= base.high and base.low <= better.high:
        return WITHIN
    ours = better.mean - base.mean
    if abs(ours) < 0.05:
        return OURS_EQUAL
    return SAME if (ours > 0) == (paper > 0) else OPPOSITE


def _data_of(preset: str) -> str:
    """The paper's data set of a preset, empty if it has none."""
    return next((row.dataset for row in paper_rows() if row.preset == preset), "")


def _by_data(groups: Sequence[RunGroup]) -> list[list[RunGroup]]:
    """The groups apart by data set and number of images."""
    parts: dict[tuple[str, int], list[RunGroup]] = {}
    for group in groups:
        parts.setdefault((_data_of(group.preset) or group.preset, group.images), []).append(group)
    return list(parts.values())


def _belongs(table: int, group: RunGroup, asked: bool) -> bool:
    """Whether a table is of a group's data set; all tables are for other data, if they are asked for."""
    dataset = _data_of(group.preset)
    if not dataset:
        return asked or table in STAND_IN_TABLES
    return dataset == next(row.dataset for row in paper_rows() if row.table == table)


def _layout(table: int, groups: Sequence[RunGroup]) -> Layout:
    """A table with the groups of one data set; no groups: with the paper's figures alone."""
    papers = [row for row in paper_rows() if row.table == table]
    stand_in = {}
    if groups and not _data_of(groups[0].preset):  # for the table's first preset
        stand_in = {next(row.preset for row in papers if row.preset): groups[0].preset}
    found = {(group.preset, group.system): group for group in groups}
    presets = [stand_in.get(row.preset, row.preset) for row in papers]
    rows = tuple(
        LayoutRow(row, found.get((preset, row.system)), preset)
        for row, preset in zip(papers, presets, strict=True)
    )
    return Layout(
        table=table,
        title=_title(papers[0], groups),
        notes=tuple(_notes(papers, [row.group for row in rows if row.group])),
        figures=tuple(name for name in FIGURES if any(name in row.figures for row in papers)),
        rows=rows,
        steps=tuple(_steps(rows)),
    )


def _title(paper: PaperRow, groups: Sequence[RunGroup]) -> str:
    dataset = "the paper's own data" if paper.dataset == "Internal" else f"{paper.dataset} {paper.split}"
    if not groups or _data_of(groups[0].preset):
        return f"Table {paper.table}, {dataset}"
    preset, images = groups[0].preset, groups[0].images
    kind = OTHER_DATA.get(preset, "images")
    where = f"measured on {preset} ({images} {kind}) beside the paper's {paper.dataset}"
    return f"Table {paper.table} layout, {where}"


def _notes(papers: Sequence[PaperRow], groups: Sequence[RunGroup]) -> Iterable[str]:
    """What a reader must know before comparing figures."""
    if groups:
        dataset, images = papers[0].dataset, groups[0].images
        if not _data_of(groups[0].preset):
            yield "Other data than the paper's: the order of the rows compares, the figures do not."
        elif images != VAL_IMAGES[dataset]:
            yield f"Ours: {images} images; the paper: all {VAL_IMAGES[dataset]} validation images."
        if papers[0].split == "test-dev":
            yield "The paper's figures are of test-dev, whose truth is not public; ours are of val2017."
        devices = sorted({run.device for group in groups for run in group.runs if run.device})
        if devices and any("network" in row.figures for row in papers):
            yield f"network: milliseconds, the paper's on a GTX 1080 Ti, ours on {', '.join(devices)}."
    for row in papers:
        if row.note:
            yield f"The paper, row {row.row}: {row.note}."


def _steps(rows: Sequence[LayoutRow]) -> Iterable[Step]:
    """Every row against those that it is compared with, figure by figure."""
    named = {row.paper.row: row for row in rows}
    for figure in STEP_FIGURES:
        for better in rows:
            for base in (named[name] for name in better.paper.over):
                yield _step(better, base, figure)


def _step(better: LayoutRow, base: LayoutRow, figure: str) -> Step:
    paper = round(better.paper.figures[figure] - base.paper.figures[figure], 1)
    high, low = better.ours(figure), base.ours(figure)
    ours = high.mean - low.mean if high and low else None
    seeds = (better.group.seeds if better.group else 0, base.group.seeds if base.group else 0)
    return Step(
        better, base, figure, paper, ours, seeds, _ahead(better, base, figure), judge(paper, high, low)
    )


def _ahead(better: LayoutRow, base: LayoutRow, figure: str) -> tuple[int, int]:
    high, low = (row.group.by_seed(figure) if row.group else {} for row in (better, base))
    common = high.keys() & low.keys()
    return sum(high[seed] > low[seed] for seed in common), len(common)
