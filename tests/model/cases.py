"""Small networks and hand-made targets for the tests of the model."""

import torch

from upsnet.config import LossWeights, ModelConfig, load_config
from upsnet.model.build import build_model
from upsnet.model.upsnet import UPSNet
from upsnet.structures import IGNORE, ImageBatch, Targets, pad_images

ALL_LOSSES = LossWeights(semantic=1.0, semantic_roi=0.2, panoptic=0.5)
EIGHT_LOSSES = set(LossWeights.model_fields) - {"auxiliary"}
"""The losses of UPSNet; the auxiliary one is PSPNet's."""


def mini_config(**changes) -> ModelConfig:
    return load_config("mini").model.model_copy(update=changes)


def mini_model(num_stuff: int = 4, num_things: int = 3, seed: int = 0, **changes) -> UPSNet:
    torch.manual_seed(seed)
    return build_model(mini_config(**changes), num_stuff, num_things)


def targets_with(
    windows: list[tuple[int, int, int, int]], size=(64, 96), num_stuff: int = 4, num_things: int = 3
) -> Targets:
    """Rectangles x0, y0, x1, y1 as instances, labels in turn, on stuff stripes; the top row is void."""
    height = size[0]
    semantic = torch.full(size, IGNORE, dtype=torch.uint8)
    if num_stuff:
        semantic[:] = (torch.arange(height) * num_stuff // height).to(torch.uint8)[:, None]
    instance = torch.zeros(size, dtype=torch.int32)
    labels = torch.arange(len(windows)) % max(num_things, 1) + 1
    for i, (x0, y0, x1, y1) in enumerate(windows):
        instance[y0:y1, x0:x1] = i + 1
        semantic[y0:y1, x0:x1] = num_stuff + int(labels[i]) - 1
    semantic[0] = torch.where(instance[0] > 0, semantic[0], IGNORE)
    boxes = torch.tensor(windows, dtype=torch.float32).reshape(-1, 4)
    return Targets(7, boxes, labels, instance, semantic)


def random_images(*sizes, seed: int = 0) -> ImageBatch:
    generator = torch.Generator().manual_seed(seed)
    return pad_images([torch.randint(0, 256, (3, *s), generator=generator, dtype=torch.uint8) for s in sizes])
