"""The `upsnet` command lines that components run as processes; a test holds them to the real program."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.launchers import LaunchError


def train_command(config: Path, data: Path, out: Path, dvc_hash: str = "") -> tuple[str, ...]:
    """A training by one rank; started again, it goes on from its newest checkpoint.

    `dvc_hash` is that of the data, which in a pod are no longer beside their dvc.lock.
    """
    folders = ("--config", str(config), "--data", str(data), "--out", str(out))
    known = ("--data-dvc-hash", dvc_hash) if dvc_hash else ()
    return ("upsnet", "train", *folders, *known, "--resume", "auto")


def evaluate_command(checkpoint: Path, data: Path, out: Path, workers: int) -> tuple[str, ...]:
    """An evaluation with the settings of the training, by processes of this machine."""
    folders = ("--checkpoint", str(checkpoint), "--data", str(data), "--out", str(out))
    return ("upsnet", "evaluate", *folders, "--workers", str(workers))


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs an `upsnet` command line with this interpreter, and passes on what it prints.

    Raises:
        LaunchError: it ended with another code than 0.
    """
    tail: deque[str] = deque(maxlen=50)
    program = [sys.executable, "-m", "upsnet.cli", *command[1:]]
    with subprocess.Popen(
        program, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line)
            print(line, end="", flush=True)
    if process.returncode != 0:
        raise LaunchError(
            f"{' '.join(command[:2])}: failed with exit code {process.returncode}",
            exit_code=process.returncode,
            log_tail="".join(tail),
        )
