"""The quick check: what it says of a good data set, and that it finds what `prepare` finds."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.data.test_coco import FAULTS_OF_IMAGE_1
from tests.data.tiny_coco import CAR, HEIGHT, ROAD, WIDTH, TinyCoco, encoded, picture
from upsnet.config import CocoConfig, CocoSplit, DataConfig, SyntheticConfig
from upsnet.data.check import CheckReport, check, evenly_spread, print_check
from upsnet.data.faults import ADVICE
from upsnet.data.prepare import prepare
from upsnet.data.source_image import ORIENTATION
from upsnet.errors import DataError

INSIDE = {"image_cut", "png_cut", "pixels_without_segment", "segment_without_pixels", "segment_of_zero_area"}
"""Faults that are not seen without decoding an image."""


@pytest.fixture
def coco(tmp_path: Path) -> TinyCoco:
    return TinyCoco(tmp_path / "coco")


def _check(coco: TinyCoco, sample: int = 100) -> CheckReport:
    return check(coco.config(), sample=sample, processes=1)


def _printed(report: CheckReport) -> str:
    text = io.StringIO()
    print_check(report, Console(file=text, width=120))
    return text.getvalue()


def _row(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if title in line)
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


def test_a_good_data_set_has_no_problem_and_its_figures_are_told(coco: TinyCoco) -> None:
    report = _check(coco)
    assert report.problems == []
    text = _printed(report)
    assert "1 stuff + 1 thing classes" in text
    assert _row(text, "images listed") == ["3", "1"]
    assert _row(text, "looked over") == _row(text, "read in full") == ["3", "1"]
    assert _row(text, "instances per image, mean") == ["1.0", "1.0"]
    assert _row(text, "height: ") == [f"{HEIGHT}, {HEIGHT}, {HEIGHT}"] * 2
    assert _row(text, "width: ") == [f"{WIDTH}, {WIDTH}, {WIDTH}"] * 2


@pytest.mark.parametrize("name", FAULTS_OF_IMAGE_1)
def test_a_sampled_image_is_checked_as_prepare_checks_it(coco: TinyCoco, name: str) -> None:
    FAULTS_OF_IMAGE_1[name][0](coco)
    (problem,) = _check(coco).problems
    with pytest.raises(DataError) as refusal:
        prepare(coco.config(), coco.root.parent / "out", processes=1)
    kinds = {line.split(": ")[1] for line in str(refusal.value).splitlines() if line.startswith("  train")}
    assert "train image 1: " in problem
    for kind in kinds:
        assert f"{kind}: {ADVICE[kind]}" in problem


@pytest.mark.parametrize("name", sorted(set(FAULTS_OF_IMAGE_1) - INSIDE))
def test_an_image_that_is_not_sampled_is_looked_at_from_outside(coco: TinyCoco, name: str) -> None:
    FAULTS_OF_IMAGE_1[name][0](coco)
    report = check(coco.config(), sample=0, processes=1)
    assert {(fault.split, fault.image_id) for fault in report.faults} == {("train", 1)}


Values = dict[str, Any]

FAULTS_OF_THE_JSON: dict[str, tuple[Callable[[Values], Any], str]] = {
    "twice": (lambda v: v["images"].append(v["images"][1]), "duplicate image id"),
    "annotated_twice": (lambda v: v["annotations"].append(v["annotations"][1]), "duplicate annotation"),
    "not_annotated": (lambda v: v["annotations"].pop(1), "image without annotation"),
    "unknown_image": (lambda v: v["images"].pop(1), "annotation of an unknown image"),
    "unsafe": (lambda v: v["images"][1].update(file_name="../2.jpg"), "unsafe file name"),
    "category": (
        lambda v: v["annotations"][1]["segments_info"][0].update(category_id=99),
        "unknown category",
    ),
    "segment": (
        lambda v: v["annotations"][1]["segments_info"].append(v["annotations"][1]["segments_info"][0]),
        "duplicate segment id",
    ),
}


@pytest.mark.parametrize("name", FAULTS_OF_THE_JSON)
def test_faults_of_the_json_are_told_with_what_to_do(coco: TinyCoco, name: str) -> None:
    spoil, kind = FAULTS_OF_THE_JSON[name]
    spoil(coco.json["train"])
    report = check(coco.config(), sample=0, processes=1)
    assert [(fault.kind, fault.image_id) for fault in report.faults] == [(kind, 2)]
    assert f"{kind}: {ADVICE[kind]}" in report.problems[0]


def test_a_rotated_jpeg_is_accepted_upright_and_lying(coco: TinyCoco) -> None:
    for image_id, size in ((1, (WIDTH, HEIGHT)), (2, (HEIGHT, WIDTH))):
        image = picture(size=size)
        exif = image.getexif()
        exif[ORIENTATION] = 6
        coco.image(image_id).write_bytes(encoded(image, exif=exif))
    assert check(coco.config(), sample=0, processes=1).faults == []


def test_all_faults_come_at_once_and_once_each(coco: TinyCoco) -> None:
    coco.image(1).unlink()
    coco.png(3).write_bytes(b"")
    coco.image(11, "val").write_bytes(encoded(picture())[:-40])
    report = _check(coco)
    found = [(fault.split, fault.image_id, fault.kind) for fault in report.faults]
    assert found == [
        ("train", 1, "image missing"),
        ("train", 3, "PNG unreadable"),
        ("val", 11, "image unreadable"),
    ]
    assert _row(_printed(report), "images listed") == ["3", "1"]


def test_a_split_without_a_usable_image_is_a_problem(coco: TinyCoco) -> None:
    coco.json["val"]["images"].clear()
    coco.json["val"]["annotations"].clear()
    (problem,) = _check(coco).problems
    assert "no image of the val split" in problem


def test_categories_without_segments_or_only_in_val_are_named(coco: TinyCoco) -> None:
    for split in ("train", "val"):
        coco.json[split]["categories"] += [{"id": 90, "name": "yeti", "isthing": 1}]
    for position in range(3):
        coco.segments(position)[0]["category_id"] = ROAD
    text = _printed(_check(coco))
    assert _row(text, "categories without a segment") == ["2", "1"]
    assert "categories without any segment: yeti" in text
    assert "categories in val but not in train, which cannot be learnt: car" in text


def test_categories_that_differ_between_the_splits_are_named(coco: TinyCoco) -> None:
    coco.json["val"]["categories"] = [
        {"id": CAR, "name": "auto", "isthing": 1},
        {"id": 8, "name": "sky", "isthing": 0},
    ]
    with pytest.raises(DataError, match=r"only in train: 7; only in val: 8; other name.*: 3\)"):
        _check(coco)


def test_the_check_writes_nothing(coco: TinyCoco) -> None:
    coco.config()
    before = sorted(coco.root.parent.rglob("*"))
    _check(coco)
    assert sorted(coco.root.parent.rglob("*")) == before


def test_workers_find_the_same(coco: TinyCoco) -> None:
    coco.image(1).unlink()
    one, two = (check(coco.config(), sample=1, processes=count) for count in (1, 2))
    assert (one.faults, one.splits) == (two.faults, two.splits)


def test_a_source_without_quick_look_is_sampled() -> None:
    config = DataConfig(synthetic=SyntheticConfig(train_images=8, val_images=2, height=64, width=64))
    report = check(config, sample=3, processes=1)
    assert (report.splits["train"].glanced, report.splits["train"].read) == (0, 3)
    assert report.problems == []


@pytest.mark.parametrize(
    ("count", "chosen"), [(0, []), (1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (20, list(range(10)))]
)
def test_a_sample_is_spread_from_the_first_to_the_last(count: int, chosen: list[int]) -> None:
    assert evenly_spread(range(10), count) == chosen


def test_the_sample_images_are_good(coco_sample_dir: Path) -> None:
    splits = {
        name: CocoSplit(
            images=str(coco_sample_dir / f"{name}2017"),
            annotations=str(coco_sample_dir / f"annotations/panoptic_{name}2017.json"),
        )
        for name in ("train", "val")
    }
    config = DataConfig(source="coco", coco=CocoConfig(train=splits["train"], val=splits["val"]))
    report = check(config, sample=4, processes=1)
    values = json.loads(Path(splits["train"].annotations).read_text())
    assert report.problems == []
    assert report.splits["train"].listed == len(values["images"])
    segments = [s for annotation in values["annotations"] for s in annotation["segments_info"]]
    assert sum(report.splits["train"].segments.values()) == len(segments)
