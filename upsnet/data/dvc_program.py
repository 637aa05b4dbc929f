"""Runs DVC in a project, and says in one message why it could not. This is the only file that runs DVC."""

from __future__ import annotations

import codecs
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from upsnet.errors import DataError

ADD_REMOTE = "dvc remote add -d storage s3://BUCKET/FOLDER (or a folder that all machines see)"
KNOWN_FAILURES = (
    (
        r"no remote specified|no default remote|without any remotes",
        f"no DVC remote is configured; name one: '{ADD_REMOTE}', and commit .dvc/config",
    ),
    (
        r"Unable to locate credentials|NoCredentialsError",
        "there are no credentials for the DVC remote; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "AWS_PROFILE",
    ),
    (
        r"ExpiredToken|token.{0,20}expired",
        "the credentials for the DVC remote have expired; get new ones and repeat the command",
    ),
    (
        r"SignatureDoesNotMatch|InvalidAccessKeyId|AccessDenied|Access Denied|Forbidden|PermissionError",
        "the DVC remote refuses these credentials; see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE",
    ),
    (
        r"NoSuchBucket|[Bb]ucket does not exist",
        "the DVC remote's bucket does not exist; make it, or mend the address with 'dvc remote modify'",
    ),
    (
        r"Could not connect to the endpoint URL|EndpointConnectionError|Name or service not known",
        "the DVC remote does not answer; see AWS_ENDPOINT_URL and 'dvc remote list', then repeat the command",
    ),
    (
        r"missing-files|Missing cache files",
        "the DVC remote lacks some of what dvc.lock names; 'make data-push' where it was made, or make it "
        "here: 'make run'",
    ),
)
"""What DVC prints, and what that means."""


def run_dvc(project: Path, *arguments: str) -> str:
    """Runs DVC in the project, whose stages find this interpreter and the project's own code.

    Returns:
        What it printed.

    Raises:
        DataError: DVC is not installed, or failed.
    """
    if importlib.util.find_spec("dvc") is None:
        raise DataError("DVC is not installed; install it with 'make setup', or prepare without a remote")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PYTHONPATH": f"{project}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"),
        "DVC_IGNORE_ISATTY": str(sys.stdout.isatty()).lower(),  # progress bars for a person
    }
    code, said = _run([sys.executable, "-m", "dvc", *arguments], project, environment)
    if code != 0:
        raise DataError(f"dvc {' '.join(arguments)}: {_explain(said)}")
    return said


def run_program(command: list[str], where: str) -> str:
    """Runs a program, passes on what it prints and returns it.

    Raises:
        DataError: it failed; `where` says at what.
    """
    code, said = _run(command)
    if code != 0:
        raise DataError(f"{where}: failed:\n{_end(said)}")
    return said


def _run(
    command: list[str], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and output, which is passed on as it comes: a progress bar has no lines."""
    said, decoder = "", codecs.getincrementaldecoder("utf-8")(errors="replace")
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    ) as process:
        assert process.stdout is not None
        while chunk := process.stdout.read(65536):
            text = decoder.decode(chunk)
            said += text
            print(text, end="", flush=True)
    return process.returncode, re.sub(r"[^\n]*\r", "", said)


def _explain(said: str) -> str:
    """What is wrong and what to do, by the words of DVC; what a stage said goes before."""
    if "Running stage" not in said:
        for pattern, meaning in KNOWN_FAILURES:
            if re.search(pattern, said):
                return meaning
    return f"failed:\n{_end(said)}"


def _end(said: str) -> str:
    return "\n".join(said.strip().splitlines()[-20:])


def has_remote(project: Path) -> bool:
    """Whether the project has a default remote."""
    if importlib.util.find_spec("dvc") is None:
        return False
    from configobj import ConfigObj

    files = [project / ".dvc" / name for name in ("config", "config.local")]
    return any("remote" in ConfigObj(str(file)).get("core", {}) for file in files)
