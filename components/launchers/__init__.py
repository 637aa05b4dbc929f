"""The Horovod launchers: the same training in processes of this machine, or in pods of an MPIJob.

A TrainJob back end would be a third class with the same method `run`.
"""

from __future__ import annotations

from typing import Literal

from components.launchers.job import Launcher, LaunchError, TrainingJob

__all__ = ["LaunchError", "Launcher", "TrainingJob", "launcher"]


def launcher(kind: Literal["local", "mpijob"]) -> Launcher:
    """The launcher of a kind.

    Raises:
        LaunchError: there is no such kind.
    """
    if kind == "local":
        from components.launchers.local import LocalLauncher

        return LocalLauncher()
    if kind == "mpijob":
        from components.launchers.mpijob import MpiJobLauncher

        return MpiJobLauncher()
    raise LaunchError(f"launcher: found {kind!r}, expected 'local' or 'mpijob'")
