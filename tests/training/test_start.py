"""Trainings that start from the checkpoint of another data set."""

import logging
from pathlib import Path

import pytest
import torch

from tests.data.tiny import prepared_sizes
from tests.data.tiny_cityscapes import TinyCityscapes
from tests.horovod_workers import run_workers
from tests.training.run_training import small_config
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.errors import CheckpointError
from upsnet.tracking import Tracker
from upsnet.training.checkpoint import FOLDER, read_checkpoint
from upsnet.training.trainer import train

STILL = (
    *("training.iterations=1", "training.steps=[]", "training.base_rate=1e-30", "training.weight_decay=0"),
)
"""One iteration that leaves the weights where they were."""

BOXES = "instance_head.roi_heads.box_predictor.bbox_pred.weight"


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    folder = tmp_path_factory.mktemp("cityscapes")
    return prepare(TinyCityscapes(folder / "raw").config(), folder / "prepared", processes=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of one iteration on road, sky, car and person."""
    folder = tmp_path_factory.mktemp("source")
    data = prepared_sizes(folder / "data", [(64, 96)])
    train(small_config(*STILL, "seed=7"), data, folder / "run", tracker=Tracker(None))
    return folder / "run"


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(folder / FOLDER / "iteration-00000001.pt")["model"]
    return state


def test_a_training_starts_from_the_rows_of_another_data_set(
    source: Path, cityscapes: PreparedData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="upsnet"):
        train(small_config(*STILL), cityscapes, tmp_path, tracker=Tracker(None), init_from=source)
    ours, theirs = state_of(tmp_path), state_of(source)
    assert torch.equal(ours["fpn.inner_blocks.0.0.weight"], theirs["fpn.inner_blocks.0.0.weight"])
    semantic, box = ours["semantic_head.classify.weight"], ours[BOXES]
    assert torch.equal(semantic[0], theirs["semantic_head.classify.weight"][0])  # road
    assert torch.equal(semantic[10], theirs["semantic_head.classify.weight"][1])  # sky
    assert torch.equal(semantic[13], theirs["semantic_head.classify.weight"][2])  # car
    assert torch.equal(box[12:16], theirs[BOXES][4:8])  # car is label 3 here, 1 there
    text = "\n".join(caplog.messages)
    assert f"starting from {source} (iteration 1)" in text
    for row in (("road", "road", "-"), ("pole", "(random)", "-"), ("car", "car", "car")):
        assert list(row) in [line.split() for line in caplog.messages]
    assert "tensors without classes copied" in text


def test_a_checkpoint_file_does_as_well_as_a_folder(
    source: Path, cityscapes: PreparedData, tmp_path: Path
) -> None:
    file = source / FOLDER / "iteration-00000001.pt"
    train(small_config(*STILL), cityscapes, tmp_path, tracker=Tracker(None), init_from=file)
    assert torch.equal(state_of(tmp_path)[BOXES][12:16], state_of(source)[BOXES][4:8])


def test_a_training_that_goes_on_does_not_look_at_it(
    source: Path, cityscapes: PreparedData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small_config(*STILL), cityscapes, tmp_path, tracker=Tracker(None), init_from=source)
    first = state_of(tmp_path)
    with caplog.at_level(logging.INFO, logger="upsnet"):
        train(small_config(*STILL), cityscapes, tmp_path, tracker=Tracker(None), init_from=Path("gone.pt"))
    assert "not looking at gone.pt: this training goes on from its own checkpoint" in caplog.messages
    assert all(torch.equal(tensor, first[name]) for name, tensor in state_of(tmp_path).items())


def test_a_training_that_begins_anew_starts_from_it(
    source: Path, cityscapes: PreparedData, tmp_path: Path
) -> None:
    train(small_config(*STILL), cityscapes, tmp_path, tracker=Tracker(None))
    assert not torch.equal(state_of(tmp_path)[BOXES][12:16], state_of(source)[BOXES][4:8])
    train(small_config(*STILL), cityscapes, tmp_path, resume="never", tracker=Tracker(None), init_from=source)
    assert torch.equal(state_of(tmp_path)[BOXES][12:16], state_of(source)[BOXES][4:8])


def test_the_configured_starting_weights_are_not_read(
    source: Path, cityscapes: PreparedData, tmp_path: Path
) -> None:
    config = small_config(*STILL, "model.weights=no-such-file.pth")
    train(config, cityscapes, tmp_path, tracker=Tracker(None), init_from=source)
    with pytest.raises(CheckpointError, match="no such file"):
        train(config, cityscapes, tmp_path / "other", tracker=Tracker(None))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.backbone=resnet18", "model.backbone is 'resnet18' here and 'mobilenet_v2' there"),
        ("model.fpn_channels=32", "model.fpn_channels is 32 here and 16 there"),
        ("model.norm=batch", "model.norm is 'batch' here and 'group' there"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(
    override: str, words: str, source: Path, cityscapes: PreparedData, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="is of another network") as error:
        train(small_config(override), cityscapes, tmp_path, tracker=Tracker(None), init_from=source)
    assert words in str(error.value)


def test_a_missing_or_damaged_checkpoint_is_refused(
    source: Path, cityscapes: PreparedData, tmp_path: Path
) -> None:
    content = bytearray((source / FOLDER / "iteration-00000001.pt").read_bytes())
    content[5000] ^= 1
    (tmp_path / "damaged.pt").write_bytes(content)
    for path, words in (
        (tmp_path / "missing.pt", "cannot be read"),
        (tmp_path / "damaged.pt", "is damaged"),
        (tmp_path, "holds no good checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=words):
            train(small_config(), cityscapes, tmp_path / "run", tracker=Tracker(None), init_from=path)
    assert not list((tmp_path / "run").rglob("*.pt"))


def test_two_workers_start_from_the_same_rows(source: Path, cityscapes: PreparedData, tmp_path: Path) -> None:
    done = run_workers("tests.training.init_from_workers", source, cityscapes.folder, tmp_path / "out.pt")
    assert done.returncode == 0, done.stdout
    first, second = torch.load(tmp_path / "out.pt", weights_only=True)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert torch.equal(first[BOXES][12:16], state_of(source)[BOXES][4:8])
