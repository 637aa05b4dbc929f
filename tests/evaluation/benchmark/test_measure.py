"""Measuring one case: everything is run as often as it should, with the work that it should have."""

import pytest
import torch

from tests.model.cases import mini_model
from upsnet.config import load_config
from upsnet.evaluation.benchmark.cases import Case, Shape, make_cases
from upsnet.evaluation.benchmark.inputs import random_images
from upsnet.evaluation.benchmark.measure import Timing, full_detections, measure

MINI = Shape("mini", 4, 3)


def mini_cases(instances: list[int], runs: int = 2, warm_up: int = 1) -> list[Case]:
    return make_cases([(64, 96)], instances, "cpu", runs, warm_up, MINI)


@pytest.mark.parametrize("number", [0, 1])
def test_a_case_gives_a_row_per_number_of_instances(number):
    case = mini_cases([0, 10], runs=2, warm_up=2)[number]
    done: list[None] = []
    rows = measure(case, lambda: done.append(None))
    assert len(done) == 2 + 2
    assert [(row.instances, row.kept) for row in rows] == [(0, 0), (10, 10)]
    for row in rows:
        assert (row.system, row.size, row.runs) == (case.system, (64, 96), 2)
        assert row.detections == 100
        assert row.network == rows[0].network
        assert row.network.mean > 0
        assert row.postprocessing.mean > 0
        assert row.network.deviation is not None
        assert row.peak_megabytes > 100  # torch alone is more


def test_the_pspnet_of_a_pair_may_see_the_image_at_another_size():
    case = mini_cases([2], runs=1)[1]
    smaller = Case(**{**vars(case), "semantic_size": (32, 48)})
    (row,) = measure(smaller, lambda: None)
    assert (row.size, row.kept) == ((64, 96), 2)


def test_the_found_threshold_changes_no_detection_and_spares_the_nms_the_rest():
    model, images = mini_model(4, 3).eval(), random_images((128, 256), 1)
    settings = load_config("mini").inference
    found, count = full_detections(model, images, settings, torch.device("cpu"))
    (free,) = model.predict(images, settings.model_copy(update={"score_thresh": 0.0}))
    (limited,) = model.predict(images, found)
    assert count == len(free.detections) == settings.detections_per_img
    assert torch.equal(free.detections.boxes, limited.detections.boxes)
    assert torch.equal(free.detections.scores, limited.detections.scores)
    assert 0 < found.score_thresh < free.detections.scores.min()
    assert found.score_thresh > 0.9 * free.detections.scores.min()


def test_a_timing_is_mean_and_sample_deviation():
    assert Timing.of([1.0, 3.0]) == Timing(2.0, pytest.approx(2**0.5))
    assert Timing.of([5.0]) == Timing(5.0, None)
