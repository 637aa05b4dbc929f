"""Starts the running command anew as N Horovod processes, and ends as they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from upsnet.errors import UpsnetError

WORKER_LINE = re.compile(r"^\[\d+\]<(stdout|stderr)>:(.*)", re.DOTALL)
"""How horovodrun marks what its workers print."""

ERROR = "error: "
"""How the program begins the one message of an UpsnetError."""


def launch_workers(workers: int) -> None:
    """Runs this command in `workers` processes under horovodrun, then exits; returns inside a worker.

    Every worker gets its share of the cores, else they all start as many threads as there are cores.

    Raises:
        UpsnetError: Horovod is not installed.
        SystemExit: with 0; 2 if a worker had an UpsnetError; 143 after SIGTERM; else horovodrun's code.
    """
    if workers == 1 or is_worker():
        return
    launcher = Path(sys.executable).with_name("horovodrun")
    if not launcher.exists():
        raise UpsnetError(
            f"{workers} workers: Horovod is not installed beside {sys.executable}; "
            "install it with 'make setup', or use one worker"
        )
    cores = max(1, len(os.sched_getaffinity(0)) // workers)
    environment = {"OMP_NUM_THREADS": str(cores), **os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "upsnet.cli", *sys.argv[1:]]
    sys.exit(_follow([str(launcher), "--gloo", "-np", str(workers), *command], environment))


def is_worker() -> bool:
    """Whether a launcher (horovodrun, mpirun) started this process as one of several."""
    return "HOROVOD_RANK" in os.environ or "OMPI_COMM_WORLD_RANK" in os.environ


def _follow(command: list[str], environment: dict[str, str]) -> int:
    """Runs horovodrun, prints what its workers print, and returns the exit code.

    horovodrun answers every failure with a traceback of its own and code 1, so its own words are only
    printed when no worker said what is wrong. All workers say it, so each message is printed once.
    """
    stopping: list[int] = []
    running: list[subprocess.Popen[str]] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopping.append(number)
        for process in running:
            process.terminate()

    signal.signal(signal.SIGTERM, stop)  # before the start: nothing may fall between
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running.append(process)
    if stopping:
        process.terminate()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches horovodrun, too, which ends its workers
    own_words, errors = _pass_on(process)
    code = process.wait()
    if code and not errors and not stopping:
        sys.stderr.writelines(own_words)
    if errors:
        return 2
    return 128 + stopping[0] if stopping else code


def _pass_on(process: subprocess.Popen[str]) -> tuple[list[str], set[str]]:
    """Prints the workers' lines without marks; returns horovodrun's own lines and the error messages."""
    own_words: list[str] = []
    errors: set[str] = set()
    assert process.stdout is not None
    for line in process.stdout:
        match = WORKER_LINE.match(line)
        if match is None:
            own_words.append(line)
            continue
        text = match[2]
        if text in errors:
            continue
        if text.startswith(ERROR):
            errors.add(text)
        stream = sys.stdout if match[1] == "stdout" else sys.stderr
        stream.write(text)
        stream.flush()
    return own_words, errors
