"""From any image file to the JPEG that prepared data holds.

An ordinary JPEG (RGB or grey, 8 bits, upright) keeps its bytes; anything else becomes an 8-bit RGB JPEG.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from upsnet.data.images import FORMATS, decode_rgb
from upsnet.errors import DataError
from upsnet.structures import Size

QUALITY = 95
"""JPEG quality of converted images, without chroma subsampling."""

ORIENTATION = 0x0112
"""EXIF tag: 1 is upright, 2-8 ask for a flip or rotation; 5-8 exchange height and width."""

_UNDO = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class JpegImage:
    """An image as prepared data holds it.

    Attributes:
        data: a JPEG file.
        size: its height and width.
        converted: from what, or empty when the bytes are the original's.
        tag_dropped: EXIF asked for a rotation that the truth does not follow.
    """

    data: bytes
    size: Size
    converted: str = ""
    tag_dropped: bool = False


def to_jpeg(data: bytes, truth_size: Size | None) -> JpegImage:
    """Checks an image file by decoding it, and converts it where needed.

    A rotation in EXIF is carried out, unless only the pixels as they lie have the truth's size.

    Args:
        data: a JPEG or PNG file of any kind.
        truth_size: size of the panoptic map, None when it is unknown.

    Raises:
        DataError: the bytes are no JPEG or PNG, or truncated or damaged.
    """
    kind, orientation = _look(data)
    pixels = decode_rgb(data)
    size = (pixels.shape[0], pixels.shape[1])
    if not kind and orientation == 1:
        return JpegImage(data, size)
    lying = size[::-1]
    if orientation in _UNDO and size != truth_size and lying == truth_size:
        picture = Image.fromarray(pixels).transpose(_UNDO[orientation])
        return JpegImage(encode_jpeg(picture), lying, kind, tag_dropped=True)
    return JpegImage(encode_jpeg(Image.fromarray(pixels)), size, kind or "EXIF-rotated JPEG")


def possible_sizes(file: BinaryIO) -> tuple[Size, ...]:
    """Height and width from the header of an image file: upright, then as the pixels lie where EXIF rotates.

    Raises:
        DataError: the file is no JPEG or PNG, or its header is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                lying = (image.height, image.width)
                rotated = image.getexif().get(ORIENTATION, 1) in _UNDO
    except UnidentifiedImageError:
        raise DataError("not a JPEG or PNG image") from None
    except Exception as error:  # damaged headers make Pillow raise nearly anything
        raise DataError(f"image is damaged: {error}") from error
    return (lying[::-1], lying) if rotated else (lying,)


def encode_jpeg(image: Image.Image | np.ndarray, quality: int = QUALITY) -> bytes:
    """An RGB picture, or (H, W, 3) uint8 pixels, as a JPEG file without chroma subsampling."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _look(data: bytes) -> tuple[str, int]:
    """Why the file is no ordinary JPEG (empty if it is one), and its EXIF orientation (1 if none)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                orientation = image.getexif().get(ORIENTATION, 1)
                ordinary = image.format == "JPEG" and image.mode in ("RGB", "L")
                kind = "" if ordinary else f"{image.format} of mode {image.mode}"
    except Exception:  # `decode_rgb` has the words for what cannot be opened
        return "damaged", 1
    return kind, orientation if orientation in range(1, 9) else 1
