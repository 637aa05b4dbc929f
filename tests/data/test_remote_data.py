"""Tests of prepared data in S3: what is read, and how often it is fetched."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.tiny import prepared_sizes
from tests.data.tiny_coco import TinyCoco
from tests.storage.fault_proxy import FaultProxy
from tests.storage.servers import BUCKET, Server, rclone_server, use
from upsnet.config import CocoConfig, CocoSplit, DataConfig, load_config
from upsnet.data.own_preset import own_preset, write_preset
from upsnet.data.prepare import prepare
from upsnet.data.remote_sources import local_sources
from upsnet.data.shards import PreparedData, Record, open_prepared
from upsnet.errors import DataError, StorageError
from upsnet.storage.paths import S3Path, is_remote
from upsnet.storage.s3 import delete
from upsnet.storage.transfer import upload_file, upload_folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with rclone_server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def local(tmp_path: Path) -> PreparedData:
    """Twelve images in several shards."""
    return prepared_sizes(tmp_path / "prepared", [(60 + 4 * i, 90) for i in range(12)])


@pytest.fixture
def remote(server: Server, local: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Path:
    """The same in S3."""
    use(server.variables(), tmp_path / "cache", monkeypatch)
    place = S3Path(BUCKET, tmp_path.name) / "prepared"
    upload_folder(local.folder, place)
    return place


def records(data: PreparedData) -> list[Record]:
    return [data.split("train").read(i) for i in range(len(data.split("train")))]


def copies(cache: Path) -> list[str]:
    """Names of the shards in the cache."""
    return sorted(path.name for path in cache.rglob("*.tar"))


def shards(data: PreparedData) -> list[str]:
    return [entry["name"] for entry in data.manifest["splits"]["train"]["shards"]]


def test_data_in_s3_are_the_same_as_here(local: PreparedData, remote: S3Path) -> None:
    opened = open_prepared(str(remote))
    assert (opened.version, opened.categories) == (local.version, local.categories)
    assert records(opened) == records(local)


def test_opening_fetches_no_shard_and_reading_ahead_fetches_each_once(
    local: PreparedData, remote: S3Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum(entry["bytes"] for entry in local.manifest["splits"]["train"]["shards"])
    with FaultProxy(server.port) as proxy:
        use(server.variables(proxy.port), tmp_path / "cache", monkeypatch)
        opened = open_prepared(str(remote))
        assert proxy.bytes < total
        before = proxy.bytes
        with opened.reading_ahead("train"), open_prepared(str(remote)).reading_ahead("train"):
            for _ in range(600):
                if copies(tmp_path / "cache") == shards(local):
                    break
                time.sleep(0.1)
        assert total < proxy.bytes - before < 2 * total
    # Nothing is asked of the server any more, which cannot be reached now.
    assert records(opened) == records(local)


def test_a_cache_that_is_too_small_keeps_some_shards_and_reads_the_others_in_place(
    local: PreparedData, remote: S3Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (entry["bytes"] for entry in local.manifest["splits"]["train"]["shards"][:2])
    monkeypatch.setenv("UPSNET_CACHE_GB", str((first + second) / 10**9))
    opened = open_prepared(str(remote))
    with opened.reading_ahead("train"):
        for _ in range(600):
            if copies(tmp_path / "cache"):
                break
            time.sleep(0.1)
        assert records(opened) == records(local)
    assert len(copies(tmp_path / "cache")) < len(shards(local))


def test_shards_that_go_while_they_are_used_are_read_in_place(
    local: PreparedData, remote: S3Path, tmp_path: Path
) -> None:
    opened = open_prepared(str(remote))
    fetch = "import sys; from upsnet.storage.local import local_file; local_file(sys.argv[1])"
    subprocess.run([sys.executable, "-c", fetch, str(remote / shards(local)[0])], check=True, timeout=60)
    expected = local.split("train").read(0)
    assert opened.split("train").read(0) == expected
    for path in (tmp_path / "cache").rglob("*.tar"):
        path.unlink()
    assert opened.split("train").read(0) == expected


def test_a_missing_shard_is_told_when_the_data_are_opened(local: PreparedData, remote: S3Path) -> None:
    delete(remote / shards(local)[0])
    with pytest.raises(DataError, match=rf"{remote}/{shards(local)[0]}: is damaged \(it is missing\)"):
        open_prepared(str(remote))


def test_data_that_change_under_a_training_are_told(
    local: PreparedData, remote: S3Path, tmp_path: Path
) -> None:
    opened = open_prepared(str(remote))
    (tmp_path / "other").write_bytes(os.urandom(30_000))
    upload_file(tmp_path / "other", remote / shards(local)[0])
    with pytest.raises(StorageError, match="was changed while it was being read"):
        opened.split("train").read(0)


def test_a_folder_without_prepared_data_is_told(remote: S3Path) -> None:
    with pytest.raises(StorageError, match="there is nothing of what is expected there"):
        open_prepared(str(remote.parent / "nothing"))


def test_sources_in_s3_take_the_place_of_folders(remote: S3Path, tmp_path: Path) -> None:
    made, place = tmp_path / "raw", remote.parent / "raw"
    for name in ("images/1.jpg", "panoptic/1.png", "panoptic.json"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    upload_folder(made, place)
    split = CocoSplit(images=f"{place}/images", annotations=f"{place}/panoptic.json")
    here = CocoSplit(images="images", annotations="a.json")
    config = DataConfig(source="coco", coco=CocoConfig(train=split, val=here))
    found = local_sources(config).coco
    assert found is not None
    assert found.val == here
    texts = [
        Path(found.train.images, "1.jpg"),
        Path(found.train.masks, "1.png"),
        Path(found.train.annotations),
    ]
    assert [path.read_text() for path in texts] == ["images/1.jpg", "panoptic/1.png", "panoptic.json"]
    assert Path(found.train.images).name == "images"


def test_a_folder_in_s3_goes_to_preset_to_prepared_data(remote: S3Path, tmp_path: Path) -> None:
    coco, place, preset = TinyCoco(tmp_path / "mine"), remote.parent / "mine", tmp_path / "preset.yaml"
    coco.config()
    upload_folder(coco.root, place)
    write_preset(str(place), preset)
    assert str(tmp_path) not in preset.read_text()
    data = load_config(str(preset)).data
    assert data.coco is not None
    assert is_remote(data.coco.train.images)
    assert len(prepare(local_sources(data), tmp_path / "prepared", processes=1).split("train")) == 3
    delete(place / "annotations/panoptic_val.json")
    with pytest.raises(DataError, match=f"^{place}: no panoptic JSON of the val split"):
        own_preset(str(place))
