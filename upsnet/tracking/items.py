"""One item of an outbox as a call of MLflow's client; each may be made twice without harm."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upsnet.tracking.runs import log_params, set_tags


def send(client: Any, run_id: str, item: Mapping[str, Any], payload: Path) -> None:
    """Makes the call.

    Args:
        client: MLflow's.
        run_id: of the run.
        item: `kind` and what belongs to it.
        payload: file of an `artifact` or `image`.
    """
    kind = item["kind"]
    if kind == "params":
        log_params(client, run_id, item["values"])
    elif kind == "tags":
        set_tags(client, run_id, item["values"])
    elif kind == "artifact" and payload.is_file():
        _log_artifact(client, run_id, payload, item["name"])
    elif kind == "image" and payload.is_file():
        _log_image(client, run_id, payload, item)
    elif kind == "dataset":
        _log_dataset(client, run_id, item)
    elif kind == "end":
        client.set_terminated(run_id, item["status"], item["time"])


def _log_artifact(client: Any, run_id: str, payload: Path, name: str) -> None:
    """Stores the payload under its own name, which MLflow takes from the file's."""
    target = Path(name)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copyfile(payload, Path(folder) / target.name)
        parent = str(target.parent)
        client.log_artifact(run_id, str(copy), parent if parent != "." else None)


def _log_image(client: Any, run_id: str, payload: Path, item: Mapping[str, Any]) -> None:
    """Stores a picture of a series, through which the UI goes by a slider of steps.

    The names are those of MLflow's `log_image`, which ends them with a random id: a second try would leave a
    second picture. So would a resumed training that comes to the same step again.
    """
    from mlflow.tracking.multimedia import compress_image_size
    from PIL import Image

    at_step = f"{item['name'].replace('/', '~')}+step+{item['step']}+"
    place = f"{at_step}timestamp+{item['time']}"
    there = [Path(file.path).name for file in client.list_artifacts(run_id, "images")]
    if any(name.startswith(at_step) and not name.startswith(place) for name in there):
        return
    name = f"{place}+{uuid.uuid5(uuid.NAMESPACE_URL, place)}"
    with Image.open(payload) as picture, tempfile.TemporaryDirectory() as folder:
        full = picture.convert("RGB")
        full.save(Path(folder) / f"{name}.png")
        compress_image_size(full).save(Path(folder) / f"{name}+compressed.webp")
        client.log_artifacts(run_id, folder, "images")
    client.set_tag(run_id, "mlflow.loggedImages", "True")


def _log_dataset(client: Any, run_id: str, item: Mapping[str, Any]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        item["name"], item["digest"], item["source_type"], item["source"], profile=item["profile"]
    )
    tags = [InputTag("mlflow.data.context", item["context"])]
    client.log_inputs(run_id, [DatasetInput(dataset, tags)])
