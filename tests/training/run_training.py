"""Trains in a process of its own, for tests that kill, stop or multiply it; also a program: see `main`.

python -m tests.training.run_training DATA OUT [section.key=value ...]
"""

import logging
import sys
from pathlib import Path

from upsnet import distributed
from upsnet.config import Config, load_config
from upsnet.data.shards import PreparedData
from upsnet.errors import UpsnetError
from upsnet.tracking import Tracker
from upsnet.training.trainer import train

SMALL = [
    "model.backbone=mobilenet_v2",
    "loader.short_side=[64,64]",
    "loader.long_side=96",
    "loader.images_per_worker=1",
    "model.fpn_channels=16",
    "model.mask_channels=16",
    "model.semantic_channels=[16]",
    "model.box_head.channels=32",
    "model.rpn.pre_nms_top_n=[50,50]",
    "model.rpn.post_nms_top_n=[50,50]",
    "training.optimizer=sgd",
    "training.weight_decay=0.0001",
    "training.bias_rate_factor=2",
    "training.step_factor=0.1",
    "training.clip_norm=0",
    "training.reference_batch=1",
    "training.warmup_iterations=4",
    "training.iterations=8",
    "training.steps=[6]",
    "training.base_rate=0.002",
    "training.log_interval=2",
    "training.checkpoint_interval=4",
]


def small_config(*overrides: str) -> Config:
    """The mini preset, cut down until an iteration takes a tenth of a second."""
    return load_config("mini", (), [*SMALL, *overrides])


def main() -> int:
    data, out, *overrides = sys.argv[1:]
    distributed.init()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    out = Path(out)
    try:
        train(
            small_config(*overrides),
            PreparedData(Path(data)),
            out,
            tracker=Tracker(out if distributed.is_main() else None),
        )
    except UpsnetError as error:
        print(error, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
