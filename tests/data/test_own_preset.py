"""From a folder to a preset to prepared data, in COCO's layout and in others."""

import json
import shutil
from pathlib import Path

import pytest

from tests.data.tiny_coco import TinyCoco, encoded, picture
from upsnet.config import load_config, to_yaml
from upsnet.data.coco_folder import find_coco
from upsnet.data.own_preset import (
    choose_iterations,
    choose_resize,
    choose_stuff_area,
    own_preset,
    write_preset,
)
from upsnet.data.prepare import prepare
from upsnet.errors import DataError


@pytest.fixture
def coco(tmp_path: Path) -> TinyCoco:
    """The tiny data set, its JSON files written."""
    coco = TinyCoco(tmp_path / "coco")
    coco.config()
    return coco


def _move(coco: TinyCoco, **places: str) -> None:
    """Moves files and folders of the data set, given by their names with / as __."""
    for name, target in places.items():
        path = coco.root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(coco.root / name.replace("__", "/"), path)


def _good(folder: Path) -> bool:
    """Whether the folder's preset can be loaded, and its data prepared."""
    out = folder.parent / "my_preset.yaml"
    write_preset(folder, out)
    config = load_config(str(out))
    data = prepare(config.data, folder.parent / "prepared", processes=1)
    return (len(data.split("train")), len(data.split("val"))) == (3, 1)


def test_the_usual_layout_goes_from_folder_to_prepared_data(coco: TinyCoco) -> None:
    assert _good(coco.root)
    text = (coco.root.parent / "my_preset.yaml").read_text()
    assert "# 1 stuff classes: road" in text
    assert "# 1 thing classes: car" in text
    assert "3 training and 1 validation images" in text
    assert "masks" not in text


@pytest.mark.parametrize(
    "places",
    [
        {"train": "images", "val": "pictures/val"},
        {"annotations__panoptic_train.json": "train.json", "annotations__panoptic_val.json": "val.json"},
        {"annotations__panoptic_train": "masks/a", "annotations__panoptic_val": "masks/b"},
    ],
    ids=["images", "annotations", "masks"],
)
def test_other_layouts_are_found_by_what_the_files_hold(coco: TinyCoco, places: dict[str, str]) -> None:
    _move(coco, **places)
    assert _good(coco.root)


def test_images_and_masks_of_the_same_names_are_told_apart(coco: TinyCoco) -> None:
    for split, image_ids in (("train", (1, 2, 3)), ("val", (11,))):
        for entry in coco.json[split]["images"]:
            entry["file_name"] = f"{entry['id']}.png"
        for image_id in image_ids:
            coco.image(image_id, split).unlink()
            coco.image(image_id, split).with_suffix(".png").write_bytes(encoded(picture(), "PNG"))
    coco.config()
    _move(coco, train="photos/train", val="photos/val")
    _move(coco, annotations__panoptic_train="masks/train", annotations__panoptic_val="masks/val")
    assert _good(coco.root)
    train = find_coco(coco.root).config.train
    assert train.images == str(coco.root / "photos/train")
    assert train.masks == str(coco.root / "masks/train")


def test_folders_behind_links_are_found(coco: TinyCoco) -> None:
    _move(coco, train="../elsewhere/photos")
    (coco.root / "photos").symlink_to(coco.root.parent / "elsewhere/photos")
    assert find_coco(coco.root).config.train.images == str(coco.root / "photos")


def test_other_json_files_do_not_disturb(coco: TinyCoco) -> None:
    for name in ("instances_train.json", "captions_val.json"):
        (coco.root / "annotations" / name).write_text(json.dumps({"images": [], "annotations": []}))
    (coco.root / "val_empty.json").write_text("")
    found = find_coco(coco.root).config
    assert found.val.annotations == str(coco.root / "annotations/panoptic_val.json")
    _move(coco, annotations__panoptic_val="annotations/pano_val")
    shutil.move(coco.root / "annotations/panoptic_val.json", coco.root / "annotations/pano_val.json")
    assert find_coco(coco.root).config.val.annotations == str(coco.root / "annotations/pano_val.json")


