"""The training loop, in order and in one place.

It runs the same in one process and on every rank of several. Per iteration the ranks exchange the gradients
and one small vector: the losses, the waiting time, and whether somebody was asked to stop. So all of them see
the same figures and take the same turn, be it a stop or an error.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from upsnet import distributed
from upsnet.config import Config, ModelConfig
from upsnet.data.categories import CategoryTable
from upsnet.data.loader import TrainLoader
from upsnet.data.shards import PreparedData
from upsnet.errors import TrainingError
from upsnet.model.build import build_model
from upsnet.model.detector_weights import load_detector_weights
from upsnet.model.network import Network
from upsnet.storage.local import local_file
from upsnet.storage.paths import is_remote
from upsnet.structures import Batch
from upsnet.tracking import Tracker
from upsnet.training import checkpoint
from upsnet.training.meter import LOSS_NAMES, Meter, log_line
from upsnet.training.optimizer import Schedule, build_optimizer, clip_gradients, set_rate
from upsnet.training.resume import Resume, resume_training
from upsnet.training.start import start_from
from upsnet.training.state import TrainState, seed_random_numbers
from upsnet.training.stop import StopRequest

logger = logging.getLogger(__name__)

STOPPED = 128 + signal.SIGTERM
"""Exit code after SIGTERM, as a shell reports it."""

Show = Callable[[Network, int], None]
"""Draws pictures of the network after an iteration; called by rank 0 after every evaluation."""

Validate = Callable[[Network], Mapping[str, float]]
"""Evaluates the network, called by every rank; rank 0's `PQ` decides which checkpoint is the best."""


def train(
    config: Config,
    data: PreparedData,
    out: Path,
    *,
    resume: Resume = "auto",
    validate: Validate | None = None,
    tracker: Tracker,
    init_from: Path | None = None,
    show: Show | None = None,
    saved: Callable[[], None] | None = None,
) -> Path:
    """Trains a network, and writes its checkpoints to `<out>/checkpoints`.

    Every rank calls it, with the same arguments. On SIGTERM the running iteration is finished, a checkpoint
    is written, and the process exits with code 143.

    Args:
        config: the whole configuration; rate and iterations follow the linear rule.
        data: prepared data.
        out: folder of the run.
        resume: `auto` goes on from the newest good checkpoint of the same configuration and data, `never`
            starts anew, `unfinished` starts anew where that training is finished; checkpoints that it does
            not go on from are moved into `<out>/checkpoints/stale`.
        validate: called every `evaluation_interval` iterations and at the end.
        tracker: takes the figures.
        init_from: checkpoint (or folder of a training) whose weights a new training starts from, perhaps of
            other classes; a training that goes on from its own checkpoint does not look at it.
        show: draws pictures of the network during the training.
        saved: called by rank 0 when there are other checkpoints in `out` than before; returns at once.

    Returns:
        The newest checkpoint.

    Raises:
        TrainingError: a loss or a weight is not finite. The checkpoints so far are left alone.
        DataError: a training image cannot be read.
        CheckpointError: the starting weights cannot be had, or those of `init_from`.

    Source: UPSNet 3.2, 4.5 and 6.1.
    """
    folder, device = out / checkpoint.FOLDER, distributed.device()
    threads = distributed.limit_threads()
    _make_repeatable(device)
    schedule = Schedule(config.training, config.loader.images_per_worker * distributed.world_size())
    state = start_state(config, data, device, with_weights=init_from is None)
    resumed = resume_training(state, folder, resume, tracker)
    if init_from is not None and resumed:
        _say("not looking at %s: this training goes on from its own checkpoint", init_from)
    elif init_from is not None:
        start_from(init_from, state.model, config.model, data.categories)
    _tell(saved)
    left = schedule.iterations_left(state.images_seen)
    if left == 0:
        _say("training is finished already: iteration %d is the last", state.iteration)
        return checkpoint.checkpoint_path(folder, state.iteration)
    _say(
        "training on %d worker(s) (%s, %d thread(s) each): %d iterations of %d images",
        *(distributed.world_size(), device.type, threads, left, schedule.global_batch),
    )
    loader = TrainLoader(
        data.split("train"),
        data.categories,
        config.loader,
        seed=config.seed,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        images_seen=state.images_seen,
    )
    try:
        _loop(
            state,
            schedule,
            loader,
            folder,
            validate if config.training.evaluation_interval else None,
            tracker,
            show,
            saved,
        )
    finally:
        loader.close()
    return checkpoint.checkpoint_path(folder, state.iteration)


