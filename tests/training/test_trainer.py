"""The trainer on the real network, cut down, and the real loader; processes that are killed are real ones."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.data.tiny import prepared_sizes
from tests.horovod_workers import ROOT, plain_environment, run_workers
from tests.model.cases import EIGHT_LOSSES
from tests.training.run_training import small_config
from tests.training.same_image import two_updates
from upsnet.data.shards import PreparedData
from upsnet.errors import TrainingError
from upsnet.tracking import Tracker
from upsnet.training.checkpoint import checkpoint_path, read_checkpoint
from upsnet.training.trainer import train

TWENTY = ("training.iterations=20", "training.steps=[15]", "training.checkpoint_interval=10")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The same number of threads here and in the processes that the tests start."""
    before = torch.get_num_threads()
    patch = pytest.MonkeyPatch()
    patch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield
    patch.undo()
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> PreparedData:
    return prepared_sizes(tmp_path_factory.mktemp("data") / "prepared", [(64, 96)] * 5)


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory) -> Path:
    """A run of 20 iterations without a stop."""
    out = tmp_path_factory.mktemp("straight")
    run(data, out, *TWENTY)
    return out


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """A finished run of 8 iterations with checkpoints at 4 and 8."""
    out = tmp_path_factory.mktemp("finished")
    run(data, out)
    return out


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    """A copy of the finished run, to change."""
    return shutil.copytree(finished, tmp_path / "copy")


