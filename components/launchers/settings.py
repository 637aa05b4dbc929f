"""Every bound and pause of the mpijob launcher, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LauncherSettings:
    """How long the launcher waits for what, in seconds.

    Attributes:
        namespace: of the MPIJob; default: that of this pod, or of the kubeconfig's context.
        poll_s: pause between two looks at the job.
        request_timeout_s: for one answer of the API server; below the 30 s that a pod has to end.
        api_patience_s: how long an API server that does not answer is asked again.
        api_pause_s: first pause before that; it doubles up to `api_longest_pause_s`.
        log_idle_s: silence after which a log stream is opened anew, as it may be dead.
        log_drain_s: for the rest of the log of a launcher pod that has ended.
        delete_timeout_s: for a deleted MPIJob and its pods to be gone.
        ssh_wait_s: for ssh to every worker, in the launcher's start script.
        keep_s: how long the operator keeps a finished MPIJob that nobody deleted.
    """

    namespace: str = ""
    poll_s: float = 2.0
    request_timeout_s: float = 10.0
    api_patience_s: float = 180.0
    api_pause_s: float = 0.5
    api_longest_pause_s: float = 10.0
    log_idle_s: float = 120.0
    log_drain_s: float = 15.0
    delete_timeout_s: float = 60.0
    ssh_wait_s: int = 300
    keep_s: int = 3600
