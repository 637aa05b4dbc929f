import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_coco import TinyCoco
from upsnet.config import CocoConfig, CocoSplit, DataConfig, SyntheticConfig
from upsnet.data.panoptic_png import decode_panoptic_png, measure_segments
from upsnet.data.prepare import prepare
from upsnet.data.shards import PreparedData
from upsnet.data.synthetic import render_scene
from upsnet.errors import DataError

Start = Callable[..., BaseProcess]

SMALL = SyntheticConfig(train_images=9, val_images=3, height=64, width=96, max_instances=4)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_painted_scenes_come_back_from_the_shards(tmp_path: Path) -> None:
    data = prepare(DataConfig(synthetic=SMALL), tmp_path / "out", processes=1)
    train, val = data.split("train"), data.split("val")
    assert (len(train), len(val), train.sizes[0]) == (9, 3, (64, 96))
    assert not set(train.image_ids) & set(val.image_ids)
    for split, index in ((train, 4), (val, 2)):
        record, scene = split.read(index), render_scene(SMALL, split.name, index)
        panoptic_map = decode_panoptic_png(record.panoptic_png)
        np.testing.assert_array_equal(panoptic_map, scene.panoptic_map)
        assert record.segments == scene.segments
        with Image.open(io.BytesIO(record.image)) as image:
            assert np.abs(np.asarray(image).astype(int) - scene.image).mean() < 8
        measured = measure_segments(panoptic_map)
        assert [(s.bbox, s.area) for s in record.segments] == [
            measured[s.segment_id] for s in record.segments
        ]


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    for processes in (1, 2, 3):
        prepare(DataConfig(synthetic=SMALL), tmp_path / str(processes), processes=processes)
    assert _contents(tmp_path / "1") == _contents(tmp_path / "2") == _contents(tmp_path / "3")


def test_faults_and_skipping_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    coco = TinyCoco(tmp_path / "coco")
    coco.image(1).write_bytes(b"no image")
    coco.png(3).unlink()
    messages = []
    for processes in (1, 2):
        with pytest.raises(DataError) as error:
            prepare(coco.config(), tmp_path / "out", processes=processes)
        messages.append(str(error.value))
        prepare(coco.config(), tmp_path / f"out{processes}", processes=processes, skip_bad=True)
    assert messages[0] == messages[1]
    assert _contents(tmp_path / "out1") == _contents(tmp_path / "out2")


def test_preparing_again_gives_the_same_version_and_replaces_the_folder(tmp_path: Path) -> None:
    config = DataConfig(synthetic=SMALL)
    first = prepare(config, tmp_path / "out", processes=1).version
    assert prepare(config, tmp_path / "out", processes=1).version == first
    other = DataConfig(synthetic=SMALL.model_copy(update={"train_images": 2}))
    assert prepare(other, tmp_path / "out", processes=1).version != first
    assert len(PreparedData(tmp_path / "out").split("train")) == 2
    assert _names(tmp_path) == ["out"]


def test_a_failure_leaves_the_former_data_alone(tmp_path: Path) -> None:
    coco = TinyCoco(tmp_path / "coco")
    version = prepare(coco.config(), tmp_path / "out", processes=1).version
    coco.image().unlink()
    with pytest.raises(DataError):
        prepare(coco.config(), tmp_path / "out", processes=1)
    assert PreparedData(tmp_path / "out").version == version
    assert _names(tmp_path) == ["coco", "out"]


def _run(out: Path, images: int, most_bytes: int) -> None:
    """A prepare of its own process group, which tells on the error stream of the test what went wrong."""
    os.setsid()
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    scenes = SMALL.model_copy(update={"train_images": images})
    # Stays open: multiprocessing writes the traceback of this process to it.
    sys.stderr = open(out.parent / "messages.txt", "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    prepare(DataConfig(synthetic=scenes), out, processes=2)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `_run` in another process; whatever a failed test leaves of it is ended."""
    processes: list[BaseProcess] = []

    def begin(out: Path, images: int, most_bytes: int = 0) -> BaseProcess:
        # spawn: in a fork of pytest, hooks of plugins into the garbage collector can swallow an interrupt.
        process = multiprocessing.get_context("spawn").Process(target=_run, args=(out, images, most_bytes))
        process.start()
        processes.append(process)
        return process

    yield begin
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)


def _wait_for(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def _group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_killed_run_leaves_nothing_that_looks_finished_and_no_workers(tmp_path: Path, start: Start) -> None:
    out = tmp_path / "out"
    shard = tmp_path / "out.part" / "train-00000.tar"
    process = start(out, 100_000)
    assert _wait_for(lambda: shard.exists() and shard.stat().st_size > 0)
    process.kill()
    process.join()
    assert not out.exists()
    for folder in (out, tmp_path / "out.part"):
        with pytest.raises(DataError):
            PreparedData(folder)
    assert _wait_for(lambda: _group_is_gone(process.pid or 0)), "workers outlive the killed process"
    assert len(prepare(DataConfig(synthetic=SMALL), out).split("train")) == 9
    assert _names(tmp_path) == ["messages.txt", "out"]


def test_an_interrupt_from_the_keyboard_cleans_up(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path / "out", 100_000)
    assert _wait_for((tmp_path / "out.part/train-00000.tar").exists)
    os.killpg(process.pid or 0, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 1
    messages = (tmp_path / "messages.txt").read_text()
    assert messages.rstrip().endswith("KeyboardInterrupt")
    assert messages.count("Process ") == 1, "workers have nothing to say"
    assert _names(tmp_path) == ["messages.txt"]


def test_a_file_that_cannot_grow_is_one_message(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path / "out", 200, 100_000)
    process.join(60)
    assert process.exitcode == 1
    last = (tmp_path / "messages.txt").read_text().strip().splitlines()[-1]
    assert last.startswith("upsnet.errors.DataError")
    assert "the disk is full (File too large)" in last
    assert _names(tmp_path) == ["messages.txt"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(DataError, match="holds other files"):
        prepare(DataConfig(synthetic=SMALL), tmp_path, processes=1)
    assert _names(tmp_path) == ["holiday.jpg"]


def test_real_images_are_prepared_in_time_with_their_bytes_kept(
    coco_sample_dir: Path, tmp_path: Path
) -> None:
    splits = {
        name: CocoSplit(
            images=str(coco_sample_dir / name),
            annotations=str(coco_sample_dir / "annotations" / f"panoptic_{name}.json"),
        )
        for name in ("train2017", "val2017")
    }
    coco = CocoConfig(train=splits["train2017"], val=splits["val2017"])
    started = time.monotonic()
    data = prepare(DataConfig(source="coco", coco=coco, shard_megabytes=4), tmp_path / "out")
    assert time.monotonic() - started < 15
    train, val = data.split("train"), data.split("val")
    assert (len(train), len(val), data.categories.num_stuff, data.categories.num_things) == (100, 60, 53, 80)
    stated = json.loads((coco_sample_dir / "annotations/panoptic_val2017.json").read_text())
    of_image = {annotation["image_id"]: annotation for annotation in stated["annotations"]}
    for index in range(60):
        record = val.read(index)
        image = coco_sample_dir / "val2017" / f"{record.image_id:012d}.jpg"
        assert record.image == image.read_bytes()
        assert [(s.segment_id, s.category_id, s.iscrowd, list(s.bbox), s.area) for s in record.segments] == [
            (s["id"], s["category_id"], bool(s["iscrowd"]), s["bbox"], s["area"])
            for s in of_image[record.image_id]["segments_info"]
        ]
