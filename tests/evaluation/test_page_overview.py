"""Charts and pictures of the comparison's page."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.made_metrics import made_classes, made_metrics, write_metrics
from tests.evaluation.test_compare_output import Page
from upsnet.evaluation.compare import compare
from upsnet.evaluation.compare_page import html_page
from upsnet.evaluation.runs import collect_runs
from upsnet.visualize import save_png, strip

RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 90)
SIZE = (64, 128)


def plain(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((*SIZE, 3), color, np.uint8)


def write_run(folder: Path, variant: str, seed: int, classes: dict, color: tuple, PQ: float = 50.0) -> None:  # noqa: N803
    """An evaluation with two strips, whose predictions have one colour."""
    write_metrics(folder, made_metrics("mini", variant, seed, PQ=PQ) | {"per_class": classes})
    for image in (7, 12):
        panels = {"image": plain(GREY), "truth": plain(GREEN), "prediction": plain(color)}
        save_png(strip(panels), folder / "strips" / f"{image}.png")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """UPSNet with two seeds and -C with one."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", "", 1, made_classes(sky=90.0, car=60.0, bus=None), RED, PQ=60.0)
    write_run(folder / "b", "", 2, made_classes(sky=92.0, car=64.0, bus=None), GREY, PQ=62.0)
    write_run(folder / "c", "upsnet_c", 1, made_classes(sky=90.0, car=20.0, bus=None), BLUE, PQ=50.0)
    return html_page(compare(collect_runs([folder])))


def test_the_page_with_charts_and_pictures_is_well_formed_and_needs_nothing_else(page: str) -> None:
    read = Page(page)
    assert {"svg", "img"} <= read.seen
    assert not read.seen & {"script", "link", "iframe"}
    for name, value in read.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:image/jpeg;base64,"))
    assert "url(" not in page


def test_every_class_has_a_bar_per_row_of_runs_and_where_they_differ_most_comes_first(page: str) -> None:
    titles = re.findall(r"<figcaption>(\w+ \((?:thing|stuff)\))</figcaption>", page)
    assert titles == ["car (thing)", "sky (stuff)"], "bus is defined by no run"
    assert "UPSNet, car (thing): 62.0 (60.0 to 64.0 over the seeds)" in page
    assert "UPSNet-C, car (thing): 20.0" in page
    chart = page[page.index("car (thing)</figcaption>") :]
    lengths = [
        float(width) for width in re.findall(r'<rect class="[^"]*" x="\d+" y="\d+" width="([\d.]+)"', chart)
    ]
    assert lengths[0] / lengths[1] == pytest.approx(62 / 20, rel=0.01)


def test_pq_against_run_time_has_a_point_and_a_name_per_row_of_runs(page: str) -> None:
    assert page.count("<circle") == 2
    assert (
        "UPSNet: PQ 61.0 (60.0 to 62.0 over the seeds); 12.0 (12.0 to 12.0 over the seeds) ms per image"
        in page
    )
    assert ">UPSNet-C 50.0</text>" in page


def test_image_and_truth_stand_once_before_the_predictions_of_the_first_seeds(page: str) -> None:
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', page)
    assert [alt for _, alt in found] == [
        f"{title}, image {image}" for image in (12, 7) for title in ("image", "truth", "UPSNet", "UPSNet-C")
    ]
    for (data, _), color in zip(found[:4], (GREY, GREEN, RED, BLUE), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert pixels.shape[:2] == SIZE, "without bar and gap"
        assert np.abs(pixels.astype(int) - color).max() < 12


def test_runs_without_classes_and_pictures_leave_these_parts_out(tmp_path: Path) -> None:
    page = html_page(compare(collect_runs([write_metrics(tmp_path / "a", made_metrics())])))
    assert "<img" not in page
    assert 'id="classes"' not in page
    assert 'id="pictures"' not in page
    assert 'href="#classes"' not in page


def test_many_classes_are_folded_up(tmp_path: Path) -> None:
    classes = made_classes(**{f"class {number}": float(number % 90) for number in range(133)})
    for variant in ("", "upsnet_c"):
        write_metrics(tmp_path / f"run{variant}", made_metrics("mini", variant) | {"per_class": classes})
    page = html_page(compare(collect_runs([tmp_path])))
    assert "<summary>109 classes more</summary>" in page


def test_a_network_that_was_told_the_truth_comes_last_and_is_never_the_best(tmp_path: Path) -> None:
    for variant, quality in (("gt_boxes", 90.0), ("", 50.0), ("table6_row1", 40.0)):
        classes = made_classes(car=quality)
        write_metrics(
            tmp_path / f"run{variant}", made_metrics("mini", variant, PQ=quality) | {"per_class": classes}
        )
    page = html_page(compare(collect_runs([tmp_path])))
    names = re.findall(r'<th class="word" scope="row" title="[^"]*">([^<]+)</th>', page)
    assert names == ["UPSNet", "1: none of them", "7: true boxes"]
    assert re.search(r'<td class="best">50\.0</td>', page)
    assert not re.search(r'<td class="best">90\.0</td>', page)
    assert re.findall(r'<rect class="([^"]*)"', page) == ["bar best", "bar", "bar told"]
    assert page.count("<circle") == 2
