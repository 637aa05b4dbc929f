"""The loader, on a folder of real shards."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tests.data.tiny import TABLE, jpeg, prepared, prepared_sizes, record
from upsnet.config import InferenceConfig, LoaderConfig
from upsnet.data.loader import TrainLoader, evaluation_batches
from upsnet.data.panoptic_png import encode_panoptic_png
from upsnet.data.shards import INDEX_COLUMNS, PreparedData, PreparedSplit, Record
from upsnet.errors import DataError
from upsnet.structures import Batch

LANDSCAPE, PORTRAIT, SQUARE = (40, 60), (60, 40), (50, 50)
SIZES = [LANDSCAPE, PORTRAIT, SQUARE, LANDSCAPE, PORTRAIT, LANDSCAPE, (44, 61)]
CONFIG = LoaderConfig(short_side=(32, 64), long_side=90, images_per_worker=2, processes=0)
INFERENCE = InferenceConfig(short_side=48, long_side=80)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepared_sizes(tmp_path_factory.mktemp("prepared"), SIZES)


def batches(data: PreparedData, count: int, config: LoaderConfig = CONFIG, **options: int) -> list[Batch]:
    loader = TrainLoader(
        data.split("train"), TABLE, config, **{"seed": 5, "rank": 0, "world_size": 1, **options}
    )
    try:
        return list(itertools.islice(loader, count))
    finally:
        loader.close()


def everything(batch: Batch) -> list[tuple[object, ...]]:
    """One entry per image with all that belongs to it, comparable with ==; padding left out."""
    entries = []
    for i, targets in enumerate(batch.targets):
        height, width = batch.images.sizes[i]
        tensors = (
            batch.images.pixels[i, :, :height, :width],
            targets.boxes,
            targets.labels,
            targets.instance_map,
            targets.semantic_map,
        )
        values = [(t.dtype, tuple(t.shape), t.contiguous().numpy().tobytes()) for t in tensors]
        entries.append((batch.image_ids[i], targets.image_id, batch.original_sizes[i], *values))
    return entries


def stream(batches_: list[Batch]) -> list[tuple[object, ...]]:
    return [entry for batch in batches_ for entry in everything(batch)]


def test_a_batch_is_padded_to_a_multiple_of_32_and_its_parts_agree(data: PreparedData) -> None:
    for batch in batches(data, 8):
        assert len(batch.images) == len(batch.targets) == len(batch.image_ids) == 2
        assert batch.images.pixels.dtype == torch.uint8
        assert [side % 32 for side in batch.images.pixels.shape[2:]] == [0, 0]
        for i, (size, targets) in enumerate(zip(batch.images.sizes, batch.targets, strict=True)):
            assert batch.images.pixels[i, :, size[0] :].sum() == 0
            assert batch.images.pixels[i, :, :, size[1] :].sum() == 0
            assert tuple(targets.instance_map.shape) == tuple(targets.semantic_map.shape) == size
            assert targets.image_id == batch.image_ids[i]
            assert batch.original_sizes[i] == SIZES[batch.image_ids[i] - 100]
            assert 32 <= min(size) <= 64
            assert max(size) <= 90


def test_portrait_and_landscape_are_never_in_one_batch(data: PreparedData) -> None:
    for batch in batches(data, 20):
        assert len({height > width for height, width in batch.images.sizes}) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_worker_processes_do_not_change_the_stream(data: PreparedData, processes: int) -> None:
    with_workers = CONFIG.model_copy(update={"processes": processes})
    assert stream(batches(data, 6, with_workers)) == stream(batches(data, 6))


def test_the_ranks_together_make_the_stream_of_one_rank(data: PreparedData) -> None:
    four = CONFIG.model_copy(update={"images_per_worker": 4})
    one_rank = batches(data, 6, four)
    ranks = [batches(data, 6, rank=rank, world_size=2) for rank in range(2)]
    for number, batch in enumerate(one_rank):
        assert everything(batch) == stream([ranks[0][number], ranks[1][number]])


def test_every_image_comes_once_per_epoch(data: PreparedData) -> None:
    one = CONFIG.model_copy(update={"images_per_worker": 1})
    ids = [batch.image_ids[0] for batch in batches(data, 21, one)]
    for epoch in range(3):
        assert sorted(ids[7 * epoch : 7 * epoch + 7]) == list(range(100, 107))


def test_the_augmentation_of_an_image_differs_from_epoch_to_epoch(data: PreparedData) -> None:
    one = CONFIG.model_copy(update={"images_per_worker": 1})
    sizes = [b.images.sizes[0] for b in batches(data, 49, one) if b.image_ids[0] == 102]
    assert len(sizes) == 7
    assert len(set(sizes)) > 3


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("done", [1, 4, 9])
def test_a_resumed_loader_continues_the_very_same_stream(
    data: PreparedData, done: int, processes: int
) -> None:
    config = CONFIG.model_copy(update={"processes": processes})
    resumed = batches(data, 3, config, images_seen=done * 2)
    assert stream(resumed) == stream(batches(data, done + 3)[done:])


def test_images_seen_counts_the_images_of_all_ranks(data: PreparedData) -> None:
    loader = TrainLoader(data.split("train"), TABLE, CONFIG, seed=5, rank=1, world_size=3, images_seen=12)
    assert loader.images_seen == 12
    next(loader)
    next(loader)
    assert loader.images_seen == 24


def test_images_seen_counts_what_was_handed_out_not_what_was_loaded_ahead(data: PreparedData) -> None:
    config = CONFIG.model_copy(update={"processes": 1})
    loader = TrainLoader(data.split("train"), TABLE, config, seed=5, rank=0, world_size=1)
    next(loader)
    assert loader.images_seen == 2
    loader.close()


def test_images_seen_of_another_batch_size_is_rounded_down_to_whole_batches(data: PreparedData) -> None:
    loader = TrainLoader(data.split("train"), TABLE, CONFIG, seed=5, rank=0, world_size=2, images_seen=11)
    assert loader.images_seen == 8


def test_another_seed_gives_another_stream(data: PreparedData) -> None:
    assert stream(batches(data, 3, seed=5)) != stream(batches(data, 3, seed=6))


def test_the_global_random_state_stays_as_it_is(data: PreparedData) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    batches(data, 2, CONFIG.model_copy(update={"processes": 1}))
    list(evaluation_batches(data.split("train"), TABLE, INFERENCE, indices=[0], processes=1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_empty_split_is_refused(data: PreparedData) -> None:
    empty = PreparedSplit(data.folder, "train", np.zeros((0, len(INDEX_COLUMNS)), np.int64))
    with pytest.raises(DataError, match="has no images"):
        TrainLoader(empty, TABLE, CONFIG, seed=5, rank=0, world_size=1)


@pytest.mark.parametrize("processes", [0, 2])
def test_evaluation_yields_the_images_one_by_one_in_order(data: PreparedData, processes: int) -> None:
    indices = [6, 1, 3, 0]
    found = list(
        evaluation_batches(data.split("train"), TABLE, INFERENCE, indices=indices, processes=processes)
    )
    assert [batch.image_ids for batch in found] == [(100 + index,) for index in indices]
    assert [batch.original_sizes for batch in found] == [(SIZES[index],) for index in indices]
    assert [batch.images.sizes[0] for batch in found] == [(48, 67), (72, 48), (48, 72), (48, 72)]
    assert [tuple(b.targets[0].semantic_map.shape) for b in found] == [b.images.sizes[0] for b in found]


def test_evaluation_does_not_augment(data: PreparedData) -> None:
    split = data.split("train")
    config = InferenceConfig(short_side=40, long_side=60)
    (batch,) = evaluation_batches(split, TABLE, config, indices=[0], processes=0)
    targets = batch.targets[0]
    expected = record(100, LANDSCAPE)
    assert batch.images.sizes == (LANDSCAPE,)
    assert torch.equal(targets.semantic_map[-1, -3:], torch.tensor([0, 255, 255], dtype=torch.uint8))
    assert expected.segments == split.read(0).segments


def test_evaluation_of_no_images_yields_nothing(data: PreparedData) -> None:
    assert not list(evaluation_batches(data.split("train"), TABLE, INFERENCE, indices=[], processes=2))


@pytest.fixture(params=[0, 1])
def processes(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def first_error(data: PreparedData, processes: int) -> str:
    with pytest.raises(DataError) as caught:
        list(evaluation_batches(data.split("train"), TABLE, INFERENCE, indices=[0, 1], processes=processes))
    return str(caught.value)


def test_a_damaged_shard_is_reported_cleanly_out_of_a_worker(tmp_path: Path, processes: int) -> None:
    data = prepared_sizes(tmp_path, SIZES)
    shard = tmp_path / "train-00000.tar"
    content = bytearray(shard.read_bytes())
    content[900] ^= 1
    shard.write_bytes(content)
    message = first_error(data, processes)
    assert "image 100: is damaged" in message
    assert "Traceback" not in message
    assert "\n" not in message


def test_a_truncated_image_is_reported_by_its_id(tmp_path: Path, processes: int) -> None:
    good = record(100, LANDSCAPE)
    bad = Record(101, record(101, LANDSCAPE).image[:700], good.panoptic_png, good.segments)
    message = first_error(prepared(tmp_path, [(good, LANDSCAPE), (bad, LANDSCAPE)]), processes)
    assert message.startswith("image 101: image is truncated or damaged")
    assert "Traceback" not in message


def test_an_image_and_a_map_of_different_sizes_are_reported(tmp_path: Path) -> None:
    good = record(100, LANDSCAPE)
    bad = Record(101, jpeg(np.zeros((40, 59, 3), np.uint8)), good.panoptic_png, good.segments)
    message = first_error(prepared(tmp_path, [(good, LANDSCAPE), (bad, LANDSCAPE)]), 0)
    assert "image 101" in message
    assert "(40, 59)" in message
    assert "(40, 60)" in message


def test_a_map_with_an_undescribed_id_is_reported(tmp_path: Path, processes: int) -> None:
    good = record(100, LANDSCAPE)
    bad = Record(101, good.image, encode_panoptic_png(np.full(LANDSCAPE, 6)), good.segments)
    message = first_error(prepared(tmp_path, [(good, LANDSCAPE), (bad, LANDSCAPE)]), processes)
    assert message.startswith("image 101: the panoptic PNG has segment id 6")


def test_closing_ends_the_worker_processes(data: PreparedData) -> None:
    loader = TrainLoader(data.split("train"), TABLE, CONFIG.model_copy(update={"processes": 2}), seed=5)
    next(loader)
    before = workers_of(psutil.Process())
    loader.close()
    assert len(before) == 2
    psutil.wait_procs(before, timeout=10)
    assert not any(process.is_running() for process in before)
    with pytest.raises(StopIteration):
        next(loader)


TRAINING = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from upsnet.config import LoaderConfig
    from upsnet.data.loader import TrainLoader
    from upsnet.data.shards import PreparedData

    if __name__ == "__main__":
        data = PreparedData(Path(sys.argv[1]))
        config = LoaderConfig(short_side=(32, 32), processes=2)
        loader = TrainLoader(data.split("train"), data.categories, config, seed=1)
        for _ in range(2):  # one of each worker, so that both have begun
            next(loader)
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(20):
            next(loader)
        print("done", flush=True)
        loader.close()
""")


@pytest.fixture
def training(data: PreparedData, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has loaded a batch by each of two workers, and loads 20 more when it gets a line."""
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, str(script), str(data.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    below = psutil.Process(process.pid).children(recursive=True)
    yield process
    process.kill()
    for left_over in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            left_over.kill()
    process.communicate()


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The loader processes: grandchildren, below the fork server."""
    return [grandchild for child in process.children() for grandchild in child.children()]


def test_a_killed_training_process_leaves_no_worker_behind(training: subprocess.Popen[str]) -> None:
    below = psutil.Process(training.pid).children(recursive=True)
    assert len(workers_of(psutil.Process(training.pid))) == 2
    training.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not alive


def test_ctrl_c_is_left_to_the_training_process(training: subprocess.Popen[str]) -> None:
    for process in psutil.Process(training.pid).children(recursive=True):
        process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    output, errors = training.communicate("\n", timeout=30)
    assert (output, errors) == ("done\n", "")
