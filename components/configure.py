"""The step `configure`: preset, variants and overrides become one resolved configuration per variant."""

from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def configure(
    config: Output[Artifact],
    preset: str,
    variant: str,
    variants: list[Any],
    overrides: list[str],
    experiment: str,
    ablation: bool,
) -> NamedTuple(  # type: ignore[valid-type]
    "Outputs", [("Output", list[dict]), ("name", str), ("version", str)]
):
    """Writes `<name>.yaml` for every variant.

    Args:
        config: folder of the resolved configurations.
        preset: name of a preset.
        variant: the only variant of a run that has one; read if `variants` is empty.
        variants: names, or mappings with `variant`, `overrides` and `name`.
        overrides: `section.key=value`, for all variants.
        experiment: MLflow experiment.
        ablation: open an MLflow run that the variants' runs are shown below.

    Returns:
        one mapping per variant (its name, the version of its configuration, the MLflow parent), and name and
        version of the first.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.plan import plan
    from components.runs import open_parent
    from upsnet.config import to_yaml
    from upsnet.storage import write_file

    planned = plan(preset, variants or [variant], overrides, experiment)
    for entry in planned:
        write_file(to_yaml(entry.config), Path(config.path) / f"{entry.name}.yaml")
    parent = open_parent(preset, planned) if ablation else ""
    items = [{"variant": p.name, "config_version": p.version, "parent_run": parent} for p in planned]
    print(f"{preset}: {', '.join(entry.name for entry in planned)}")
    Outputs = namedtuple("Outputs", ["Output", "name", "version"])
    return Outputs(items, planned[0].name, planned[0].version)
