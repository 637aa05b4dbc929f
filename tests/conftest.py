"""Fixtures that all tests share."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A loaded machine is no reason to fail.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Programs of the environment (rclone, dvc, uvicorn, shellcheck) are found although nobody has activated it.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

LONGEST = {
    *("test_readme.py", "test_pipeline_dvc.py", "test_dvc_experiments.py", "test_ablation.py"),
    *("test_trainer.py", "test_end_to_end.py", "test_outage.py"),
}
"""Files of a minute and more. They begin first, so that no process is alone with one at the end."""

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def _sample_folder(name: str) -> Path:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"the sample images ({folder}) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def coco_sample_dir() -> Path:
    """160 real COCO images with panoptic truth, in COCO's layout (development machines only)."""
    return _sample_folder("coco_panoptic")


@pytest.fixture(scope="session")
def panopticapi_samples_dir() -> Path:
    """The official format samples (development machines only)."""
    return _sample_folder("panopticapi_samples")
