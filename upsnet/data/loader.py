"""From prepared shards to batches, in the calling process or in worker processes.

The main process decides what happens to every image (which one, short side, flip) and the workers only carry
it out; so the batches are the same for any number of worker processes.

Workers come from a fork server. A training process has threads (Horovod's, OpenMP's, MLflow's), and a fork
copies whatever lock one of them holds at that moment, without the thread that would release it. The fork
server is a fresh process without threads, and torch is imported once for all workers, unlike with spawn.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from upsnet.config import InferenceConfig, LoaderConfig
from upsnet.data.batch_order import Pick, global_batches
from upsnet.data.categories import CategoryTable
from upsnet.data.panoptic_png import decode_panoptic_png
from upsnet.data.shards import PreparedSplit
from upsnet.data.targets import targets_from_panoptic
from upsnet.data.transforms import Augmentation, decode_image, draw_augmentation, flip, resize, resize_scale
from upsnet.data.worker_life import live_with_parent
from upsnet.errors import DataError, UpsnetError
from upsnet.structures import Batch, ImageBatch, Sample, Targets, pad_images


class TrainLoader(Iterator[Batch]):
    """Endless augmented batches of one rank.

    The ranks' batches number k together are the global batch number k, whose images, order and augmentation
    depend on (seed, world_size * images_per_worker, k) alone. `close` ends the worker processes.

    Attributes:
        images_seen: images handed out on all ranks together, which is all the state there is to resume from.
    """

    def __init__(
        self,
        split: PreparedSplit,
        table: CategoryTable,
        config: LoaderConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        images_seen: int = 0,
    ) -> None:
        """Starts after `images_seen` images (rounded down to whole global batches).

        Raises:
            DataError: the split has no image.
        """
        if len(split) == 0:
            raise DataError("the training split has no images; prepare a data set that has some")
        self._global_batch = config.images_per_worker * world_size
        self._batches_done = images_seen // self._global_batch
        picks = global_batches(split.sizes, self._global_batch, seed, start=self._batches_done)
        mine = slice(rank * config.images_per_worker, (rank + 1) * config.images_per_worker)
        work = ([_task_of(pick, config, seed) for pick in batch[mine]] for batch in picks)
        self._batches = _load(_Loading(split, table, config.long_side), work, config.processes)

    @property
    def images_seen(self) -> int:
        return self._batches_done * self._global_batch

    def __next__(self) -> Batch:
        """Returns the next batch.

        Raises:
            DataError: an image cannot be read; the message names it.
        """
        batch = next(self._batches)
        self._batches_done += 1
        return batch

    def close(self) -> None:
        """Ends the worker processes; there are no more batches after it."""
        self._batches.close()


def evaluation_batches(
    split: PreparedSplit,
    table: CategoryTable,
    config: InferenceConfig,
    *,
    indices: Sequence[int],
    processes: int,
) -> Generator[Batch]:
    """Yields the images at `indices`, one per batch, in that order and without augmentation.

    Args:
        split: where the images come from.
        table: categories of the data set.
        config: short and long side of the network's input.
        indices: positions in the split.
        processes: worker processes that load ahead; 0 loads in the calling process.

    Raises:
        DataError: an image cannot be read; the message names it.
    """
    unchanged = Augmentation(config.short_side, flip=False)
    work = ([_Task(index, unchanged)] for index in indices)
    return _load(_Loading(split, table, config.long_side), work, min(processes, len(indices)))


def load_sample(
    split: PreparedSplit, table: CategoryTable, index: int, augmentation: Augmentation, long_side: int
) -> Sample:
    """Reads one image of the split, resizes and flips it, and derives its targets.

    Raises:
        DataError: image or PNG cannot be decoded, or disagree; the message names the image.
    """
    record = split.read(index)
    try:
        image = decode_image(record.image)
        panoptic_map = decode_panoptic_png(record.panoptic_png)
    except DataError as error:
        raise DataError(f"image {record.image_id}: {error}; prepare the data again") from error
    original = (int(image.shape[1]), int(image.shape[2]))
    if panoptic_map.shape != original:
        raise DataError(
            f"image {record.image_id}: the image has {original} pixels (height, width) and its panoptic PNG "
            f"{panoptic_map.shape}; prepare the data again"
        )
    image, panoptic_map = resize(
        image, panoptic_map, resize_scale(original, augmentation.short_side, long_side)
    )
    if augmentation.flip:
        image, panoptic_map = flip(image, panoptic_map)
    targets = targets_from_panoptic(record.image_id, panoptic_map, record.segments, table)
    return Sample(record.image_id, image, targets, original)


def collate(samples: Sequence[Sample]) -> Batch:
    """Joins samples into one padded batch."""
    return Batch(
        pad_images([sample.image for sample in samples]),
        tuple(sample.targets for sample in samples),
        tuple(sample.image_id for sample in samples),
        tuple(sample.original_size for sample in samples),
    )


@dataclass(frozen=True)
class _Task:
    """One image to load and what to do to it."""

    index: int
    augmentation: Augmentation


def _task_of(pick: Pick, config: LoaderConfig, seed: int) -> _Task:
    return _Task(pick.index, draw_augmentation(config, seed, pick.epoch, pick.index))


@dataclass(frozen=True)
class _Parcel:
    """What a worker sends: a batch, or the error that hit it.

    DataLoader would rebuild the error with a traceback inside its message, hence the field.
    """

    batch: Batch | None
    error: UpsnetError | None = None

    def pin_memory(self) -> _Parcel:
        """Called by DataLoader; page-locked memory is what makes copies to the GPU asynchronous."""
        return self if self.batch is None else _Parcel(_pinned(self.batch))

    def open(self) -> Batch:
        if self.batch is None:
            assert self.error is not None
            raise self.error
        return self.batch


def _pinned(batch: Batch) -> Batch:
    images = ImageBatch(batch.images.pixels.pin_memory(), batch.images.sizes)
    targets = tuple(
        Targets(
            t.image_id,
            boxes=t.boxes.pin_memory(),
            labels=t.labels.pin_memory(),
            instance_map=t.instance_map.pin_memory(),
            semantic_map=t.semantic_map.pin_memory(),
        )
        for t in batch.targets
    )
    return Batch(images, targets, batch.image_ids, batch.original_sizes)


class _Loading(Dataset[_Parcel]):
    """The work itself, in the form DataLoader wants: `loading[tasks]` is the batch of these tasks."""

    def __init__(self, split: PreparedSplit, table: CategoryTable, long_side: int) -> None:
        self._split = split
        self._table = table
        self._long_side = long_side

    def __getitem__(self, tasks: Sequence[_Task]) -> _Parcel:
        try:
            return _Parcel(collate([self._load(task) for task in tasks]))
        except UpsnetError as error:
            return _Parcel(None, error)

    def _load(self, task: _Task) -> Sample:
        return load_sample(self._split, self._table, task.index, task.augmentation, self._long_side)


def _load(loading: _Loading, work: Iterable[list[_Task]], processes: int) -> Generator[Batch]:
    """Yields one batch per entry of `work`, in order; closing it ends the worker processes."""
    parcels: Iterator[_Parcel]
    parcels = iter(_worker_pool(loading, work, processes)) if processes else map(loading.__getitem__, work)
    try:
        for parcel in parcels:
            yield parcel.open()
    finally:
        # The last reference ends the workers. An error's traceback would keep it in a cycle, whose collection
        # tears the workers' queues down first and then waits for them in vain.
        del parcels


def _worker_pool(loading: _Loading, work: Iterable[list[_Task]], processes: int) -> DataLoader[_Parcel]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return DataLoader(
        loading,
        sampler=work,
        batch_size=None,  # an entry of `work` is a whole batch
        collate_fn=_as_it_is,
        num_workers=processes,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
        generator=torch.Generator(),  # without one it would draw from, and so change, the global random state
    )


def _as_it_is(parcel: Any) -> Any:
    return parcel


def _start_worker(_: int) -> None:
    """Runs first in every worker, where DataLoader has already set torch to one thread."""
    live_with_parent()
    # A launcher's SIGTERM reaches all descendants; training needs the batches under way to save first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
