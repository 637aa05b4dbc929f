"""Prepared data on disk: few large tar files instead of many small ones, with random access.

A folder of prepared data holds
    {train,val}-00000.tar ...  members <image_id>.jpg, <image_id>.png (panoptic ids), <image_id>.json
    {train,val}-index.csv      per image: shard, size, and where its members lie in the shard
    categories.json            `categories` as COCO panoptic has them
    manifest.json              counts, checksums, source and version; written last
`ShardWriter` and `write_manifest` write it, `PreparedData` reads it, `open_prepared` from S3, too. The same
records give the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from upsnet.data.categories import CategoryTable
from upsnet.data.dvc_lock import hash_of_folder
from upsnet.data.shard_files import LocalShards, S3Shards, ShardFiles, shard_checksums
from upsnet.errors import DataError
from upsnet.storage.local import local_folder
from upsnet.storage.paths import S3Path, parse_place
from upsnet.structures import Segment, Size

SplitName = Literal["train", "val"]
SPLITS: tuple[SplitName, ...] = ("train", "val")

FORMAT = "upsnet prepared data"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CATEGORIES = "categories.json"
SMALL_FILES = (MANIFEST, CATEGORIES, "train-index.csv", "val-index.csv")
"""All but the shards."""

INDEX_COLUMNS = [
    *("image_id", "shard", "height", "width"),
    *("image_offset", "image_bytes", "png_offset", "png_bytes", "json_offset", "json_bytes", "crc32"),
]
"""crc32 is that of everything from the image's first byte to the JSON's last."""


@dataclass(frozen=True)
class Record:
    """One image with its truth, as files.

    Attributes:
        image_id: the data set's id.
        image: a JPEG file, RGB or grey, 8 bits.
        panoptic_png: a panoptic PNG of the same size.
        segments: one entry per segment id in the PNG.
    """

    image_id: int
    image: bytes
    panoptic_png: bytes
    segments: tuple[Segment, ...]


class ShardWriter:
    """Writes the shards and the index of one split, one record after the other.

    Use as a context manager; the index is written at its end, unless an exception ends it.
    """

    def __init__(self, folder: Path, split: SplitName, shard_bytes: int) -> None:
        self._folder = folder
        self._split = split
        self._shard_bytes = shard_bytes
        self._shards: list[dict[str, Any]] = []
        self._rows: list[str] = []
        self._segments = 0
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._offset = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._finish_shard()
            self._write_index()
        elif self._file is not None:
            with suppress(OSError):  # a full disk says so again; the first error is on its way
                self._file.close()

    def add(self, record: Record, size: Size) -> None:
        """Appends one record; `size` is that of its image and its PNG."""
        file = self._file or self._begin_shard()
        segments = json.dumps(_segments_json(record, size), separators=(",", ":")).encode()
        block, places = _members(
            record.image_id, [("jpg", record.image), ("png", record.panoptic_png), ("json", segments)]
        )
        numbers = [record.image_id, len(self._shards), *size]
        for begin, length in places:
            numbers += [self._offset + begin, length]
        self._rows.append(",".join(map(str, [*numbers, zlib.crc32(block[places[0][0] : sum(places[-1])])])))
        self._segments += len(record.segments)
        self._write(file, block)
        if self._offset >= self._shard_bytes:
            self._finish_shard()

    def summary(self) -> dict[str, Any]:
        """The split's entry in the manifest, once the writer is closed."""
        index = self._folder / index_name(self._split)
        return {
            "images": len(self._rows),
            "segments": self._segments,
            "shards": self._shards,
            "index": file_entry(index.name, index.read_bytes()),
        }

    def _begin_shard(self) -> BinaryIO:
        self._file = open(self._folder / shard_name(self._split, len(self._shards)), "wb")  # noqa: SIM115
        self._digest = hashlib.sha256()
        self._offset = 0
        return self._file

    def _write(self, file: BinaryIO, block: bytes) -> None:
        file.write(block)
        self._digest.update(block)
        self._offset += len(block)

    def _finish_shard(self) -> None:
        if self._file is None:
            return
        # A tar file ends with two empty blocks, filled up to whole records.
        end = 2 * tarfile.BLOCKSIZE
        self._write(self._file, bytes(end + -(self._offset + end) % tarfile.RECORDSIZE))
        self._file.close()
        name = shard_name(self._split, len(self._shards))
        self._shards.append({"name": name, "bytes": self._offset, "sha256": self._digest.hexdigest()})
        self._file = None

    def _write_index(self) -> None:
        lines = [",".join(INDEX_COLUMNS), *self._rows]
        (self._folder / index_name(self._split)).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_manifest(
    folder: Path,
    table: CategoryTable,
    splits: dict[SplitName, dict[str, Any]],
    source: dict[str, Any],
    skipped: list[dict[str, Any]],
) -> None:
    """Writes categories and manifest: the last step, which makes the folder readable.

    Args:
        folder: holds the closed shards and indexes already.
        table: the categories.
        splits: every writer's `summary()`.
        source: description of the source, without paths of this machine.
        skipped: images left out, and why.
    """
    categories = _pretty(table.to_json())
    (folder / CATEGORIES).write_bytes(categories)
    checksums = [hashlib.sha256(categories).hexdigest()]
    for name in SPLITS:
        checksums += [entry["sha256"] for entry in (*splits[name]["shards"], splits[name]["index"])]
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "version": hashlib.sha256("\n".join(checksums).encode()).hexdigest()[:12],
        "source": source,
        "splits": splits,
        "categories": file_entry(CATEGORIES, categories),
        "skipped": skipped,
    }
    (folder / MANIFEST).write_bytes(_pretty(manifest))


