"""Decoding of odd image files."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from upsnet.data.images import decode_image, decode_rgb
from upsnet.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(tag: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif


def test_an_rgb_png_is_decoded_exactly() -> None:
    image = decode_image(encoded(PICTURE, "PNG"))
    assert image.dtype == torch.uint8
    assert np.array_equal(image.permute(1, 2, 0).numpy(), PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_grey_image_gets_three_equal_channels(kind: str) -> None:
    image = decode_image(encoded(PICTURE.convert("L"), kind))
    assert tuple(image.shape) == (3, 12, 10)
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize("alpha", [0, 100, 255])
def test_an_alpha_channel_is_dropped(alpha: int) -> None:
    picture = PICTURE.copy()
    picture.putalpha(alpha)
    assert np.array_equal(decode_rgb(encoded(picture, "PNG")), PIXELS)


def test_a_palette_image_gets_its_colours_with_and_without_transparency() -> None:
    palette = PICTURE.convert("P")
    colours = np.asarray(palette.convert("RGB"))
    assert np.array_equal(decode_rgb(encoded(palette, "PNG")), colours)
    assert np.array_equal(decode_rgb(encoded(palette, "PNG", transparency=bytes([0, 9]))), colours)


def test_a_16_bit_grey_image_keeps_its_upper_bits() -> None:
    grey = np.arange(120, dtype=np.uint16).reshape(12, 10) * 540
    assert np.array_equal(decode_rgb(encoded(Image.fromarray(grey), "PNG"))[..., 1], grey >> 8)


def test_a_one_bit_image_becomes_black_and_white() -> None:
    assert set(np.unique(decode_rgb(encoded(PICTURE.convert("1"), "PNG")))) == {0, 255}


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 40)).convert("CMYK")
    decoded = decode_rgb(encoded(red, "JPEG", quality=95)).astype(int)
    assert np.abs(decoded - (220, 30, 40)).max() < 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_rotation_of_exif_is_carried_out(kind: str) -> None:
    plain, rotated = (encoded(PICTURE, kind, exif=turned(tag)) for tag in (1, 6))
    assert np.array_equal(decode_rgb(rotated), np.rot90(decode_rgb(plain), -1))


def test_the_rotation_of_exif_is_carried_out_on_a_16_bit_image_too() -> None:
    grey = Image.fromarray(np.arange(120, dtype=np.uint16).reshape(12, 10) * 540)
    assert decode_rgb(encoded(grey, "PNG", exif=turned(8))).shape == (10, 12, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    data = encoded(Image.fromarray(np.tile(PIXELS, (8, 8, 1))), kind)
    for length in (len(data) // 4, len(data) // 2, len(data) - 100):
        with pytest.raises(DataError, match="truncated or damaged"):
            decode_image(data[:length])


@pytest.mark.parametrize("data", [b"", b"hello", encoded(PICTURE, "GIF")])
def test_a_file_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="not a JPEG or PNG"):
        decode_image(data)


@given(st.sampled_from(["JPEG", "PNG"]), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_damage_anywhere_gives_an_image_or_a_data_error(kind: str, at: int, junk: bytes) -> None:
    data = encoded(PICTURE, kind, exif=turned(6))
    at %= len(data)
    try:
        image = decode_image(data[:at] + junk + data[at + len(junk) :])
    except DataError:
        return
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
