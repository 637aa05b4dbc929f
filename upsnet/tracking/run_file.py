"""The file that holds the id of an MLflow run, so that a later process goes on with the same run."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path


def read_run_id(run_file: Path, uri: str) -> str:
    """The run id in the file; empty if there is none, or if it is of another MLflow."""
    try:
        content = json.loads(run_file.read_text(encoding="utf-8"))
        return str(content["run_id"]) if content["server"] == server_key(uri) else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def write_run_id(run_file: Path, run_id: str, uri: str) -> None:
    run_file.parent.mkdir(parents=True, exist_ok=True)
    part = run_file.with_name(run_file.name + ".part")
    part.write_text(json.dumps({"run_id": run_id, "server": server_key(uri)}) + "\n", encoding="utf-8")
    os.replace(part, run_file)


def server_key(uri: str) -> str:
    """Tells servers apart in the run file; not the address itself, which may hold a password."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]
