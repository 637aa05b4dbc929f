"""What a comparison looks like on the terminal, in Markdown, as CSV and as a web page."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from tests.evaluation.made_metrics import made_run
from upsnet.errors import UpsnetError
from upsnet.evaluation.compare import Comparison, compare
from upsnet.evaluation.compare_output import (
    csv_comparison,
    format_difference,
    markdown_comparison,
    print_comparison,
    statement,
    write_comparison,
)
from upsnet.evaluation.compare_page import html_page

VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """The texts of a page's cells by row, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture
def comparison() -> Comparison:
    """UPSNet with three seeds, -C with one, and a run with an odd name that is no row."""
    return compare(
        [
            *(made_run(seed=seed, PQ=value) for seed, value in ((1, 60.0), (2, 61.0), (3, 62.0))),
            made_run("mini", "upsnet_c", PQ=58.0),
            made_run("mini", "a<b>&|[c]", PQ=1.0),
        ]
    )


def printed(comparison: Comparison, width: int) -> str:
    text = io.StringIO()
    print_comparison(comparison, Console(file=text, width=width))
    return text.getvalue()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_markdown_shows_ours_with_spread_and_seeds_the_paper_and_the_difference(
    comparison: Comparison,
) -> None:
    rows = [cells(line) for line in markdown_comparison(comparison).splitlines() if line.startswith("|")]
    start = next(n for n, row in enumerate(rows) if row[:2] == ["UPSNet", "ours, 3 seeds"])
    assert rows[start][2:4] == ["61.0 ±1.0", "50.0 ±0.0"]
    assert rows[start + 1][1:4] == ["paper", "42.5", "78.0"]
    assert rows[start + 2][1:4] == ["difference", "+18.5", "-28.0"]
    assert rows[start + 2][-1] == "-157"
    assert ["UPSNet-CP", "paper (not run)", "41.5"] in [row[:3] for row in rows]
    assert ["JSIS-Net", "paper (others)", "26.9"] in [row[:3] for row in rows]
    assert ["UPSNet-C", "ours, 1 seed", "58.0"] in [row[:3] for row in rows]
    assert len({len(row) for row in rows if row[0] in ("UPSNet", "JSIS-Net", "UPSNet-CP")}) == 1


def test_the_statement_names_what_is_reproduced_and_what_is_not(comparison: Comparison) -> None:
    lines = statement(next(layout for layout in comparison.layouts if layout.table == 7))
    assert lines[0] == ("PQ, order of the paper reproduced: UPSNet over UPSNet-C (paper +1.0, ours +3.0).")
    assert any(line.startswith("PQ, not measured: UPSNet-CP over UPSNet-C (paper 0.0)") for line in lines)
    worse = compare([made_run(PQ=50.0), made_run("mini", "upsnet_c", PQ=51.0)])
    lines = statement(next(layout for layout in worse.layouts if layout.table == 7))
    assert lines[0] == ("PQ, opposite order: UPSNet over UPSNet-C (paper +1.0, ours -1.0, one seed each).")
    pairs = [("", 1, 51.0), ("", 2, 53.0), ("upsnet_cp", 1, 50.0), ("upsnet_cp", 2, 52.0)]
    twice = compare([made_run("mini", variant, seed, PQ=value) for variant, seed, value in pairs])
    lines = statement(next(layout for layout in twice.layouts if layout.table == 7))
    assert lines[0].endswith("UPSNet over UPSNet-CP (paper +1.0, ours +1.0, ahead in 2 of 2 seeds).")
    noisy = compare(
        [made_run(seed=1, PQ=50.0), made_run(seed=2, PQ=53.0), made_run("mini", "upsnet_c", PQ=51.0)]
    )
    lines = statement(next(layout for layout in noisy.layouts if layout.table == 7))
    assert lines[0] == ("PQ, within the spread of the seeds: UPSNet over UPSNet-C (paper +1.0, ours +0.5).")


def test_the_terminal_shows_every_figure_whole_at_any_width(comparison: Comparison) -> None:
    for width in (80, 120, 200):
        text = printed(comparison, width)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        for part in ("61.0 ±1.0", "+18.5", "paper (not run)", "mask_AP", "same sign", "UPSNet over"):
            assert part in text


def test_csv_has_one_line_per_row_and_figure_unrounded(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(csv_comparison(comparison))))
    (ours,) = [
        line for line in lines if (line["table"], line["row"], line["figure"]) == ("7", "UPSNet", "PQ")
    ]
    assert {name: ours[name] for name in ("status", "preset", "seeds", "runs", "ours", "ours_std")} == {
        **{"status": "run", "preset": "mini", "seeds": "3", "runs": "3", "ours": "61.0", "ours_std": "1.0"}
    }
    assert (ours["ours_min"], ours["ours_max"], ours["paper"], ours["difference"]) == (
        *("60.0", "62.0", "42.5", "18.5"),
    )
    (missing,) = [
        line for line in lines if (line["table"], line["row"], line["figure"]) == ("7", "UPSNet-CP", "PQ")
    ]
    assert (missing["status"], missing["preset"], missing["variant"]) == ("not run", "mini", "upsnet_cp")
    assert (missing["ours"], missing["paper"], missing["difference"]) == ("", "41.5", "")
    assert [line["ours"] for line in lines if line["variant"] == "a<b>&|[c]" and line["figure"] == "PQ"] == [
        "1.0"
    ]


def test_the_page_is_well_formed_and_needs_nothing_else(comparison: Comparison) -> None:
    page = Page(html_page(comparison))
    assert not page.seen & {"script", "link", "img", "iframe"}
    assert "onclick" not in {name for name, _ in page.attributes}
    assert all(value.startswith("#") for name, value in page.attributes if name in ("src", "href"))
    assert "prefers-color-scheme: dark" in page.text
    assert ["UPSNet", "ours, 3 seeds", "61.0 ±1.0"] in [row[:3] for row in page.rows]
    assert ["paper", "42.5"] in [row[:2] for row in page.rows]
    assert ["difference", "+18.5"] in [row[:2] for row in page.rows]
    assert ("title", "60.00 to 62.00") in page.attributes
    assert "upsnet configure --preset mini --variant upsnet_cp" in page.text
    assert "order of the paper reproduced" in page.text


def test_the_page_escapes_names(comparison: Comparison) -> None:
    text = html_page(comparison)
    assert "mini+a&lt;b&gt;&amp;|[c]" in text
    assert "a<b>" not in text
    assert ["mini+a<b>&|[c]", "1 seed, 60 images", "1.0"] in [row[:3] for row in Page(text).rows]


def test_the_three_files_are_written(comparison: Comparison, tmp_path: Path) -> None:
    paths = write_comparison(comparison, tmp_path / "out")
    assert [path.name for path in paths] == ["compare.md", "compare.csv", "compare.html"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in paths}
    assert (tmp_path / "out" / "compare.md").read_text() == markdown_comparison(comparison)


def test_a_place_that_is_no_folder_is_refused_and_nothing_is_written(
    comparison: Comparison, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UpsnetError, match="out"):
        write_comparison(comparison, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PQ", 1.04, "+1.0"),
        ("PQ", -0.04, "0.0"),
        ("PQ", None, "-"),
        ("network", -3483.4, "-3,483"),
        ("network", 0.2, "0"),
    ],
)
def test_a_difference_has_a_sign_unless_it_rounds_to_zero(name: str, value: float | None, text: str) -> None:
    assert format_difference(name, value) == text