def test_what_is_not_found_is_told_with_what_was_looked_for(coco: TinyCoco) -> None:
    shutil.rmtree(coco.root / "val")
    with pytest.raises(
        DataError, match=r"no folder holds the images that .*panoptic_val\.json names; looked"
    ):
        find_coco(coco.root)
    shutil.rmtree(coco.root / "annotations/panoptic_val")
    with pytest.raises(DataError, match="no folder holds the PNGs"):
        find_coco(coco.root)
    (coco.root / "annotations/panoptic_val.json").unlink()
    with pytest.raises(DataError) as error:
        find_coco(coco.root)
    message = str(error.value)
    assert "no panoptic JSON of the val split; JSON files found: annotations/panoptic_train.json" in message
    assert "panoptic_train*.json and panoptic_val*.json" in message
    with pytest.raises(DataError, match="there is no such folder"):
        find_coco(coco.root / "nowhere")


def test_two_json_files_for_one_split_are_refused(coco: TinyCoco) -> None:
    shutil.copy(coco.annotation_file(), coco.root / "annotations/panoptic_train_old.json")
    with pytest.raises(DataError, match=r"several JSON files can be the train split: .*_old\.json"):
        find_coco(coco.root)


def test_a_preset_that_is_there_is_not_overwritten(coco: TinyCoco, tmp_path: Path) -> None:
    out = tmp_path / "my_preset.yaml"
    out.write_text("seed: 7\n")
    with pytest.raises(DataError, match="is there already"):
        write_preset(coco.root, out)
    assert out.read_text() == "seed: 7\n"
    with pytest.raises(DataError, match="name it for example my_preset"):
        write_preset(coco.root, tmp_path / "my_preset")


def test_odd_names_do_not_break_the_yaml(tmp_path: Path) -> None:
    coco = TinyCoco(tmp_path / "a: {b} # \"c\" 'd' ü")
    for split in ("train", "val"):
        coco.json[split]["categories"][0]["name"] = "car {x}\n: - # %"
    coco.config()
    assert _good(coco.root)


def test_a_data_set_without_things_starts_from_imagenet(coco: TinyCoco, tmp_path: Path) -> None:
    for split in ("train", "val"):
        coco.json[split]["categories"][0]["isthing"] = 0
    coco.config()
    (tmp_path / "stuff.yaml").write_text(own_preset(coco.root))
    assert load_config(str(tmp_path / "stuff.yaml")).model.detector_weights == "none"


def test_images_that_cannot_be_read_are_told(coco: TinyCoco) -> None:
    for image_id in (1, 2, 3):
        coco.image(image_id).write_text("no image")
    with pytest.raises(DataError, match="none of the training images"):
        own_preset(coco.root)


def test_the_sample_images_give_the_papers_numbers_for_coco(coco_sample_dir: Path, tmp_path: Path) -> None:
    write_preset(coco_sample_dir, tmp_path / "sample.yaml")
    config = load_config(str(tmp_path / "sample.yaml"))
    assert "53 stuff classes" in (tmp_path / "sample.yaml").read_text()
    assert config.data.coco is not None
    assert Path(config.data.coco.train.images) == coco_sample_dir / "train2017"
    assert (config.loader.short_side, config.inference.stuff_area) == ((800, 800), 4096)
    losses = config.training.losses
    assert (losses.semantic, losses.semantic_roi, losses.panoptic) == (0.2, 0.04, 0.1)
    assert config.training.iterations * 16 == 300 * 100
    assert load_config(str(tmp_path / "sample.yaml")) == config
    assert "detector_weights: COCO_V1" in to_yaml(config)


def test_the_numbers_come_near_the_papers_two_data_sets() -> None:
    assert choose_iterations(118_287) == 90_000
    assert 11_000 < choose_iterations(2975) < 15_000  # the paper: 12,000
    assert choose_iterations(1) == 19  # 300 epochs
    coco = choose_resize([(480, 640)] * 9 + [(640, 480)] * 9)
    assert (coco.smallest, coco.short, coco.long) == (800, 800, 1088)
    cityscapes = choose_resize([(1024, 2048)])
    assert (cityscapes.smallest, cityscapes.short, cityscapes.long) == (800, 1024, 2048)
    small = choose_resize([(96, 96)])
    assert (small.smallest, small.short, small.long) == (160, 160, 160)
    areas = [choose_stuff_area([size]) for size in ((480, 640), (1024, 2048), (120, 160))]
    assert areas == [4096, 2048, 256]
