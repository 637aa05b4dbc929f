"""`python -m pipelines.submit training|ablation`: compiles a pipeline, starts a run of it, waits for its end.

Exit codes: 0 the run succeeded (or was started, with --no-wait), 1 it did not, 2 bad input or a service that
does not answer, 130 after Ctrl-C, which ends the waiting and not the run.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipelines.arguments import pipeline_arguments
from pipelines.client import PipelinesClient, PipelinesError, Run
from pipelines.connection import public_url
from pipelines.package import pipeline_name, read_package, step_names
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
from pipelines.watch import WaitError, step_states, wait_for_run
from upsnet.errors import UpsnetError

LONGEST_WAIT_S = 14 * 24 * 3600.0
SERVICE_ACCOUNT = "upsnet-pipeline"

app = new_app("Start a run on Kubeflow Pipelines and wait for its end.")


@app.command()
def submit(
    pipeline: Annotated[str, typer.Argument(help="training, ablation, or a compiled package (.yaml).")],
    preset: Annotated[str, typer.Option(help="Name in configs/.")] = "",
    variants: Annotated[
        list[str] | None,
        typer.Option(help="Names in configs/variants/: a,b for several networks, a+b for one; upsnet: none."),
    ] = None,
    override: Annotated[list[str] | None, typer.Option(help="section.key=value; may be repeated.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Pods of a training.")] = None,
    gpus_per_worker: Annotated[int | None, typer.Option(min=0, help="GPUs of each of them.")] = None,
    data_source: Annotated[str, typer.Option(help="Git repository that versions the data with DVC.")] = "",
    data_revision: Annotated[str, typer.Option(help="Its revision.")] = "",
    data_remote: Annotated[str, typer.Option(help="DVC remote, such as s3://BUCKET/dvc.")] = "",
    launcher: Annotated[Literal["local", "mpijob"] | None, typer.Option(help="What starts Horovod.")] = None,
    experiment: Annotated[str, typer.Option(help="Experiment in Kubeflow and MLflow.")] = "upsnet",
    parameter: Annotated[
        list[str] | None, typer.Option(help="Any parameter of the pipeline, NAME=VALUE; may be repeated.")
    ] = None,
    image: Annotated[str, typer.Option(envvar="UPSNET_IMAGE", help="Image of the steps.")] = "",
    host: Host = "",
    token: Token = "",
    token_file: TokenFile = None,
    cookie: Cookie = "",
    cookie_file: CookieFile = None,
    namespace: Namespace = NAMESPACE,
    service_account: Annotated[str, typer.Option(help="Service account of the steps.")] = SERVICE_ACCOUNT,
    ui_host: Annotated[
        str, typer.Option(envvar="KF_PIPELINES_UI_ENDPOINT", help="Address of the UI; default: --host.")
    ] = "",
    mlflow_url: Annotated[
        str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow, as seen from here.")
    ] = "",
    wait: Annotated[bool, typer.Option(help="Wait for the end of the run.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Longest wait in seconds.")] = LONGEST_WAIT_S,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks at the run.")] = 5,
) -> None:
    """Compile a pipeline, start a run of it, and wait for its end."""
    client = PipelinesClient(connection(host, token, token_file, cookie, cookie_file))
    package = _package(pipeline, image, launcher)
    options = {
        "preset": preset or None,
        "variants": _split(variants),
        "overrides": override,
        "data_source": data_source or None,
        "data_revision": data_revision or None,
        "data_remote": data_remote or None,
        "workers": workers,
        "gpus_per_worker": gpus_per_worker,
        "launcher": launcher,
    }
    settings = {"experiment": experiment, "image": image or None}
    arguments = pipeline_arguments(package, options, parameter or [], settings)
    run_id = _start(client, package, arguments, experiment, namespace, service_account)
    how_to_cancel = _how_to_cancel(run_id, client.host, namespace)
    print(f"run: {public_url(ui_host or client.host).rstrip('/')}/#/runs/details/{run_id}")
    print(f"MLflow: {_mlflow_place(mlflow_url, namespace)}, experiment {experiment}")
    if not wait:
        print(how_to_cancel)
        return
    raise typer.Exit(_wait(client, run_id, step_names(package), how_to_cancel, timeout, interval))


def _split(variants: Sequence[str] | None) -> list[str] | None:
    """The names one by one; `upsnet`, the preset alone, is an empty name in the pipelines."""
    if variants is None:
        return None
    names = [name.strip() for joined in variants for name in joined.split(",")]
    return ["" if name == "upsnet" else name for name in names if name]


def _package(pipeline: str, image: str, launcher: Literal["local", "mpijob"] | None) -> dict[str, Any]:
    """The compiled pipeline of a name, or of a file."""
    if pipeline.endswith((".yaml", ".yml")):
        return read_package(Path(pipeline))
    from pipelines.compile import compile_pipeline

    with tempfile.TemporaryDirectory() as folder:
        return read_package(
            compile_pipeline(pipeline, Path(folder) / "pipeline.yaml", image, launcher or "mpijob")
        )


def _start(
    client: PipelinesClient,
    package: Mapping[str, Any],
    arguments: Mapping[str, Any],
    experiment: str,
    namespace: str,
    service_account: str,
) -> str:
    """Starts the run and returns its id. Only a Kubeflow of many users knows namespaces."""
    experiment_id = client.experiment_id(experiment, namespace if client.is_multi_user() else "")
    name = f"{pipeline_name(package)} {datetime.now():%Y-%m-%d %H:%M:%S}"
    return client.create_run(name, package, arguments, experiment_id, service_account)


def _wait(
    client: PipelinesClient,
    run_id: str,
    steps: Sequence[str],
    how_to_cancel: str,
    timeout_s: float,
    interval_s: float,
) -> int:
    """Shows the run until its end and returns the exit code."""
    try:
        run = wait_for_run(client, run_id, steps, new_console(), interval_s=interval_s, timeout_s=timeout_s)
    except KeyboardInterrupt:
        print(f"\nstopped waiting; the run goes on. {how_to_cancel}")
        return 130
    except WaitError as error:
        print(f"{error}. {how_to_cancel}", file=sys.stderr)
        return 1
    except PipelinesError as error:  # such as a token that ran out
        raise UpsnetError(f"stopped waiting, the run may go on: {error}. {how_to_cancel}") from error
    if run.state == "SUCCEEDED":
        print("run ended: succeeded")
        return 0
    print(_what_went_wrong(run, steps), file=sys.stderr)
    return 1


def _what_went_wrong(run: Run, steps: Sequence[str]) -> str:
    failed = [f"{name} ({state})" for name, state in step_states(run, steps).items() if "failed" in state]
    lines = [f"run ended: {run.state.lower()}"]
    lines += [f"  failed: {', '.join(failed)}; its log is in the UI, under the run above"] if failed else []
    lines += [f"  {' '.join(run.error.split())[:500]}"] if run.error else []
    return "\n".join(lines)


def _how_to_cancel(run_id: str, host: str, namespace: str) -> str:
    options = f"--host {host}" + (f" --namespace {namespace}" if namespace != NAMESPACE else "")
    return f"To cancel it: python -m pipelines.cancel {run_id} {options}"


def _mlflow_place(url: str, namespace: str) -> str:
    """Where the browser finds MLflow."""
    if url.startswith(("http://", "https://")):
        return f"{public_url(url).rstrip('/')}/#/experiments"
    return f"kubectl -n {namespace} port-forward svc/mlflow 5000:5000, then http://localhost:5000"


if __name__ == "__main__":
    run_program(app)
