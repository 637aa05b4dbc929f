"""What MLflow is told of a run: where its figures come from, and what they are, by names that compare well.

Params are the switches and sizes by which runs differ, few and short; the whole configuration is the artifact
config.yaml. Tags say what a run is filtered by. The final figures stand at step 0, for which the UI draws
bars to compare runs and not lines of one point; what is rarely looked at is below `detail/`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from upsnet.config import Config, to_yaml
from upsnet.data.shards import PreparedData
from upsnet.evaluation.ablation import FIGURES, TABLE_FIGURES
from upsnet.evaluation.confusion import confusion_rows, read_confusion
from upsnet.evaluation.paper import system_of
from upsnet.tracking import Tracker, git_tags, read_run_id, tracking_uri

DETAIL = "detail/"
TIMES = {
    "total": "ms_per_image",
    "network": f"{DETAIL}ms_network",
    "postprocessing": f"{DETAIL}ms_postprocessing",
}
"""Part of `milliseconds` in metrics.json -> name in MLflow."""


def switches(config: Config) -> dict[str, str]:
    """The settings by which runs are compared; what is left out is `off`, a loss has the weight 0.

    MLflow's parallel coordinates drop a run whose value is a word where others have numbers.
    """
    model, training, inference, told = config.model, config.training, config.inference, config.evaluation
    told_parts = {"boxes": told.gt_boxes, "classes": told.gt_classes, "semantic": told.gt_semantic}
    values = {
        "network": model.network,
        "backbone": model.backbone,
        "weights": Path(model.weights if model.detector_weights == "none" else model.detector_weights).name,
        "deformable": "+".join(map(str, model.deformable_stages)),
        "merge": inference.merge,
        "unknown": "on" if model.unknown else "",
        "semantic_loss": training.losses.semantic or 0,
        "roi_loss": training.losses.semantic_roi or 0,
        "panoptic_loss": training.losses.panoptic or 0,
        "class_assignment": inference.class_assignment,
        "multi_scale": "on" if inference.scales or inference.mirror else "",
        "oracle": "+".join(name for name, on in told_parts.items() if on),
        "iterations": training.iterations,
        "base_rate": training.base_rate,
        "batch": training.reference_batch,
        "optimizer": training.optimizer,
        "image_size": f"{inference.short_side}x{inference.long_side}",
    }
    return {name: str(value) or "off" for name, value in values.items()}


def run_tags(config: Config, data: PreparedData) -> dict[str, Any]:
    """What a run is filtered by."""
    from upsnet import distributed

    return {
        "preset": config.preset,
        "variant": config.variant,
        "system": system_of(config.variant, config.model.network, config.inference.scales) or "upsnet",
        "seed": config.seed,
        "data_version": data.version,
        **({"data_dvc_hash": data.dvc_hash} if data.dvc_hash else {}),
        "workers": distributed.world_size(),
        "device": _device_name(),
        **git_tags(),
    }


def describe_dataset(config: Config, data: PreparedData) -> dict[str, str]:
    """The prepared data as an input of the run, see `Tracker.log_dataset`."""
    splits = data.manifest["splits"]
    counts = {f"{s}_{what}": splits[s][what] for s in ("train", "val") for what in ("images", "segments")}
    classes = {"stuff_classes": data.categories.num_stuff, "thing_classes": data.categories.num_things}
    return {
        "name": config.data.source,
        "digest": data.version,
        "source_type": "prepared",
        "source": json.dumps({**data.manifest["source"], "dvc_hash": data.dvc_hash}),
        "profile": json.dumps({**counts, **classes}),
        "context": "training",
    }


def run_name(config: Config) -> str:
    """Of a new run: preset, variants and seed."""
    return f"{'+'.join(name for name in (config.preset, config.variant) if name)} seed {config.seed}"


def log_inputs(tracker: Tracker, config: Config, data: PreparedData, init_from: str = "") -> None:
    """Everything that tells where the figures of a run come from; `init_from` names what it started from."""
    tracker.log_params(switches(config))
    tracker.set_tags({**run_tags(config, data), **({"init_from": init_from} if init_from else {})})
    tracker.log_dataset(describe_dataset(config, data))
    tracker.log_text(to_yaml(config), "config.yaml")


def final_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of metrics.json by their names in MLflow; one that nothing defines is left out."""
    named = {name if name in TABLE_FIGURES else f"{DETAIL}{name}": metrics.get(name) for name in FIGURES}
    named |= {name: metrics["milliseconds"].get(part) for part, name in TIMES.items()}
    return {name: float(value) for name, value in named.items() if value is not None}


def log_evaluation(tracker: Tracker, metrics: Mapping[str, Any], out: Path, iteration: int) -> None:
    """The final figures, the tables and the pictures that `evaluate` wrote to `out`."""
    from upsnet.evaluation.charts import write_charts

    tracker.log_metrics(final_figures(metrics), 0)
    tracker.set_tags({"images": metrics["images"], "device": metrics["device"], "iteration": iteration})
    rows = [{"category_id": key, **figures} for key, figures in metrics["per_class"].items()]
    tracker.log_table(rows, "per_class.json")
    confusion = read_confusion(out)
    if confusion is not None:
        tracker.log_table(confusion_rows(*confusion), "confusion.json")
    tracker.log_artifact(out / "metrics.json")
    for chart in write_charts(metrics, confusion, out):
        tracker.log_image(chart, f"charts/{chart.name}")
    for picture in sorted((out / "strips").glob("*.png")):
        tracker.log_image(picture, f"strips/{picture.name}")


def log_ablation(name: str, folders: Sequence[Path], out: Path, run_file: str) -> str:
    """Puts the MLflow runs of evaluations below one parent, with the comparison of them that lies in `out`.

    Args:
        name: of the parent.
        folders: searched for metrics.json files and for the run files beside and above them.
        out: folder of what `upsnet compare` wrote; the parent's id is kept there.
        run_file: name of the run files.

    Returns:
        Id of the parent, empty without MLflow.
    """
    from upsnet.evaluation.metrics_file import read_metrics
    from upsnet.tracking import group_runs

    rows, children = [], []
    for file in sorted(file for folder in folders for file in folder.rglob("metrics.json")):
        metrics = read_metrics(file)
        rows.append(comparison_row(metrics))
        children.append(_run_id(file.parent, run_file))
    tags = {"preset": ", ".join(sorted({str(row["preset"]) for row in rows}))}
    files = [path for path in sorted(out.glob("compare.*")) if path.is_file()]
    return group_runs(name, children, run_file=out / run_file, tags=tags, rows=rows, files=files)


def comparison_row(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """One evaluation in the table of an ablation, percent and milliseconds to one decimal."""
    system = system_of(metrics["variant"], metrics["network"], metrics["scales"]) or "upsnet"
    figures = {name: metrics.get(name) for name in TABLE_FIGURES}
    figures["ms_per_image"] = metrics["milliseconds"]["total"]
    shown = {name: None if value is None else round(value, 1) for name, value in figures.items()}
    return {"system": system, "seed": metrics["seed"], **shown, "preset": metrics["preset"]}


def _run_id(folder: Path, run_file: str) -> str:
    """Of the MLflow run of an evaluation: its own, or that of the training in the folder above."""
    for place in (folder, folder.parent):
        if (place / run_file).is_file():
            return read_run_id(place / run_file, tracking_uri())
    return ""


def _device_name() -> str:
    import torch

    from upsnet import distributed

    device = distributed.device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
