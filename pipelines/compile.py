"""`python -m pipelines.compile`: writes training.yaml and ablation.yaml for Kubeflow Pipelines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer
from kfp.compiler import Compiler

from components.image import image as default_image
from pipelines.program import new_app, run_program
from upsnet.errors import UpsnetError
from upsnet.storage import write_file

PIPELINES = ("training", "ablation")
LauncherKind = Literal["local", "mpijob"]

app = new_app("Compile the pipelines.")


@app.command()
def compile_all(
    out: Annotated[Path, typer.Option(help="Folder of training.yaml and ablation.yaml.")] = Path("."),
    image: Annotated[str, typer.Option(envvar="UPSNET_IMAGE", help="Image of the steps.")] = "",
    launcher: Annotated[
        LauncherKind, typer.Option(help="local: the step's own pod trains, and has the GPUs.")
    ] = "mpijob",
) -> None:
    """Write training.yaml and ablation.yaml."""
    for name in PIPELINES:
        print(f"wrote {compile_pipeline(name, out / f'{name}.yaml', image, launcher)}")


def compile_pipeline(name: str, path: Path, image: str = "", launcher: LauncherKind = "mpijob") -> Path:
    """Compiles a pipeline to a file, which appears whole or not at all, and returns its path.

    Args:
        name: of `PIPELINES`.
        path: `.yaml`.
        image: default of the pipeline's parameter; empty: UPSNET_IMAGE, else the project's name of it.
        launcher: who has the GPUs and other settings of the step `train`: its MPIJob's pods, or its own.

    Raises:
        UpsnetError: no such pipeline, or the file cannot be written.
    """
    from pipelines.ablation import build_ablation
    from pipelines.training import build_training

    builders = {"training": build_training, "ablation": build_ablation}
    if name not in builders:
        raise UpsnetError(f"pipeline {name!r}: there is none; expected {' or '.join(PIPELINES)}")
    pipeline = builders[name](in_pod=launcher == "local")
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        Compiler().compile(pipeline, str(compiled), pipeline_parameters={"image": image or default_image()})
        write_file(compiled.read_bytes(), path)
    return path


if __name__ == "__main__":
    run_program(app)