def run(data: PreparedData, out: Path, *overrides: str, **options) -> Path:
    return train(small_config(*overrides), data, out, tracker=Tracker(out), **options)


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def numbers_in(out: Path) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in (out / "checkpoints").glob("iteration-*.pt"))


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def assert_same(a, b, where: str = "") -> None:
    """Equal to the last bit, whatever is nested how."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def run_until(
    data: PreparedData, out: Path, word: str, sign: signal.Signals, *overrides: str
) -> tuple[int, str]:
    """Trains in a process group of its own, and sends the group a signal once it has printed the word."""
    command = [sys.executable, "-m", "tests.training.run_training", data.folder, out, *TWENTY, *overrides]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if word in line and process.poll() is None:
            os.killpg(process.pid, sign)
    return process.wait(timeout=60), printed


def test_ten_and_ten_iterations_with_a_kill_between_equal_twenty_to_the_last_bit(
    data, straight, tmp_path, caplog
):
    code, printed = run_until(data, tmp_path, "iteration 12/20", signal.SIGKILL)
    assert code == -signal.SIGKILL, printed
    assert numbers_in(tmp_path) == [10]
    with caplog.at_level(logging.INFO):
        run(data, tmp_path, *TWENTY)
    assert f"going on from {checkpoint_path(tmp_path / 'checkpoints', 10)}" in caplog.text
    resumed = read_checkpoint(checkpoint_path(tmp_path / "checkpoints", 20))
    assert_same(resumed, read_checkpoint(checkpoint_path(straight / "checkpoints", 20)))


@pytest.mark.parametrize("loaders", [0, 1])
def test_sigterm_finishes_the_iteration_saves_it_and_exits_with_143(data, straight, tmp_path, loaders):
    """The signal reaches the loader processes, too, as from horovodrun."""
    processes = f"loader.processes={loaders}"
    code, printed = run_until(data, tmp_path, "iteration 4/20", signal.SIGTERM, processes)
    assert code == 143, printed
    (saved,) = numbers_in(tmp_path)
    assert saved in (5, 6)
    assert f"stopped by SIGTERM: iteration {saved} is saved" in printed
    run(data, tmp_path, *TWENTY)
    resumed = read_checkpoint(checkpoint_path(tmp_path / "checkpoints", 20))
    assert_same(resumed, read_checkpoint(checkpoint_path(straight / "checkpoints", 20)))


def test_adamw_goes_on_to_the_last_bit_too(data, tmp_path):
    last = checkpoint_path(tmp_path / "checkpoints", 8)
    run(data, tmp_path, "training.optimizer=adamw")
    straight = read_checkpoint(last)
    last.unlink()
    run(data, tmp_path, "training.optimizer=adamw")
    assert_same(read_checkpoint(last), straight)


def test_every_interval_is_logged_with_all_losses_and_the_weights_learn(data, straight):
    lines = lines_of(straight)
    assert [line["step"] for line in lines] == list(range(2, 21, 2))
    for line in lines:
        assert {f"loss/{name}" for name in (*EIGHT_LOSSES, "total")} <= line.keys()
        assert line["images_per_second"] > 0
    weights = small_config().training.losses
    total = sum(getattr(weights, name) * lines[0][f"loss/{name}"] for name in EIGHT_LOSSES)
    assert lines[0]["loss/total"] == pytest.approx(total, rel=1e-5)
    assert lines[-1]["loss/total"] < lines[0]["loss/total"]
    assert lines[-1]["seconds_left"] == 0


def test_a_loss_of_weight_zero_is_left_out(data, tmp_path):
    run(data, tmp_path, "training.iterations=1", "training.losses.panoptic=0")
    (line,) = lines_of(tmp_path)
    assert "loss/panoptic" not in line
    assert "loss/semantic_roi" in line


def test_a_finished_training_says_so_and_changes_nothing(data, copy, caplog):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with caplog.at_level(logging.INFO):
        assert run(data, copy) == checkpoint_path(copy / "checkpoints", 8)
    assert "finished already" in caplog.text
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_is_skipped_with_a_word(data, copy, finished, caplog):
    last = checkpoint_path(copy / "checkpoints", 8)
    flip_bit(last)
    with caplog.at_level(logging.INFO):
        run(data, copy)
    assert "iteration-00000008.pt: is damaged" in caplog.text
    assert "going on from" in caplog.text
    assert_same(read_checkpoint(last), read_checkpoint(checkpoint_path(finished / "checkpoints", 8)))
    assert (copy / "checkpoints" / "stale" / last.name).exists()


def test_another_configuration_starts_anew_and_puts_the_old_checkpoints_aside(data, copy, caplog):
    with caplog.at_level(logging.INFO):
        run(data, copy, "training.base_rate=0.001", "training.iterations=2", "training.steps=[1]")
    assert "training.base_rate was 0.002 and is 0.001" in caplog.text
    assert numbers_in(copy) == [2]
    assert sorted(p.name for p in (copy / "checkpoints" / "stale").iterdir()) == [
        "iteration-00000004.pt",
        "iteration-00000008.pt",
    ]
    assert [line["step"] for line in lines_of(copy)] == [2]
    assert (copy / "log-previous.jsonl").exists()


def test_other_data_starts_anew(data, copy, tmp_path, caplog):
    other = prepared_sizes(tmp_path / "other", [(64, 64)] * 2)
    with caplog.at_level(logging.INFO):
        run(other, copy, "training.iterations=1", "training.steps=[]")
    assert "data version was" in caplog.text


def test_settings_without_effect_on_the_weights_do_not_start_anew(data, copy, caplog):
    with caplog.at_level(logging.INFO):
        run(data, copy, "training.log_interval=1", "training.keep_checkpoints=1", "loader.processes=1")
    assert "finished already" in caplog.text


def test_resume_never_starts_anew(data, copy):
    run(data, copy, resume="never")
    assert sorted(p.name for p in (copy / "checkpoints" / "stale").iterdir()) == [
        "iteration-00000004.pt",
        "iteration-00000008.pt",
    ]
    assert numbers_in(copy) == [4, 8]


def test_unfinished_starts_a_finished_training_anew(data, copy, caplog):
    with caplog.at_level(logging.INFO):
        run(data, copy, resume="unfinished")
    assert "last of a finished training" in caplog.text
    assert numbers_in(copy) == [4, 8]


def test_a_loss_that_is_not_finite_stops_with_values_and_image_ids(data, tmp_path):
    with pytest.raises(TrainingError, match=r"iteration \d+: a loss is not finite") as error:
        run(data, tmp_path, "training.base_rate=1e12", "training.checkpoint_interval=1")
    assert "image ids [10" in str(error.value)
    assert "nan" in str(error.value) or "inf" in str(error.value)
    for number in numbers_in(tmp_path):
        read_checkpoint(checkpoint_path(tmp_path / "checkpoints", number))


def test_weights_that_are_not_finite_are_never_saved(data, tmp_path):
    with pytest.raises(TrainingError, match="is not finite after the update"):
        run(data, tmp_path, "training.base_rate=1e39", "training.checkpoint_interval=1")
    assert numbers_in(tmp_path) == []


def test_the_best_by_pq_is_kept_beside_the_newest(data, tmp_path):
    quality = iter([30.0, 50.0, float("nan"), 40.0])

    def validate(model):
        model.eval()  # as an evaluation does; training goes on in training mode
        return {"PQ": next(quality), "mIoU": 1.0}

    run(
        *(data, tmp_path, "training.evaluation_interval=2", "training.checkpoint_interval=100"),
        "training.keep_checkpoints=1",
        validate=validate,
    )
    assert numbers_in(tmp_path) == [8]
    best = read_checkpoint(tmp_path / "checkpoints" / "best.pt")
    assert (best["iteration"], best["best_metric"]) == (4, 50.0)
    values = [line["validation/PQ"] for line in lines_of(tmp_path) if "validation/PQ" in line]
    assert values == [30.0, 50.0, None, 40.0]


def test_without_an_evaluation_interval_nothing_is_evaluated(data, tmp_path):
    def never(model):
        raise AssertionError("called")

    run(data, tmp_path, "training.iterations=1", "training.steps=[]", validate=never)
    assert not (tmp_path / "checkpoints" / "best.pt").exists()


def test_bf16_and_clipping_train(data, tmp_path):
    run(data, tmp_path, "training.bf16=true", "training.clip_norm=1", "training.iterations=2")
    content = read_checkpoint(checkpoint_path(tmp_path / "checkpoints", 2))
    assert all(tensor.dtype != torch.bfloat16 for tensor in content["model"].values())
    assert lines_of(tmp_path)[-1]["loss/total"] > 0


def test_two_workers_with_the_same_image_make_the_same_update_as_one(data, tmp_path):
    """And a loss that is not finite on one of them stops both, with the same message."""
    finished = run_workers("tests.training.same_image", data.folder, tmp_path / "seen.pt")
    assert finished.returncode == 0, finished.stdout
    alone = dict(two_updates(data).model.state_dict())
    for weights, message, image_ids in torch.load(tmp_path / "seen.pt"):
        assert_same(dict(weights), alone)
        assert f"iteration 3: a loss is not finite (rank 1, image ids {list(image_ids)}: " in message
        assert "mask nan" in message
        assert "rank 0" not in message


def test_two_workers_go_on_where_one_stopped(data, copy):
    """Four of eight images are left, which are two iterations of two workers."""
    checkpoint_path(copy / "checkpoints", 8).unlink()
    finished = run_workers("tests.training.run_training", data.folder, copy)
    assert finished.returncode == 0, finished.stdout
    content = read_checkpoint(checkpoint_path(copy / "checkpoints", 6))
    assert content["images_seen"] == 8
    assert len(content["random_states"]) == 2
    assert lines_of(copy)[-1]["rate"] == pytest.approx(2 * 0.0002)
