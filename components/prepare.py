"""The step `prepare`: prepared data from the DVC remote where they are there, else made and pushed."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    config: Input[Artifact],
    data: Output[Dataset],
    variant: str,
    data_source: str,
    data_revision: str,
    data_remote: str,
    volume: str,
) -> NamedTuple("Outputs", [("data_version", str)]):  # type: ignore[valid-type]
    """Brings the data of a configuration into the artifact or onto the volume.

    Args:
        config: folder of resolved configurations, which all have the same data.
        data: the prepared data; its metadata say where they lie.
        variant: name of a configuration.
        data_source: git address or folder of the DVC project that versions the data; empty: this program.
        data_revision: its git revision.
        data_remote: address of the DVC remote; empty: the project's own.
        volume: folder that all pods see; empty: none.

    Returns:
        data_version: what checkpoints and MLflow runs hold as well, `PreparedData.version`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.places import FOLDER, check_volume, keep_data, new_data_folder
    from upsnet.data.versioned import prepare_versioned

    check_volume(volume)
    made = prepare_versioned(
        Path(config.path) / f"{variant}.yaml",
        new_data_folder(volume, data.path),
        source=data_source,
        revision=data_revision,
        remote=data_remote,
        cache=Path(volume) / "dvc-cache" if volume else None,
    )
    if volume:
        data.metadata[FOLDER] = str(keep_data(made.folder, volume, made.version, data.path))
    data.metadata.update(version=made.version, dvc_hash=made.dvc_hash)
    data.metadata.update(source=data_source, revision=data_revision)
    print(f"data version {made.version}, {'made' if made.made else 'taken from DVC'}")
    return namedtuple("Outputs", ["data_version"])(made.version)
