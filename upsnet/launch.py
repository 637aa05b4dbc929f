"""Starts the running command anew as N Horovod processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from upsnet.errors import UpsnetError


def launch_workers(workers: int) -> None:
    """Replaces this process by `horovodrun -np workers` of the same command; returns inside a worker.

    Every worker gets its share of the cores, else they all start as many threads as there are cores.

    Raises:
        UpsnetError: Horovod is not installed.
    """
    if workers == 1 or is_worker():
        return
    launcher = Path(sys.executable).with_name("horovodrun")
    if not launcher.exists():
        raise UpsnetError(
            f"{workers} workers: Horovod is not installed beside {sys.executable}; "
            "install it with 'make setup', or use one worker"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // workers)))
    command = [sys.executable, "-m", "upsnet.cli", *sys.argv[1:]]
    sys.stdout.flush()
    os.execv(launcher, [str(launcher), "--gloo", "-np", str(workers), *command])


def is_worker() -> bool:
    """Whether a launcher (horovodrun, mpirun) started this process as one of several."""
    return "HOROVOD_RANK" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ
