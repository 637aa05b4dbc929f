"""Panoptic PNGs: an (H, W) map of segment ids as an RGB picture, id = R + 256 G + 65536 B, 0 = VOID."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from upsnet.errors import DataError

MAX_SEGMENT_ID = 256**3 - 1
"""The largest id that three bytes hold."""

HEADER_BYTES = 26
"""Signature, size, bit depth and colour type of a PNG."""


def rgb2id(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 colours -> (H, W) int32 segment ids."""
    wide = rgb.astype(np.int32)
    return np.asarray(wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16)


def id2rgb(panoptic_map: np.ndarray) -> np.ndarray:
    """(H, W) integer segment ids in 0..MAX_SEGMENT_ID -> (H, W, 3) uint8 colours.

    Raises:
        DataError: an id outside that range.
    """
    if panoptic_map.size and not 0 <= panoptic_map.min() <= panoptic_map.max() <= MAX_SEGMENT_ID:
        raise DataError(
            f"segment ids {panoptic_map.min()}..{panoptic_map.max()} do not fit a panoptic PNG, "
            f"which holds 0..{MAX_SEGMENT_ID}"
        )
    return np.stack([panoptic_map & 255, panoptic_map >> 8 & 255, panoptic_map >> 16], axis=-1).astype(
        np.uint8
    )


def decode_panoptic_png(source: bytes | Path) -> np.ndarray:
    """Reads a panoptic PNG.

    Args:
        source: the file's bytes, or its path.

    Returns:
        (H, W) int32 segment ids.

    Raises:
        DataError: the file is missing, damaged, no PNG, or has no three channels of 8 bits.
    """
    where = str(source) if isinstance(source, Path) else "panoptic PNG"
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror})") from error
    _refuse_other_formats(data, where)
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            colours = picture if picture.mode == "RGB" else picture.convert("RGB")
            packed = colours.tobytes("raw", "RGBX")
            width, height = colours.size
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"{where}: is a damaged PNG ({_reason(error)})") from error
    # Pillow's fourth byte is padding; seen as one little-endian number the other three are the id already.
    return (np.frombuffer(packed, "<i4").reshape(height, width) & MAX_SEGMENT_ID).astype(np.int32, copy=False)


def panoptic_png_size(header: bytes) -> tuple[int, int]:
    """Height and width, from the first `HEADER_BYTES` of a panoptic PNG.

    Raises:
        DataError: no PNG, or one without three channels of 8 bits.
    """
    _refuse_other_formats(header, "panoptic PNG")
    width, height = struct.unpack(">II", header[16:24])
    return height, width


def encode_panoptic_png(panoptic_map: np.ndarray) -> bytes:
    """(H, W) segment ids -> the bytes of a panoptic PNG; the same map gives the same bytes.

    Raises:
        DataError: an id that three bytes do not hold.
    """
    buffer = io.BytesIO()
    Image.fromarray(id2rgb(panoptic_map)).save(buffer, format="PNG")
    return buffer.getvalue()


def measure_segments(panoptic_map: np.ndarray) -> dict[int, tuple[tuple[int, int, int, int], int]]:
    """Measures every segment of an (H, W) map, VOID too if it occurs.

    Returns:
        segment_id -> ((x, y, width, height), area), in pixels, by ascending id.
    """
    if not panoptic_map.size:
        return {}
    flat, width = panoptic_map.ravel(), panoptic_map.shape[1]
    # Runs of equal ids within a row are hundreds of times fewer than pixels.
    begins = np.ones(flat.size, dtype=bool)
    begins[1:] = flat[1:] != flat[:-1]
    begins[::width] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=flat.size)
    order = np.argsort(flat[starts], kind="stable")
    starts, lengths = starts[order], lengths[order]
    ids, first = np.unique(flat[starts], return_index=True)
    left, top = starts % width, starts // width
    x0, x1 = np.minimum.reduceat(left, first), np.maximum.reduceat(left + lengths, first)
    y0, y1 = np.minimum.reduceat(top, first), np.maximum.reduceat(top, first) + 1
    boxes = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).tolist()
    areas = np.add.reduceat(lengths, first).tolist()
    return {
        int(segment_id): ((box[0], box[1], box[2], box[3]), int(area))
        for segment_id, box, area in zip(ids.tolist(), boxes, areas, strict=True)
    }


def _refuse_other_formats(data: bytes, where: str) -> None:
    """Looks at the PNG header: Pillow would quietly cut 16 bits to 8 and turn grey into a colour."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise DataError(f"{where}: is not a PNG file; segment ids need a lossless RGB PNG")
    if len(data) < HEADER_BYTES:
        raise DataError(f"{where}: is a damaged PNG (it ends in the header)")
    bits, colour_type = data[24], data[25]
    if bits == 16 or colour_type in (0, 4):
        kind = "grey" if colour_type in (0, 4) else "colour"
        raise DataError(
            f"{where}: is a {bits}-bit {kind} PNG, expected an 8-bit RGB PNG with id = R + 256 G + 65536 B"
        )


def _reason(error: Exception) -> str:
    """Pillow's message, without the memory addresses that differ from run to run."""
    text = str(error)
    return text if text and " at 0x" not in text else type(error).__name__
