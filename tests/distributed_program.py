"""What every process of `test_distributed` does; rank 0 writes what it saw as JSON.

python -m tests.distributed_program OUT
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from upsnet import distributed


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1), nn.Conv2d(2, 1, 1))


def train_steps(net: nn.Sequential, images: list[torch.Tensor], unused: int = 3) -> list[list[float]]:
    """Three clipped steps of SGD with momentum; of the layers 2 and 3 one is `unused`."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    optimizer = distributed.wrap_optimizer(optimizer, net.named_parameters())
    for image in images:
        optimizer.zero_grad()
        net[5 - unused](net[1](net[0](image))).square().sum().backward()
        distributed.synchronize_gradients(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        distributed.step(optimizer)
    return [parameter.flatten().tolist() for parameter in net.parameters()]


def fixed_images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(1, 1, 6, 6, generator=generator) for _ in range(3)]


def main(out: Path) -> None:
    distributed.init()
    distributed.init()  # a second call does nothing
    rank = distributed.rank()
    net = network(rank)
    net[1].running_mean += rank
    net[1].num_batches_tracked += rank
    distributed.broadcast_parameters(net)
    large = bytes([rank]) * (20_000_000 + rank)
    argument = torch.tensor([float(rank)])
    seen = {
        "world_size": distributed.world_size(),
        "local": [distributed.local_rank(), distributed.local_size()],
        "is_main": distributed.is_main(),
        "mean": distributed.all_reduce_mean(torch.tensor([rank, 1.0], dtype=torch.float64)).tolist(),
        "nan": distributed.all_reduce_mean(torch.tensor([0.0 if rank else float("nan")])).isnan().item(),
        "argument": (distributed.all_reduce_mean(argument), argument.item())[1] == rank,
        "mixed": distributed.gather_objects({"rank": 0} if rank == 0 else [rank, "one"]),
        "large": [len(part) for part in distributed.gather_objects(large)],
        "broadcast": distributed.broadcast_object(f"from rank {rank}"),
        "buffers": [net[1].running_mean.tolist(), net[1].num_batches_tracked.item()],
        "same_image": train_steps(network(5), fixed_images()),
        "different_layers": train_steps(network(5), fixed_images(), unused=2 + rank),
    }
    everybody = distributed.gather_objects(seen)
    distributed.barrier()
    if distributed.is_main():
        out.write_text(json.dumps(everybody))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
