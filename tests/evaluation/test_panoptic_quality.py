"""Panoptic quality on hand-made cases with known answers, and against the slow oracle on random maps."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import panoptic_quality as oracle
from upsnet.evaluation.panoptic_quality import (
    ImageMatches,
    MetricCategory,
    TrueSegment,
    count_pairs,
    match_segments,
    panoptic_quality,
)

SKY, ROAD, CAR, DOG = 10, 11, 20, 21
CATEGORIES = {
    SKY: MetricCategory("sky", False, "10"),
    ROAD: MetricCategory("road", False, "11"),
    CAR: MetricCategory("car", True, "20"),
    DOG: MetricCategory("dog", True, "21"),
}


def match(
    true_row: list[int], predicted_row: list[int], truth: dict[int, Any], predicted: dict[int, int]
) -> ImageMatches:
    """Matches two one-row maps; `truth` maps an id to its category, or to ("crowd", category)."""
    true_map, predicted_map = np.array([true_row], np.int32), np.array([predicted_row], np.int32)
    segments = {}
    for i, category in truth.items():
        iscrowd = isinstance(category, tuple)
        segments[i] = TrueSegment(category[1] if iscrowd else category, iscrowd, int((true_map == i).sum()))
    return match_segments(count_pairs(true_map, predicted_map), segments, predicted)


def test_a_prediction_equal_to_the_truth_is_perfect() -> None:
    found = match([1, 1, 2, 2], [7, 7, 8, 8], {1: SKY, 2: CAR}, {7: SKY, 8: CAR})
    figures = panoptic_quality([found], CATEGORIES)
    assert [figures[k] for k in ("PQ", "SQ", "RQ", "N")] == [100, 100, 100, 2]
    assert [figures[k] for k in ("PQ_th", "N_th", "PQ_st", "N_st")] == [100, 1, 100, 1]


def test_an_all_void_prediction_misses_everything_and_invents_nothing() -> None:
    found = match([1, 1, 2, 2], [0, 0, 0, 0], {1: SKY, 2: CAR}, {})
    assert found == ImageMatches((), (), (SKY, CAR))
    figures = panoptic_quality([found], CATEGORIES)
    assert [figures[k] for k in ("PQ", "SQ", "RQ", "N")] == [0, 0, 0, 2]


def test_the_right_pixels_under_the_wrong_category_are_wrong_and_missed() -> None:
    assert match([1, 1], [5, 5], {1: CAR}, {5: DOG}) == ImageMatches((), (DOG,), (CAR,))


def test_an_empty_truth_forgives_every_prediction_because_all_of_it_is_void() -> None:
    found = match([0, 0], [5, 5], {}, {5: DOG})
    assert found == ImageMatches((), (), ())


def test_no_image_and_no_category_gives_no_figures_but_does_not_crash() -> None:
    figures = panoptic_quality([], CATEGORIES)
    assert (figures["PQ"], figures["SQ_th"], figures["RQ_st"], figures["N"]) == (None, None, None, 0)
    assert figures["per_class"]["20"] == {
        "name": "car", "isthing": True, "PQ": None, "SQ": None, "RQ": None, "TP": 0, "FP": 0, "FN": 0,
    }  # fmt: skip


def test_an_empty_group_is_none_while_the_other_has_its_mean() -> None:
    figures = panoptic_quality([match([1], [1], {1: CAR}, {1: CAR})], CATEGORIES)
    assert (figures["PQ"], figures["PQ_th"], figures["PQ_st"], figures["N_st"]) == (100, 100, None, 0)


def test_an_iou_of_exactly_one_half_is_no_match() -> None:
    assert match([1, 1, 0, 0], [5, 0, 0, 0], {1: CAR}, {5: CAR}) == ImageMatches((), (CAR,), (CAR,))


def test_an_iou_just_above_one_half_is_a_match() -> None:
    found = match([1, 1, 1, 0], [5, 5, 0, 0], {1: CAR}, {5: CAR})
    assert found == ImageMatches(((CAR, 2 / 3),), (), ())


def test_predicted_pixels_on_void_leave_the_union_but_predicted_void_does_not() -> None:
    assert match([1, 1, 0, 0], [5, 5, 5, 5], {1: CAR}, {5: CAR}).ious == ((CAR, 1.0),)
    assert match([1, 1, 1, 1], [5, 5, 5, 0], {1: CAR}, {5: CAR}).ious == ((CAR, 0.75),)


def test_crowd_pixels_stay_in_the_union() -> None:
    found = match([1, 1, 1, 2], [5, 5, 5, 5], {1: CAR, 2: ("crowd", CAR)}, {5: CAR})
    assert found.ious == ((CAR, 0.75),)


def test_a_crowd_region_is_neither_matched_nor_missed() -> None:
    truth = {1: ("crowd", CAR)}
    assert match([1, 1], [5, 5], truth, {5: CAR}) == ImageMatches((), (), ())
    assert match([1, 1], [0, 0], truth, {}) == ImageMatches((), (), ())


def test_a_prediction_on_the_crowd_of_another_category_is_wrong() -> None:
    assert match([1, 1], [5, 5], {1: ("crowd", CAR)}, {5: DOG}).false_positives == (DOG,)


def test_of_two_crowd_regions_of_a_category_only_the_last_listed_excuses() -> None:
    first_then_second = {1: ("crowd", CAR), 2: ("crowd", CAR)}
    second_then_first = {2: ("crowd", CAR), 1: ("crowd", CAR)}
    assert match([1, 1, 2, 2], [5, 5, 0, 0], first_then_second, {5: CAR}).false_positives == (CAR,)
    assert match([1, 1, 2, 2], [5, 5, 0, 0], second_then_first, {5: CAR}).false_positives == ()


def test_a_prediction_with_exactly_half_of_it_on_void_and_crowd_is_wrong() -> None:
    truth = {1: ("crowd", CAR), 3: SKY}
    assert match([0, 1, 3, 3], [5, 5, 5, 5], truth, {5: CAR}).false_positives == (CAR,)
    assert match([0, 1, 1, 3], [5, 5, 5, 5], truth, {5: CAR}).false_positives == ()


def test_the_figures_of_a_category_follow_the_formulas() -> None:
    images = [
        ImageMatches(((CAR, 0.8), (CAR, 0.6)), (CAR,), ()),
        ImageMatches((), (), (CAR, CAR, SKY)),
    ]
    figures = panoptic_quality(images, CATEGORIES)
    car = figures["per_class"]["20"]
    assert (car["TP"], car["FP"], car["FN"]) == (2, 1, 2)
    assert car["PQ"] == pytest.approx(100 * 1.4 / 3.5)
    assert car["SQ"] == pytest.approx(70)
    assert car["RQ"] == pytest.approx(100 * 2 / 3.5)
    assert figures["PQ"] == pytest.approx((100 * 1.4 / 3.5 + 0) / 2)
    assert figures["per_class"]["10"]["SQ"] == 0


def test_an_image_without_pixels_has_no_pairs() -> None:
    assert count_pairs(np.zeros((0, 4), np.int32), np.zeros((0, 4), np.int32)) == {}


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]], list[dict[str, Any]]]:
    """Two small random maps, alike enough to match, with void, crowds and ids up to the largest."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = rng.choice([1, 2, 3, 255, 256, 65536, 2**24 - 1], size=draw(st.integers(1, 5)), replace=False)
    palette = np.concatenate([[0], ids]).astype(np.int32)
    coarse = rng.integers(0, len(palette), (-(-height // 2), -(-width // 2)))
    true_map = palette[coarse.repeat(2, 0).repeat(2, 1)[:height, :width]]
    noisy = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.2, 0.5]))
    predicted_map = np.where(noisy, palette[rng.integers(0, len(palette), (height, width))], true_map)
    kinds = rng.choice(list(CATEGORIES), size=len(palette))
    truth = [
        {"id": int(i), "category_id": int(c), "iscrowd": int(rng.random() < 0.3)}
        for i, c in zip(palette, kinds, strict=True)
        if i and (true_map == i).any()
    ]
    predicted = [
        {"id": int(i), "category_id": int(c if rng.random() < 0.8 else rng.choice(list(CATEGORIES)))}
        for i, c in zip(palette, kinds, strict=True)
        if i and (predicted_map == i).any()
    ]
    return true_map, predicted_map, truth, predicted


