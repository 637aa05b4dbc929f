"""What a request may name as an image: the file itself in base64, or the address of one.

Whoever may send requests makes the server read an address with the server's own rights and network. Only
segments come back, and of what is no picture its first 8 bytes. UPSNET_SERVE_URIS narrows what is read, and
files of the server's own disk are read only where it names them.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upsnet.errors import DataError, StorageError

ALLOWED_VARIABLE = "UPSNET_SERVE_URIS"
"""Addresses below which to read, separated by spaces: `s3://bucket/photos/ https://images.example.com/`."""
DEFAULT_ALLOWED = "https:// http:// s3://"
SCHEMES = ("s3", "http", "https", "file")
LOOKS_LIKE_URI = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
DATA_URI = re.compile(r"data:image/[a-z]+;base64,", re.IGNORECASE)
MOST_BYTES = 64 * 2**20
"""Of one image file."""
SECONDS = (5, 30)
"""To connect to a web server, and to wait for its next bytes."""


def read_source(text: object) -> bytes:
    """The bytes of the image file that a request names.

    Args:
        text: the file in base64, perhaps as a `data:` address, or an address that is allowed.

    Raises:
        DataError: it is neither, is not allowed, or cannot be read.
    """
    if not isinstance(text, str):
        raise DataError(f"{text!r} is no text")
    text = text.strip()
    inline = DATA_URI.match(text)
    if inline is None and LOOKS_LIKE_URI.match(text):
        return _fetch(text)
    return _decode(text[inline.end() :] if inline else text)


def allowed_addresses() -> list[str]:
    """What the server may read; of an empty variable, none."""
    return os.environ.get(ALLOWED_VARIABLE, DEFAULT_ALLOWED).split()


def is_allowed(uri: str, allowed: Sequence[str]) -> bool:
    """Whether an address lies below one of those allowed; none with `..` does."""
    if ".." in unquote(urlsplit(uri).path).replace("\\", "/").split("/"):
        return False
    return any(uri == prefix or uri.startswith(f"{prefix.rstrip('/')}/") for prefix in allowed)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s+", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{_short(text)} is neither base64 nor an address ({error})") from error


def _fetch(uri: str) -> bytes:
    scheme = urlsplit(uri).scheme.lower()
    if scheme not in SCHEMES:
        raise DataError(f"{_short(uri)}: is an address of none of the kinds {', '.join(SCHEMES)}")
    if not is_allowed(uri, allowed_addresses()):
        raise DataError(
            f"{_short(uri)}: this server may not read that address; send the file in base64, or start "
            f"the server with {ALLOWED_VARIABLE} naming what it may read"
        )
    if scheme in ("http", "https"):
        return _from_web(uri)
    return _read(_copy_of(uri) if scheme == "s3" else Path(unquote(urlsplit(uri).path)), uri)


def _copy_of(uri: str) -> Path:
    from upsnet.storage.local import local_file

    try:
        return local_file(uri)
    except StorageError as error:
        raise DataError(str(error)) from error


def _read(path: Path, uri: str) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{_short(uri)} has more than {MOST_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{_short(uri)} cannot be read ({error.strerror})") from error


def _from_web(uri: str) -> bytes:
    """Reads from a web server; follows no redirection, which could lead anywhere."""
    import requests

    data = bytearray()
    try:
        with requests.get(uri, timeout=SECONDS, stream=True, allow_redirects=False) as answer:
            if answer.status_code != 200:
                raise DataError(f"{_short(uri)} answers with status {answer.status_code}, expected 200")
            for part in answer.iter_content(2**20):
                data += part
                if len(data) > MOST_BYTES:
                    raise DataError(f"{_short(uri)} has more than {MOST_BYTES >> 20} MiB")
    except requests.RequestException as error:
        raise DataError(f"{_short(uri)} cannot be read ({type(error).__name__})") from error
    return bytes(data)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
