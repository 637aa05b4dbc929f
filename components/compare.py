"""The step `compare`: all variants of an ablation in one table, the failed ones too, and the winner."""

from typing import Any

from kfp import dsl
from kfp.dsl import HTML, Input, Markdown, Model, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def compare(
    rows: list[dict[str, Any]],
    checkpoints: Input[list[Model]],
    parent_runs: list[dict[str, Any]],
    table: Output[Markdown],
    page: Output[HTML],
    winner: Output[Model],
) -> dict[str, Any]:
    """Compares the variants and returns the winner's row; it is empty if no variant succeeded.

    Args:
        rows: what `evaluate` returned, one per variant.
        checkpoints: of the same variants.
        parent_runs: what `configure` returned; its MLflow parent ends here.
        table: all variants, and what became of them.
        page: the paper's tables with what was measured.
        winner: the checkpoint of the best PQ.
    """
    from pathlib import Path

    from components.comparison import compare_variants

    training_folders = {str(model.metadata.get("variant")): Path(model.path) for model in checkpoints}
    parent = parent_runs[0]["parent_run"] if parent_runs else ""
    best = compare_variants(
        rows, training_folders, parent, Path(table.path), Path(page.path), Path(winner.path)
    )
    winner.metadata.update(best)
    return best
