"""Names, values and messages as MLflow takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def legal_name(name: str) -> str:
    """The name as MLflow allows it: letters, digits, `_ - . : /` and spaces, at most 250, a clean path."""
    parts = [re.sub(r"[^\w\-. :]", "_", part).strip() for part in name.split("/")]
    return "/".join(part for part in parts if part.strip("."))[:250].rstrip("/") or "_"


def flatten(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


def first_line(error: Exception) -> str:
    """The exception in one line of bearable length, without the password of an address."""
    lines = re.sub(r"//[^/@\s]+@", "//***@", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


def short_cause(error: Exception) -> str:
    """As `first_line`; of a request that found no server, only what kind of failure it was."""
    cause = re.search(r"Caused by (\w+)", str(error))
    return cause[1] if cause else first_line(error)
