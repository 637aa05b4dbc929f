"""The step `evaluate`: all figures of a trained variant, in MLflow and in Kubeflow's UI."""

from typing import Any

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    checkpoint: Input[Model],
    data: Input[Dataset],
    row: dict[str, Any],
    predictions: Output[Artifact],
    metrics: Output[Metrics],
    report: Output[Markdown],
    strips: Output[HTML],
    workers: int,
    keep_going: bool,
) -> dict[str, Any]:
    """Evaluates a trained variant and returns its row with the figures; a row of a failed training stays so.

    Args:
        checkpoint: folder of a training.
        data: prepared data.
        row: what `train` returned.
        predictions: folder with predictions in COCO panoptic format, metrics.json and the pictures.
        metrics: PQ, SQ, RQ, mIoU, AP and milliseconds.
        report: the tables, per class too.
        strips: some images beside truth and prediction.
        workers: processes of this pod; with GPUs, at most one per GPU.
        keep_going: an evaluation that fails is a row that says so.
    """
    from pathlib import Path

    from components.evaluation import evaluate_variant
    from components.places import data_folder
    from upsnet.evaluation.ablation import scalars
    from upsnet.evaluation.metrics_file import read_metrics
    from upsnet.evaluation.report import markdown_report
    from upsnet.evaluation.strips_page import strips_page
    from upsnet.storage import write_file

    out = Path(predictions.path)
    prepared = data_folder(data.path, data.metadata)
    done = evaluate_variant(row, Path(checkpoint.path), prepared, out, workers, keep_going)
    if done["status"] == "done":
        figures = read_metrics(out / "metrics.json")
        for name, value in scalars(figures).items():
            metrics.log_metric(name, value)
        write_file(markdown_report(figures), Path(report.path))
        write_file(strips_page(out / "strips", done["variant"]), Path(strips.path))
    else:
        write_file(f"{done['variant']}: {done['status']}\n", Path(report.path))
        write_file(strips_page(out / "strips", f"{done['variant']}: {done['status']}"), Path(strips.path))
    return dict(done)
