"""What every Horovod launcher is asked to run, and how it says that this went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from upsnet.errors import UpsnetError

TAIL_LINES = 20
"""Lines of the log that end the message of a failed training."""


@dataclass(frozen=True)
class TrainingJob:
    """One training, and where its Horovod workers run.

    Attributes:
        name: what is trained, such as a variant; with `run_id` it makes the name of the MPIJob.
        command: the `upsnet train ...` command line of one rank, without launcher.
        workers: pods; `slots_per_worker` ranks run in each.
        image: container image of the workers and of mpirun (mpijob only).
        gpus_per_worker: 0 for none, or for what `task_config` says.
        environment: reaches every rank; no credentials, which come from `secret_names`.
        secret_names: Kubernetes Secrets; each key becomes a variable of every rank (mpijob only).
        task_config: `dsl.TaskConfig` of the step as a dict: GPUs, tolerations, volumes ... (mpijob only).
        start_timeout_s: longest time without running ranks (mpijob only).
        timeout_s: longest time from the creation to the end.
        backoff_limit: how often a failed training is started again, from its newest checkpoint (mpijob only).
        run_id: the pipeline run it belongs to; default: `name`.
    """

    name: str
    command: tuple[str, ...]
    workers: int = 1
    slots_per_worker: int = 1
    image: str = ""
    gpus_per_worker: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_names: tuple[str, ...] = ()
    task_config: Mapping[str, Any] | None = None
    start_timeout_s: int = 900
    timeout_s: int = 24 * 3600
    backoff_limit: int = 3
    run_id: str = ""

    def __post_init__(self) -> None:
        """Whole numbers become integers: inside lists and dicts, the pipeline hands all on as floats."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, float) and value.is_integer():
                object.__setattr__(self, entry.name, int(value))

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return self.workers * self.slots_per_worker

    @property
    def rank_command(self) -> tuple[str, ...]:
        """The command line of one rank, which refuses to train in another number of processes."""
        return (*self.command, "--expect-workers", str(self.ranks))


class Launcher(Protocol):
    """Runs a training in several processes."""

    def run(self, job: TrainingJob) -> None:
        """Runs the training to its end, and leaves nothing behind.

        Raises:
            LaunchError: it could not be started, failed, or took too long.
            SystemExit: with 128 + the signal's number after SIGTERM or SIGINT.
        """


class LaunchError(UpsnetError):
    """A training that could not be started, failed or took too long.

    Attributes:
        exit_code: of the training's process, where there was one.
        log_tail: the last lines of its log.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, log_tail: str = "") -> None:
        last_lines = "\n  ".join(log_tail.splitlines()[-TAIL_LINES:])
        super().__init__(f"{message}; the log ended with:\n  {last_lines}" if last_lines else message)
        self.exit_code = exit_code
        self.log_tail = log_tail
