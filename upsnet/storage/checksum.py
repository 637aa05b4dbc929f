"""Whether a file on this machine is the same as an object in S3."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from upsnet.storage.s3 import RemoteFile

MD5_ETAG = re.compile(r"[0-9a-f]{32}")
"""The ETag of an object that was sent in one part and is not encrypted with the owner's key."""


def sha256_of(path: Path) -> str:
    """In hex, of a whole file."""
    return _digest(path, "sha256")


def is_same(path: Path, remote: RemoteFile) -> bool:
    """Whether the file is there and holds what the object holds, as far as anything says what that is.

    The SHA-256 in the object's metadata decides. An object of another program has none: then it is the ETag
    if that is an MD5, else the size alone.
    """
    if not path.is_file() or path.stat().st_size != remote.size:
        return False
    if remote.sha256:
        return sha256_of(path) == remote.sha256
    md5 = MD5_ETAG.fullmatch(remote.etag)
    return md5 is None or remote.encrypted or _digest(path, "md5") == md5[0]


def has_checksum(remote: RemoteFile) -> bool:
    """Whether `is_same` compares more than the size."""
    return bool(remote.sha256 or (MD5_ETAG.fullmatch(remote.etag) and not remote.encrypted))


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
