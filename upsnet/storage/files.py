"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from upsnet.errors import UpsnetError


def write_file(content: bytes | str, path: Path) -> None:
    """Writes beside `path` and renames, so that a reader never sees a part; makes the folders above it.

    Raises:
        UpsnetError: the file cannot be written there.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            beside.chmod(0o644)  # mkstemp makes private files
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UpsnetError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def make_folder(path: Path) -> Path:
    """Makes a folder for results and those above it, before hours of work are spent on what goes there.

    Raises:
        UpsnetError: it cannot be made, or nothing can be written into it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise UpsnetError(
            f"{path}: is no folder to write results into ({error.strerror}); choose another --out"
        ) from error
    return path
