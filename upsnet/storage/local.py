"""What commands use, so that all other code sees files of this machine only.

An input in S3 becomes a copy in the cache; an output in S3 is written to a working folder first.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from upsnet.errors import StorageError, UpsnetError
from upsnet.storage.cache import cache, cache_root
from upsnet.storage.checksum import is_same
from upsnet.storage.files import make_folder
from upsnet.storage.paths import S3Path, parse_place
from upsnet.storage.s3 import check_writable, delete, head, list_files
from upsnet.storage.transfer import download_folder, existing, upload_file, upload_folder

logger = logging.getLogger(__name__)


def local_file(place: str | Path) -> Path:
    """A file of this machine as it is, or the copy of an object.

    Raises:
        StorageError: the object cannot be had.
    """
    parsed = parse_place(place)
    return parsed if isinstance(parsed, Path) else cache().file(existing(parsed), hold=True)


def local_folder(place: str | Path, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """A folder of this machine as it is, or the copy of one in S3.

    Args:
        place: the folder.
        wanted: which files of it, by their relative names; of a folder in S3 only.

    Raises:
        StorageError: there is no such folder in S3, or it cannot be had.
    """
    parsed = parse_place(place)
    return parsed if isinstance(parsed, Path) else cache().folder(parsed, wanted)


def local_either(place: str | Path, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """The file or folder of that name, see `local_file` and `local_folder`."""
    parsed = parse_place(place)
    if isinstance(parsed, S3Path) and (not parsed.key or head(parsed) is None):
        return local_folder(place, wanted)
    return local_file(place)


@contextmanager
def output_folder(
    place: str | Path,
    *,
    last: Sequence[str] = (),
    owned: Callable[[str], bool] | None = None,
    upload: bool = True,
) -> Iterator[Path]:
    """A folder to write into: of this machine as it is, else one whose files go to S3 at the end.

    What was written before an UpsnetError goes up, too, as it would stay in a folder of this machine. What
    cannot go up stays on this machine, and the message says where.

    Args:
        place: the folder, which need not be there.
        last: names that go up after all others, the sign of a complete folder.
        owned: which names belong there. A folder in S3 with others is refused, and those that were not
            written this time are deleted. Without it, what is there stays.
        upload: False on those ranks whose files nobody wants.

    Raises:
        StorageError: nothing can be written there.
    """
    parsed = parse_place(place)
    if isinstance(parsed, Path):
        yield parsed
        return
    if upload:
        check_writable(parsed)
        _refuse_foreign(parsed, owned)
    folder = working_folder() / parsed.name
    try:
        yield folder
    except UpsnetError:
        if upload and folder.is_dir():
            _send(folder, parsed, last, owned)
        raise
    finally:
        if not folder.exists() or not upload:
            shutil.rmtree(folder.parent, ignore_errors=True)
    if upload and folder.is_dir():
        _send(folder, parsed, last, owned)


@contextmanager
def working_copy(place: str | Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """A folder to change: of this machine as it is, else a copy whose changes go to S3, after errors as well.

    The message of an UpsnetError names the folder in S3 in the place of the copy.

    Args:
        place: the folder.
        wanted: which files of it, by their relative names; of a folder in S3 only.

    Raises:
        StorageError: nothing is there, or it cannot be read or written.
    """
    parsed = parse_place(place)
    if isinstance(parsed, Path):
        yield parsed
        return
    folder = working_folder() / parsed.name
    if not download_folder(parsed, folder, wanted=wanted):
        raise StorageError(f"{parsed}: there is nothing of what is expected there; check the address")
    try:
        yield folder
    except UpsnetError as error:
        raise type(error)(str(error).replace(str(folder), str(parsed))) from error
    finally:
        _send(folder, parsed, (), wanted)


@contextmanager
def output_file(place: str | Path) -> Iterator[Path]:
    """A file to write: of this machine as it is, else one that goes to S3 at the end.

    Raises:
        StorageError: it cannot be written there.
    """
    parsed = parse_place(place)
    if isinstance(parsed, Path):
        yield parsed
        return
    if not parsed.key:
        raise StorageError(f"{parsed}: is a bucket; name a file in it, such as {parsed}/NAME")
    folder = working_folder()
    try:
        yield folder / parsed.name
        upload_file(folder / parsed.name, parsed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def working_folder() -> Path:
    """A new folder for files on their way to S3.

    Raises:
        StorageError: it cannot be made.
    """
    root = cache_root() / "outputs"
    try:
        root.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=root))
    except OSError as error:
        raise StorageError(
            f"{root}: cannot be written ({error.strerror}); set UPSNET_CACHE to another folder"
        ) from error


def check_output(place: str | Path) -> None:
    """Refuses a folder for results that cannot be written, before hours of work are spent.

    Raises:
        UpsnetError: it cannot.
    """
    parsed = parse_place(place)
    if isinstance(parsed, Path):
        make_folder(parsed)
    else:
        check_writable(parsed)


def _refuse_foreign(folder: S3Path, owned: Callable[[str], bool] | None) -> None:
    foreign = [name for name in _named(folder) if not owned(name)] if owned else []
    if foreign:
        raise StorageError(f"{folder}: holds other files ({foreign[0]}); choose an empty or a new folder")


def _send(
    folder: Path, target: S3Path, last: Sequence[str], owned: Callable[[str], bool] | None = None
) -> None:
    """Sends the results; what is owned and does not belong to them any more is deleted."""
    try:
        before = [name for name in _named(target) if owned(name)] if owned else []
        _delete_outdated(folder, target, [name for name in before if name in last])
        upload_folder(folder, target, last=last)
        for name in before:
            if not (folder / name).exists():
                delete(target / name)
    except StorageError as error:
        raise StorageError(f"{error}\n  The results stay in {folder}") from error
    shutil.rmtree(folder.parent, ignore_errors=True)
    logger.info("uploaded %s", target)


def _delete_outdated(folder: Path, target: S3Path, signs: Sequence[str]) -> None:
    """Takes the signs of a complete folder away while its other files are replaced."""
    for name in signs:
        if not is_same(folder / name, existing(target / name)):
            delete(target / name)


def _named(folder: S3Path) -> list[str]:
    """The relative names of all objects in a folder."""
    return [remote.path.key.removeprefix(folder.prefix) for remote in list_files(folder)]
