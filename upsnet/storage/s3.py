"""The client for S3, from the usual AWS variables and files, and the single requests to it.

Read by boto3 itself: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION or
AWS_DEFAULT_REGION, AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_S3, AWS_CA_BUNDLE, AWS_MAX_ATTEMPTS, AWS_RETRY_MODE,
and `~/.aws`. The addressing style is that of the profile (`s3 = addressing_style = ...`) or of
AWS_S3_ADDRESSING_STYLE; without one it is `path` for a server that is not Amazon's.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from upsnet.errors import StorageError
from upsnet.storage.paths import S3Path
from upsnet.storage.retry import patiently

SHA256 = "sha256"
"""Where the metadata of an object hold the SHA-256 of the whole file, in hex."""
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
ATTEMPTS = 4
"""Of one request, by boto3, with back-off and jitter; `patiently` goes on from there."""
CONNECTIONS = 24
CHUNK_BYTES = 2**18
STYLES = ("auto", "path", "virtual")


@dataclass(frozen=True)
class RemoteFile:
    """An object as it is now.

    Attributes:
        path: where it lies.
        size: bytes.
        etag: changes with the content; without quotes, which not all servers write everywhere.
        modified: seconds since 1970.
        sha256: of the whole content, empty where nobody said.
        encrypted: by a key of the owner, so that the ETag is no checksum.
    """

    path: S3Path
    size: int
    etag: str
    modified: float
    sha256: str = ""
    encrypted: bool = False

    @property
    def if_match(self) -> str:
        """The ETag as requests name it."""
        return f'"{self.etag}"'


def client() -> Any:
    """The client of this process, made anew when the AWS variables change."""
    return _client(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))


def endpoint() -> str:
    """Address of the server."""
    return str(client().meta.endpoint_url)


@functools.lru_cache(maxsize=4)
def _client(_: tuple[tuple[str, str], ...]) -> Any:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise StorageError(f"s3:// needs boto3, which is missing ({error}); run 'make setup'") from error
    try:
        session = boto3.session.Session()
        style = _style(session)
        made = session.client("s3", config=_settings(style or "auto"))
        if not style and not _is_amazon(made.meta.endpoint_url):
            made = session.client("s3", config=_settings("path"))
    except (BotoCoreError, ValueError) as error:  # a profile that is not there, an endpoint that is no URL
        raise StorageError(
            f"S3: {error}; check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL, and the files in ~/.aws"
        ) from error
    return made


def _style(session: Any) -> str:
    """The addressing style that the user chose, empty if none."""
    style = os.environ.get("AWS_S3_ADDRESSING_STYLE", "")
    if style not in ("", *STYLES):
        raise StorageError(f"AWS_S3_ADDRESSING_STYLE is {style!r}; expected one of {', '.join(STYLES)}")
    profile = session._session.get_scoped_config().get("s3")  # boto3 itself does not show it
    return style or (str(profile.get("addressing_style", "")) if isinstance(profile, dict) else "")


def _settings(style: str) -> Any:
    from botocore.config import Config

    retries: dict[str, Any] = {}
    if "AWS_RETRY_MODE" not in os.environ:
        retries["mode"] = "standard"
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = ATTEMPTS
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries=retries,
        max_pool_connections=CONNECTIONS,
        response_checksum_validation="when_required",  # the SHA-256 of the whole file is compared instead
        s3={"addressing_style": style},
        user_agent_extra="upsnet",
    )


def _is_amazon(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def head(path: S3Path) -> RemoteFile | None:
    """The object at a path, None if there is none.

    Raises:
        StorageError: no such bucket, no access, no answer.
    """
    from botocore.exceptions import ClientError

    def ask() -> RemoteFile | None:
        try:
            return _from_head(path, client().head_object(Bucket=path.bucket, Key=path.key))
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
        client().list_objects_v2(Bucket=path.bucket, MaxKeys=1)  # a HEAD does not tell a missing bucket
        return None

    return patiently(path, ask)


def _from_head(path: S3Path, answer: dict[str, Any]) -> RemoteFile:
    metadata = {
        name.lower(): value for name, value in answer["Metadata"].items()
    }  # some servers write Sha256
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return RemoteFile(
        path,
        int(answer["ContentLength"]),
        answer["ETag"].strip('"'),
        answer["LastModified"].timestamp(),
        metadata.get(SHA256, ""),
        encrypted,
    )


def list_files(folder: S3Path, *, deep: bool = True) -> list[RemoteFile]:
    """The objects in a folder in order of their keys, without what only HEAD tells.

    Args:
        folder: may have none.
        deep: those in folders below, too.

    Raises:
        StorageError: no such bucket, no access, no answer.
    """
    return patiently(folder, lambda: list(_pages(folder, deep)))


def _pages(folder: S3Path, deep: bool) -> Iterator[RemoteFile]:
    pages = client().get_paginator("list_objects_v2")
    for page in pages.paginate(
        Bucket=folder.bucket, Prefix=folder.prefix, **({} if deep else {"Delimiter": "/"})
    ):
        for entry in page.get("Contents", []):
            if not entry["Key"].endswith("/"):  # the mark of an empty folder
                path = S3Path(folder.bucket, entry["Key"])
                etag, modified = entry["ETag"].strip('"'), entry["LastModified"].timestamp()
                yield RemoteFile(path, int(entry["Size"]), etag, modified)


def delete(path: S3Path) -> None:
    """Deletes an object if it is there.

    Raises:
        StorageError: no such bucket, no access, no answer.
    """
    patiently(path, lambda: client().delete_object(Bucket=path.bucket, Key=path.key))


def read_range(remote: RemoteFile, begin: int, length: int) -> bytes:
    """Bytes of an object, of the version that is named.

    Raises:
        StorageError: it has changed since, is gone, or cannot be had.
    """
    return patiently(remote.path, lambda: b"".join(get_range(remote, begin, length)))


def get_range(remote: RemoteFile, begin: int, length: int) -> Iterator[bytes]:
    """One try of `read_range`, chunk by chunk as they come, with boto3's errors."""
    answer = client().get_object(
        Bucket=remote.path.bucket,
        Key=remote.path.key,
        Range=f"bytes={begin}-{begin + length - 1}",
        IfMatch=remote.if_match,
    )
    if answer["ETag"].strip('"') != remote.etag:  # some servers do not know If-Match
        raise changed(remote.path)
    count = 0
    for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
        count += len(chunk)
        yield chunk
    if count != length:
        raise ConnectionError(f"{count} bytes came instead of {length}")


def changed(path: S3Path) -> StorageError:
    """The error of an object that is another one than when the work began."""
    return StorageError(f"{path}: was changed while it was being read; run the command again for the new one")


def check_writable(folder: S3Path) -> None:
    """Writes and deletes an empty object, before hours of work are spent on what goes there.

    Raises:
        StorageError: no folder is named, there is no such bucket, or nothing can be written into it.
    """
    if not folder.key:
        raise StorageError(f"{folder}: is a whole bucket; name a folder in it, such as {folder}/NAME")
    probe = folder / ".upsnet-can-write"
    patiently(probe, lambda: client().put_object(Bucket=probe.bucket, Key=probe.key, Body=b""))
    delete(probe)
