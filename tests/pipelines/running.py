"""Runs the commands of pipelines/ as the command line does, in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from pipelines.program import run_program

VARIABLES = ("HOST", "TOKEN", "TOKEN_FILE", "COOKIE", "COOKIE_FILE")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run_command(app: typer.Typer, *arguments: object) -> Ended:
    """Runs a command with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with pytest.MonkeyPatch.context() as patch, streams[0], streams[1]:
        patch.setattr(sys, "argv", ["command", *map(str, arguments)])
        try:
            run_program(app)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def clean_environment(patch: pytest.MonkeyPatch) -> None:
    """Takes away what the commands would read from the environment of whoever runs the tests."""
    names = [f"KFP_{name}" for name in VARIABLES] + ["KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"]
    names += ["UPSNET_NAMESPACE", "UPSNET_IMAGE", "MLFLOW_TRACKING_URI", "KUBERNETES_SERVICE_HOST"]
    for name in names:
        patch.delenv(name, raising=False)
    patch.setenv("NO_PROXY", "127.0.0.1")


def write_kubeconfig(path: Path, url: str) -> Path:
    """A kubeconfig whose one context is the API at `url`."""
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
        f"clusters: [{{name: test, cluster: {{server: '{url}'}}}}]\n"
        "users: [{name: ann, user: {token: a-token-of-ann}}]\n"
        "contexts: [{name: test, context: {cluster: test, user: ann}}]\n"
    )
    return path