class PreparedSplit:
    """One split of prepared data; `len()` is its number of images, in ascending order of their ids.

    Holds no open file, so that it can be handed to forked and spawned processes alike.

    Attributes:
        image_ids: ids in order.
        sizes: (height, width) in the same order.
    """

    def __init__(
        self, folder: Path, split: SplitName, index: np.ndarray, shards: ShardFiles | None = None
    ) -> None:
        self.name = split
        self._shards: ShardFiles = shards or LocalShards(folder)
        self._index = index
        self.image_ids: tuple[int, ...] = tuple(index[:, 0].tolist())
        self.sizes: tuple[Size, ...] = tuple(zip(index[:, 2].tolist(), index[:, 3].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.image_ids)

    def read(self, index: int) -> Record:
        """Reads the record at a position in 0..len - 1.

        Raises:
            DataError: the shard is missing or damaged there; the message names the image id.
        """
        row: list[int] = self._index[index].tolist()
        image_id, shard, begin, end = row[0], row[1], row[4], row[8] + row[9]
        name = shard_name(self.name, shard)
        path = self._shards.where(name)
        try:
            block = self._shards.read(name, begin, end - begin)
        except OSError as error:
            raise DataError(f"{path}, image {image_id}: cannot be read ({error.strerror})") from error
        if zlib.crc32(block) != row[10]:
            raise DataError(
                f"{path}, image {image_id}: is damaged (its checksum differs); run 'upsnet prepare' again"
            )
        image, png, segments = (block[at - begin : at - begin + size] for at, size in _pairs(row[4:10]))
        return Record(image_id, image, png, _segments_from_json(json.loads(segments)))


class PreparedData:
    """A folder that `prepare` has written; `open_prepared` opens those in S3 as well.

    Opening checks the manifest, the index and the size of every shard; the shards' contents are checked
    record by record as they are read.

    Attributes:
        folder: where it lies; of data in S3, where the copy of all but the shards lies.
        manifest: `manifest.json` as it is.
        version: 12 hex digits that stand for the content.
        dvc_hash: DVC's hash of the folder; empty where it is not under DVC.
        categories: the category table.

    Raises:
        DataError: the folder is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path, remote: S3Path | None = None) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        self._shards: ShardFiles = LocalShards(folder)
        if remote is not None:
            self._shards = S3Shards(remote, shard_checksums(self.manifest))
        try:
            self.version: str = str(self.manifest["version"])
            self.dvc_hash = hash_of_folder(folder)
            categories = _checked_file(folder, self.manifest["categories"])
            self.categories = CategoryTable.from_json(json.loads(categories), str(folder / CATEGORIES))
            self._splits = {name: self._open_split(name) for name in SPLITS}
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(folder / MANIFEST, f"it is not as 'prepare' writes it: {error!r}") from error

    def split(self, name: SplitName) -> PreparedSplit:
        """The training or the validation images."""
        return self._splits[name]

    def reading_ahead(self, *splits: SplitName) -> AbstractContextManager[None]:
        """A block during which the shards of these splits are brought near; only those in S3 need it."""
        entries = (entry for name in splits for entry in self.manifest["splits"][name]["shards"])
        return self._shards.ahead([Path(entry["name"]).name for entry in entries])

    def _open_split(self, name: SplitName) -> PreparedSplit:
        entry = self.manifest["splits"][name]
        for shard in entry["shards"]:
            file = Path(shard["name"]).name
            measure = functools.partial(self._shards.size, file)
            _refuse_other_size(self._shards.where(file), measure, shard["bytes"])
        index = _parse_index(_checked_file(self.folder, entry["index"]))
        if len(index) != entry["images"]:
            raise _damaged(self.folder / MANIFEST, f"{entry['images']} {name} images, index has {len(index)}")
        return PreparedSplit(self.folder, name, index, self._shards)


def open_prepared(place: str | Path) -> PreparedData:
    """Opens prepared data on this machine or in S3; of the latter only what is small is fetched now.

    Raises:
        DataError: missing, unfinished or damaged.
        StorageError: S3 cannot be read.
    """
    parsed = parse_place(place)
    if isinstance(parsed, Path):
        return PreparedData(parsed)
    return PreparedData(local_folder(place, lambda name: name in SMALL_FILES), parsed)


def is_prepared_file(name: str) -> bool:
    """Whether `prepare` writes files of that name."""
    return bool(re.fullmatch(r"(train|val)-(\d{5,}\.tar|index\.csv)", name)) or name in SMALL_FILES


def shard_name(split: SplitName, number: int) -> str:
    """File name of a shard."""
    return f"{split}-{number:05d}.tar"


def index_name(split: SplitName) -> str:
    """File name of a split's index."""
    return f"{split}-index.csv"


def file_entry(name: str, data: bytes) -> dict[str, Any]:
    """How the manifest describes a file."""
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _members(image_id: int, members: list[tuple[str, bytes]]) -> tuple[bytes, list[tuple[int, int]]]:
    """Tar members as bytes, and (offset, length) of each content in them.

    No header depends on time or user.
    """
    parts: list[bytes] = []
    places, offset = [], 0
    for suffix, data in members:
        info = tarfile.TarInfo(f"{image_id}.{suffix}")
        info.size = len(data)
        parts += [info.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
        places.append((offset + tarfile.BLOCKSIZE, len(data)))
        offset += sum(len(part) for part in parts[-3:])
    return b"".join(parts), places


def _segments_json(record: Record, size: Size) -> dict[str, Any]:
    return {
        "image_id": record.image_id,
        "height": size[0],
        "width": size[1],
        "segments_info": [
            {
                "id": segment.segment_id,
                "category_id": segment.category_id,
                "iscrowd": int(segment.iscrowd),
                "bbox": list(segment.bbox),
                "area": segment.area,
            }
            for segment in record.segments
        ],
    }


def _segments_from_json(values: dict[str, Any]) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            entry["id"], entry["category_id"], bool(entry["iscrowd"]), tuple(entry["bbox"]), entry["area"]
        )
        for entry in values["segments_info"]
    )