def _loop(
    state: TrainState,
    schedule: Schedule,
    loader: TrainLoader,
    folder: Path,
    validate: Validate | None,
    tracker: Tracker,
    show: Show | None,
    saved: Callable[[], None] | None,
) -> None:
    """Iterates to the end of the schedule, or to the first iteration after SIGTERM."""
    settings, meter = state.config.training, Meter()
    left = schedule.iterations_left(state.images_seen)
    with StopRequest() as stop:
        while left > 0:
            started = time.perf_counter()
            batch = next(loader)
            waited = time.perf_counter() - started

            rate = schedule.rate(state.images_seen)
            losses, total = compute_losses(state, batch)
            means, stopping = exchange(losses, total, waited, stop.requested)
            refuse_bad_losses(means, losses, batch, state.iteration + 1)
            update(state, total, rate)

            state.iteration += 1
            state.images_seen = loader.images_seen
            left = schedule.iterations_left(state.images_seen)
            meter.add(means, schedule.global_batch, time.perf_counter() - started)
            if _is_due(state.iteration, settings.log_interval, left):
                figures = meter.summary(losses, rate, left)
                tracker.log_metrics(figures, state.iteration)
                _say("%s", log_line(state.iteration, state.iteration + left, figures))
                meter = Meter()

            better = False
            evaluating = validate and _is_due(state.iteration, settings.evaluation_interval, left)
            if evaluating or stopping or _is_due(state.iteration, settings.checkpoint_interval, left):
                # With model.norm=batch each rank keeps its own running means; those of rank 0 are saved.
                distributed.broadcast_parameters(state.model)
            if validate and evaluating and not stopping:
                better = _evaluate(state, validate, tracker, show)
            if better or stopping or _is_due(state.iteration, settings.checkpoint_interval, left):
                _save(state, folder, better)
                _tell(saved)
            if stopping:
                _say("stopped by SIGTERM: iteration %d is saved, '--resume auto' goes on", state.iteration)
                raise SystemExit(STOPPED)


def start_state(
    config: Config, data: PreparedData, device: torch.device, *, with_weights: bool = True
) -> TrainState:
    """The state before the first iteration: the same weights on all ranks, other random numbers on each.

    Args:
        config: the whole configuration.
        data: prepared data, for its classes.
        device: of this rank.
        with_weights: with the configured starting weights; without, a checkpoint is to follow.
    """
    table = data.categories
    seed_random_numbers(config.seed)
    none = {"weights": "none", "detector_weights": "none"}
    settings = config.model if with_weights else config.model.model_copy(update=none)
    model = _starting_model(settings, table).to(device).train()
    distributed.broadcast_parameters(model)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    optimizer = distributed.wrap_optimizer(build_optimizer(model, config.training), trained)
    categories = list(table.to_json())
    return TrainState(model, optimizer, config, categories, data.version, data_dvc_hash=data.dvc_hash)


def _starting_model(settings: ModelConfig, table: CategoryTable) -> Network:
    """The network with its starting weights; those of a detector take the place of the backbone's."""
    classes = (table.num_stuff, table.num_things)
    settings = settings.model_copy(update=_copies_of_weights(settings))
    if settings.detector_weights == "none":
        return build_model(settings, *classes)
    model = build_model(settings.model_copy(update={"weights": "none"}), *classes)
    thing_names = table.names[table.num_stuff :]
    _say("%s", load_detector_weights(model, settings.detector_weights, thing_names))
    return model


def _copies_of_weights(settings: ModelConfig) -> dict[str, str]:
    """The files of starting weights that are in S3, as copies on this machine."""
    named = {"weights": settings.weights, "detector_weights": settings.detector_weights}
    return {key: str(local_file(name)) for key, name in named.items() if is_remote(name)}


