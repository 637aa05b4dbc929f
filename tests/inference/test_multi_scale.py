"""The multi-scale test: averages that must not move, and windows that must cover everything."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from tests.model.cases import mini_model
from upsnet.config import InferenceConfig
from upsnet.inference.multi_scale import _starts, averaged_logits
from upsnet.model.network import Network
from upsnet.structures import ImageBatch, pad_images

CPU = torch.device("cpu")


class BrightnessNetwork(Network):
    """Its logits are the mean brightness of every cell: the same at every scale."""

    window = True

    def __init__(self) -> None:
        super().__init__(1, 2)
        self.seen: list[tuple[int, int]] = []

    def semantic_logits(self, images: ImageBatch) -> torch.Tensor:
        self.seen += images.sizes
        return F.avg_pool2d(images.pixels.float(), 4)


def ramp(height: int, width: int) -> torch.Tensor:
    """(3, H, W) uint8: brightness grows to the right in one channel, downwards in the next."""
    x, y = torch.meshgrid(torch.arange(width) * 2, torch.arange(height) * 2, indexing="xy")
    return torch.stack([x, y, torch.full_like(x, 7)]).to(torch.uint8)


def settings(**changes) -> InferenceConfig:
    return InferenceConfig(short_side=64, long_side=128).model_copy(update=changes)


@torch.inference_mode()
def test_one_scale_without_mirror_is_the_single_scale_test():
    model = mini_model().eval()
    images = pad_images([ramp(64, 96), ramp(40, 96)])
    expected = model.semantic_logits(pad_images([ramp(64, 96)]))[0]
    first, second = averaged_logits(model, images, settings(scales=(64,)), CPU)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-5)
    assert second.shape == first.shape


@pytest.mark.parametrize("size", [(64, 96), (64, 93), (61, 90)])
@pytest.mark.parametrize("window", [0, 33])
def test_scales_mirror_images_and_windows_say_the_same_of_the_same_place(size, window):
    network = BrightnessNetwork()
    image = ramp(*size)
    (mean,) = averaged_logits(
        network, pad_images([image]), settings(scales=(48, 64, 112), mirror=True, window=window), CPU
    )
    inner = (slice(None), slice(3, size[0] // 4 - 3), slice(3, size[1] // 4 - 3))  # away from the borders
    expected = F.avg_pool2d(image[None].float(), 4)[0]
    # Rounding to uint8 and to whole sizes moves a ramp of 2 per pixel by less than half a pixel.
    torch.testing.assert_close(mean[inner], expected[inner], rtol=0, atol=1.0)
    assert (max(max(s) for s in network.seen) <= 33) == bool(window)


def test_every_scale_is_seen_once_and_once_mirrored():
    network = BrightnessNetwork()
    network.window = False
    averaged_logits(network, pad_images([ramp(64, 96)]), settings(scales=(32, 64), mirror=True), CPU)
    assert network.seen == [(32, 48), (32, 48), (64, 96), (64, 96)]


def test_the_long_side_grows_with_the_scale():
    network = BrightnessNetwork()
    network.window = False
    averaged_logits(network, pad_images([ramp(40, 128)]), settings(scales=(128,)), CPU)
    assert network.seen == [(80, 256)]


@pytest.mark.parametrize(("length", "side"), [(10, 10), (11, 10), (5, 10), (97, 32), (1, 1), (3, 1)])
def test_windows_cover_everything_and_overlap_by_a_third(length, side):
    starts = _starts(length, side)
    covered = {cell for start in starts for cell in range(start, start + side)}
    assert covered >= set(range(length))
    assert starts[-1] + side == max(length, side)
    assert all(later - earlier <= side - side // 3 for earlier, later in pairwise(starts))
