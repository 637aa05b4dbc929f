from typing import Any

import pytest

from upsnet.data.categories import MAX_CLASSES, CategoryTable
from upsnet.data.synthetic import CATEGORIES
from upsnet.errors import DataError
from upsnet.structures import Category

CAR = {"id": 3, "name": "car", "isthing": 1, "color": [0, 0, 142], "supercategory": "vehicle"}
DOG = {"id": 1, "name": "dog", "isthing": 1}
ROAD = {"id": 7, "name": "road", "isthing": 0}
SKY = {"id": 5, "name": "sky", "isthing": 0}


def test_stuff_comes_first_and_then_things_each_by_category_id() -> None:
    table = CategoryTable.from_json([CAR, ROAD, DOG, SKY], "here")
    assert table.names == ("sky", "road", "dog", "car")
    assert (table.num_stuff, table.num_things, table.num_classes) == (2, 2, 4)
    assert table.class_id_of == {5: 0, 7: 1, 1: 2, 3: 3}
    assert [table.names[table.thing_class(label)] for label in (1, 2)] == ["dog", "car"]


def test_a_table_comes_back_from_its_json() -> None:
    table = CategoryTable.from_json([CAR, ROAD, DOG, SKY], "here")
    assert CategoryTable.from_json(table.to_json(), "there") == table
    assert table.categories[3] == Category(3, "car", True, (0, 0, 142), "vehicle")


def test_categories_given_in_any_order_make_the_same_table() -> None:
    assert CategoryTable(CATEGORIES[::-1]) == CategoryTable(CATEGORIES)


def test_categories_without_a_colour_get_different_ones() -> None:
    table = CategoryTable.from_json([{"id": i, "name": str(i), "isthing": 0} for i in range(133)], "here")
    assert len({category.color for category in table.categories}) == 133


def test_a_table_may_lack_stuff_or_things() -> None:
    assert CategoryTable.from_json([CAR], "here").num_stuff == 0
    assert CategoryTable.from_json([ROAD], "here").num_things == 0


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "no categories"),
        ({"id": 1}, "expected a list"),
        (["car"], r"here\[0\]: expected a category"),
        ([{"id": 1, "name": "car"}], r"here\[0\]: category without isthing"),
        ([{**CAR, "id": "3"}], r"here\[0\].id: expected an integer"),
        ([{**CAR, "id": True}], r"here\[0\].id: expected an integer"),
        ([{**CAR, "name": ""}], r"here\[0\].name: expected a text"),
        ([{**CAR, "isthing": 2}], r"here\[0\].isthing: expected 0 or 1"),
        ([{**CAR, "color": [0, 0, 256]}], r"here\[0\].color: expected"),
        ([CAR, {**DOG, "id": 3}], "category id 3 occurs more than once"),
        ([CAR, {**DOG, "name": "car"}], "category name 'car' occurs more than once"),
        (
            [{"id": i, "name": str(i), "isthing": 0} for i in range(MAX_CLASSES + 1)],
            "255 categories found, at most 254",
        ),
    ],
)
def test_a_bad_table_is_refused_with_its_place(entries: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CategoryTable.from_json(entries, "here")
