"""Runs a module in two real Horovod processes, for the tests that need them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def worker_command(workers: int, module: str, *arguments: object) -> list[str]:
    """The command line of a module under horovodrun; skips the test where Horovod is not installed."""
    if importlib.util.find_spec("horovod") is None:
        pytest.skip("Horovod is not installed (HOROVOD=0)")
    launcher = Path(sys.executable).with_name("horovodrun")
    command = [launcher, "--gloo", "-np", workers, sys.executable, "-m", module, *arguments]
    return [str(part) for part in command]


def plain_environment(**changes: str) -> dict[str, str]:
    """The environment with one thread per process, as two test processes share few cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def run_workers(module: str, *arguments: object, workers: int = 2) -> subprocess.CompletedProcess[str]:
    """Runs the module to its end; standard output and error come joined."""
    return subprocess.run(
        worker_command(workers, module, *arguments),
        cwd=ROOT,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
