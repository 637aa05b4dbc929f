"""Starts from a checkpoint on every rank, and tells what each of them has after it.

python -m tests.training.init_from_workers CHECKPOINT DATA OUT
"""

import sys
from pathlib import Path

import torch

from tests.training.run_training import small_config
from upsnet import distributed
from upsnet.data.shards import PreparedData
from upsnet.training.start import start_from
from upsnet.training.trainer import start_state


def main(checkpoint: Path, folder: Path, out: Path) -> None:
    distributed.init()
    data, config = PreparedData(folder), small_config()
    state = start_state(config, data, torch.device("cpu"), with_weights=False)
    start_from(checkpoint, state.model, config.model, data.categories)
    everybody = distributed.gather_objects(state.model.state_dict())
    if distributed.is_main():
        torch.save(everybody, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
