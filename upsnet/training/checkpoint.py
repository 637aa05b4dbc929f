"""Checkpoint files: written whole or not at all, and never believed without their checksum.

A checkpoint is what `torch.save` writes, an ordinary zip file, whose zip comment holds the SHA-256 of the
file without that comment: one file that can be copied anywhere, opens with `torch.load`, and shows every
flipped bit. A training's folder holds
    iteration-00000250.pt ...  the newest few
    best.pt                    the best so far, if the training evaluates
    stale/                     those of the configuration before
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from upsnet.config import Config
from upsnet.data.categories import CategoryTable
from upsnet.errors import CheckpointError, UpsnetError
from upsnet.model.build import build_model
from upsnet.model.mask_rcnn import MaskRCNN
from upsnet.model.network import Network
from upsnet.model.pair import NetworkPair

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised when the content changes its meaning."""

FOLDER = "checkpoints"
BEST = "best.pt"
PATTERN = "iteration-*.pt"
PAIR = "mr_cnn_psp"
"""Network and variant of two checkpoints together."""
COMMENT_START = b"sha256:"
COMMENT_BYTES = len(COMMENT_START) + 64

Content = dict[str, Any]
"""What a checkpoint holds: tensors, numbers, strings, dicts and lists of them; see `TrainState.content`."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained network, in eval mode on the CPU, and what it was trained with."""

    model: Network
    config: Config
    table: CategoryTable
    iteration: int
    data_version: str
    data_dvc_hash: str = ""


def load_model(path: Path, semantic_path: Path | None = None) -> LoadedModel:
    """Loads the network of a checkpoint for inference.

    With a second one, the first (a Mask R-CNN) only detects and the second does the semantic part; what both
    were trained with is that of the first.

    Args:
        path: a checkpoint, or a folder of a training or of its checkpoints: then its newest good one.
        semantic_path: likewise, of the semantic network.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint of this program, or the two do not fit together.
    """
    loaded = _load_one(path)
    if semantic_path is None:
        return loaded
    semantic = _load_one(semantic_path)
    if not isinstance(loaded.model, MaskRCNN) or semantic.config.model.network == "mask_rcnn":
        raise CheckpointError(
            f"{path} is a {loaded.config.model.network}, {semantic_path} a {semantic.config.model.network}; "
            "expected a mask_rcnn and, for the semantic part, a pspnet or an upsnet"
        )
    if loaded.table.categories != semantic.table.categories:
        raise CheckpointError(f"{path} and {semantic_path} were trained with different categories")
    model_config = loaded.config.model.model_copy(update={"network": PAIR})
    return replace(
        loaded,
        model=NetworkPair(loaded.model, semantic.model).eval(),
        config=loaded.config.model_copy(update={"variant": PAIR, "model": model_config}),
    )


def _load_one(path: Path) -> LoadedModel:
    """Loads the network of one checkpoint.

    Args:
        path: a checkpoint, or a folder of a training or of its checkpoints: then its newest good one.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint of this program.
    """
    path, content = open_checkpoint(path)
    try:
        config = Config.model_validate(content["config"])
        table = CategoryTable.from_json(content["categories"], f"{path}: categories")
        model_config = config.model.model_copy(update={"weights": "none"})
        model = build_model(model_config, table.num_stuff, table.num_things)
        model.load_state_dict(content["model"])
    except (KeyError, ValueError, RuntimeError, UpsnetError) as error:
        # torch names every tensor that does not fit; the first ones are enough.
        raise CheckpointError(f"{path}: does not fit this program version: {str(error)[:500]}") from error
    versions = (str(content["data_version"]), str(content.get("data_dvc_hash", "")))
    return LoadedModel(model.eval(), config, table, int(content["iteration"]), *versions)


def open_checkpoint(path: Path) -> tuple[Path, Content]:
    """Reads a checkpoint, or the newest good one of a folder.

    Args:
        path: a checkpoint, or a folder of a training or of its checkpoints.

    Returns:
        the file, and what it holds.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint of this program.
    """
    if not path.is_dir():
        return path, read_checkpoint(path)
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    found, _ = newest_good(folder)
    if found is None:
        raise CheckpointError(
            f"{folder}: holds no good checkpoint ({PATTERN}); train first, or name a checkpoint"
        )
    return found


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """Where the checkpoint of an iteration lies."""
    return folder / f"iteration-{iteration:08d}.pt"


def write_checkpoint(content: Content, path: Path) -> None:
    """Writes a checkpoint; the file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        with part.open("w+b") as file:
            torch.save({"format": FORMAT, **content}, file)
            _add_checksum(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> Content:
    """Reads a checkpoint onto the CPU.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint of this program, or of another version of it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); name a checkpoint") from error
    _refuse_bad_checksum(data, path)
    content: Content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: has format {content['format']}, expected {FORMAT}; it is of another program version"
        )
    return content


def newest_good(folder: Path) -> tuple[tuple[Path, Content] | None, list[Path]]:
    """Finds the checkpoint to go on from.

    Returns:
        path and content of the newest good checkpoint, or None; and the newer ones that are not good, each of
        which is warned about.
    """
    bad: list[Path] = []
    for path in sorted(folder.glob(PATTERN), reverse=True):
        try:
            return (path, read_checkpoint(path)), bad
        except CheckpointError as error:
            logger.warning("skipping a checkpoint: %s", error)
            bad.append(path)
    return None, bad


def keep_newest(folder: Path, count: int) -> None:
    """Deletes all but the newest checkpoints, and what a killed process left half written.

    The best is a file of its own.
    """
    for path in [*sorted(folder.glob(PATTERN))[:-count], *folder.glob("*.part")]:
        path.unlink()


def mark_best(path: Path) -> None:
    """Makes this checkpoint `best.pt`."""
    name_also(path, path.with_name(BEST))


def name_also(path: Path, other: Path) -> None:
    """Gives a checkpoint a second name where the file system can, else a copy of that name."""
    part = other.with_name(other.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.link(path, part)
    except OSError:
        shutil.copyfile(path, part)
    os.replace(part, other)


def set_aside(folder: Path, paths: Iterable[Path] | None = None) -> list[Path]:
    """Moves checkpoints into `stale/`, where they no longer count, and returns their new places.

    Args:
        folder: of the checkpoints.
        paths: which; None means all, and then they take the place of what was in `stale/`.
    """
    stale = folder / "stale"
    if paths is None:
        paths = [*folder.glob(PATTERN), *folder.glob(BEST)]
        if paths and stale.exists():
            shutil.rmtree(stale)
    moved = []
    for path in paths:
        stale.mkdir(parents=True, exist_ok=True)
        os.replace(path, stale / path.name)
        moved.append(stale / path.name)
    return moved


def _add_checksum(file: BinaryIO) -> None:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    # A zip file ends with the length of its comment, 0 so far, and the comment.
    file.seek(-2, os.SEEK_END)
    file.write(COMMENT_BYTES.to_bytes(2, "little") + COMMENT_START + digest.encode())


def _refuse_bad_checksum(data: bytes, path: Path) -> None:
    comment = data[-COMMENT_BYTES:]
    if not comment.startswith(COMMENT_START):
        raise CheckpointError(
            f"{path}: has no checksum at its end, so it is cut short or not a checkpoint of this program"
        )
    digest = hashlib.sha256(memoryview(data)[: -COMMENT_BYTES - 2])
    digest.update(bytes(2))
    if digest.hexdigest().encode() != comment.removeprefix(COMMENT_START):
        raise CheckpointError(f"{path}: is damaged (its checksum differs); use another checkpoint")
