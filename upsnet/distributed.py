"""One process, or N under Horovod: the only file that imports Horovod.

A plain process has rank 0 and world size 1, and never imports Horovod. A process that `horovodrun` or
`mpirun` started joins the others in `init`. Every other function works the same way in both cases, so no
caller asks which one it is. All ranks must make the same calls in the same order.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from upsnet.errors import TrainingError

SIZE_VARIABLES = ("HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Where horovodrun, Open MPI and MPICH tell a process how many there are."""

_horovod: Any = None
"""The module `horovod.torch` after `init` in a process of several, else None."""


def init() -> None:
    """Joins the processes that were started together; does nothing in a plain process or when called again.

    Raises:
        TrainingError: the launcher started several processes, but Horovod is missing, or sees another number.
    """
    global _horovod
    expected = _launched_processes()
    if _horovod is not None or expected is None:
        return
    try:
        import horovod.torch as horovod
    except (ImportError, OSError) as error:
        if expected == 1:
            return
        raise TrainingError(
            f"this is one of {expected} processes, but Horovod cannot be imported ({error}); "
            "install it with 'make setup', or start one process"
        ) from error
    horovod.init()
    if horovod.size() != expected:
        raise TrainingError(
            f"the launcher started {expected} processes, but Horovod sees {horovod.size()}; it was built "
            "without the launcher's kind (MPI for mpirun, Gloo for horovodrun)"
        )
    _horovod = horovod
    if torch.cuda.is_available():
        torch.cuda.set_device(device())


def expect_world_size(expected: int | None) -> None:
    """Refuses another number of processes than was asked for; None takes any.

    A launcher that reaches only some of its machines starts fewer, and trains on without a word.

    Raises:
        TrainingError: there are more or fewer.
    """
    if expected is not None and world_size() != expected:
        raise TrainingError(
            f"--expect-workers {expected}: found {world_size()}; the launcher (horovodrun, mpirun) "
            "did not start what was asked for: see its number of processes, its host file and its first lines"
        )


def rank() -> int:
    """Number of this process, 0..world_size-1."""
    return int(_horovod.rank()) if _horovod else 0


def world_size() -> int:
    """Number of processes."""
    return int(_horovod.size()) if _horovod else 1


def local_rank() -> int:
    """Number of this process among those on the same machine."""
    return int(_horovod.local_rank()) if _horovod else 0


def local_size() -> int:
    """Number of processes on this machine."""
    return int(_horovod.local_size()) if _horovod else 1


def is_main() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


def device() -> torch.device:
    """The GPU of this process, or the CPU where there is none.

    Raises:
        TrainingError: more processes than GPUs on this machine.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if local_rank() >= gpus:
        raise TrainingError(
            f"{local_size()} processes share a machine with {gpus} GPU(s); start at most one process per GPU"
        )
    return torch.device("cuda", local_rank())


def limit_threads() -> int:
    """Gives this process its share of the machine's cores, and returns it; OMP_NUM_THREADS goes before it."""
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_size()))
    return torch.get_num_threads()


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """Mean over the ranks of a tensor of the same shape and dtype on each; the argument stays as it is."""
    if _horovod is None:
        return tensor.clone()
    mean: Tensor = _horovod.allreduce(tensor, op=_horovod.Average)
    return mean


def gather_objects(obj: Any) -> list[Any]:
    """Every rank's object, in rank order, on every rank. They travel pickled."""
    return [obj] if _horovod is None else [pickle.loads(part) for part in _gather_pickles(obj)]


def gather_to_main(obj: Any) -> list[Any]:
    """Every rank's object, in rank order, on rank 0; nothing on the others, which never unpack them."""
    if _horovod is None:
        return [obj]
    pickles = _gather_pickles(obj)
    return [pickle.loads(part) for part in pickles] if is_main() else []


def _gather_pickles(obj: Any) -> Iterator[bytes]:
    data = _to_bytes_tensor(obj)
    sizes = _horovod.allgather(torch.tensor([len(data)]))
    everything = _horovod.allgather(data)
    return (part.numpy().tobytes() for part in everything.split(sizes.tolist()))


def broadcast_object(obj: Any) -> Any:
    """Rank 0's object on every rank; the others' argument is dropped."""
    if _horovod is None:
        return obj
    data = _to_bytes_tensor(obj if is_main() else None)
    size = int(_horovod.broadcast(torch.tensor([len(data)]), root_rank=0))
    data = data if is_main() else torch.empty(size, dtype=torch.uint8)
    _horovod.broadcast_(data, root_rank=0)
    return obj if is_main() else pickle.loads(data.numpy().tobytes())


def broadcast_parameters(module: nn.Module) -> None:
    """Gives every rank the parameters and buffers of rank 0, in place."""
    if _horovod is not None:
        _horovod.broadcast_parameters(module.state_dict(), root_rank=0)


def barrier() -> None:
    """Waits until every rank is here."""
    all_reduce_mean(torch.zeros(1))


def wrap_optimizer(
    optimizer: torch.optim.Optimizer, named_parameters: Iterable[tuple[str, nn.Parameter]]
) -> torch.optim.Optimizer:
    """The optimizer whose gradients are averaged over the ranks during the backward pass.

    Wrap before loading a state: Horovod's wrapper starts with an empty one. `named_parameters` name every
    parameter of the optimizer.
    """
    if _horovod is None:
        return optimizer
    wrapped: torch.optim.Optimizer = _horovod.DistributedOptimizer(
        optimizer, named_parameters=list(named_parameters)
    )
    return wrapped


def synchronize_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Waits for the averaged gradients, after which they may be clipped; `step` comes next.

    A parameter without a gradient gets a zero one. Horovod needs that, since another rank may have one; a
    plain process does the same, so that one process and N make the same update.
    """
    if _horovod is not None:
        optimizer.synchronize()  # type: ignore[attr-defined]
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


def step(optimizer: torch.optim.Optimizer) -> None:
    """Updates the parameters with the gradients that `synchronize_gradients` left."""
    if _horovod is None:
        optimizer.step()
        return
    with optimizer.skip_synchronize():  # type: ignore[attr-defined]
        optimizer.step()


def _launched_processes() -> int | None:
    """How many processes the launcher started; None in a plain process."""
    for name in SIZE_VARIABLES:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None


def _to_bytes_tensor(obj: Any) -> Tensor:
    return torch.frombuffer(bytearray(pickle.dumps(obj, pickle.HIGHEST_PROTOCOL)), dtype=torch.uint8)
