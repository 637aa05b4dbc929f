import pytest

from upsnet.training.meter import LOSS_NAMES, Meter, log_line


def figures(losses_in_use=LOSS_NAMES):
    meter = Meter()
    for factor, seconds in ((1.0, 1.0), (3.0, 3.0)):
        losses = dict.fromkeys(LOSS_NAMES, factor)
        meter.add({**losses, "total": 10 * factor, "data_seconds": 0.1 * factor}, images=4, seconds=seconds)
    return meter.summary(losses_in_use, rate=0.02, iterations_left=1801)


def test_figures_are_means_over_the_interval():
    seen = figures()
    assert seen["loss/total"] == 20
    assert all(seen[f"loss/{name}"] == 2 for name in LOSS_NAMES)
    assert seen["data_seconds"] == pytest.approx(0.2)
    assert seen["images_per_second"] == 2
    assert seen["seconds_left"] == 3602


def test_a_loss_that_is_not_in_use_is_not_shown():
    assert "loss/panoptic" not in figures(LOSS_NAMES[:-2])


def test_one_line_says_it_all():
    line = log_line(20, 1821, figures())
    assert line.startswith("iteration 20/1821  total 20.0000  rpn_objectness 2.0000  ")
    assert line.endswith("rate 0.02  2.00 images/s  data 0.200 s  left 1:00:02")
