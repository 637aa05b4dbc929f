"""The table: sums, ratios and the paper's figures beside ours."""

import io
import json

import pytest
import torch
from rich.console import Console

from upsnet.evaluation.benchmark.measure import Measurement, Timing
from upsnet.evaluation.benchmark.report import environment, markdown, paper_times, print_table, to_json
from upsnet.structures import Size

WHERE = {"device": "A device", "threads": 2, "torch": "2.0", "memory": "that of the process"}


def row(system: str, instances: int, network: float, after: float, size: Size = (1024, 2048)) -> Measurement:
    times = (Timing(network, 12.34), Timing(after, None))
    return Measurement(system, "cityscapes_r50", size, instances, instances, 100, 3, *times, 1234.5, 2048.0)


ROWS = [
    row("UPSNet", 0, 1000.0, 200.0),
    row("UPSNet", 10, 1000.0, 600.0),
    row("MR-CNN-PSP", 0, 3000.0, 600.0),
    row("MR-CNN-PSP", 10, 3000.0, 200.0),
]


def test_the_paper_s_times_are_those_of_table_5():
    assert paper_times((800, 1300)) == {"UPSNet": 171, "MR-CNN-PSP": 188}
    assert paper_times((1024, 2048)) == {"UPSNet": 236, "MR-CNN-PSP": 1105}
    assert paper_times((1200, 1920)) == {"UPSNet": 264, "MR-CNN-PSP": 1016}
    assert paper_times((64, 96)) == {}


def test_every_ratio_is_to_upsnet_at_the_same_size_with_the_same_instances():
    entries = to_json(ROWS, WHERE, with_paper=True)["rows"]
    assert [(e["instances"], e["system"], e["sum"], e["ratio"]) for e in entries] == [
        (0, "UPSNet", 1200.0, 1.0),
        (0, "MR-CNN-PSP", 3600.0, 3.0),
        (10, "UPSNet", 1600.0, 1.0),
        (10, "MR-CNN-PSP", 3200.0, 2.0),
    ]
    assert [entry["paper_milliseconds"] for entry in entries] == [236, 1105, 236, 1105]
    assert entries[1]["paper_ratio"] == pytest.approx(1105 / 236)


def test_without_the_paper_there_are_no_figures_of_it():
    entries = to_json(ROWS, WHERE, with_paper=False)["rows"]
    assert {entry["paper_milliseconds"] for entry in entries} == {None}
    assert "Paper" not in markdown(to_json(ROWS, WHERE, with_paper=False))


def test_the_table_reads_the_same_in_markdown_on_a_terminal_and_after_json():
    figures = json.loads(json.dumps(to_json(ROWS, WHERE, with_paper=True)))
    text = io.StringIO()
    print_table(figures, Console(file=text, width=150))
    expected = [
        "1024x2048",
        "10",
        "MR-CNN-PSP",
        "1234",
        "3000 ± 12.3",
        "200",
        "3200",
        "2048",
        "2.00",
        "1105",
        "4.68",
    ]
    for lines, border in ((markdown(figures).splitlines(), "|"), (text.getvalue().splitlines(), "│")):
        rows = [[cell.strip() for cell in line.split(border)[1:-1]] for line in lines if border in line]
        assert expected in rows
    for part in ("A device, 2 threads", "of 3 runs", "Table 5", "best 100 boxes", "that of the process"):
        assert part in markdown(figures)


def test_the_star_is_explained_where_there_is_one():
    starred = [row("UPSNet", 0, 1.0, 1.0, (800, 1300)), row("MR-CNN-PSP*", 0, 2.0, 2.0, (800, 1300))]
    figures = to_json(starred, WHERE, with_paper=True)
    assert figures["rows"][1]["paper_milliseconds"] == 188
    assert r"MR-CNN-PSP\*: the PSPNet" in markdown(figures)
    assert "394x640" in markdown(figures)
    assert "394x640" not in markdown(to_json(ROWS, WHERE, with_paper=True))


def test_the_environment_names_the_device():
    where = environment(torch.device("cpu"))
    assert where["device"]
    assert where["threads"] == torch.get_num_threads()
