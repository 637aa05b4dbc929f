"""Tests of upsnet/launch.py; that two workers run is shown by tests/test_pipeline_dvc.py."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from upsnet.errors import UpsnetError
from upsnet.launch import launch_workers

# Stands for horovodrun beside the interpreter: writes down how it was called.
LAUNCHER = 'echo "$@" > "$0.called"; echo "$OMP_NUM_THREADS" >> "$0.called"'


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter in a folder of its own, without Horovod, started as a plain process."""
    for name in ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["upsnet", "train", "--out", "a folder"])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path / "python"
    for number, handler in handlers.items():
        signal.signal(number, handler)


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


def launcher_that(interpreter: Path, script: str) -> Path:
    launcher = interpreter.with_name("horovodrun")
    launcher.write_text(f"#!/bin/sh\n{script}\n")
    launcher.chmod(0o755)
    return launcher


def test_workers_run_the_same_command_with_their_share_of_the_cores(interpreter: Path) -> None:
    launcher = launcher_that(interpreter, LAUNCHER)
    with pytest.raises(SystemExit) as ended:
        launch_workers(2)
    assert ended.value.code == 0
    command, threads = Path(f"{launcher}.called").read_text().splitlines()
    assert command == f"--gloo -np 2 {interpreter} -m upsnet.cli train --out a folder"
    assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)


def test_an_error_of_the_workers_is_printed_once_and_ends_with_2(
    interpreter: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = "echo '[0]<stdout>:hello'; for r in 0 1; do echo \"[$r]<stderr>:error: bad image 7\"; done"
    launcher_that(interpreter, f"{words}; echo 'Traceback of the launcher' >&2; exit 1")
    with pytest.raises(SystemExit) as ended:
        launch_workers(2)
    assert ended.value.code == 2
    assert capfd.readouterr() == ("hello\n", "error: bad image 7\n")


def test_a_failure_that_no_worker_explains_keeps_the_launcher_s_words(
    interpreter: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher_that(interpreter, "echo 'no free port' >&2; exit 3")
    with pytest.raises(SystemExit) as ended:
        launch_workers(2)
    assert ended.value.code == 3
    assert capfd.readouterr().err == "no free port\n"


def test_sigterm_is_passed_on_and_ends_with_143(interpreter: Path) -> None:
    launcher_that(
        interpreter, f"trap 'exit 1' TERM; kill -TERM {os.getpid()}; sleep 20 >/dev/null 2>&1 & wait"
    )
    with pytest.raises(SystemExit) as ended:
        launch_workers(2)
    assert ended.value.code == 143
