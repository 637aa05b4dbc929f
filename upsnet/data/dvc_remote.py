"""`make data-push` and `make data-pull`: data and results of dvc.lock to the DVC remote and back.

With them goes DVC's run cache: what any run made of the same inputs, which `make run` then takes, too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from upsnet.data.dvc_lock import LOCK, locked_stages
from upsnet.data.dvc_program import ADD_REMOTE, has_remote, run_dvc
from upsnet.errors import DataError, UpsnetError


def push(project: Path) -> None:
    """Brings to the remote what dvc.lock names and the remote does not have.

    Raises:
        DataError: there is nothing to push, no remote, or it cannot be written.
    """
    stages = _check(project, "run 'make run' first, or 'dvc repro prepare' for the data only")
    run_dvc(project, "push", "--run-cache", *stages)


def pull(project: Path) -> None:
    """Fetches what dvc.lock names, which may be the prepared data only.

    Raises:
        DataError: there is no dvc.lock, no remote, or it cannot be read or lacks something.
    """
    stages = _check(project, "take it from git: who pushed the data has to commit it")
    run_dvc(project, "pull", "--run-cache", *stages)


def _check(project: Path, way_to_lock: str) -> list[str]:
    """The stages that dvc.lock has results of."""
    if not has_remote(project):
        raise DataError(f"no DVC remote is configured; name one: '{ADD_REMOTE}', and commit .dvc/config")
    stages = list(locked_stages(project))
    if not stages:
        raise DataError(f"there is no {LOCK}, which names data and results; {way_to_lock}")
    return stages


def main(arguments: list[str]) -> int:
    """Runs `push` or `pull` here; returns the exit code."""
    try:
        {"push": push, "pull": pull}[arguments[0]](Path.cwd())
    except UpsnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
