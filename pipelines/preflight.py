"""`python -m pipelines.preflight`: is everything there that a run needs, and what to do about the rest?

It only looks; nothing in the cluster is changed. Every check has a time limit and needs no other check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from pipelines import cluster_checks as looks
from pipelines import permission_checks, service_checks
from pipelines.checks import NO_CLUSTER, Check, Finding, run_checks
from pipelines.cluster import Cluster, ClusterUnreachableError
from pipelines.connection import Connection
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
    new_console,
    run_program,
)

STYLES = {"ok": "green", "wrong": "bold red", "warning": "yellow", "not checked": "dim"}

app = new_app("Look whether everything is there that a run on Kubeflow needs.")


@app.command()
def preflight(
    host: Host = "",
    token: Token = "",
    token_file: TokenFile = None,
    cookie: Cookie = "",
    cookie_file: CookieFile = None,
    namespace: Namespace = NAMESPACE,
    context: Annotated[str, typer.Option(help="Context of the kubeconfig; default: the current one.")] = "",
    image: Annotated[str, typer.Option(envvar="UPSNET_IMAGE", help="Image of the steps.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Pods of a training.")] = 1,
    gpus_per_worker: Annotated[int, typer.Option(min=0, help="GPUs of each of them.")] = 0,
    mlflow_url: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow, as seen from here.")
    ] = "",
    bucket: Annotated[str, typer.Option(help="s3://NAME; default: that of MLflow in the cluster.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Longest time in seconds for all checks.")] = 20,
) -> None:
    """Check the cluster, and exit with 2 if something that a run needs is wrong."""
    kfp = connection(host, token, token_file, cookie, cookie_file) if host else None
    checks: list[Check] = [
        *_cluster_checks(context, namespace, kfp, workers, gpus_per_worker, bucket, timeout),
        ("image", partial(service_checks.check_image, image or _default_image())),
        ("Kubeflow Pipelines", partial(service_checks.check_pipelines, kfp, timeout)),
        ("MLflow from here", partial(service_checks.check_mlflow, mlflow_url, timeout)),
    ]
    findings = without_repetition(run_checks(checks, timeout))
    show(findings, new_console())
    if any(finding.status == "wrong" for finding in findings):
        raise typer.Exit(2)


def _cluster_checks(
    context: str,
    namespace: str,
    kfp: Connection | None,
    workers: int,
    gpus_per_worker: int,
    bucket: str,
    timeout_s: float,
) -> list[Check]:
    """The checks that ask Kubernetes; one alone where no cluster is configured."""
    try:
        cluster = Cluster(context, 0.8 * timeout_s)  # a request ends before its check does, and says why
    except ClusterUnreachableError as error:
        finding = Finding("Kubernetes API", "wrong", str(error), "all checks in the cluster were left out")
        return [("Kubernetes API", lambda: [finding])]

    def look_at_bucket() -> list[Finding]:
        place = bucket or looks.artifact_folder(cluster, namespace)
        credentials = looks.secret_values(cluster, namespace, "s3-credentials") if place else {}
        if place.startswith("s3:") and not bucket and not credentials:  # those of this machine are not meant
            how = "--bucket s3://NAME looks with the credentials of this machine"
            return [Finding("bucket", "not checked", "secret s3-credentials cannot be read", how)]
        return service_checks.check_bucket(place, credentials, timeout_s)

    return [
        ("Kubernetes API", partial(looks.check_api, cluster)),
        ("MPIJob (mpi-operator)", partial(looks.check_crd, cluster)),
        (f"namespace {namespace}", partial(looks.check_namespace, cluster, namespace)),
        (
            "namespace of the runs",
            partial(service_checks.check_pods_namespace, kfp, cluster, namespace, timeout_s),
        ),
        ("your permissions", partial(permission_checks.check_own_permissions, cluster, namespace)),
        (
            f"permissions of {looks.STEPS_ACCOUNT}",
            partial(permission_checks.check_steps_permissions, cluster, namespace),
        ),
        *(
            (f"secret {name}", partial(looks.check_secret, cluster, namespace, name))
            for name in looks.SECRETS
        ),
        (f"volume {looks.DATA_VOLUME}", partial(looks.check_volume, cluster, namespace, workers)),
        ("GPUs", partial(looks.check_gpus, cluster, workers, gpus_per_worker)),
        ("MLflow in the cluster", partial(looks.check_mlflow_service, cluster, namespace)),
        ("bucket", look_at_bucket),
    ]


def without_repetition(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, where a Kubernetes API that does not answer is one fault and not one per check."""
    down = any(f.subject == "Kubernetes API" and f.status == "wrong" for f in findings)
    return [
        replace(f, status="not checked", remedy="") if down and f.found == NO_CLUSTER else f for f in findings
    ]


def show(findings: Sequence[Finding], console: Console) -> None:
    """Prints the findings as a table, and how many are wrong."""
    table = Table("what", "state", Column("found", overflow="fold"), Column("what to do", overflow="fold"))
    for f in findings:
        table.add_row(f.subject, Text(f.status, STYLES[f.status]), Text(f.found), Text(f.remedy))
    console.print(table)
    counts = [
        sum(f.status == status for f in findings) for status in ("ok", "wrong", "warning", "not checked")
    ]
    console.print("{} ok, {} wrong, {} warnings, {} not checked".format(*counts), highlight=False)


def _default_image() -> str:
    from components.image import image

    return image()


if __name__ == "__main__":
    run_program(app)
