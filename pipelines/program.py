"""What the commands on Kubeflow share: how they start and end, and the options that say where it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.connection import Connection, read_secret
from upsnet.errors import UpsnetError

NAMESPACE = "upsnet"

Host = Annotated[
    str,
    typer.Option(
        envvar=["KFP_HOST", "KF_PIPELINES_ENDPOINT"],
        help="Address of Kubeflow Pipelines, such as http://localhost:8080 or https://HOST/pipeline.",
    ),
]
Token = Annotated[
    str,
    typer.Option(envvar="KFP_TOKEN", help="Bearer token; others on this machine may see it: rather a file."),
]
TokenFile = Annotated[Path | None, typer.Option(envvar="KFP_TOKEN_FILE", help="File with the bearer token.")]
Cookie = Annotated[str, typer.Option(envvar="KFP_COOKIE", help="Cookie of a login, NAME=VALUE.")]
CookieFile = Annotated[Path | None, typer.Option(envvar="KFP_COOKIE_FILE", help="File with the cookie.")]
Namespace = Annotated[str, typer.Option(envvar="UPSNET_NAMESPACE", help="Namespace of the runs' pods.")]


def new_app(help_text: str) -> typer.Typer:
    """A program of one command, set up as `upsnet` is."""
    return typer.Typer(
        help=help_text, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )


def run_program(app: typer.Typer) -> None:
    """Runs the command; bad input ends with its one message and exit code 2."""
    try:
        app()
    except UpsnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def connection(
    host: str, token: str, token_file: Path | None, cookie: str, cookie_file: Path | None
) -> Connection:
    """Host and credentials from the options."""
    if not host:
        raise UpsnetError(
            "where is Kubeflow Pipelines? Give --host or set KFP_HOST. From outside the cluster: "
            "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80, then --host http://localhost:8080"
        )
    return Connection(
        host, read_secret(token, token_file, "--token"), read_secret(cookie, cookie_file, "--cookie")
    )


def new_console() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 120)
