"""Tests of upsnet/launch.py; that two workers run is shown by tests/test_pipeline_dvc.py."""

import os
import sys
from pathlib import Path

import pytest

from upsnet.errors import UpsnetError
from upsnet.launch import launch_workers

# Stands for horovodrun beside the interpreter: writes down how it was called.
LAUNCHER = '#!/bin/sh\necho "$@" > "$0.called"\necho "$OMP_NUM_THREADS" >> "$0.called"\n'


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter in a folder of its own, without Horovod, started as a plain process."""
    for name in ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["upsnet", "train", "--out", "a folder"])
    return tmp_path / "python"


def test_several_workers_without_horovod_are_refused_with_the_way_out(interpreter: Path) -> None:
    with pytest.raises(UpsnetError, match=r"2 workers: Horovod is not installed .* 'make setup'"):
        launch_workers(2)


def test_one_worker_needs_no_launcher(interpreter: Path) -> None:
    launch_workers(1)


@pytest.mark.parametrize("name", ["HOROVOD_RANK", "OMPI_COMM_WORLD_RANK"])
def test_a_worker_does_not_start_workers(
    interpreter: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "0")
    launch_workers(2)


def test_workers_run_the_same_command_with_their_share_of_the_cores(
    interpreter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = interpreter.with_name("horovodrun")
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    child = os.fork()
    if child == 0:  # what becomes of this process is another program
        try:
            launch_workers(2)
        finally:
            os._exit(99)
    assert os.waitpid(child, 0)[1] == 0
    command, threads = Path(f"{launcher}.called").read_text().splitlines()
    assert command == f"--gloo -np 2 {interpreter} -m upsnet.cli train --out a folder"
    assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)
