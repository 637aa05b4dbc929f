"""Reads the files of a source; what goes wrong becomes a fault of the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from upsnet.data.faults import Findings
from upsnet.errors import DataError

T = TypeVar("T")


def read_file(path: Path, what: str, findings: Findings) -> bytes:
    """A file's bytes, empty when it cannot be read."""
    data = from_file(path, what, findings, lambda file: file.read())
    if data == b"":
        findings.fault(f"{what} unreadable", f"{path.name} is empty")
    return data or b""


def from_file(path: Path, what: str, findings: Findings, read: Callable[[BinaryIO], T]) -> T | None:
    """What `read` makes of a file, None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return read(file)
    except (FileNotFoundError, NotADirectoryError):
        findings.fault(f"{what} missing", path.name)
    except OSError as error:
        findings.fault(f"{what} unreadable", f"{path.name} ({error.strerror})")
    except DataError as error:
        findings.fault(f"{what} unreadable", f"{path.name}: {error}")
    return None
