"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_file(content: bytes | str, path: Path) -> None:
    """Writes beside `path` and renames, so that a reader never sees a part; makes the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        beside.chmod(0o644)  # mkstemp makes private files
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
