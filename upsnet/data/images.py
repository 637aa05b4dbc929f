"""Any JPEG or PNG file as upright 8-bit RGB: the one place that knows about odd image files.

Shapes: H x W pixels.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from upsnet.errors import DataError

FORMATS = ("JPEG", "PNG")


def decode_image(data: bytes) -> Tensor:
    """Decodes a JPEG or PNG file for the network; see `decode_rgb`.

    Returns:
        (3, H, W) uint8 RGB, channels last in memory (what torch resizes fastest).

    Raises:
        DataError: the bytes are no JPEG or PNG, or are truncated or damaged.
    """
    return torch.from_numpy(decode_rgb(data)).permute(2, 0, 1)


def decode_rgb(data: bytes) -> np.ndarray:
    """Decodes a JPEG or PNG file of any kind into upright RGB.

    Grey, palette and CMYK images become RGB, 16-bit ones keep their upper 8 bits, an alpha channel is
    dropped and the rotation that EXIF asks for is carried out.

    Args:
        data: the file's bytes.

    Returns:
        (H, W, 3) uint8, writable.

    Raises:
        DataError: the bytes are no JPEG or PNG, or are truncated or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns about odd EXIF data and palettes; both are harmless
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                image.load()
                return np.array(_upright(_to_rgb(image)))
    except UnidentifiedImageError:
        raise DataError(f"not a JPEG or PNG image ({len(data)} bytes starting with {data[:8]!r})") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"image is too large: {error}") from error
    except Exception as error:  # damaged files make Pillow raise nearly anything: OSError, SyntaxError, ...
        raise DataError(f"image is truncated or damaged ({len(data)} bytes): {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return _with_info(Image.fromarray(grey).convert("RGB"), image)
    if image.mode in ("P", "PA") and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _with_info(image: Image.Image, source: Image.Image) -> Image.Image:
    image.info = source.info.copy()  # EXIF is in here
    return image


def _upright(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    return image if upright is None else upright
