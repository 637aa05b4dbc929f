"""What is measured: the systems, sizes, shapes and numbers of runs."""

import pytest

from upsnet.errors import UpsnetError
from upsnet.evaluation.benchmark.cases import (
    Case,
    Repeats,
    Shape,
    make_cases,
    parse_counts,
    parse_sizes,
)

TABLE_5 = [(800, 1300), (1024, 2048), (1200, 1920)]
MINI = Shape("mini", 4, 3)


@pytest.fixture(scope="module")
def table_5() -> list[Case]:
    return make_cases(TABLE_5, [0], "cpu")


def test_table_5_has_both_systems_at_three_sizes_with_the_classes_of_their_data_sets(table_5):
    classes = {case.size: (case.shape.num_stuff, case.shape.num_things) for case in table_5}
    assert classes == {(800, 1300): (53, 80), (1024, 2048): (11, 8), (1200, 1920): (17, 10)}
    systems = [(case.system, case.size) for case in table_5]
    assert [s for s in systems if "*" not in s[0]] == [
        (system, size) for size in TABLE_5 for system in ("UPSNet", "MR-CNN-PSP")
    ]
    layers = {case.size: len(case.config.model.semantic_channels) for case in table_5}
    assert layers == {(800, 1300): 3, (1024, 2048): 2, (1200, 1920): 2}


def test_both_systems_have_the_backbone_of_the_preset_and_need_no_weights():
    for case in make_cases([(64, 96)], [0], "cpu", shape=Shape("coco_r101_dcn", 53, 80)):
        assert (case.config.model.backbone, case.config.model.weights) == ("resnet101", "none")


def test_the_pspnet_at_the_image_s_own_size_computes_less_than_at_the_size_of_the_table(table_5):
    gflops = {case.system: case.gflops for case in table_5 if case.size == (800, 1300)}
    assert gflops["UPSNet"] < gflops["MR-CNN-PSP*"] < gflops["MR-CNN-PSP"] / 2


def test_a_pair_of_many_operations_runs_less_often_on_a_cpu(table_5):
    assert {case.repeats for case in table_5 if case.gflops < 2000} == {Repeats(3, 1)}
    assert {case.repeats for case in table_5 if case.gflops > 2000} == {Repeats(2, 1)}
    assert {case.size for case in table_5 if case.gflops > 2000} == set(TABLE_5[1:])


def test_runs_are_as_given_or_as_the_paper_has_them_on_a_gpu():
    def repeats(device: str, **given: int) -> Repeats:
        return make_cases([(64, 96)], [0], device, shape=MINI, **given)[0].repeats

    assert repeats("cuda:0") == Repeats(100, 10)
    assert repeats("cpu", runs=7, warm_up=4) == repeats("cuda", runs=7, warm_up=4) == Repeats(7, 4)


def test_a_size_that_the_paper_lacks_has_the_shape_of_coco():
    assert {case.shape.preset for case in make_cases([(64, 96)], [0], "cpu")} == {"coco_r50"}


@pytest.mark.parametrize(
    ("shape", "instances", "message"),
    [
        (Shape("mini", 4, 0), [0, 10], "no thing classes"),
        (Shape("coco_pspnet_r50", 53, 80), [0], "model.network=pspnet"),
        (Shape("nothing", 53, 80), [0], "'nothing'"),
    ],
)
def test_a_preset_that_cannot_be_measured_is_refused(shape, instances, message):
    with pytest.raises(UpsnetError, match=message):
        make_cases([(64, 96)], instances, "cpu", shape=shape)


def test_sizes_and_counts_are_read_in_order_and_once():
    assert parse_sizes("800x1300, 64x96,800x1300") == [(800, 1300), (64, 96)]
    assert parse_counts("50, 0,10,0") == [0, 10, 50]


@pytest.mark.parametrize("text", ["", "800", "800x", "800x1300x3", "axb", "800X1300", "31x64", "-64x64"])
def test_other_sizes_are_refused(text):
    with pytest.raises(UpsnetError, match="--sizes"):
        parse_sizes(text)


@pytest.mark.parametrize("text", ["", "ten", "1,-1", "1.5"])
def test_other_counts_are_refused(text):
    with pytest.raises(UpsnetError, match="--instances"):
        parse_counts(text)
