"""Two updates on the same images on every rank, and then a loss that is not finite on rank 1 alone.

python -m tests.training.same_image DATA OUT
"""

import sys
from pathlib import Path

import torch

from tests.training.run_training import small_config
from upsnet import distributed
from upsnet.data.loader import TrainLoader
from upsnet.data.shards import PreparedData
from upsnet.errors import TrainingError
from upsnet.training import trainer


def two_updates(data: PreparedData) -> trainer.TrainState:
    """The state after two updates on images that do not depend on the rank."""
    config = small_config("training.clip_norm=1")
    state = trainer.start_state(config, data, torch.device("cpu"))
    loader = TrainLoader(data.split("train"), data.categories, config.loader, seed=1)
    torch.manual_seed(3)
    for _ in range(2):
        _, total = trainer.compute_losses(state, next(loader))
        trainer.update(state, total, rate=0.01)
    return state


def main(folder: Path, out: Path) -> None:
    distributed.init()
    data = PreparedData(folder)
    state = two_updates(data)
    batch = next(TrainLoader(data.split("train"), data.categories, state.config.loader, seed=1))
    losses, total = trainer.compute_losses(state, batch)
    if distributed.rank() == 1:
        losses["mask"], total = losses["mask"] * torch.nan, total * torch.nan
    message = ""
    try:
        means, _ = trainer.exchange(losses, total, 0.0, False)
        trainer.refuse_bad_losses(means, losses, batch, 3)
    except TrainingError as error:
        message = str(error)
    everybody = distributed.gather_objects((state.model.state_dict(), message, batch.image_ids))
    if distributed.is_main():
        torch.save([list(entry) for entry in everybody], out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
