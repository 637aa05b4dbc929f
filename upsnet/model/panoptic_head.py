"""Panoptic head: one score per pixel for every stuff class, every instance and the unknown class.

It has no parameters. Shapes: X semantic logits (S + T, h, w); Y mask logits (I, 28, 28); Z (S + I + 1, h, w).
`panoptic_logits` builds Z and is used in training, at a quarter of the input size; `panoptic_argmax` gives
the argmax of Z at the input size without ever building it.

Source: UPSNet 3.1, figure 3.
Differs: the paper leaves the rounding of boxes open; here floor(x1), floor(y1), ceil(x2), ceil(y2), clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from upsnet.structures import Size

Window = tuple[int, int, int, int]
"""Pixel window y0, x0, y1, x1; the lower and right edge exclusive."""

CHANNELS_AT_ONCE = 16
"""Semantic channels upsampled at once at inference: bounds the memory, changes nothing else."""


@dataclass(frozen=True)
class PanopticArgmax:
    """Per-pixel decisions at the input size.

    Attributes:
        channel: (H, W) int64 channel of Z: 0..S-1 stuff, S..S+I-1 instances, S+I unknown.
        class_id: (H, W) int64 argmax of the semantic logits.
    """

    channel: Tensor
    class_id: Tensor


def box_windows(boxes: Tensor, size: Size) -> list[Window]:
    """Rounds (I, 4) boxes outwards to whole pixels, clipped to the image, at least one pixel each."""
    height, width = size
    windows = []
    for x1, y1, x2, y2 in torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], dim=1).int().tolist():
        x0, y0 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
        windows.append((y0, x0, max(min(y2, height), y0 + 1), max(min(x2, width), x0 + 1)))
    return windows


def resize_mask_logits(mask_logits: Tensor, box: Tensor, size: Size) -> tuple[Tensor, Window]:
    """Resizes one instance's (28, 28) mask logits bilinearly into its box.

    Returns:
        The (y1 - y0, x1 - x0) logits and the window y0, x0, y1, x1 of the image they belong to.
    """
    (window,) = box_windows(box[None], size)
    return fit_to_window(mask_logits, window), window


def fit_to_window(mask_logits: Tensor, window: Window) -> Tensor:
    """Resizes one instance's (28, 28) mask logits bilinearly to the size of a window."""
    y0, x0, y1, x1 = window
    size = (y1 - y0, x1 - x0)
    return F.interpolate(mask_logits[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def panoptic_logits(
    semantic_logits: Tensor, num_stuff: int, boxes: Tensor, labels: Tensor, mask_logits: Tensor, unknown: bool
) -> Tensor:
    """Builds Z for one image.

    Args:
        semantic_logits: (S + T, h, w).
        num_stuff: S.
        boxes: (I, 4) in pixels of the semantic logits.
        labels: (I,) int64, 1..T.
        mask_logits: (I, 28, 28).
        unknown: append the unknown channel.

    Returns:
        (S + I + 1, h, w) logits, without the last channel if not `unknown` or if there are no thing classes.
    """
    _, height, width = semantic_logits.shape
    stuff, thing = semantic_logits[:num_stuff], semantic_logits[num_stuff:]
    windows = box_windows(boxes, (height, width))
    x_mask = [
        _paste(_crop(thing[label - 1], window), window, height, width)
        for label, window in zip(labels.tolist(), windows, strict=True)
    ]
    y_mask = [
        _paste(fit_to_window(y, w), w, height, width) for y, w in zip(mask_logits, windows, strict=True)
    ]
    parts = [stuff]
    if windows:
        parts.append(torch.stack(x_mask) + torch.stack(y_mask))
    if unknown and len(thing):
        covered = torch.stack(x_mask).amax(dim=0) if windows else 0.0
        parts.append((thing.amax(dim=0) - covered)[None])
    return torch.cat(parts)


def panoptic_argmax(
    semantic_logits: Tensor,
    stride: int,
    size: Size,
    num_stuff: int,
    boxes: Tensor,
    labels: Tensor,
    mask_logits: Tensor,
    unknown: bool,
) -> PanopticArgmax:
    """The argmax of Z over its channels at the input size; ties go to the lower channel.

    Z is never built: running maxima go over the stuff classes, over the instances (each inside its box), and
    over the zeros that instances score outside their boxes.

    Args:
        semantic_logits: (S + T, h, w) at 1 / `stride` of the padded input.
        stride: factor by which they are upsampled, bilinearly.
        size: (H, W) of the input without padding.
        num_stuff: S.
        boxes: (I, 4) in input pixels.
        labels: (I,) int64, 1..T.
        mask_logits: (I, 28, 28).
        unknown: whether the unknown channel takes part.
    """
    running = _SemanticMaxima(size, num_stuff, semantic_logits.device)
    windows = box_windows(boxes, size)
    own = _own_logits(semantic_logits, stride, size, num_stuff, labels, windows, running)

    best, channel = running.stuff_max, running.stuff_channel
    x_max = torch.full(size, -torch.inf, device=best.device)
    uncovered = _first_uncovered(windows, size, best.device)
    everywhere = uncovered < len(windows)
    _raise_to(best, channel, torch.where(everywhere, 0.0, -torch.inf), uncovered + num_stuff)
    x_max[everywhere] = 0.0
    for i, (x, (y0, x0, y1, x1)) in enumerate(zip(own, windows, strict=True)):
        here = (slice(y0, y1), slice(x0, x1))
        score = x + fit_to_window(mask_logits[i], (y0, x0, y1, x1))
        _raise_to(best[here], channel[here], score, torch.full_like(channel[here], num_stuff + i))
        x_max[here] = torch.maximum(x_max[here], x)
    if unknown and len(semantic_logits) > num_stuff:
        covered = x_max if windows else torch.zeros_like(x_max)
        last = torch.full_like(channel, num_stuff + len(windows))
        _raise_to(best, channel, running.thing_max - covered, last)
    return PanopticArgmax(channel, running.class_id)


def semantic_argmax(semantic_logits: Tensor, stride: int, size: Size) -> Tensor:
    """The (H, W) int64 class ids that the semantic logits say at the input size; ties go to the lower class.

    Args:
        semantic_logits: (S + T, h, w) at 1 / `stride` of the padded input.
        stride: factor by which they are upsampled, bilinearly.
        size: (H, W) of the input without padding.
    """
    best = torch.full(size, -torch.inf, device=semantic_logits.device)
    class_id = torch.zeros(size, dtype=torch.int64, device=best.device)
    for start, end in _chunks(0, len(semantic_logits)):
        value, index = _upsample(semantic_logits[start:end], stride, size).max(dim=0)
        _raise_to(best, class_id, value, index + start)
    return class_id


class _SemanticMaxima:
    """Running maxima over semantic channels that arrive in chunks, in order."""

    def __init__(self, size: Size, num_stuff: int, device: torch.device) -> None:
        self.num_stuff = num_stuff
        self.all_max = torch.full(size, -torch.inf, device=device)
        self.class_id = torch.zeros(size, dtype=torch.int64, device=device)
        self.thing_max = self.all_max.clone()
        self.stuff_max = self.all_max.clone()
        self.stuff_channel = self.class_id.clone()

    def add(self, chunk: Tensor, start: int) -> None:
        """Takes (c, H, W) logits of classes start..start+c-1, all stuff or all things."""
        value, index = chunk.max(dim=0)
        _raise_to(self.all_max, self.class_id, value, index + start)
        if start < self.num_stuff:
            _raise_to(self.stuff_max, self.stuff_channel, value, index + start)
        else:
            torch.maximum(self.thing_max, value, out=self.thing_max)


def _own_logits(
    semantic_logits: Tensor,
    stride: int,
    size: Size,
    num_stuff: int,
    labels: Tensor,
    windows: list[Window],
    running: _SemanticMaxima,
) -> list[Tensor]:
    """Upsamples the semantic logits chunk by chunk into `running`; returns X of each instance in its box."""
    own: dict[int, Tensor] = {}
    class_ids = (labels + num_stuff - 1).tolist()
    for start, end in _chunks(num_stuff, len(semantic_logits)):
        chunk = _upsample(semantic_logits[start:end], stride, size)
        running.add(chunk, start)
        for i, (class_id, window) in enumerate(zip(class_ids, windows, strict=True)):
            if start <= class_id < end:
                own[i] = _crop(chunk[class_id - start], window).clone()  # a view would keep the chunk alive
    return [own[i] for i in range(len(windows))]


def _chunks(num_stuff: int, num_classes: int) -> list[tuple[int, int]]:
    """Channel ranges that never mix stuff and things."""
    ranges = [(0, num_stuff), (num_stuff, num_classes)]
    return [
        (start, min(start + CHANNELS_AT_ONCE, last))
        for first, last in ranges
        for start in range(first, last, CHANNELS_AT_ONCE)
    ]


def _upsample(logits: Tensor, stride: int, size: Size) -> Tensor:
    """(c, h, w) logits to (c, H, W), bilinearly, the padding cut off."""
    full = F.interpolate(logits[None], scale_factor=float(stride), mode="bilinear", align_corners=False)[0]
    return full[:, : size[0], : size[1]]


def _first_uncovered(windows: list[Window], size: Size, device: torch.device) -> Tensor:
    """(H, W) int64: the lowest instance whose box does not cover the pixel; I where all do.

    Among the instances that score the same 0 there, it is the one that an argmax would name.
    """
    first = torch.zeros(size, dtype=torch.int64, device=device)
    for i, (y0, x0, y1, x1) in enumerate(windows):
        here = first[y0:y1, x0:x1]
        here += here == i
    return first


def _raise_to(best: Tensor, channel: Tensor, score: Tensor, candidate: Tensor) -> None:
    """Raises `best` and `channel` in place where the candidate is better, or equal and lower."""
    wins = (score > best) | ((score == best) & (candidate < channel))
    best.copy_(torch.where(wins, score, best))
    channel.copy_(torch.where(wins, candidate, channel))


def _crop(values: Tensor, window: Window) -> Tensor:
    y0, x0, y1, x1 = window
    return values[y0:y1, x0:x1]


def _paste(crop: Tensor, window: Window, height: int, width: int) -> Tensor:
    y0, x0, y1, x1 = window
    return F.pad(crop, (x0, width - x1, y0, height - y1))
