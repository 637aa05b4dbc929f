"""The README's commands run, and its files and targets exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_coco import TinyCoco
from upsnet.config import preset_names, variant_names

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = [
    "data.synthetic.train_images=4",
    "data.synthetic.val_images=2",
    "training.iterations=2",
    "training.warmup_iterations=0",
    "training.steps=[1]",
    "tracking.mlflow=false",
]
"""Makes the README's own training a matter of seconds."""


USERS_FOLDERS = ("data/coco", "data/cityscapes", "data/cityscapes_prepared")


def commands(heading: str) -> list[list[str]]:
    """The `$ ...` lines of the console block after a heading."""
    block = README.split(heading, 1)[1].split("```console", 1)[1].split("```", 1)[0]
    return [shlex.split(line[2:], comments=True) for line in block.splitlines() if line.startswith("$ ")]


def run(command: list[str], folder: Path) -> None:
    assert command[0] == "upsnet", command
    command = [sys.executable, "-m", "upsnet.cli", *command[1:]]
    if command[3] == "configure" and "--from-data" not in command:
        command += SMALL
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, (command, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of the first how-to ran one after another."""
    folder = tmp_path_factory.mktemp("how_to")
    Image.fromarray(np.full((90, 120, 3), 99, np.uint8)).save(folder / "photo.jpg")
    for command in commands("**... use the commands.**"):
        run(command, folder)
    return folder


def test_the_commands_make_pictures_and_figures(used):
    assert (used / "pictures" / "photo.overlay.png").is_file()
    assert (used / "runs" / "mine" / "evaluation" / "metrics.json").is_file()


def test_a_training_can_be_evaluated_otherwise_and_compared(used):
    for command in commands("**... evaluate otherwise than configured.**"):
        run(command, used)
    for command in commands("**... train the baseline MR-CNN-PSP.**"):
        run(command, used)
    for command in commands("**... put runs beside the paper.**"):
        run(command, used)
    assert len(list((used / "runs" / "mine" / "figure4").iterdir())) == 2
    table = (used / "runs" / "compare" / "compare.md").read_text()
    assert all(system in table for system in ("UPSNet", "UPSNet-CP", "MR-CNN-PSP"))


def test_own_data_get_a_preset_a_check_and_shards(tmp_path):
    TinyCoco(tmp_path / "my_data").config()
    for command in commands("**... train on my own data.**"):
        run(command, tmp_path)
    assert (tmp_path / "data" / "mine" / "manifest.json").is_file()


def test_the_configuration_for_cityscapes_is_valid(tmp_path):
    run(commands("**... train on Cityscapes.**")[0], tmp_path)
    assert "data/cityscapes" in (tmp_path / "config.yaml").read_text()


def test_the_configuration_for_real_images_is_valid(tmp_path):
    run(commands("**... try real images on a laptop.**")[-1], tmp_path)
    assert "mobilenet_v2-b0353104.pth" in (tmp_path / "config.yaml").read_text()


def test_every_make_target_that_it_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README)) | set(re.findall(r"^\$ make ([a-z-]+)", README, re.M))
    assert named
    assert named <= targets


def test_every_preset_and_variant_that_it_names_exists():
    assert set(re.findall(r"--preset ([a-z0-9_]+)(?![\w.])", README)) <= set(preset_names())
    assert set(re.findall(r"--variant ([a-z0-9_]+)", README)) <= set(variant_names())


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:upsnet|data|model|training|inference|evaluation|configs|tests|benchmarks)/[\w./]*)`", README))))  # fmt: skip  # noqa: E501
def test_every_file_that_it_names_exists(path):
    places = [ROOT / path, ROOT / "upsnet" / path]
    assert any(place.exists() for place in places) or path in USERS_FOLDERS


def test_no_figure_was_left_to_fill_in():
    assert "@@" not in README
