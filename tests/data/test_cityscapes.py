"""Cityscapes as downloaded, in small: what becomes of it, and what is said about spoiled files."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_cityscapes import (
    CARAVAN,
    HEIGHT,
    NAMES,
    WIDTH,
    TinyCityscapes,
    instance_values,
    label_ids,
    write_truth,
)
from upsnet.config import CityscapesConfig, DataConfig, load_config
from upsnet.data.cityscapes import CityscapesSource, cityscapes_categories
from upsnet.data.panoptic_png import decode_panoptic_png
from upsnet.data.prepare import open_source, prepare
from upsnet.data.shards import PreparedData
from upsnet.errors import ConfigError, DataError

AACHEN, MUNSTER = NAMES["train"][0], NAMES["val"][1]


@pytest.fixture
def tiny(tmp_path: Path) -> TinyCityscapes:
    return TinyCityscapes(tmp_path / "cityscapes")


def refusal(tiny: TinyCityscapes) -> str:
    """What `prepare` says, which leaves nothing behind."""
    out = tiny.root.parent / "prepared"
    with pytest.raises(DataError) as error:
        prepare(tiny.config(), out, processes=1)
    assert not out.exists()
    return str(error.value)


def test_the_benchmark_has_eleven_stuff_and_eight_thing_classes() -> None:
    table = cityscapes_categories()
    assert (table.num_stuff, table.num_things) == (11, 8)
    assert table.names[:2] == ("road", "sidewalk")
    assert table.names[11:] == (
        *("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    )
    assert table.class_id_of[26] == 13
    assert not set(table.class_id_of) & {-1, 0, 9, 14, 18, 29, 30}


def test_a_truth_becomes_the_segments_that_it_means(tiny: TinyCityscapes) -> None:
    record = open_source(tiny.config()).read("train", 0).record
    assert record is not None
    found = {s.segment_id: (s.category_id, s.iscrowd) for s in record.segments}
    assert found == {
        7: (7, False),
        8: (8, False),
        11: (11, False),
        23: (23, False),
        24: (24, True),
        26_000: (26, False),
        26_001: (26, False),
        33_005: (33, False),
    }
    values = instance_values()
    void = np.isin(values, [1, 3, CARAVAN, 65_535])
    assert (values == 65_535).any()
    np.testing.assert_array_equal(decode_panoptic_png(record.panoptic_png), np.where(void, 0, values))
    bicycle = next(s for s in record.segments if s.segment_id == 33_005)
    assert (bicycle.bbox, bicycle.area) == ((70, 34, 16, 18), 16 * 18)


def test_the_official_converter_says_the_same(tiny: TinyCityscapes, tmp_path: Path) -> None:
    from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic

    for split, names in NAMES.items():
        for name in names:
            values = instance_values()
            values[values == 65_535] = 4  # the converter knows no license plate
            write_truth(tiny.truth(split, name), values)
            Image.fromarray(label_ids(values).astype(np.uint8)).save(tiny.label_ids(split, name))
    (tmp_path / "official").mkdir()
    convert2panoptic(str(tiny.root / "gtFine"), str(tmp_path / "official"), setNames=["train", "val"])
    source = open_source(tiny.config())
    for split, names in NAMES.items():
        file = tmp_path / "official" / f"cityscapes_panoptic_{split}"
        official = json.loads(file.with_suffix(".json").read_text())
        categories = {c["id"]: (c["name"], c["isthing"]) for c in official["categories"]}
        ours = source.categories.to_json()
        assert {c["id"]: (c["name"], c["isthing"]) for c in ours} == categories
        for name, image_id in zip(names, source.image_ids(split), strict=True):
            record = source.read(split, image_id).record
            assert record is not None
            truth = next(a for a in official["annotations"] if a["image_id"] == name)
            assert [
                (s["id"], s["category_id"], bool(s["iscrowd"]), tuple(s["bbox"]), s["area"])
                for s in truth["segments_info"]
            ] == [(s.segment_id, s.category_id, s.iscrowd, s.bbox, s.area) for s in record.segments]
            np.testing.assert_array_equal(
                decode_panoptic_png(record.panoptic_png), decode_panoptic_png(file / truth["file_name"])
            )


def test_images_are_counted_in_the_order_of_their_names_and_the_manifest_keeps_these(
    tiny: TinyCityscapes, tmp_path: Path
) -> None:
    data = prepare(tiny.config(), tmp_path / "prepared", processes=2)
    assert data.split("train").image_ids == (0, 1, 2, 3)
    assert data.split("val").image_ids == (1_000_000, 1_000_001)
    assert data.split("val").sizes == ((HEIGHT, WIDTH),) * 2
    source = PreparedData(tmp_path / "prepared").manifest["source"]
    assert source["kind"] == "cityscapes"
    assert source["val"] == {"first_image_id": 1_000_000, "names": NAMES["val"]}
    assert source["train"]["names"] == NAMES["train"]
    assert str(tmp_path) not in json.dumps(source)


def test_the_picture_stays_the_same_to_the_eye(tiny: TinyCityscapes) -> None:
    record = open_source(tiny.config()).read("val", 1_000_001).record
    assert record is not None
    with Image.open(io.BytesIO(record.image)) as ours, Image.open(tiny.image("val", MUNSTER)) as theirs:
        difference = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs))
    assert difference.mean() < 3


def test_eight_bit_truths_are_read_too(tiny: TinyCityscapes) -> None:
    values = np.minimum(instance_values(), 255)
    values[values == 255] = 26
    Image.fromarray(values.astype(np.uint8)).save(tiny.truth("train", AACHEN))
    tiny.label_ids("train", AACHEN).unlink()
    record = open_source(tiny.config()).read("train", 0).record
    assert record is not None
    assert [s.segment_id for s in record.segments if s.iscrowd] == [24, 26]


def test_missing_folders_are_named_together(tiny: TinyCityscapes, tmp_path: Path) -> None:
    (tiny.root / "gtFine").rename(tiny.root / "gt")
    with pytest.raises(DataError, match=r"no folder gtFine/train, gtFine/val; unpack .*gtFine_trainvaltest"):
        CityscapesSource(CityscapesConfig(root=str(tiny.root)))


def test_a_configuration_without_root_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.cityscapes\.root must be given"):
        load_config("mini", [], ["data.source=cityscapes"])


def test_all_faults_come_in_one_report(tiny: TinyCityscapes) -> None:
    tiny.image("train", NAMES["train"][0]).unlink()
    tiny.truth("train", NAMES["train"][1]).unlink()
    truncated = tiny.truth("train", NAMES["train"][2])
    truncated.write_bytes(truncated.read_bytes()[:60])
    cut = tiny.image("train", NAMES["train"][3])
    cut.write_bytes(cut.read_bytes()[:-200])
    values = instance_values()
    values[0, 5] = 47
    write_truth(tiny.truth("val", NAMES["val"][0]), values)
    tiny.write("val", NAMES["val"][1], instance_values()[:-2], np.random.default_rng())
    write_truth(tiny.truth("val", NAMES["val"][1]), instance_values())
    message = refusal(tiny)
    assert message.startswith("the data has 7 faults in 6 images:")
    for part in (
        "train image 0: image missing: aachen/aachen_000000_000019_leftImg8bit.png",
        "train image 1: truth missing: aachen/aachen_000001_000019_gtFine_instanceIds.png",
        "train image 2: truth unreadable: hamburg_000000_000042_gtFine_instanceIds.png: is no PNG",
        "train image 3: image unreadable: ulm_000003_000019_leftImg8bit.png",
        "val image 1000000: unknown label value: frankfurt_000000_000294_gtFine_instanceIds.png: 47",
        "val image 1000001: sizes differ: munster/munster_000000_000019: (height, width) is (62, 128)",
        "val image 1000001: sizes differ: munster_000000_000019_gtFine_labelIds.png: (height, width) is (62,",
    ):
        assert part in message


@pytest.mark.parametrize("value", [7_000, 34, 34_000, 999, 23_999, 40_000])
def test_values_outside_the_label_table_are_refused(value: int, tiny: TinyCityscapes) -> None:
    values = instance_values()
    values[10, 10] = value
    write_truth(tiny.truth("train", AACHEN), values)
    assert f"unknown label value: {AACHEN}_gtFine_instanceIds.png: {value}" in refusal(tiny)


def test_label_ids_of_another_image_are_refused(tiny: TinyCityscapes) -> None:
    Image.fromarray(np.flipud(label_ids(instance_values())).astype(np.uint8)).save(
        tiny.label_ids("val", MUNSTER)
    )
    message = refusal(tiny)
    assert "labelIds disagree with instanceIds: munster_000000_000019_gtFine_labelIds.png: in " in message


def test_label_ids_that_differ_in_a_pixel_are_only_noted(tiny: TinyCityscapes) -> None:
    values = label_ids(instance_values())
    values[30, 30] = 7
    Image.fromarray(values.astype(np.uint8)).save(tiny.label_ids("train", AACHEN))
    reading = open_source(tiny.config()).read("train", 0)
    assert reading.record is not None
    assert [note.kind for note in reading.notes] == ["labelIds disagree with instanceIds, which win"]


def test_without_label_ids_nothing_is_missed(tiny: TinyCityscapes) -> None:
    for split, names in NAMES.items():
        for name in names:
            tiny.label_ids(split, name).unlink()
    source = open_source(tiny.config())
    assert all(not source.read("train", i).notes and source.read("train", i).record for i in range(4))


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_a_coloured_truth_is_refused(mode: str, tiny: TinyCityscapes) -> None:
    Image.fromarray(label_ids(instance_values()).astype(np.uint8)).convert(mode).save(
        tiny.truth("train", AACHEN)
    )
    assert f"is a PNG of mode {mode}, expected a grey one" in refusal(tiny)


def test_the_same_name_in_another_city_is_another_image(tiny: TinyCityscapes) -> None:
    moved = tiny.root / "gtFine/train/ulm" / tiny.truth("train", AACHEN).name
    tiny.truth("train", AACHEN).rename(moved)
    message = refusal(tiny)
    assert "train image 0: truth missing: aachen/aachen_000000_000019" in message
    assert "train image 3: image missing: ulm/aachen_000000_000019" in message


def test_files_without_counterpart_are_known_before_any_is_read(tiny: TinyCityscapes) -> None:
    tiny.image("train", AACHEN).unlink()
    tiny.truth("val", MUNSTER).unlink()
    source = open_source(tiny.config())
    assert [(fault.kind, fault.image_id) for fault in source.faults] == [
        ("image missing", 0),
        ("truth missing", 1_000_001),
    ]
    assert (list(source.image_ids("train")), list(source.image_ids("val"))) == ([1, 2, 3], [1_000_000])


def test_a_source_travels_to_worker_processes(tiny: TinyCityscapes) -> None:
    source = pickle.loads(pickle.dumps(open_source(tiny.config())))
    assert source.read("val", 1_000_000).record is not None


def test_faulty_images_can_be_skipped(tiny: TinyCityscapes, tmp_path: Path) -> None:
    tiny.image("train", AACHEN).unlink()
    config = DataConfig(source="cityscapes", cityscapes=CityscapesConfig(root=str(tiny.root)))
    data = prepare(config, tmp_path / "prepared", skip_bad=True, processes=1)
    assert data.split("train").image_ids == (1, 2, 3)
    assert data.manifest["source"]["train"]["names"][1] == NAMES["train"][1]