def _pairs(numbers: list[int]) -> zip[tuple[int, int]]:
    return zip(numbers[::2], numbers[1::2], strict=True)


def _pretty(values: Any) -> bytes:
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _parse_index(data: bytes) -> np.ndarray:
    """(N, 11) int64, columns as INDEX_COLUMNS."""
    header = data.split(b"\n", 1)[0].decode()
    if header.split(",") != INDEX_COLUMNS:
        raise ValueError(f"index columns are {header!r}")
    return np.loadtxt(io.BytesIO(data), delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        state = "is not finished" if folder.is_dir() and any(folder.iterdir()) else "holds no prepared data"
        raise DataError(f"{folder}: {state} (no {MANIFEST}); run 'upsnet prepare'") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _damaged(path, f"it is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(
            f"{path}: is not a manifest of prepared data; name a folder that 'upsnet prepare' wrote"
        )
    if manifest.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: format version {manifest.get('format_version')!r} found, {FORMAT_VERSION} expected; "
            "run 'upsnet prepare' again"
        )
    return manifest


def _checked_file(folder: Path, entry: dict[str, Any]) -> bytes:
    """A small file's bytes, compared with the manifest."""
    path = folder / Path(entry["name"]).name
    _refuse_other_size(path, lambda: path.stat().st_size, entry["bytes"])
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise _damaged(path, "its checksum differs from the manifest's")
    return data


def _refuse_other_size(path: Path | str, measure: Callable[[], int], expected: int) -> None:
    try:
        found = measure()
    except OSError as error:
        raise _damaged(path, error.strerror or "it is missing") from error
    if found != expected:
        raise _damaged(path, f"{found} bytes found, {expected} expected")


def _damaged(path: Path | str, why: str) -> DataError:
    return DataError(f"{path}: is damaged ({why}); run 'upsnet prepare' again")
