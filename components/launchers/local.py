"""The launcher for one machine: horovodrun in this pod or laptop, through `upsnet train --workers N`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from typing import IO

from components.launchers.job import LaunchError, TrainingJob
from components.launchers.signals import StopSignals

STOP_S = 30.0
"""How long a training has to end after SIGTERM before it is killed."""


class LocalLauncher:
    """Runs the ranks as processes of this machine; image, secrets and pod settings do not apply."""

    def __init__(self, poll_s: float = 0.2, stop_s: float = STOP_S) -> None:
        self._poll_s = poll_s
        self._stop_s = stop_s

    def run(self, job: TrainingJob) -> None:
        """See `Launcher.run`."""
        with StopSignals() as signals:
            process = subprocess.Popen(
                _command(job),
                env={**os.environ, **job.environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on
            )
            assert process.stdout is not None
            tail: deque[str] = deque(maxlen=50)
            reader = threading.Thread(target=_pass_on, args=(process.stdout, tail), daemon=True)
            reader.start()
            try:
                code = self._wait(process, job, signals)
            finally:
                self._stop(process)
                reader.join(self._stop_s)
        if code is None:
            raise LaunchError(
                f"training {job.name}: not done after {job.timeout_s} s", log_tail="".join(tail)
            )
        if code != 0:
            message = f"training {job.name}: failed with exit code {code}"
            raise LaunchError(message, exit_code=code, log_tail="".join(tail))

    def _wait(self, process: subprocess.Popen[str], job: TrainingJob, signals: StopSignals) -> int | None:
        """The exit code, or None when the time is over."""
        deadline = time.monotonic() + job.timeout_s
        while (code := process.poll()) is None and time.monotonic() < deadline:
            signals.pause(self._poll_s)
        return code

    def _stop(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is not None:
            return
        process.terminate()  # upsnet train passes it on to horovodrun, which ends the ranks
        try:
            process.wait(self._stop_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait(self._stop_s)


def _command(job: TrainingJob) -> list[str]:
    """The command line with this interpreter, which need not have `upsnet` on its PATH."""
    program, *arguments = job.rank_command
    start = [sys.executable, "-m", "upsnet.cli"] if program == "upsnet" else [program]
    return [*start, *arguments, *(["--workers", str(job.ranks)] if program == "upsnet" else [])]


def _pass_on(lines: IO[str], tail: deque[str]) -> None:
    for line in lines:
        tail.append(line)
        sys.stdout.write(line)
        sys.stdout.flush()
