"""What a path is: a place on this machine, or an object or folder in S3."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from upsnet.errors import StorageError

LOOKS_REMOTE = re.compile(r"s3:/", re.IGNORECASE)
URL = re.compile(r"s3://(?P<bucket>[^/]*)(?:/(?P<key>.*))?", re.DOTALL)
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
LONGEST_KEY = 1024
"""Bytes of a key in UTF-8, as S3 has it."""


@dataclass(frozen=True, order=True)
class S3Path:
    """A bucket (an empty key), or an object or folder in it; the key has no slash at its ends."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    def __truediv__(self, name: str) -> S3Path:
        return S3Path(self.bucket, f"{self.prefix}{name}")

    @property
    def name(self) -> str:
        """The last part; a bucket's is its name."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> S3Path:
        """The folder above; a bucket's is itself."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    @property
    def prefix(self) -> str:
        """What the keys of everything in this folder begin with."""
        return f"{self.key}/" if self.key else ""


Place = Path | S3Path


def is_remote(place: str | Path) -> bool:
    """Whether this is meant to be in S3, be it well written or not."""
    return bool(LOOKS_REMOTE.match(str(place)))


def parse_place(place: str | Path) -> Place:
    """The place that a user named.

    Raises:
        StorageError: it begins like an S3 address and is none.
    """
    if not is_remote(place):
        return Path(place)
    text = str(place)
    match = URL.fullmatch(text)
    if match is None:
        raise StorageError(f"{text}: is no address in S3; expected s3://BUCKET/FOLDER or s3://BUCKET/FILE")
    bucket, key = match["bucket"], (match["key"] or "").removesuffix("/")
    if not BUCKET.fullmatch(bucket) or ".." in bucket:
        raise StorageError(
            f"{text}: {bucket!r} is no bucket name; expected 3 to 63 small letters, digits, '-' and '.'"
        )
    parts = key.split("/") if key else []
    if any(part in ("", ".", "..") for part in parts) or len(key.encode()) > LONGEST_KEY or "\0" in key:
        raise StorageError(
            f"{text}: {key!r} is no key; expected names joined by single '/', none of them '.' or '..', at "
            f"most {LONGEST_KEY} bytes"
        )
    return S3Path(bucket, key)


def comparable(place: str | Path) -> Path:
    """A path that tells places apart, be they on this machine or in S3; nothing is to be read there."""
    parsed = parse_place(place)
    return parsed if isinstance(parsed, Path) else Path("/s3:", parsed.bucket, parsed.key)


def parse_s3(place: str | Path) -> S3Path:
    """The place in S3 that a user named.

    Raises:
        StorageError: it is none.
    """
    parsed = parse_place(place)
    if not isinstance(parsed, S3Path):
        raise StorageError(f"{place}: is no address in S3; expected s3://BUCKET/KEY")
    return parsed
