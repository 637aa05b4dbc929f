"""Rows of class heads are copied one by one; classes without a source take the source's statistics."""

import pytest
import torch

from upsnet.errors import CheckpointError
from upsnet.model.class_rows import copy_class_rows, match_names


def test_rows_go_where_their_class_is() -> None:
    source, target = torch.arange(12.0).reshape(4, 3), torch.full((3, 3), -1.0)
    copy_class_rows(target, source, [2, 0, 3])
    assert target.tolist() == [[6, 7, 8], [0, 1, 2], [9, 10, 11]]


def test_the_four_delta_rows_of_a_class_stay_together() -> None:
    source, target = torch.arange(12.0), torch.zeros(8)
    copy_class_rows(target, source, [2, 1])
    assert target.tolist() == [8, 9, 10, 11, 4, 5, 6, 7]


def test_a_parameter_is_filled_in_place() -> None:
    layer = torch.nn.Conv2d(2, 1, 1)
    copy_class_rows(layer.weight, torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, 2, 1, 1), [1])
    assert layer.weight.flatten().tolist() == [3, 4]
    assert layer.weight.requires_grad


def test_a_class_without_source_gets_the_statistics_of_the_source() -> None:
    torch.manual_seed(0)
    source, target = 5 + 0.5 * torch.randn(40, 500), torch.zeros(20, 500)
    copy_class_rows(target, source, [None] * 19 + [7])
    assert torch.equal(target[19], source[7])
    assert target[:19].mean().item() == pytest.approx(5, abs=0.03)
    assert target[:19].std().item() == pytest.approx(0.5, abs=0.03)
    assert len(target.unique(dim=0)) == 20


def test_a_single_source_value_has_no_spread() -> None:
    target = torch.zeros(2)
    copy_class_rows(target, torch.tensor([3.0]), [None, 0])
    assert target.tolist() == [3, 3]


@pytest.mark.parametrize("shape", [(4, 2), (5, 3)])
def test_tensors_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        copy_class_rows(torch.zeros(8, 3), torch.zeros(shape), [0, None])


def test_names_agree_without_case_and_endings() -> None:
    coco = ["person", "Traffic_Light", "wall-brick", "wall-other-merged", "sky-other-merged", "door-stuff"]
    names = ["sky", "wall", "traffic light", "door", "rider", "PERSON"]
    assert match_names(names, coco) == [4, 3, 1, 5, None, 0]


def test_a_name_written_alike_goes_before_one_that_only_agrees() -> None:
    assert match_names(["water"], ["water-other", "water"]) == [1]
    assert match_names(["water-other"], ["water", "water-other"]) == [1]
    assert match_names(["Water"], ["water-other", "water"]) == [1]


def test_another_name_of_the_same_meaning_is_looked_up_last() -> None:
    meanings = {"vegetation": "tree", "sidewalk": "pavement-merged"}
    assert match_names(["vegetation"], ["tree-merged"], meanings) == [0]
    assert match_names(["Vegetation"], ["tree-merged", "vegetation"], meanings) == [1]
    assert match_names(["sidewalk", "pole"], ["pavement-merged"], meanings) == [0, None]
