import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tests.data.tiny_coco import encoded, picture, tiny_map
from upsnet.data.panoptic_png import (
    MAX_SEGMENT_ID,
    decode_panoptic_png,
    encode_panoptic_png,
    id2rgb,
    measure_segments,
    rgb2id,
)
from upsnet.errors import DataError

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=9)
MAPS = arrays(np.int32, SHAPES, elements=st.integers(0, MAX_SEGMENT_ID))
FEW_IDS = arrays(np.int32, SHAPES, elements=st.integers(0, 3))


@given(MAPS)
def test_ids_survive_the_way_through_colours(panoptic_map: np.ndarray) -> None:
    back = rgb2id(id2rgb(panoptic_map))
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, panoptic_map)


@given(MAPS)
def test_ids_survive_the_way_through_a_png_file(panoptic_map: np.ndarray) -> None:
    back = decode_panoptic_png(encode_panoptic_png(panoptic_map))
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, panoptic_map)


def test_red_counts_once_green_256_times_and_blue_65536_times() -> None:
    assert rgb2id(np.array([[[1, 2, 3]]], dtype=np.uint8)).item() == 1 + 2 * 256 + 3 * 65536
    assert id2rgb(np.array([[1 + 2 * 256 + 3 * 65536]])).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("segment_id", [-1, MAX_SEGMENT_ID + 1])
def test_ids_that_three_bytes_do_not_hold_are_refused(segment_id: int) -> None:
    with pytest.raises(DataError, match="do not fit"):
        id2rgb(np.array([[segment_id]]))


@given(FEW_IDS)
def test_measured_segments_are_those_of_the_slow_definition(panoptic_map: np.ndarray) -> None:
    slow = {}
    for segment_id in np.unique(panoptic_map).tolist():
        rows, columns = np.nonzero(panoptic_map == segment_id)
        x, y = int(columns.min()), int(rows.min())
        slow[segment_id] = ((x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1), len(rows))
    assert measure_segments(panoptic_map) == slow


def test_an_alpha_channel_and_a_palette_do_not_change_the_ids() -> None:
    colours = Image.fromarray(id2rgb(tiny_map()))
    for odd in (colours.convert("RGBA"), colours.quantize(4)):
        np.testing.assert_array_equal(decode_panoptic_png(encoded(odd, "PNG")), tiny_map())


def _sixteen_bit() -> bytes:
    return encoded(Image.fromarray(np.full((4, 4), 700, dtype=np.uint16)), "PNG")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (encoded(picture()), "is not a PNG"),
        (encoded(picture("L"), "PNG"), "8-bit grey PNG"),
        (_sixteen_bit(), "16-bit grey PNG"),
        (encoded(picture(), "PNG")[:-200], "damaged PNG"),
        (encoded(picture(), "PNG")[:40], "damaged PNG"),
    ],
)
def test_what_is_no_panoptic_png_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_panoptic_png(data)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(No such file"):
        decode_panoptic_png(tmp_path / "gone.png")


def test_the_official_samples_decode_as_pillow_and_the_formula_say(panopticapi_samples_dir: Path) -> None:
    for path in sorted((panopticapi_samples_dir / "panoptic_examples").glob("*.png")):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            colours = np.asarray(image.convert("RGB")).astype(np.int64)
        np.testing.assert_array_equal(decode_panoptic_png(path), colours @ [1, 256, 65536])
