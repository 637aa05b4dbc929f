import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_coco import HEIGHT, WIDTH, encoded, picture
from upsnet.data.source_image import ORIENTATION, to_jpeg
from upsnet.errors import DataError

SIZE = (HEIGHT, WIDTH)


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(_opened(data).convert("RGB")).astype(int)


def _tagged(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"exif": exif, "quality": 95}


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_ordinary_jpeg_keeps_its_bytes(mode: str) -> None:
    data = encoded(picture(mode))
    image = to_jpeg(data, SIZE)
    assert (image.data, image.size, image.converted) == (data, SIZE, "")


def test_an_upright_exif_tag_changes_nothing() -> None:
    data = encoded(picture(), **_tagged(1))
    assert to_jpeg(data, SIZE).data == data


@pytest.mark.parametrize(
    ("data", "converted"),
    [
        (encoded(picture("CMYK"), quality=95), "JPEG of mode CMYK"),
        (encoded(picture().quantize(64), "PNG"), "PNG of mode P"),
        (encoded(picture("RGBA"), "PNG"), "PNG of mode RGBA"),
        (encoded(picture("LA"), "PNG"), "PNG of mode LA"),
        (encoded(picture("L"), "PNG"), "PNG of mode L"),
        (encoded(picture(), "PNG"), "PNG of mode RGB"),
    ],
)
def test_other_kinds_become_an_rgb_jpeg_of_the_same_picture(data: bytes, converted: str) -> None:
    image = to_jpeg(data, SIZE)
    result = _opened(image.data)
    assert (result.format, result.mode, image.size, image.converted) == ("JPEG", "RGB", SIZE, converted)
    assert np.abs(_pixels(image.data) - _pixels(data)).mean() < 3


def test_a_converted_jpeg_keeps_its_colour_at_full_resolution() -> None:
    data = to_jpeg(encoded(picture(), "PNG"), SIZE).data
    assert getattr(_opened(data), "layer")[0][1:3] == (1, 1)  # noqa: B009


def test_sixteen_bits_are_scaled_and_not_clipped_to_white() -> None:
    ramp = np.linspace(0, 65535, WIDTH).astype(np.uint16)[None].repeat(HEIGHT, axis=0)
    pixels = _pixels(to_jpeg(encoded(Image.fromarray(ramp), "PNG"), SIZE).data)
    assert np.abs(pixels[..., 0] - ramp / 257).max() < 4


@pytest.mark.parametrize("orientation", range(2, 9))
def test_an_exif_rotation_is_carried_out(orientation: int) -> None:
    lying = picture(size=SIZE)
    upright_size = SIZE if orientation < 5 else SIZE[::-1]
    image = to_jpeg(encoded(lying, **_tagged(orientation)), upright_size)
    # The corner that shows the dark left end of the ramp, by EXIF's definition of the tag.
    dark_side = {2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}[orientation]
    pixels = _pixels(image.data).mean(axis=2)
    sides = {"left": pixels[:, 0], "right": pixels[:, -1], "top": pixels[0], "bottom": pixels[-1]}
    assert image.size == upright_size
    assert min(sides, key=lambda side: sides[side].mean()) == dark_side
    assert ORIENTATION not in _opened(image.data).getexif()
    assert not image.tag_dropped


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_rotation_that_only_the_tag_wants_is_dropped(orientation: int) -> None:
    data = encoded(picture(), **_tagged(orientation))
    image = to_jpeg(data, SIZE)
    assert image.tag_dropped
    assert image.size == SIZE
    assert ORIENTATION not in _opened(image.data).getexif()
    assert np.abs(_pixels(image.data) - _pixels(data)).mean() < 3


@pytest.mark.parametrize(
    "data",
    [b"no image", encoded(picture())[:-100], encoded(picture(), "PNG")[:100], encoded(picture(), "BMP")],
)
def test_damaged_and_foreign_files_are_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        to_jpeg(data, SIZE)
