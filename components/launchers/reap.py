"""Deletes the MPIJobs whose pipeline step is no more: `python -m components.launchers.reap --namespace N`.

A step that is killed cannot take its job away, and its pod may stay for days as a record. A CronJob calls
this.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from components.launchers import naming
from components.launchers.cluster import Cluster, Resource
from components.launchers.settings import LauncherSettings
from upsnet.errors import UpsnetError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def reap(
    namespace: Annotated[str, typer.Option(help="Default: that of this pod or of the kubeconfig.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for the API server.")] = 60.0,
) -> None:
    """Delete the MPIJobs whose pipeline step has ended or is gone."""
    cluster = Cluster(LauncherSettings(namespace=namespace, api_patience_s=patience))
    jobs = cluster.mpijobs(f"{naming.MANAGED_BY}=upsnet,{naming.OWNER_POD}")
    orphans = [(job, why) for job in jobs if (why := orphaned(cluster, job))]
    for job, why in orphans:
        name = job["metadata"]["name"]
        # A new attempt of the step may have adopted it since: then it has changed, and stays.
        done = (
            "would delete"
            if dry_run
            else "deleted"
            if cluster.delete(job, unchanged=True)
            else "left, changed:"
        )
        print(f"{done} MPIJob {name}: {why}")
    print(f"{len(jobs)} MPIJob(s) of pipeline steps, {len(orphans)} without one")


def orphaned(cluster: Cluster, job: Resource) -> str:
    """Why nobody waits for an MPIJob any more; empty while its step's pod lives, or it is being deleted."""
    metadata = job["metadata"]
    if "deletionTimestamp" in metadata:
        return ""
    marks = metadata.get("annotations", {})
    name = marks.get(naming.OWNER_POD) or metadata["labels"][naming.OWNER_POD]
    pod = cluster.pod(name)
    if pod is None or pod["metadata"]["uid"] != marks.get(naming.OWNER_UID, pod["metadata"]["uid"]):
        return f"its step's pod {name} is gone"
    phase = pod["status"].get("phase", "")
    return f"its step's pod {name} has ended ({phase})" if phase in ("Succeeded", "Failed") else ""


def main() -> None:
    """Entry point of the program."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        app()
    except UpsnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
