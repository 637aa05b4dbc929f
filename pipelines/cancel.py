"""`python -m pipelines.cancel RUN_ID`: ends a run of Kubeflow Pipelines and removes its MPIJobs.

Ending the run alone may leave MPIJobs behind: their launcher's process is killed in the middle of its work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from components.launchers.naming import RUN_ID
from pipelines.client import (
    NotFoundError,
    PipelinesClient,
    PipelinesError,
    Run,
    UnreachableError,
    check_run_id,
)
from pipelines.cluster import Cluster, ClusterError, ClusterUnreachableError
from pipelines.program import (
    NAMESPACE,
    Cookie,
    CookieFile,
    Host,
    Namespace,
    Token,
    TokenFile,
    connection,
    new_app,
    run_program,
)
from upsnet.errors import UpsnetError

app = new_app("End a run of Kubeflow Pipelines and remove its MPIJobs.")


@app.command()
def cancel(
    run_id: Annotated[str, typer.Argument(help="Id of the run, as submit printed it.")],
    host: Host = "",
    token: Token = "",
    token_file: TokenFile = None,
    cookie: Cookie = "",
    cookie_file: CookieFile = None,
    namespace: Namespace = NAMESPACE,
    context: Annotated[str, typer.Option(help="Context of the kubeconfig; default: the current one.")] = "",
    timeout: Annotated[
        float, typer.Option(min=0, help="Longest wait in seconds for each of the ends.")
    ] = 180,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks.")] = 2,
) -> None:
    """End a run and remove its MPIJobs; may be repeated at will."""
    client = PipelinesClient(connection(host, token, token_file, cookie, cookie_file))
    known = end_run(client, check_run_id(run_id), timeout_s=timeout, interval_s=interval)
    try:
        removed = remove_mpijobs(
            Cluster(context), namespace, run_id, timeout_s=timeout, interval_s=interval, say=print
        )
    except ClusterError as error:
        raise UpsnetError(
            f"{error}\nMPIJobs of the run may still be there; repeat this command, or look with "
            f"'kubectl -n {namespace} get mpijobs' and delete them"
        ) from error
    if not removed:
        print(f"no MPIJob of this run is in namespace {namespace}")
    if not known and not removed:
        raise UpsnetError(f"there is neither a run {run_id} nor an MPIJob with {RUN_ID}={run_id}")


def end_run(client: PipelinesClient, run_id: str, *, timeout_s: float, interval_s: float) -> bool:
    """Ends a run, says so, and waits until its steps can make no more MPIJobs; False if nobody knows it.

    Raises:
        PipelinesError: Kubeflow Pipelines does not answer or refuses.
    """
    try:
        run = client.run(run_id)
    except NotFoundError:
        print(f"run {run_id}: Kubeflow Pipelines does not know it; looking for its MPIJobs")
        return False
    if run.ended:
        print(f"run {run_id}: had ended already ({run.state.lower()})")
        return True
    _terminate(client, run)
    state = "CANCELING"

    def over() -> bool:
        nonlocal state
        try:
            found = client.run(run_id)
        except UnreachableError:
            return False
        state = found.state
        return found.ended

    if _wait(over, timeout_s, interval_s):
        print(f"run {run_id}: ended ({state.lower()})")
    else:
        print(f"run {run_id}: told to end, still {state.lower()} after {timeout_s:g} s; going on")
    return True


def _terminate(client: PipelinesClient, run: Run) -> None:
    """Tells a run to end, unless it does so already."""
    if run.state == "CANCELING":
        return
    try:
        client.terminate(run.run_id)
    except PipelinesError:
        now = client.run(run.run_id)
        if not now.ended and now.state != "CANCELING":  # else it ended between our two questions
            raise


def remove_mpijobs(
    cluster: Cluster,
    namespace: str,
    run_id: str,
    *,
    timeout_s: float,
    interval_s: float,
    say: Callable[[str], None],
) -> list[str]:
    """Deletes the MPIJobs of a run, pods first, waits until they are gone, and returns their names.

    Raises:
        ClusterError: Kubernetes does not answer or refuses, or an MPIJob is still there in the end.
    """
    told: list[str] = []
    left: list[str] = []
    trouble: list[ClusterUnreachableError] = []

    def gone() -> bool:
        try:
            jobs = cluster.mpijobs(namespace, run_id)
            left[:] = [job.name for job in jobs]
            for job in jobs:
                if job.name not in told:
                    if not job.ending:
                        cluster.delete_mpijob(namespace, job.name)
                    told.append(job.name)
                    say(f"MPIJob {job.name}: told to end, its pods first")
        except ClusterUnreachableError as error:
            if not trouble:
                say(f"{error}; trying again")
            trouble[:] = [error]
            return False
        trouble.clear()
        return not left

    if _wait(gone, timeout_s, interval_s):
        for name in told:
            say(f"MPIJob {name}: removed")
        return told
    if trouble:
        raise trouble[0]
    raise ClusterError(f"still there after {timeout_s:g} s: MPIJob {', '.join(left)}")


def _wait(done: Callable[[], bool], timeout_s: float, interval_s: float) -> bool:
    """Asks until the answer is yes; False if it never is within the time."""
    end = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() >= end:
            return False
        time.sleep(interval_s)
    return True


if __name__ == "__main__":
    run_program(app)
