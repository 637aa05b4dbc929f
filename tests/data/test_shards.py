import hashlib
import io
import json
import multiprocessing
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.data.tiny_coco import HEIGHT, WIDTH, encoded, picture, tiny_map
from upsnet.data.categories import CategoryTable
from upsnet.data.panoptic_png import encode_panoptic_png
from upsnet.data.shards import PreparedData, PreparedSplit, Record, ShardWriter, write_manifest
from upsnet.data.synthetic import CATEGORIES
from upsnet.errors import DataError
from upsnet.structures import Segment

SEGMENTS = (Segment(5, 26, False, (2, 4, 4, 5), 20), Segment(70_000, 7, False, (0, 6, 16, 6), 84))
TABLE = CategoryTable(CATEGORIES)


def _record(image_id: int) -> Record:
    return Record(image_id, encoded(picture(seed=image_id)), encode_panoptic_png(tiny_map()), SEGMENTS)


def _write(folder: Path, shard_bytes: int = 10**6) -> PreparedData:
    folder.mkdir()
    splits: dict[Any, Any] = {}
    for split, image_ids in (("train", range(5)), ("val", [10, 12])):
        with ShardWriter(folder, split, shard_bytes) as writer:  # type: ignore[arg-type]
            for image_id in image_ids:
                writer.add(_record(image_id), (HEIGHT, WIDTH))
        splits[split] = writer.summary()
    write_manifest(folder, TABLE, splits, {"kind": "test"}, [])
    return PreparedData(folder)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    data = _write(tmp_path / "out")
    assert data.categories == TABLE
    train, val = data.split("train"), data.split("val")
    assert (train.image_ids, val.image_ids, len(train)) == ((0, 1, 2, 3, 4), (10, 12), 5)
    assert train.sizes == ((HEIGHT, WIDTH),) * 5
    assert [train.read(index) for index in (4, 0, 2)] == [_record(4), _record(0), _record(2)]
    assert val.read(1) == _record(12)


def test_any_tar_program_reads_the_shards(tmp_path: Path) -> None:
    _write(tmp_path / "out")
    with tarfile.open(tmp_path / "out/val-00000.tar") as archive:
        members = archive.getmembers()
        contents = {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert list(contents) == ["10.jpg", "10.png", "10.json", "12.jpg", "12.png", "12.json"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
    assert contents["12.jpg"] == _record(12).image
    segments = json.loads(contents["12.json"])
    assert (segments["image_id"], segments["height"], segments["width"]) == (12, HEIGHT, WIDTH)
    assert segments["segments_info"][0] == {
        "id": 5, "category_id": 26, "iscrowd": 0, "bbox": [2, 4, 4, 5], "area": 20,
    }  # fmt: skip


def test_a_shard_is_closed_when_it_is_large_enough(tmp_path: Path) -> None:
    data = _write(tmp_path / "out", shard_bytes=6000)
    shards = [entry["name"] for entry in data.manifest["splits"]["train"]["shards"]]
    assert shards == ["train-00000.tar", "train-00001.tar", "train-00002.tar"]
    assert [data.split("train").read(index).image_id for index in range(5)] == [0, 1, 2, 3, 4]


def test_the_manifest_has_the_counts_and_checksums_of_every_file(tmp_path: Path) -> None:
    data = _write(tmp_path / "out", shard_bytes=6000)
    entry = data.manifest["splits"]["train"]
    assert (entry["images"], entry["segments"]) == (5, 10)
    for file in [*entry["shards"], entry["index"], data.manifest["categories"]]:
        content = (tmp_path / "out" / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_version_stands_for_the_content(tmp_path: Path) -> None:
    first, again = _write(tmp_path / "first"), _write(tmp_path / "again")
    other = _write(tmp_path / "other", shard_bytes=6000)
    assert first.version == again.version != other.version
    assert len(first.version) == 12


def _read_three(split: PreparedSplit) -> list[int]:
    return [split.read(index).image_id for index in (3, 1, 4)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_split_can_be_read_in_other_processes(tmp_path: Path, method: str) -> None:
    split = _write(tmp_path / "out").split("train")
    split.read(0)
    assert len(pickle.dumps(split)) < 10_000
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(_read_three, [split, split]) == [[3, 1, 4]] * 2


def _flip_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    split = _write(tmp_path / "out").split("train")
    _flip_byte(tmp_path / "out/train-00000.tar", int(split._index[2, 4]) + 30)
    with pytest.raises(DataError, match=r"train-00000\.tar, image 2: is damaged"):
        split.read(2)
    assert split.read(1) == _record(1)
    assert split.read(3) == _record(3)


def test_a_shard_that_vanishes_is_named(tmp_path: Path) -> None:
    split = _write(tmp_path / "out").split("val")
    (tmp_path / "out/val-00000.tar").unlink()
    with pytest.raises(DataError, match=r"val-00000\.tar, image 10: cannot be read"):
        split.read(0)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("manifest.json", lambda path: path.unlink(), "is not finished"),
        ("manifest.json", lambda path: path.write_text("{"), "not JSON"),
        ("manifest.json", lambda path: path.write_text("{}"), "not a manifest of prepared data"),
        ("manifest.json", lambda path: _edit(path, format_version=2), "format version 2 found, 1 expected"),
        ("manifest.json", lambda path: _edit(path, splits={}), "not as 'prepare' writes it"),
        ("train-00000.tar", lambda path: path.unlink(), r"train-00000\.tar: is damaged \(No such file"),
        ("val-00000.tar", lambda path: path.write_bytes(b"x"), r"1 bytes found, \d+ expected"),
        ("val-index.csv", lambda path: _flip_byte(path, 150), "checksum differs"),
        ("categories.json", lambda path: _flip_byte(path, 20), "checksum differs"),
    ],
)
def test_a_damaged_or_unfinished_folder_is_refused(
    tmp_path: Path, name: str, spoil: Any, message: str
) -> None:
    _write(tmp_path / "out")
    spoil(tmp_path / "out" / name)
    with pytest.raises(DataError, match=message):
        PreparedData(tmp_path / "out")


def _edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no prepared data .*upsnet prepare"):
        PreparedData(tmp_path / "nowhere")


def test_a_full_disk_is_not_hidden_by_the_buffer(tmp_path: Path) -> None:
    (tmp_path / "train-00000.tar").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"), ShardWriter(tmp_path, "train", 10**6) as writer:
        writer.add(_record(1), (HEIGHT, WIDTH))
    assert not (tmp_path / "train-index.csv").exists()


def test_a_shard_ends_as_tar_wants_it(tmp_path: Path) -> None:
    _write(tmp_path / "out")
    content = (tmp_path / "out/val-00000.tar").read_bytes()
    assert len(content) % tarfile.RECORDSIZE == 0
    assert content.endswith(bytes(2 * tarfile.BLOCKSIZE))
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|", ignore_zeros=False) as stream:
        assert sum(1 for _ in stream) == 6
