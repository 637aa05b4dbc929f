"""Pictures of panoptic maps: colours, overlays, strips and their files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from upsnet.errors import DataError
from upsnet.structures import Category
from upsnet.visualize import class_colors, colorize, draw_overlay, save_png, strip

ROAD, SKY, CAR = 0, 1, 2
CATEGORIES = (
    Category(7, "road", False, (128, 64, 128)),
    Category(23, "sky", False, (70, 130, 180)),
    Category(26, "car", True, (0, 0, 142)),
)


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """A sky, a road, two cars and a void bar at the right, 60 x 90."""
    image = np.full((60, 90, 3), 100, np.uint8)
    panoptic_map = np.full((60, 90), 70_000, np.int32)
    panoptic_map[:25] = 3
    panoptic_map[30:50, 5:35] = 11
    panoptic_map[30:50, 35:65] = 9
    panoptic_map[:, 80:] = 0
    return image, panoptic_map, [(70_000, ROAD), (3, SKY), (11, CAR), (9, CAR)]


def test_colours_come_by_class_id() -> None:
    assert class_colors(CATEGORIES).tolist() == [[128, 64, 128], [70, 130, 180], [0, 0, 142]]


def test_stuff_has_its_class_colour_and_void_is_black(scene) -> None:
    _, panoptic_map, segments = scene
    painted = colorize(panoptic_map, segments, CATEGORIES)
    assert painted.dtype == np.uint8
    assert (painted[panoptic_map == 3] == (70, 130, 180)).all()
    assert (painted[panoptic_map == 70_000] == (128, 64, 128)).all()
    assert not painted[panoptic_map == 0].any()


def test_instances_have_shades_by_the_order_of_their_ids(scene) -> None:
    _, panoptic_map, segments = scene
    painted = colorize(panoptic_map, segments, CATEGORIES)
    assert painted[40, 50].tolist() == [0, 0, 142]  # id 9 comes before id 11
    assert np.abs(painted[40, 10].astype(int) - (0, 0, 142)).max() > 40
    assert (colorize(panoptic_map, segments[::-1], CATEGORIES) == painted).all()


def test_three_hundred_instances_all_look_different() -> None:
    panoptic_map = np.arange(1, 301, dtype=np.int32).reshape(15, 20)
    segments = [(number, CAR) for number in range(1, 301)]
    painted = colorize(panoptic_map, segments, CATEGORIES)
    colors = {tuple(color) for color in painted.reshape(-1, 3).tolist()}
    assert len(colors) == 300
    assert (0, 0, 0) not in colors
    overlay = draw_overlay(np.zeros((15, 20, 3), np.uint8), panoptic_map, segments, CATEGORIES)
    assert overlay.shape == (15, 20, 3)


def test_an_id_without_a_segment_is_refused(scene) -> None:
    _, panoptic_map, segments = scene
    with pytest.raises(DataError, match=r"1 ids without a segment.*\[9\]"):
        colorize(panoptic_map, segments[:-1], CATEGORIES)


def test_an_unknown_class_is_refused(scene) -> None:
    _, panoptic_map, segments = scene
    with pytest.raises(DataError, match=r"segment 9 has class_id 3, expected 0..2"):
        colorize(panoptic_map, [*segments[:-1], (9, 3)], CATEGORIES)


def test_an_overlay_mixes_segments_and_leaves_void_and_the_input_alone(scene) -> None:
    image, panoptic_map, segments = scene
    nameless = [Category(c.category_id, "", c.isthing, c.color) for c in CATEGORIES]
    overlay = draw_overlay(image, panoptic_map, segments, nameless, opacity=0.5)
    assert (overlay[panoptic_map == 0] == 100).all()
    assert (overlay[panoptic_map == 3] == (85, 115, 140)).all()
    assert (overlay[panoptic_map == 70_000] == (114, 82, 114)).all()
    assert (image == 100).all()


def test_instances_are_outlined_and_stuff_is_not(scene) -> None:
    image, panoptic_map, segments = scene
    nameless = [Category(c.category_id, "", c.isthing, c.color) for c in CATEGORIES]
    overlay = draw_overlay(image, panoptic_map, segments, nameless)
    white = (overlay == 255).all(axis=2)
    expected = np.zeros_like(white)
    for left in (5, 35):
        expected[30:50, left : left + 30] = True
        expected[31:49, left + 1 : left + 29] = False
    assert (white == expected).all()


def test_names_stand_in_large_segments_and_not_in_tiny_ones(scene) -> None:
    image, panoptic_map, segments = scene
    panoptic_map[panoptic_map == 9] = 70_000
    panoptic_map[35:37, 50:53] = 9
    nameless = [Category(c.category_id, "", c.isthing, c.color) for c in CATEGORIES]
    named = draw_overlay(image, panoptic_map, segments, CATEGORIES)
    bare = draw_overlay(image, panoptic_map, segments, nameless)
    differs = (named != bare).any(axis=2)
    assert differs[panoptic_map == 3].sum() > 20
    assert differs[panoptic_map == 11].sum() > 20
    assert not differs[33:40, 48:56].any()


def test_without_segments_the_overlay_is_the_image() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert (draw_overlay(image, np.zeros((4, 4), np.int32), [], CATEGORIES) == image).all()


def test_a_segment_of_one_pixel_is_all_outline() -> None:
    panoptic_map = np.zeros((5, 5), np.int32)
    panoptic_map[2, 3] = 1
    overlay = draw_overlay(np.zeros((5, 5, 3), np.uint8), panoptic_map, [(1, CAR)], CATEGORIES)
    assert overlay[2, 3].tolist() == [255, 255, 255]
    assert overlay.sum() == 3 * 255


def test_an_overlay_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(4, 4\).*\(4, 5\)"):
        draw_overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.int32), [], CATEGORIES)


def test_a_strip_shows_three_pictures_below_their_titles() -> None:
    panels = [np.full((40, 70, 3), shade, np.uint8) for shade in (10, 20, 30)]
    titles = ("image", "truth", "prediction")
    picture = strip(dict(zip(titles, panels, strict=True)))
    bar = picture.shape[0] - 40
    gap = (picture.shape[1] - 210) // 2
    assert bar >= 10
    assert gap >= 1
    for number, shade in enumerate((10, 20, 30)):
        left = number * (70 + gap)
        assert (picture[bar:, left : left + 70] == shade).all()
        assert (picture[:bar, left : left + 70] > 180).any()  # letters
    other = strip(dict(zip(("image", "truth", "UPSNet"), panels, strict=True)))
    assert (other[:bar, 2 * (70 + gap) :] != picture[:bar, 2 * (70 + gap) :]).any()
    assert (other[:, : 2 * (70 + gap)] == picture[:, : 2 * (70 + gap)]).all()


def test_a_strip_of_different_sizes_is_refused() -> None:
    image, other = np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)
    with pytest.raises(DataError, match=r"prediction is \(5, 4\), expected \(4, 4\)"):
        strip({"image": image, "truth": image, "prediction": other})


def test_a_saved_png_reads_back_and_leaves_nothing_beside(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    save_png(picture, tmp_path / "strips" / "1.png")
    save_png(picture, tmp_path / "strips" / "1.png")
    assert (np.array(Image.open(tmp_path / "strips" / "1.png")) == picture).all()
    assert [path.name for path in (tmp_path / "strips").iterdir()] == ["1.png"]


def test_a_failed_save_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "taken.png"
    target.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match="taken"):
        save_png(np.zeros((2, 2, 3), np.uint8), target)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]
    with pytest.raises(DataError, match=r"float64, expected \(height, width, 3\) uint8"):
        save_png(np.zeros((2, 2, 3)), tmp_path / "new.png")
    assert not (tmp_path / "new.png").exists()
