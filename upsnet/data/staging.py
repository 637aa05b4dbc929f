"""A folder that appears complete or not at all: written beside, then renamed."""

from __future__ import annotations

import errno
import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from upsnet.errors import DataError

LOCK = "lock"


@contextmanager
def staged_folder(out: Path, is_ours: Callable[[str], bool]) -> Iterator[Path]:
    """Yields an empty folder `<out>.part`; it becomes `out` at the end, unless an exception ends the work.

    What an interrupted run left is removed, and an `out` that exists stays until it is replaced at the end.

    Args:
        out: the folder to write; its parents are made.
        is_ours: whether a file of that name may be replaced; a folder with other files is refused.

    Raises:
        DataError: `out` holds other files, another process is writing it, or it cannot be written.
    """
    out = out.resolve()
    part, old = out.with_name(out.name + ".part"), out.with_name(out.name + ".old.part")
    with _explained(out):
        _refuse_foreign(out, is_ours)
        part.mkdir(parents=True, exist_ok=True)
        # A lock of the process, not of the file handle: it ends with the process, whatever its children hold.
        with open(part / LOCK, "w", encoding="utf-8") as lock:
            _lock(lock.fileno(), out)
            try:
                _restore(out, old)
                _clear(part)
                yield part
                _replace(out, part, old)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Turns what the file system refuses into one message."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"{out}: the disk is full ({error.strerror}); free some space or choose another folder. "
                "Nothing of this run was kept"
            ) from error
        raise DataError(f"{out}: cannot be written: {error}; choose another folder") from error


def _refuse_foreign(out: Path, is_ours: Callable[[str], bool]) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file, expected a folder; choose another name")
    foreign = [path.name for path in out.iterdir() if not is_ours(path.name)] if out.exists() else []
    if foreign:
        raise DataError(f"{out}: holds other files ({sorted(foreign)[0]}); choose an empty or a new folder")


def _lock(handle: int, out: Path) -> None:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise DataError(f"{out}: another process is writing this folder; wait for it to end") from error


def _restore(out: Path, old: Path) -> None:
    """A run that ended between the two renames of `_replace` left the former folder aside."""
    if old.exists() and not out.exists():
        old.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _clear(part: Path) -> None:
    for path in part.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _replace(out: Path, part: Path, old: Path) -> None:
    (part / LOCK).unlink()
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
