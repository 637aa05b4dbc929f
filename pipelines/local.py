"""`python -m pipelines.local`: the ablation pipeline on this machine, without cluster and Docker.

The very components that run in pods run here as processes, with Horovod's local launcher.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text
from rich.tree import Tree

from components.plan import plan
from pipelines.program import new_app, new_console, run_program
from upsnet.errors import UpsnetError
from upsnet.tracking import PARENT_TAG, read_runs

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("upsnet", "upsnet_c", "no_roi_loss")
"""Variants whose trainings differ; UPSNet-CP, for one, is UPSNet's training evaluated otherwise."""
SHORT = ("training.iterations=100", "training.steps=[70,90]", "training.warmup_iterations=25")
"""A quick look at each: minutes on a laptop."""

app = new_app("Run the ablation pipeline on this machine.")


@app.command()
def local(
    preset: Annotated[str, typer.Option(help="Name in configs/.")] = "mini",
    variants: Annotated[
        str, typer.Option(help="Names in configs/variants/: a,b; upsnet for none.")
    ] = ",".join(VARIANTS),
    override: Annotated[
        list[str] | None, typer.Option(help="section.key=value; may be repeated. Default: 100 iterations.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, envvar="WORKERS", help="Horovod processes.")] = 2,
    data_source: Annotated[str, typer.Option(help="Git repository that versions the data with DVC.")] = "",
    data_revision: Annotated[str, typer.Option(help="Its revision.")] = "",
    data_remote: Annotated[str, typer.Option(help="DVC remote: a folder, s3://...")] = "",
    experiment: Annotated[str, typer.Option(help="MLflow experiment.")] = "upsnet",
    out: Annotated[Path, typer.Option(help="Folder of all artifacts.")] = Path("runs/pipeline"),
) -> None:
    """Train, evaluate and compare variants, register the best, and print table and MLflow runs."""
    names = ["" if name == "upsnet" else name for name in variants.split(",") if name]
    overrides = list(SHORT) if override is None else override
    plan(preset, names, overrides)  # a wrong name is said here, in one line
    arguments = {
        "preset": preset,
        "variants": names,
        "overrides": overrides,
        "workers": workers,
        "evaluation_workers": workers,
        "data_source": data_source,
        "data_revision": data_revision,
        "data_remote": data_remote,
        "experiment": experiment,
        "launcher": "local",
        "volume": "",
    }
    table = run_locally(arguments, out)
    console = new_console()
    console.print(Markdown(table.read_text(encoding="utf-8")))
    print_runs(console, experiment)
    console.print(f"The paper's tables beside ours: {table.with_name('page')}", soft_wrap=True)
    console.print(f"Artifacts: {table.parent.parent}   MLflow: make mlflow", soft_wrap=True)


def run_locally(arguments: dict[str, Any], out: Path) -> Path:
    """Runs the ablation, one variant after the other, and returns the path of its table.

    Raises:
        UpsnetError: a step failed; what it said is above.
    """
    from kfp import local as kfp_local

    from pipelines.ablation import build_ablation

    # The steps are processes that need not start in this folder.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    warnings.filterwarnings("ignore", module=r"kfp\.")  # of settings for clusters
    kfp_local.init(runner=kfp_local.SubprocessRunner(use_venv=False), pipeline_root=str(out))
    pipeline = build_ablation(in_pod=True, parallelism=1)
    try:
        task = pipeline(**arguments)
    except RuntimeError as error:
        raise UpsnetError(f"the pipeline ended early, see above: {error}") from error
    return Path(task.output.path)


def print_runs(console: Console, experiment: str) -> None:
    """Prints the newest ablation of an MLflow experiment with the runs below it."""
    runs = read_runs(experiment)
    parent = next((run for run in reversed(runs) if run["tags"].get("kind") == "ablation"), None)
    if parent is None:
        return
    tree = Tree(Text(f"MLflow experiment {experiment}: {parent['name']}"))
    for run in runs:
        if run["tags"].get(PARENT_TAG) == parent["run_id"]:
            figure = f"PQ {run['metrics']['PQ']:.1f}" if "PQ" in run["metrics"] else run["status"].lower()
            tree.add(Text(f"{run['name']}: {figure}"))
    console.print(tree)


if __name__ == "__main__":
    run_program(app)
