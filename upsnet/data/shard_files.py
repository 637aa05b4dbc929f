"""Where the shards of prepared data lie: in a folder of this machine, or in S3 with a cache in front."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from upsnet import distributed
from upsnet.errors import DataError
from upsnet.storage.cache import cache, entry_of
from upsnet.storage.fill import filling_cache
from upsnet.storage.paths import S3Path
from upsnet.storage.s3 import RemoteFile, list_files, read_range


class ShardFiles(Protocol):
    """Random access to shards. It is sent to worker processes, so it holds no open file."""

    def where(self, name: str) -> str:
        """A shard's path, for messages."""

    def size(self, name: str) -> int:
        """A shard's bytes. Raises OSError where it is missing."""

    def read(self, name: str, begin: int, length: int) -> bytes:
        """A piece of a shard. Raises OSError or StorageError where it cannot be had."""

    def ahead(self, names: Sequence[str]) -> AbstractContextManager[None]:
        """A block during which shards are brought near, in this order, if that makes sense."""


class LocalShards:
    """Shards in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def where(self, name: str) -> str:
        return str(self._folder / name)

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size

    def read(self, name: str, begin: int, length: int) -> bytes:
        return _piece(self._folder / name, begin, length)

    def ahead(self, names: Sequence[str]) -> AbstractContextManager[None]:
        return nullcontext()


class S3Shards:
    """Shards in S3: a record is read from the cache's copy of its shard, else by itself, from S3.

    So nobody ever waits for a whole shard. One process per machine fetches whole shards, each one once, until
    all are there or the cache is full.

    Args:
        folder: the prepared data in S3.
        checksums: SHA-256 of the shards, by name.
    """

    def __init__(self, folder: S3Path, checksums: Mapping[str, str]) -> None:
        self._folder = folder
        found = {remote.path.name: remote for remote in list_files(folder, deep=False)}
        self._files: dict[str, RemoteFile] = {
            name: dataclasses.replace(found[name], sha256=checksum)
            for name, checksum in checksums.items()
            if name in found
        }
        self._entries = {name: entry_of(remote) for name, remote in self._files.items()}

    def where(self, name: str) -> str:
        return str(self._folder / name)

    def size(self, name: str) -> int:
        return self._known(name).size

    def read(self, name: str, begin: int, length: int) -> bytes:
        remote = self._known(name)
        copy = cache().find(self._entries[name], name)
        try:
            if copy is not None:
                return _piece(copy, begin, length)
        except FileNotFoundError:  # it had to make room just now
            pass
        return read_range(remote, begin, length)

    def ahead(self, names: Sequence[str]) -> AbstractContextManager[None]:
        if distributed.local_rank() != 0:
            return nullcontext()
        return filling_cache([self._known(name) for name in names])

    def _known(self, name: str) -> RemoteFile:
        if name not in self._files:
            raise FileNotFoundError(2, "it is missing", self.where(name))
        return self._files[name]


def shard_checksums(manifest: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of all shards, by name.

    Raises:
        DataError: the manifest is not as `prepare` writes it.
    """
    try:
        return {Path(shard["name"]).name: str(shard["sha256"]) for shard in _shards(manifest)}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"manifest.json: is not as 'prepare' writes it: {error!r}; prepare the data again"
        ) from error


def _shards(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for split in manifest["splits"].values():
        yield from split["shards"]


def _piece(path: Path, begin: int, length: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(begin)
        return file.read(length)
