"""Cases in processes of their own."""

from dataclasses import replace

import pytest

from upsnet.errors import UpsnetError
from upsnet.evaluation.benchmark.cases import Case, Shape, make_cases
from upsnet.evaluation.benchmark.run import run_cases


def one_case() -> Case:
    return make_cases([(64, 96)], [0, 2], "cpu", 1, 1, Shape("mini", 4, 3))[0]


def test_the_rows_of_a_process_come_back():
    rows = run_cases([one_case()])
    assert [(row.system, row.instances, row.kept) for row in rows] == [("UPSNet", 0, 0), ("UPSNet", 2, 2)]


def test_a_process_that_dies_is_named_with_what_to_do():
    with pytest.raises(
        UpsnetError, match=r"UPSNet at 64x96: its process ended early with exit code 1 .*--sizes"
    ):
        run_cases([replace(one_case(), device="cuda:99")])
