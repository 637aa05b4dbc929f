"""The category table: the order of a data set's classes, and the way from its ids to ours.

Class order is stuff first, then things, each by ascending category_id. `class_id` counts through all of them,
`label` (instance head) counts the things from 1.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from upsnet.errors import DataError
from upsnet.structures import Category

MAX_CLASSES = 254
"""Class ids fit in a byte: 255 is IGNORE, and one more stays free for the unknown class."""


@dataclass(frozen=True)
class CategoryTable:
    """All categories of a data set in class_id order; categories given in another order are sorted.

    Raises:
        DataError: no category, more than `MAX_CLASSES`, or two with the same id or name.
    """

    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        ordered = sorted(self.categories, key=lambda category: (category.isthing, category.category_id))
        object.__setattr__(self, "categories", tuple(ordered))
        _refuse_bad_table(ordered)

    @property
    def num_classes(self) -> int:
        """S + T."""
        return len(self.categories)

    @property
    def num_things(self) -> int:
        """T."""
        return sum(category.isthing for category in self.categories)

    @property
    def num_stuff(self) -> int:
        """S."""
        return self.num_classes - self.num_things

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names by class_id."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def class_id_of(self) -> dict[int, int]:
        """category_id -> class_id."""
        return {category.category_id: class_id for class_id, category in enumerate(self.categories)}

    def thing_class(self, label: int) -> int:
        """class_id of an instance head's label (1..T)."""
        return self.num_stuff + label - 1

    @classmethod
    def from_json(cls, entries: Sequence[Any], where: str) -> CategoryTable:
        """Reads `categories` of a COCO panoptic JSON: id, name, isthing and, if given, color, supercategory.

        Other keys are left aside, as in COCO's own tools. A category without a colour gets one of its own.

        Args:
            entries: the list as parsed.
            where: file and key, for the messages.

        Raises:
            DataError: an entry that is no category, or a table that `CategoryTable` refuses.
        """
        if not isinstance(entries, list | tuple):
            raise DataError(f"{where}: expected a list of categories, found {type(entries).__name__}")
        categories = [_category(entry, index, f"{where}[{index}]") for index, entry in enumerate(entries)]
        try:
            return cls(tuple(categories))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error

    def to_json(self) -> list[dict[str, Any]]:
        """The table as `categories` of a COCO panoptic JSON, in class_id order."""
        return [
            {
                "id": category.category_id,
                "name": category.name,
                "supercategory": category.supercategory,
                "isthing": int(category.isthing),
                "color": list(category.color),
            }
            for category in self.categories
        ]


def _refuse_bad_table(categories: Sequence[Category]) -> None:
    if not categories:
        raise DataError("there are no categories; a data set needs at least one")
    if len(categories) > MAX_CLASSES:
        raise DataError(f"{len(categories)} categories found, at most {MAX_CLASSES} are possible")
    for what, values in (
        ("id", (category.category_id for category in categories)),
        ("name", (category.name for category in categories)),
    ):
        repeated = _repeated(values)
        if repeated:
            raise DataError(f"category {what} {repeated[0]!r} occurs more than once; each must be unique")


def _repeated(values: Iterable[Hashable]) -> list[Hashable]:
    return [value for value, count in Counter(values).items() if count > 1]


def _category(entry: Any, index: int, where: str) -> Category:
    """One entry, its values checked."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected a category with id, name and isthing, found {entry!r:.80}")
    missing = [key for key in ("id", "name", "isthing") if key not in entry]
    if missing:
        raise DataError(
            f"{where}: category without {' and '.join(missing)}; COCO panoptic categories have id, name and "
            "isthing (0 or 1)"
        )
    category_id, name, isthing = entry["id"], entry["name"], entry["isthing"]
    if not isinstance(category_id, int) or isinstance(category_id, bool) or category_id < 0:
        raise DataError(f"{where}.id: expected an integer from 0 on, found {category_id!r:.80}")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}.name: expected a text, found {name!r:.80}")
    if isthing not in (0, 1):
        raise DataError(f"{where}.isthing: expected 0 or 1, found {isthing!r:.80}")
    color = _color(entry.get("color"), index, where)
    return Category(category_id, name, bool(isthing), color, str(entry.get("supercategory", "")))


def _color(value: Any, index: int, where: str) -> tuple[int, int, int]:
    if value is None:
        return _own_color(index)
    good = isinstance(value, list | tuple) and len(value) == 3
    if not good or not all(isinstance(part, int) and 0 <= part <= 255 for part in value):
        raise DataError(f"{where}.color: expected [red, green, blue] from 0 to 255, found {value!r:.80}")
    return (value[0], value[1], value[2])


def _own_color(index: int) -> tuple[int, int, int]:
    """A colour unlike its neighbours': hues in golden-ratio steps, three lightnesses by turns."""
    red, green, blue = colorsys.hls_to_rgb(index * 0.618034 % 1, (0.5, 0.35, 0.65)[index % 3], 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)


def refuse_other_categories(model: CategoryTable, data: CategoryTable) -> None:
    """Raises if a model cannot be used on these data.

    Raises:
        DataError: it was trained with other categories.
    """
    if [c.category_id for c in model.categories] == [c.category_id for c in data.categories]:
        return
    raise DataError(
        f"the model was trained with {model.num_classes} categories ({', '.join(model.names[:5])} ...), the "
        f"data have {data.num_classes} ({', '.join(data.names[:5])} ...); evaluate on data with the same ones"
    )
