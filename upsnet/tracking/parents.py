"""An ablation in MLflow: one parent, its runs as flat children below it, tables and pictures of all on it."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from upsnet.tracking.connection import mlflow_client, tracking_place, tracking_uri
from upsnet.tracking.names import first_line, legal_name
from upsnet.tracking.outbox import new_key
from upsnet.tracking.run_file import read_run_id, write_run_id
from upsnet.tracking.runs import PARENT_TAG, make_run, take_up

logger = logging.getLogger(__name__)

ABLATION_TAG = "ablation"
"""On every child, the name of its parent: what the UI filters by."""
SHOWN_STRIPS = 4
"""Images whose strips go to the parent."""


def group_runs(
    name: str,
    children: Sequence[str],
    *,
    run_file: Path,
    tags: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[Path] = (),
) -> str:
    """Puts runs below a parent, which gets the table of them, files, and the strips of all side by side.

    Args:
        name: of the parent.
        children: ids of the runs; those that MLflow does not know are named in a warning.
        run_file: with the id of the parent, which a second call fills again.
        tags: of the parent.
        rows: the table.
        files: stored with the parent.

    Returns:
        Id of the parent; empty without children, or where MLflow cannot be used, which is a warning.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        client = mlflow_client()
        known = [run for run in dict.fromkeys(children) if run and take_up(client, run, running=False)]
        if len(known) < len(set(children)) or not known:
            logger.warning(
                "MLflow at %s has %d of the %d runs of %r; 'upsnet sync' brings those that it missed",
                *(tracking_place(), len(known), len(set(children)), name),
            )
        if not known:
            return ""
        parent = _parent(client, name, known[0], run_file)
        for child in known:
            if child != parent:
                client.set_tag(child, PARENT_TAG, parent)
                client.set_tag(child, ABLATION_TAG, name)
        for key, value in {"kind": "ablation", **tags}.items():
            client.set_tag(parent, legal_name(key), str(value)[:5000])
        for file in files:
            client.log_artifact(parent, str(file))
        _show(client, parent, known, rows)
        client.set_terminated(parent, "FINISHED")
    except Exception as error:
        logger.warning("MLflow cannot be used, %r is not logged as a run: %s", name, first_line(error))
        return ""
    return parent


def show_children(parent: str, children: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Gives a parent that `open_run` opened the table of its children, and the strips of all side by side.

    What MLflow refuses is a warning; without a run id, nothing happens.
    """
    if not parent:
        return
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        _show(mlflow_client(), parent, children, rows)
    except Exception as error:
        logger.warning("MLflow cannot be used, run %s has no table: %s", parent, first_line(error))


def _show(client: Any, parent: str, children: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    _log_rows(client, parent, rows, "comparison.json")
    _gather_strips(client, parent, children)


def _log_rows(client: Any, run_id: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Stores rows as a table that the UI shows, in the place of one of the same name."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    client.log_dict(run_id, {"columns": columns, "data": [[r.get(c) for c in columns] for r in rows]}, name)
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": name, "type": "table"}]))


def _gather_strips(client: Any, parent: str, children: Sequence[str]) -> None:
    """Copies strips of the same few images from the children: `strips/<image>/<number> <child>.png`."""
    pictures = {child: _strips(client, child) for child in children}
    shown = [names for names in pictures.values() if names]
    common = sorted(set.intersection(*map(set, shown))) if shown else []
    with tempfile.TemporaryDirectory() as folder:
        for number, (child, names) in enumerate(pictures.items()):
            title = client.get_run(child).info.run_name.replace("/", "_")
            for image in [name for name in common[:SHOWN_STRIPS] if name in names]:
                source = client.download_artifacts(child, f"strips/{image}", folder)
                target = Path(folder) / f"{number:02d} {title}.png"
                os.replace(source, target)
                client.log_artifact(parent, str(target), f"strips/{Path(image).stem}")


def _strips(client: Any, run_id: str) -> list[str]:
    files = client.list_artifacts(run_id, "strips")
    return [Path(file.path).name for file in files if not file.is_dir]


def _parent(client: Any, name: str, child: str, run_file: Path) -> str:
    """The parent of an earlier call, or a new one in the experiment of the children."""
    run_id = read_run_id(run_file, tracking_uri())
    if run_id and take_up(client, run_id):
        return run_id
    first = client.get_run(child).info
    experiment = client.get_experiment(first.experiment_id).name
    run_id = make_run(client, experiment, name, new_key(), first.start_time)
    write_run_id(run_file, run_id, tracking_uri())
    return run_id
