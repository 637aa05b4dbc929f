"""What a run trains, from the ways in which people and pipelines name variants."""

import pytest

from components.plan import plan
from upsnet.config import load_config
from upsnet.errors import ConfigError


def test_variants_are_names_or_mappings_and_the_run_s_overrides_are_for_all() -> None:
    variants = ["", "upsnet_c", "no_unknown+no_roi_loss", {"variant": "upsnet_c", "name": "c-seed-2"}]
    variants[3]["overrides"] = "seed=2 'training.steps=[3, 5]'"
    planned = plan("mini", variants, ["training.iterations=9"], "my experiment")
    assert [p.name for p in planned] == ["upsnet", "upsnet_c", "no_unknown+no_roi_loss", "c-seed-2"]
    common = ["training.iterations=9", "tracking.experiment=my experiment"]
    own = ["seed=2", "training.steps=[3,5]"]
    assert planned[2].config == load_config("mini", ["no_unknown", "no_roi_loss"], common)
    assert planned[3].config == load_config("mini", ["upsnet_c"], [*common, *own])


def test_a_configuration_s_version_changes_with_what_the_figures_depend_on_and_not_with_the_experiment() -> (
    None
):
    first, second = plan("mini", ["", {"name": "other", "overrides": ["seed=2"]}], [])
    (elsewhere,) = plan("mini", [""], [], "elsewhere")
    assert first.version == elsewhere.version != second.version


@pytest.mark.parametrize(
    ("variants", "parts"),
    [
        ([], ["the list is empty"]),
        (["upsnet_d"], ["'upsnet_d'", "upsnet_c"]),
        ([{"variant": "upsnet_c", "seed": 2.0}], ["seed", "overrides"]),
        ([3.0], ["3.0"]),
        (["upsnet_c", "upsnet_c"], ["upsnet_c comes twice", "name"]),
        ([{"name": "../up"}], ["'../up'"]),
        (["", {"name": "b", "overrides": ["data.synthetic.seed=9"]}], ["b has other data than upsnet"]),
        ([{"overrides": ["training.iteration=9"]}], ["training.iteration", "iterations"]),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_before_anything_starts(variants: list, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        plan("mini", variants, [])
    for part in parts:
        assert part in str(error.value)
