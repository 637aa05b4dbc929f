import logging
import os
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.tiny import TABLE
from tests.training.run_training import small_config
from upsnet.errors import CheckpointError
from upsnet.model.build import build_model
from upsnet.training.checkpoint import (
    checkpoint_path,
    keep_newest,
    load_model,
    mark_best,
    newest_good,
    read_checkpoint,
    set_aside,
    write_checkpoint,
)

CONTENT = {"iteration": 7, "model": {"w": torch.arange(6.0).reshape(2, 3)}, "name": "ü", "best": None}


@pytest.fixture
def folder(tmp_path):
    """Checkpoints 1, 2 and 3."""
    for iteration in (1, 2, 3):
        write_checkpoint({"iteration": iteration}, checkpoint_path(tmp_path, iteration))
    return tmp_path


@pytest.fixture(scope="module")
def file_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "a.pt"
    write_checkpoint(CONTENT, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of a real, if small, network."""
    config = small_config("model.backbone=mobilenet_v2")
    torch.manual_seed(0)
    model = build_model(config.model, TABLE.num_stuff, TABLE.num_things)
    content = {
        "model": model.state_dict(),
        "config": config.model_dump(mode="json"),
        "categories": TABLE.to_json(),
        "iteration": 12,
        "data_version": "abc",
    }
    path = checkpoint_path(tmp_path_factory.mktemp("run") / "checkpoints", 12)
    write_checkpoint(content, path)
    return model, config, path


def numbers_in(folder) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("iteration-*.pt"))


def flip_bit(path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "new" / "a.pt"
    write_checkpoint(CONTENT, path)
    content = read_checkpoint(path)
    assert torch.equal(content["model"].pop("w"), CONTENT["model"]["w"])
    assert content == {"format": 1, "iteration": 7, "model": {}, "name": "ü", "best": None}
    assert [p.name for p in path.parent.iterdir()] == ["a.pt"]


def test_the_file_is_an_ordinary_one_for_torch_and_zip(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["iteration"] == 7
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        assert file.testzip() is None
        assert file.comment.startswith(b"sha256:")


@given(st.data())
def test_any_flipped_bit_is_detected(file_bytes, tmp_path_factory, data):
    position = data.draw(st.integers(0, len(file_bytes) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(file_bytes)
    damaged[position] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.pt"
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@given(st.data())
def test_a_file_that_was_cut_short_is_detected(file_bytes, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "cut.pt"
    path.write_bytes(file_bytes[: data.draw(st.integers(0, len(file_bytes) - 1))])
    with pytest.raises(CheckpointError, match="cut short"):
        read_checkpoint(path)


def test_a_failed_write_leaves_the_checkpoint_before_untouched(tmp_path):
    path = tmp_path / "a.pt"
    write_checkpoint(CONTENT, path)
    with pytest.raises((TypeError, AttributeError, RuntimeError)):
        write_checkpoint({"not storable": (i for i in range(3))}, path)
    assert read_checkpoint(path)["iteration"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_the_newest_good_checkpoint_is_found_and_damaged_ones_are_named(folder, caplog):
    flip_bit(checkpoint_path(folder, 3), 100)
    with caplog.at_level(logging.WARNING):
        found, bad = newest_good(folder)
    assert found is not None
    assert found[0] == checkpoint_path(folder, 2)
    assert found[1]["iteration"] == 2
    assert bad == [checkpoint_path(folder, 3)]
    assert "iteration-00000003.pt" in caplog.text


def test_a_half_written_file_does_not_count_and_goes_with_the_next_clean_up(folder):
    (folder / "iteration-00000004.part").write_bytes(b"PK")
    found, bad = newest_good(folder)
    assert found is not None
    assert found[1]["iteration"] == 3
    assert bad == []
    keep_newest(folder, 3)
    assert not (folder / "iteration-00000004.part").exists()


def test_only_the_newest_and_the_best_are_kept(folder):
    mark_best(checkpoint_path(folder, 1))
    keep_newest(folder, 2)
    assert numbers_in(folder) == [2, 3]
    assert read_checkpoint(folder / "best.pt")["iteration"] == 1


def test_a_better_checkpoint_takes_the_place_of_the_best(folder):
    mark_best(checkpoint_path(folder, 1))
    mark_best(checkpoint_path(folder, 3))
    assert read_checkpoint(folder / "best.pt")["iteration"] == 3
    assert read_checkpoint(checkpoint_path(folder, 1))["iteration"] == 1


def test_setting_aside_moves_everything_and_keeps_one_generation(folder):
    mark_best(checkpoint_path(folder, 3))
    moved = set_aside(folder)
    assert {path.name for path in moved} == {p.name for p in (folder / "stale").iterdir()}
    assert numbers_in(folder) == []
    assert numbers_in(folder / "stale") == [1, 2, 3]
    write_checkpoint({"iteration": 9}, checkpoint_path(folder, 9))
    set_aside(folder)
    assert numbers_in(folder / "stale") == [9]


def test_setting_nothing_aside_leaves_the_generation_before(folder):
    set_aside(folder)
    assert set_aside(folder) == []
    assert numbers_in(folder / "stale") == [1, 2, 3]


def test_a_network_comes_back_as_it_was_saved(trained):
    model, config, path = trained
    for place in (path, path.parent, path.parent.parent):
        loaded = load_model(place)
        assert (loaded.config, loaded.table, loaded.iteration) == (config, TABLE, 12)
        assert loaded.data_version == "abc"
        assert not loaded.model.training
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[name], tensor), name


def test_a_network_from_a_weights_file_loads_without_that_file(trained, tmp_path):
    content = read_checkpoint(trained[2])
    content["config"]["model"]["weights"] = "/nowhere/backbone.pth"
    write_checkpoint(content, tmp_path / "a.pt")
    assert load_model(tmp_path / "a.pt").config.model.weights == "/nowhere/backbone.pth"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot be read"),
        (lambda path: path.mkdir(), "no good checkpoint"),
        (lambda path: torch.save({"w": torch.ones(2)}, path), "not a checkpoint of this program"),
        (lambda path: path.write_text("hello"), "not a checkpoint of this program"),
        (lambda path: write_checkpoint({"iteration": 1}, path), "does not fit"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, make, message):
    path = tmp_path / "x.pt"
    make(path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(path)
    assert str(path) in str(error.value)


def test_weights_of_another_network_are_refused(trained, tmp_path):
    content = read_checkpoint(trained[2])
    content["config"]["model"]["fpn_channels"] = 24
    write_checkpoint(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model(tmp_path / "a.pt")


def test_another_format_is_refused(tmp_path):
    write_checkpoint({"format": 99}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="has format 99, expected 1"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "a.pt")
    (tmp_path / "a.pt").chmod(0)
    with pytest.raises(CheckpointError, match="Permission denied"):
        read_checkpoint(tmp_path / "a.pt")
