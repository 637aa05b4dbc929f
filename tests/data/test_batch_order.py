"""The endless stream of batches."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upsnet.data.batch_order import Pick, global_batches

LANDSCAPE, PORTRAIT = (480, 640), (640, 480)
SIZES = [LANDSCAPE] * 17 + [PORTRAIT] * 6
mixtures = st.lists(st.sampled_from([LANDSCAPE, PORTRAIT]), min_size=1, max_size=12)


def first(count: int, *arguments: object, **options: int) -> list[list[Pick]]:
    return list(itertools.islice(global_batches(*arguments, **options), count))  # type: ignore[arg-type]


@given(mixtures, st.integers(1, 6), st.integers(0, 2**40))
def test_batches_are_full_and_of_one_orientation(sizes: list, batch_size: int, seed: int) -> None:
    for batch in first(20, sizes, batch_size, seed):
        assert len(batch) == batch_size
        assert len({sizes[pick.index] for pick in batch}) == 1


@given(mixtures, st.integers(1, 6), st.integers(0, 99))
def test_every_image_comes_once_per_epoch_and_none_is_dropped(
    sizes: list, batch_size: int, seed: int
) -> None:
    picks = [pick for batch in first(40, sizes, batch_size, seed) for pick in batch]
    assert max(Counter(picks).values()) == 1
    # Until a bucket is full, its images wait; everything older than that has come.
    newest = max(pick.epoch for pick in picks)
    missing = {Pick(e, i) for e in range(newest) for i in range(len(sizes))} - set(picks)
    assert len(missing) <= 2 * (batch_size - 1)


@given(mixtures, st.integers(1, 6), st.integers(0, 30))
def test_a_later_start_gives_the_same_batches(sizes: list, batch_size: int, start: int) -> None:
    assert first(5, sizes, batch_size, 7, start=start) == first(start + 5, sizes, batch_size, 7)[start:]


def test_the_epoch_is_a_permutation_and_differs_from_the_next() -> None:
    picks = [batch[0] for batch in first(46, SIZES, 1, 3)]
    epochs = [[pick.index for pick in picks[:23]], [pick.index for pick in picks[23:]]]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(23))
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])


def test_the_seed_changes_the_order() -> None:
    assert first(5, SIZES, 2, 1) != first(5, SIZES, 2, 2)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_lone_portrait_image_is_neither_lost_nor_holds_up_the_others(batch_size: int) -> None:
    sizes = [LANDSCAPE] * 9 + [PORTRAIT]
    batches = first(10 * batch_size, sizes, batch_size, 1)
    portraits = [batch for batch in batches if batch[0].index == 9]
    assert len(portraits) >= 1
    assert [pick.epoch for pick in portraits[0]] == list(range(batch_size))