def ours(
    true_map: np.ndarray,
    predicted_map: np.ndarray,
    truth: list[dict[str, Any]],
    predicted: list[dict[str, Any]],
) -> ImageMatches:
    segments = {
        s["id"]: TrueSegment(s["category_id"], bool(s["iscrowd"]), int((true_map == s["id"]).sum()))
        for s in truth
    }
    pairs = count_pairs(true_map, predicted_map)
    return match_segments(pairs, segments, {s["id"]: s["category_id"] for s in predicted})


@given(st.lists(scenes(), min_size=1, max_size=4))
def test_random_scenes_agree_with_the_slow_oracle(batch: list[Any]) -> None:
    found = [ours(*scene) for scene in batch]
    expected = [oracle.image_faults(*scene) for scene in batch]
    for one, (matches, positives, negatives) in zip(found, expected, strict=True):
        assert sorted(one.ious) == sorted(matches)
        assert sorted(one.false_positives) == sorted(positives)
        assert sorted(one.false_negatives) == sorted(negatives)
    figures = panoptic_quality(found, CATEGORIES)
    categories = [{"id": i, "isthing": int(c.isthing)} for i, c in CATEGORIES.items()]
    for key, value in oracle.quality(expected, categories).items():
        scaled = value if value is None or key.startswith("N") else 100 * value
        assert figures[key] == (scaled if scaled is None else pytest.approx(scaled, abs=1e-9)), key


@given(scenes(), st.randoms(use_true_random=False))
def test_renumbering_the_segments_changes_nothing(scene: Any, rng: random.Random) -> None:
    true_map, predicted_map, truth, predicted = scene
    before = panoptic_quality([ours(*scene)], CATEGORIES)
    new_true = dict(zip([s["id"] for s in truth], rng.sample(range(1, 2**24), len(truth)), strict=True))
    new_guess = dict(
        zip([s["id"] for s in predicted], rng.sample(range(1, 2**24), len(predicted)), strict=True)
    )
    renumbered = (
        np.vectorize(lambda i: new_true.get(i, 0))(true_map),
        np.vectorize(lambda i: new_guess.get(i, 0))(predicted_map),
        [{**s, "id": new_true[s["id"]]} for s in truth],
        [{**s, "id": new_guess[s["id"]]} for s in predicted],
    )
    assert panoptic_quality([ours(*renumbered)], CATEGORIES) == before


@given(st.lists(scenes(), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_change_a_bit(batch: list[Any], rng: random.Random) -> None:
    found = [ours(*scene) for scene in batch]
    shuffled = rng.sample(found, len(found))
    assert panoptic_quality(shuffled, CATEGORIES) == panoptic_quality(found, CATEGORIES)
