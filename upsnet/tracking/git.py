"""Which commit of the program a run was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_tags() -> dict[str, str]:
    """Commit and dirty flag of the program's repository; empty without git or outside a repository."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root:
            return {}
        # DVC writes its lock file in the middle of the very run that asks.
        changes = git("status", "--porcelain", "--", ".", ":(exclude)*dvc.lock")
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": str(bool(changes))}
    except (OSError, subprocess.SubprocessError):
        return {}
