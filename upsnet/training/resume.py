"""Goes on from the newest good checkpoint, or starts anew and says why.

Nothing is deleted: checkpoints that no longer count are moved into `stale/` beside them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from upsnet import distributed
from upsnet.tracking import Tracker
from upsnet.training import checkpoint
from upsnet.training.checkpoint import Content
from upsnet.training.optimizer import Schedule
from upsnet.training.state import TrainState

logger = logging.getLogger(__name__)

Resume = Literal["auto", "unfinished", "never"]
"""Which checkpoints a training goes on from; `unfinished`: not from the last one of a finished training."""


def resume_training(state: TrainState, folder: Path, resume: Resume, tracker: Tracker) -> bool:
    """Takes up the newest good checkpoint, which rank 0 reads and sends to the others; or starts anew.

    Args:
        state: as it is before the first iteration; every rank calls this.
        folder: of the checkpoints.
        resume: `auto`, `unfinished` to start anew where that training is finished, `never` in any case.
        tracker: begins a new run where the training does.

    Returns:
        Whether there was a checkpoint to go on from.
    """
    found = _find_checkpoint(state, folder, resume, tracker) if distributed.is_main() else None
    content = distributed.broadcast_object(found)
    if content is not None:
        state.restore(content)
    tracker.begin(resumed=content is not None)
    return content is not None


def _find_checkpoint(state: TrainState, folder: Path, resume: Resume, tracker: Tracker) -> Content | None:
    """The checkpoint to go on from; says which, or why none."""
    if resume == "never":
        _start_anew(folder, tracker, "as asked for")
        return None
    found, bad = checkpoint.newest_good(folder)
    if found is None:
        _start_anew(folder, tracker, "no checkpoint is good")
        return None
    path, content = found
    differences = state.differences(content)
    if differences:
        _start_anew(folder, tracker, f"{path} is of another training ({'; '.join(differences)})")
        return None
    if resume == "unfinished" and _is_finished(state, content):
        _start_anew(folder, tracker, f"{path} is the last of a finished training")
        return None
    checkpoint.set_aside(folder, bad)
    if content["best_iteration"] == content["iteration"]:
        checkpoint.mark_best(path)  # a kill between the two writes may have left the best of before
    logger.info("going on from %s", path)
    return content


def _is_finished(state: TrainState, content: Content) -> bool:
    return Schedule(state.config.training, 1).iterations_left(content["images_seen"]) == 0


def _start_anew(folder: Path, tracker: Tracker, why: str) -> None:
    """Moves the checkpoints there are aside; says so if there are any."""
    moved = checkpoint.set_aside(folder)
    if moved:
        tracker.start_over()
        logger.info("starting anew, %s; moved %d checkpoint(s) to %s", why, len(moved), moved[0].parent)
