"""Every fault that a COCO panoptic data set can have, each in an otherwise good tiny set."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_coco import HEIGHT, ROAD, WIDTH, TinyCoco, encoded, picture, tiny_map
from upsnet.data.panoptic_png import decode_panoptic_png, encode_panoptic_png
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.data.source_image import ORIENTATION
from upsnet.errors import DataError
from upsnet.structures import Segment


@pytest.fixture
def coco(tmp_path: Path) -> TinyCoco:
    return TinyCoco(tmp_path / "coco")


def _prepare(coco: TinyCoco, *, skip_bad: bool = False) -> PreparedData:
    return prepare(coco.config(), coco.root.parent / "out", skip_bad=skip_bad, processes=1)


def _one_pixel(coco: TinyCoco, segment_id: int) -> None:
    panoptic_map = tiny_map()
    panoptic_map[0, 0] = segment_id
    coco.png().write_bytes(encode_panoptic_png(panoptic_map))


def _add_segment(coco: TinyCoco, **values: Any) -> None:
    coco.segments().append({"id": 9, "category_id": ROAD, "iscrowd": 0, "bbox": [0, 0, 1, 1], **values})


def _edit(values: dict[str, Any], **changes: Any) -> None:
    values.update(changes)


Spoil = Callable[[TinyCoco], Any]

FAULTS_OF_IMAGE_1: dict[str, tuple[Spoil, str]] = {
    "image_gone": (lambda c: c.image().unlink(), "image missing: 1.jpg"),
    "image_empty": (lambda c: c.image().write_bytes(b""), "image unreadable: 1.jpg is empty"),
    "image_cut": (
        lambda c: c.image().write_bytes(c.image().read_bytes()[:-60]),
        "image unreadable: 1.jpg: image is truncated or damaged",
    ),
    "image_is_text": (lambda c: c.image().write_text("hello"), "image unreadable: 1.jpg: not a JPEG"),
    "image_is_folder": (
        lambda c: (c.image().unlink(), c.image().mkdir()),
        "image unreadable: 1.jpg (Is a directory)",
    ),
    "png_gone": (lambda c: c.png().unlink(), "PNG missing: 1.png"),
    "png_cut": (lambda c: c.png().write_bytes(c.png().read_bytes()[:60]), "PNG unreadable: 1.png"),
    "png_is_jpeg": (lambda c: c.png().write_bytes(encoded(picture())), "PNG unreadable: 1.png"),
    "png_is_grey": (lambda c: c.png().write_bytes(encoded(picture("L"), "PNG")), "8-bit grey PNG"),
    "image_of_other_size": (
        lambda c: c.image().write_bytes(encoded(picture(size=(HEIGHT, WIDTH + 1)))),
        "sizes differ: (height, width) is (12, 17) in the image, (12, 16) in the PNG, (12, 16) in the JSON",
    ),
    "png_of_other_size": (
        lambda c: c.png().write_bytes(encode_panoptic_png(tiny_map()[:-1])),
        "(12, 16) in the image, (11, 16) in the PNG",
    ),
    "json_of_other_size": (
        lambda c: _edit(c.json["train"]["images"][0], width=WIDTH + 2),
        "(12, 18) in the JSON",
    ),
    "pixels_without_segment": (
        lambda c: _one_pixel(c, 4),
        "segment in the PNG but not in the JSON: 4",
    ),
    "segment_without_pixels": (
        lambda c: _add_segment(c, area=1),
        "segment in the JSON but not in the PNG: 9",
    ),
    "segment_of_zero_area": (lambda c: _add_segment(c, area=0), "zero-area segment: 9"),
    "unknown_category": (
        lambda c: _edit(c.segments()[0], category_id=99),
        "unknown category: 99 (segment 5)",
    ),
    "duplicate_segment": (
        lambda c: c.segments().append(dict(c.segments()[0])),
        "duplicate segment id: segment 5 is listed more than once",
    ),
    "segment_id_of_void": (lambda c: _edit(c.segments()[0], id=0), "bad segment: expected an id from 1"),
    "segment_id_too_large": (lambda c: _edit(c.segments()[0], id=256**3), "bad segment"),
    "segment_id_of_text": (lambda c: _edit(c.segments()[0], id="5"), "bad segment"),
    "segment_is_a_number": (lambda c: c.segments().append(3), "bad segment"),  # type: ignore[arg-type]
    "iscrowd_is_odd": (lambda c: _edit(c.segments()[0], iscrowd=7), "bad segment: segment 5: iscrowd is 7"),
    "duplicate_image": (
        lambda c: c.json["train"]["images"].append(dict(c.json["train"]["images"][0])),
        "duplicate image id: 2 images have it",
    ),
    "duplicate_annotation": (
        lambda c: c.json["train"]["annotations"].append(dict(c.json["train"]["annotations"][0])),
        "duplicate annotation: 2 annotations name this image",
    ),
    "no_annotation": (
        lambda c: c.json["train"]["annotations"].pop(0),
        "image without annotation: its id is missing in annotations",
    ),
    "no_image_entry": (
        lambda c: c.json["train"]["images"].pop(0),
        "annotation of an unknown image: its id is missing in images",
    ),
    "image_name_leads_out": (
        lambda c: _edit(c.json["train"]["images"][0], file_name="../train/1.jpg"),
        "unsafe file name: '../train/1.jpg' leads out of its folder",
    ),
    "png_name_leads_out": (
        lambda c: _edit(c.json["train"]["annotations"][0], file_name=str(c.png().resolve())),
        "unsafe file name",
    ),
}


@pytest.mark.parametrize("name", FAULTS_OF_IMAGE_1)
def test_a_fault_is_refused_with_its_image(coco: TinyCoco, name: str) -> None:
    spoil, message = FAULTS_OF_IMAGE_1[name]
    spoil(coco)
    with pytest.raises(DataError) as error:
        _prepare(coco)
    assert "train image 1: " in str(error.value)
    assert message in str(error.value)
    assert "--skip-bad" in str(error.value)
    assert sorted(path.name for path in coco.root.parent.iterdir()) == ["coco"]


@pytest.mark.parametrize("name", FAULTS_OF_IMAGE_1)
def test_skipping_goes_on_without_the_image_and_records_it(coco: TinyCoco, name: str) -> None:
    spoil, message = FAULTS_OF_IMAGE_1[name]
    spoil(coco)
    data = _prepare(coco, skip_bad=True)
    assert data.split("train").image_ids == (2, 3)
    [skipped] = data.manifest["skipped"]
    assert (skipped["split"], skipped["image_id"]) == ("train", 1)
    assert any(message in fault for fault in skipped["faults"])
    assert str(coco.root) not in json.dumps({**data.manifest, "skipped": []})


FAULTS_OF_THE_FILE: dict[str, tuple[Spoil, str]] = {
    "unknown_categories_key": (
        lambda c: c.json["train"].pop("categories"),
        "no list categories; found images",
    ),
    "two_lists_gone": (
        lambda c: (c.json["train"].pop("images"), c.json["train"].pop("annotations")),
        "no list images and no list annotations",
    ),
    "duplicate_category": (
        lambda c: _edit(c.json["train"]["categories"][0], id=ROAD),
        "category id 7 occurs more than once",
    ),
    "other_categories_in_val": (
        lambda c: _edit(c.json["val"]["categories"][0], name="lorry"),
        "their categories differ",
    ),
    "image_id_of_text": (
        lambda c: _edit(c.json["train"]["images"][2], id="000000000003"),
        "images[2].id: expected an integer from 0 on (no text, even of digits), found '000000000003'",
    ),
    "image_without_name": (
        lambda c: c.json["train"]["images"][0].pop("file_name"),
        "images[0]: file_name is",
    ),
    "segments_gone": (
        lambda c: c.json["train"]["annotations"][1].pop("segments_info"),
        "annotations[1]: segments_info is missing",
    ),
    "instances": (
        lambda c: _edit(
            c.json["train"],
            annotations=[{"id": 1, "image_id": 1, "segmentation": [], "bbox": [], "category_id": 3}],
        ),
        "this is COCO instances, not COCO panoptic",
    ),
    "captions": (
        lambda c: _edit(c.json["train"], annotations=[{"id": 1, "image_id": 1, "caption": "a road"}]),
        "this is COCO captions, not COCO panoptic",
    ),
    "a_list": (lambda c: _edit(c.json, train=c.json["train"]["categories"]), "found a list"),
    "image_folder_gone": (lambda c: (c.root / "val").rename(c.root / "v"), "data.coco.val.images"),
    "mask_folder_gone": (
        lambda c: c.png().parent.rename(c.root / "elsewhere"),
        "data.coco.train.masks",
    ),
}


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("name", FAULTS_OF_THE_FILE)
def test_a_fault_of_the_whole_file_is_refused_even_when_skipping(
    coco: TinyCoco, name: str, skip_bad: bool
) -> None:
    spoil, message = FAULTS_OF_THE_FILE[name]
    spoil(coco)
    with pytest.raises(DataError) as error:
        _prepare(coco, skip_bad=skip_bad)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("{", "is not JSON"), ("[" * 100_000, "is not JSON")]
)
def test_a_json_that_cannot_be_read_is_refused(coco: TinyCoco, content: str | None, message: str) -> None:
    config = coco.config()
    coco.annotation_file().unlink()
    if content is not None:
        coco.annotation_file().write_text(content)
    with pytest.raises(DataError, match=message):
        prepare(config, coco.root.parent / "out", processes=1)


def test_what_is_wrong_with_both_splits_comes_in_one_message(coco: TinyCoco) -> None:
    for split in ("train", "val"):
        del coco.json[split]["annotations"]
    with pytest.raises(DataError) as error:
        _prepare(coco)
    assert "data.coco.train.annotations" in str(error.value)
    assert "data.coco.val.annotations" in str(error.value)


def test_all_faults_come_in_one_report_with_counts(coco: TinyCoco) -> None:
    coco.image(1).unlink()
    coco.png(2).unlink()
    coco.image(11, "val").unlink()
    with pytest.raises(DataError) as error:
        _prepare(coco)
    assert "3 faults in 3 images: 2 x image missing, 1 x PNG missing" in str(error.value)
    assert "val image 11: image missing: 11.jpg" in str(error.value)


def test_the_report_spells_out_twenty_faults_and_counts_the_rest(coco: TinyCoco) -> None:
    for image_id in range(100, 130):
        coco.json["train"]["images"].append({"id": image_id, "file_name": "x.jpg"})
    with pytest.raises(DataError) as error:
        _prepare(coco)
    assert str(error.value).count("train image 1") == 20
    assert "30 x image without annotation" in str(error.value)
    assert "... and 10 more" in str(error.value)


def test_one_image_can_have_several_faults(coco: TinyCoco) -> None:
    coco.segments()[0]["category_id"] = 99
    coco.png().unlink()
    coco.image().unlink()
    with pytest.raises(DataError, match="3 faults in 1 images"):
        _prepare(coco)


def test_no_image_left_is_refused(coco: TinyCoco) -> None:
    coco.image(11, "val").unlink()
    with pytest.raises(DataError, match=r"no image of the val split can be used: .* 1 x image missing"):
        _prepare(coco, skip_bad=True)


def test_an_empty_split_is_refused(coco: TinyCoco) -> None:
    coco.json["val"].update(images=[], annotations=[])
    with pytest.raises(DataError, match="no image of the val split can be used: the source lists none"):
        _prepare(coco)


def test_a_good_data_set_is_taken_over_unchanged(coco: TinyCoco, caplog: pytest.LogCaptureFixture) -> None:
    data = _prepare(coco)
    record = data.split("train").read(0)
    assert record.image == coco.image().read_bytes()
    assert record.panoptic_png == coco.png().read_bytes()
    assert record.segments == (
        Segment(5, 3, False, (2, 4, 4, 5), 20),
        Segment(70_000, 7, False, (0, 6, 16, 6), 84),
    )
    assert data.categories.names == ("road", "car")
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_bbox_and_area_are_counted_anew_with_one_warning(
    coco: TinyCoco, caplog: pytest.LogCaptureFixture
) -> None:
    coco.segments(0)[0].update(area=21)
    coco.segments(1)[0].update(bbox=[2, 4, 5, 5])
    coco.segments(2)[0].update(bbox=None, area=None)
    data = _prepare(coco)
    assert {data.split("train").read(i).segments[0] for i in range(3)} == {
        Segment(5, 3, False, (2, 4, 4, 5), 20)
    }
    [warning] = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "bbox or area" in warning
    assert "2 images, for example train image 1: segment 5; train image 2: segment 5" in warning


def test_a_missing_iscrowd_is_none(coco: TinyCoco) -> None:
    del coco.segments()[0]["iscrowd"]
    assert not _prepare(coco).split("train").read(0).segments[0].iscrowd


def test_things_can_be_crowds_and_stuff_cannot(coco: TinyCoco, caplog: pytest.LogCaptureFixture) -> None:
    for segment in coco.segments():
        segment["iscrowd"] = 1
    car, road = _prepare(coco).split("train").read(0).segments
    assert (car.iscrowd, road.iscrowd) == (True, False)
    assert "crowd of a stuff category" in caplog.text


def test_an_image_without_any_segment_is_allowed(coco: TinyCoco) -> None:
    coco.segments().clear()
    coco.png().write_bytes(encode_panoptic_png(np.zeros((HEIGHT, WIDTH), dtype=np.int32)))
    assert _prepare(coco).split("train").read(0).segments == ()


def test_sizes_may_be_missing_in_the_json(coco: TinyCoco) -> None:
    del coco.json["train"]["images"][0]["width"]
    assert _prepare(coco).split("train").sizes[0] == (HEIGHT, WIDTH)


def test_an_image_in_both_splits_is_only_warned_about(
    coco: TinyCoco, caplog: pytest.LogCaptureFixture
) -> None:
    coco.json["val"]["images"][0]["id"] = coco.json["val"]["annotations"][0]["image_id"] = 2
    assert _prepare(coco).split("val").image_ids == (2,)
    assert "in train and in val: 1 images, for example val image 2" in caplog.text


def test_odd_images_are_converted_and_keep_their_truth(
    coco: TinyCoco, caplog: pytest.LogCaptureFixture
) -> None:
    coco.image(1).write_bytes(encoded(picture("CMYK")))
    coco.image(2).write_bytes(encoded(picture(), "PNG"))
    data = _prepare(coco)
    assert [data.split("train").read(i).image[:2] for i in (0, 1)] == [b"\xff\xd8"] * 2
    assert "converted to an 8-bit RGB JPEG: 2 images" in caplog.text


def _exif_rotated(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encoded(image, exif=exif)


def test_an_image_that_exif_rotates_to_the_truth_is_rotated(coco: TinyCoco) -> None:
    coco.image().write_bytes(_exif_rotated(picture(size=(WIDTH, HEIGHT))))
    data = _prepare(coco)
    with Image.open(_file(coco, data)) as image:
        assert (image.height, image.width) == data.split("train").sizes[0] == (HEIGHT, WIDTH)
        assert ORIENTATION not in image.getexif()


def test_an_image_that_exif_rotates_away_from_the_truth_loses_its_tag(
    coco: TinyCoco, caplog: pytest.LogCaptureFixture
) -> None:
    coco.image().write_bytes(_exif_rotated(picture()))
    data = _prepare(coco)
    with Image.open(_file(coco, data)) as image:
        assert (image.height, image.width) == data.split("train").sizes[0] == (HEIGHT, WIDTH)
        assert ORIENTATION not in image.getexif()
    assert "EXIF rotation left out" in caplog.text


def _file(coco: TinyCoco, data: PreparedData) -> Path:
    path = coco.root / "read.jpg"
    path.write_bytes(data.split("train").read(0).image)
    return path


def test_the_manifest_names_the_source_without_its_place(coco: TinyCoco) -> None:
    source = _prepare(coco).manifest["source"]
    assert source["kind"] == "coco"
    assert source["train"]["annotations"] == "panoptic_train.json"
    assert str(coco.root.parent) not in json.dumps(source)


def test_the_official_samples_are_taken_over(panopticapi_samples_dir: Path, tmp_path: Path) -> None:
    coco = TinyCoco(tmp_path / "coco")
    values = json.loads((panopticapi_samples_dir / "panoptic_examples.json").read_text())
    coco.json = {"train": values, "val": values}
    for split in ("train", "val"):
        for path in (panopticapi_samples_dir / "input_images").iterdir():
            (coco.root / split / path.name).write_bytes(path.read_bytes())
        for path in (panopticapi_samples_dir / "panoptic_examples").iterdir():
            (coco.png(1, split).parent / path.name).write_bytes(path.read_bytes())
    train = _prepare(coco).split("train")
    assert len(train) == 2
    for index in range(2):
        record = train.read(index)
        ids = set(np.unique(decode_panoptic_png(record.panoptic_png)).tolist()) - {0}
        assert ids == {segment.segment_id for segment in record.segments}
