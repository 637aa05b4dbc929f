"""Puts a trained network into MLflow as a model, with all that another machine needs to serve it."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import upsnet
from upsnet.tracking import mlflow_client, tracking_uri
from upsnet.training.checkpoint import read_checkpoint, write_checkpoint

NAME = "model"
"""Of the model in its run: `runs:/<run id>/model`."""
CHECKPOINT = "checkpoint.pt"
ADDRESS_VARIABLE = "MLFLOW_TRACKING_URI"
KEPT = ("model", "iteration", "config", "categories", "data_version", "data_dvc_hash")
"""What inference reads of a checkpoint; the optimizer's part is as large as the network, or larger."""
PACKAGES = (
    *("mlflow", "torch", "torchvision", "numpy", "pillow", "pycocotools", "pydantic", "omegaconf", "pyyaml"),
    *("typer", "rich", "boto3", "pandas", "requests"),
)
"""What serving imports; their versions of this moment are those that a served model gets."""


def log_model(checkpoint: Path, run_id: str) -> str:
    """Logs the network of a checkpoint as a model of a run, whose figures MLflow copies to it.

    Args:
        checkpoint: file.
        run_id: MLflow run that trained it.

    Returns:
        MLflow's id of the model.

    Raises:
        CheckpointError: it is not good.
    """
    content = read_checkpoint(checkpoint)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = mlflow_client()
    import mlflow
    from mlflow.models import Model

    run = client.get_run(run_id)
    model = client.create_logged_model(  # Model.log alone would put it into the default experiment
        run.info.experiment_id, NAME, run_id, params=run.data.params, model_type="panoptic segmentation"
    )
    with tempfile.TemporaryDirectory() as folder, _address_in_environment():
        small = Path(folder) / CHECKPOINT
        write_checkpoint({name: content[name] for name in KEPT if name in content}, small)
        Model.log(
            None,
            mlflow.pyfunc,
            run_id=run_id,
            model_id=model.model_id,
            python_model=str(Path(__file__).with_name("entry.py")),
            artifacts={"checkpoint": str(small)},
            code_paths=[str(Path(upsnet.__file__).parent)],
            pip_requirements=requirements(),
            signature=signature(),
            input_example=input_example(),
        )
    return str(model.model_id)


@contextmanager
def _address_in_environment() -> Iterator[None]:
    """Says where MLflow is to `Model.log`, which takes no address.

    MLflow's `set_tracking_uri` would go before the environment in all that this process does later.
    """
    before = os.environ.get(ADDRESS_VARIABLE)
    os.environ[ADDRESS_VARIABLE] = tracking_uri()
    try:
        yield
    finally:
        if before is None:
            del os.environ[ADDRESS_VARIABLE]
        else:
            os.environ[ADDRESS_VARIABLE] = before


def requirements() -> list[str]:
    """The packages with the versions that are installed here, as pip takes them."""
    pinned = []
    for name in PACKAGES:
        try:
            version = metadata.version(name).partition("+")[0]  # +cpu, +cu130: in no index of packages
        except metadata.PackageNotFoundError:
            continue
        pinned.append(f"{name}=={version}")
    return pinned


def signature() -> Any:
    """What goes in and comes out, as MLflow writes it down and enforces it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    segment = Object(
        [
            Property("segment_id", DataType.long),
            Property("category_id", DataType.long),
            Property("class", DataType.string),
            Property("isthing", DataType.boolean),
            Property("area", DataType.long),
            Property("bbox", Array(DataType.long)),
            Property("score", DataType.double, required=False),
        ]
    )
    columns: list[Any] = [ColSpec(DataType.long, "height"), ColSpec(DataType.long, "width")]
    columns += [ColSpec(Array(segment), "segments"), ColSpec(DataType.string, "panoptic_png")]
    return ModelSignature(Schema([ColSpec(DataType.string, "image")]), Schema(columns))


def input_example() -> Any:
    """A small picture as a request has it."""
    import pandas  # type: ignore[import-untyped]
    from PIL import Image

    file = io.BytesIO()
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(file, "JPEG")
    return pandas.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})
