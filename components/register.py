"""The step `register`: the best checkpoint becomes a version of a registered model in MLflow."""

from typing import Any

from kfp import dsl
from kfp.dsl import Input, Markdown, Metrics, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    checkpoint: Input[Model],
    row: dict[str, Any],
    model_name: str,
    metrics: Output[Metrics],
    summary: Output[Markdown],
) -> str:
    """Registers a checkpoint and returns what became of it in words.

    Args:
        checkpoint: folder of a training.
        row: its row, with the figures.
        model_name: of the registered model.
        metrics: the figures of the winner.
        summary: the same words, and the figures.
    """
    from pathlib import Path

    from components.registration import register_row
    from upsnet.evaluation.ablation import ablation_table, read_row, scalars
    from upsnet.evaluation.report import markdown_table
    from upsnet.storage import write_file

    said = register_row(row, Path(checkpoint.path), model_name)
    measured = read_row(row)
    for name, value in scalars(measured["metrics"]).items():
        metrics.log_metric(name, value)
    write_file(f"{said}\n\n{markdown_table(ablation_table([measured]))}\n", Path(summary.path))
    print(said)
    return said
