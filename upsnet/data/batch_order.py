"""Which images form which training batch: an endless stream that a seed fixes.

Every epoch is one seeded permutation. Landscape and portrait images wait in a bucket each, and a bucket that
holds a global batch (of all ranks together) is emitted; so padding stays small and the ranks have like work.
What is left in a bucket when an epoch ends stays there for the next one: no image is ever dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from upsnet.structures import Size


@dataclass(frozen=True)
class Pick:
    """One image of the stream: `index` in the split, and the epoch whose permutation it comes from."""

    epoch: int
    index: int


def global_batches(sizes: Sequence[Size], batch_size: int, seed: int, start: int = 0) -> Iterator[list[Pick]]:
    """Yields the batches from number `start` on, without end.

    Batch k depends on (seed, batch_size, k) and the sizes alone. Going to `start` replays the order, which
    takes about a second per million images.

    Args:
        sizes: height and width of every image of the split, at least one.
        batch_size: images of all ranks together.
        seed: fixes the permutations.
        start: number of the first batch to yield.
    """
    portrait = np.array([height > width for height, width in sizes], bool)
    return itertools.islice(_all_batches(portrait, batch_size, seed), start, None)


def _all_batches(portrait: np.ndarray, batch_size: int, seed: int) -> Iterator[list[Pick]]:
    buckets: dict[bool, list[Pick]] = {False: [], True: []}
    for epoch in itertools.count():
        order = np.random.default_rng((seed, epoch)).permutation(len(portrait))
        for index, is_portrait in zip(order.tolist(), portrait[order].tolist(), strict=True):
            buckets[is_portrait].append(Pick(epoch, index))
            if len(buckets[is_portrait]) == batch_size:
                yield buckets[is_portrait]
                buckets[is_portrait] = []