def compute_losses(state: TrainState, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """The losses of a batch, unweighted, by name and without those of weight 0; and their weighted sum."""
    settings = state.config.training
    device = next(state.model.parameters()).device
    targets = [target.to(device) for target in batch.targets]
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
        losses = state.model.losses(
            batch.images.to(device), targets, settings.losses, settings.semantic_loss_stride
        )
    weights = {name: getattr(settings.losses, name) for name in losses}
    used = {name: losses[name].float() for name in LOSS_NAMES if weights.get(name, 0.0) > 0}
    total = sum((weights[name] * loss for name, loss in used.items()), torch.zeros((), device=device))
    return used, total


def update(state: TrainState, total: Tensor, rate: float) -> None:
    """One step of the optimizer down the gradient of `total`, which is averaged over the ranks."""
    state.optimizer.zero_grad()
    total.backward()
    distributed.synchronize_gradients(state.optimizer)
    clip_gradients(state.optimizer, state.config.training.clip_norm)
    set_rate(state.optimizer, rate)
    distributed.step(state.optimizer)


def exchange(
    losses: Mapping[str, Tensor], total: Tensor, waited: float, stop: bool
) -> tuple[dict[str, float], bool]:
    """The mean over the ranks of the losses, `total` and `data_seconds`; and whether any rank is to stop."""
    values = torch.stack([*(losses.get(name, torch.zeros_like(total)) for name in LOSS_NAMES), total])
    mine = torch.cat([values.detach().cpu().double(), torch.tensor([waited, stop], dtype=torch.float64)])
    *means, stopping = distributed.all_reduce_mean(mine).tolist()
    return dict(zip([*LOSS_NAMES, "total", "data_seconds"], means, strict=True)), stopping > 0


def refuse_bad_losses(
    means: Mapping[str, float], losses: Mapping[str, Tensor], batch: Batch, iteration: int
) -> None:
    """Stops all ranks together when a loss is not finite on any of them, before it reaches the weights.

    Raises:
        TrainingError: with the losses and image ids of every rank that has such a loss.
    """
    if all(math.isfinite(value) for value in means.values()):
        return
    values = {name: loss.item() for name, loss in losses.items()}
    reports = distributed.gather_objects((distributed.rank(), batch.image_ids, values))
    guilty = "; ".join(
        f"rank {rank}, image ids {list(ids)}: " + ", ".join(f"{name} {v:.4g}" for name, v in values.items())
        for rank, ids, values in reports
        if not all(math.isfinite(v) for v in values.values())
    )
    raise TrainingError(
        f"iteration {iteration}: a loss is not finite ({guilty or means}). The checkpoints before are "
        "untouched; lower training.base_rate, set training.clip_norm, or look at these images"
    )


def _refuse_bad_weights(state: TrainState) -> None:
    """The update after good losses can still be bad; its weights must not become the newest checkpoint."""
    for name, parameter in state.model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise TrainingError(
                f"iteration {state.iteration}: {name} is not finite after the update. The checkpoints "
                "before are untouched; lower training.base_rate or set training.clip_norm"
            )


def _evaluate(state: TrainState, validate: Validate, tracker: Tracker, show: Show | None) -> bool:
    """Whether this is the best state so far, by PQ."""
    metrics = distributed.broadcast_object(dict(validate(state.model)))
    if show is not None and distributed.is_main():
        show(state.model, state.iteration)
    state.model.train()
    tracker.log_metrics({f"validation/{name}": v for name, v in metrics.items()}, state.iteration)
    quality = float(metrics.get("PQ", math.nan))  # undefined where no image has a segment
    _say("iteration %d: PQ %.2f on validation images", state.iteration, quality)
    better = math.isfinite(quality) and (state.best_metric is None or quality > state.best_metric)
    if better:
        state.best_metric, state.best_iteration = quality, state.iteration
    return better


def _save(state: TrainState, folder: Path, best: bool) -> None:
    """Writes the checkpoint of this iteration; every rank calls it."""
    _refuse_bad_weights(state)
    content = state.content()
    if distributed.is_main():
        path = checkpoint.checkpoint_path(folder, state.iteration)
        checkpoint.write_checkpoint(content, path)
        if best:
            checkpoint.mark_best(path)
        checkpoint.keep_newest(folder, state.config.training.keep_checkpoints)
        _say("saved %s", path)
    distributed.barrier()  # a rank that exits early makes the launcher end the one that still writes


def _tell(saved: Callable[[], None] | None) -> None:
    if saved is not None and distributed.is_main():
        saved()


def _is_due(iteration: int, interval: int, iterations_left: int) -> bool:
    return iterations_left == 0 or iteration % interval == 0


def _make_repeatable(device: torch.device) -> None:
    """Makes the same run give the same bits on the CPU; on a GPU that would cost too much speed."""
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _say(message: str, *values: Any) -> None:
    if distributed.is_main():
        logger.info(message, *values)
