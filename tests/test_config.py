"""Tests of upsnet/config.py: what is refused, what goes before what, and that every shipped file loads."""

import itertools
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from upsnet.config import (
    Config,
    SyntheticConfig,
    load_config,
    manual,
    preset_names,
    read_config,
    to_yaml,
    variant_names,
)
from upsnet.errors import ConfigError

VARIANTS = [(), *((name,) for name in variant_names()), tuple(variant_names())]


def leaves(model: BaseModel, prefix: str = "") -> dict[str, object]:
    """Every key of a configuration by its path."""
    found: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        found |= (
            leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {f"{prefix}{name}": value}
        )
    return found


def preset_file(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("preset", "variants"), list(itertools.product(preset_names(), VARIANTS)))
def test_every_preset_loads_with_every_variant(preset: str, variants: tuple[str, ...]) -> None:
    config = load_config(preset, variants)
    assert (config.preset, config.variant) == (preset, "+".join(variants))


def test_the_presets_that_the_readers_of_the_docs_expect_are_there() -> None:
    assert {"mini", "coco_r50", "coco_r101_dcn", "coco_sample"} <= set(preset_names())


@pytest.mark.parametrize("variant", variant_names())
def test_every_variant_changes_something(variant: str) -> None:
    changed = leaves(load_config("mini", [variant])).items() - leaves(load_config("mini")).items()
    assert {path for path, _ in changed} > {"variant"}


def test_an_override_goes_before_a_variant_and_a_variant_before_a_preset(tmp_path: Path) -> None:
    preset = preset_file(tmp_path, "training: {base_rate: 0.5, iterations: 7, steps: [1]}\nseed: 2")
    variant = tmp_path / "variant.yaml"
    variant.write_text("training: {base_rate: 0.25, iterations: 8}")
    config = load_config(preset, [str(variant)], ["training.base_rate=0.125"])
    assert (config.training.base_rate, config.training.iterations) == (0.125, 8)
    assert (config.training.steps, config.seed) == ((1,), 2)
    assert config.training.momentum == Config().training.momentum
    assert (config.preset, config.variant) == ("own", "variant")


def test_later_variants_and_overrides_go_before_earlier_ones(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.yaml").write_text(f"seed: {seed}")
    variants = [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    assert load_config("mini", variants).seed == 2
    assert load_config("mini", variants, ["seed=3", "seed=4"]).seed == 4


def test_a_preset_inherits_from_its_base(tmp_path: Path) -> None:
    config = load_config(preset_file(tmp_path, "base: mini\nseed: 5"))
    expected = leaves(load_config("mini")) | {"seed": 5, "preset": "own"}
    assert leaves(config) == expected


def test_a_base_that_is_not_there_is_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nowhere': no such preset; known are .*mini"):
        load_config(preset_file(tmp_path, "base: nowhere"))


@pytest.mark.parametrize("names", [["one"], ["one", "two"], ["one", "two", "three"]])
def test_presets_based_on_each_other_in_a_circle_are_refused(tmp_path: Path, names: list[str]) -> None:
    for name, base in zip(names, [*names[1:], names[0]], strict=True):
        (tmp_path / f"{name}.yaml").write_text(f"base: {tmp_path}/{base}.yaml")
    with pytest.raises(ConfigError, match=r"base: .* is based on this file itself"):
        load_config(str(tmp_path / "one.yaml"))


@pytest.mark.parametrize("kind", ["preset", "variant"])
def test_an_unknown_name_is_refused_with_the_known_ones(kind: str) -> None:
    preset, variants = ("nothing", []) if kind == "preset" else ("mini", ["nothing"])
    known = preset_names() if kind == "preset" else variant_names()
    with pytest.raises(ConfigError, match=f"{kind} 'nothing': no such {kind}") as error:
        load_config(preset, variants)
    assert ", ".join(known) in str(error.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.iteratoins=5", ["training.iteratoins: unknown key", "iterations", "base_rate"]),
        ("trainings.iterations=5", ["trainings: unknown key", "training", "inference"]),
        ("training.iterations.x=5", ["training.iterations"]),
        ("training.iterations=0", ["training.iterations", "greater than or equal to 1", "given: 0"]),
        ("training.iterations=many", ["training.iterations", "integer", "given: 'many'"]),
        ("training.base_rate=.nan", ["training.base_rate", "finite"]),
        ("inference.score_thresh=1.5", ["inference.score_thresh", "less than or equal to 1", "1.5"]),
        ("model.backbone=vgg16", ["model.backbone", "resnet50", "mobilenet_v2", "given: 'vgg16'"]),
        ("model.semantic_channels=[]", ["model.semantic_channels", "at least 1"]),
        ("model.rpn.anchor_sizes=[1,2]", ["model.rpn.anchor_sizes"]),
        ("training.steps=[5,3]", ["training", "steps must rise, got [5, 3]"]),
        ("loader.short_side=[9,3]", ["loader", "short_side must be [smallest, largest], got [9, 3]"]),
        ("data.source=coco", ["data", "data.coco.train and data.coco.val must be given"]),
        ("data.coco={train: {images: a}}", ["data.coco.val", "required"]),
        ("training=5", ["training", "5"]),
    ],
)
def test_bad_keys_and_values_are_refused_with_path_given_and_allowed(
    override: str, expected: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("mini", (), [override])
    for part in expected:
        assert part in str(error.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        load_config("mini", (), ["training.iterations=0", "inference.stuff_area=-1", "sead=1"])
    for path in ("training.iterations", "inference.stuff_area", "sead"):
        assert path in str(error.value)


@pytest.mark.parametrize("text", ["training.iterations", "=5", "", "seed=[1", "seed: 5"])
def test_an_override_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        load_config("mini", (), [text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b", "expected sections with keys, found list"),
        ("a: [", "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(tmp_path: Path, text: str, expected: str) -> None:
    path = preset_file(tmp_path, text)
    for read in (load_config, lambda name: read_config(Path(name))):
        with pytest.raises(ConfigError, match=expected) as error:
            read(path)
        assert path in str(error.value)


def test_a_missing_config_file_is_refused_with_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read .* 'upsnet configure'"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("preset", preset_names())
def test_a_written_configuration_reads_back_equal(preset: str, tmp_path: Path) -> None:
    config = load_config(preset, variant_names(), ["seed=123"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "config.yaml") == config


def test_a_written_configuration_states_every_key() -> None:
    values = yaml.safe_load(to_yaml(load_config("mini")))
    for path in leaves(load_config("mini")):
        section = values
        for part in path.split("."):
            section = section[part]


@given(rate=st.floats(1e-12, 1e12), seed=st.integers(0, 2**60), flip=st.floats(0, 1))
def test_numbers_survive_the_file_exactly(
    tmp_path_factory: pytest.TempPathFactory, rate: float, seed: int, flip: float
) -> None:
    overrides = [f"training.base_rate={rate!r}", f"seed={seed}", f"loader.flip={flip!r}"]
    config = load_config("mini", (), overrides)
    assert (config.training.base_rate, config.seed, config.loader.flip) == (rate, seed, flip)
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(to_yaml(config))
    assert read_config(path) == config


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SyntheticConfig().seed = 2  # type: ignore[misc]


def test_the_manual_names_every_key_and_explains_it() -> None:
    entries = {
        line.split(":")[0]: explanation.strip()
        for line, explanation in itertools.pairwise(manual().splitlines())
        if explanation.startswith("    ")
    }
    sections = {"data.coco", "data.cityscapes"}
    inside = {"data.coco.train.images", "data.coco.val.masks", "data.cityscapes.root"}
    assert set(leaves(load_config("mini"))) - sections | inside <= set(entries)
    assert [key for key, explanation in entries.items() if not explanation] == []


def test_a_file_that_is_not_resolved_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {weights: none}\n")
    with pytest.raises(ConfigError, match=r"no resolved configuration, .*training.* 'upsnet configure'"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("model.rpn.fg_iou_thresh=0.2", "must not exceed"),
        ("model.rpn.aspect_ratios=[]", "aspect_ratios"),
        ("model.deformable_stages=[3]", "bottlenecks"),
    ],
)
def test_values_that_no_network_can_be_built_from_are_refused(override: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_config("mini", [], [override])


@pytest.mark.parametrize("stages", ["[3,3]", "[4,3]"])
def test_deformable_stages_must_rise(stages: str) -> None:
    with pytest.raises(ConfigError, match="must rise"):
        load_config("coco_r50", [], [f"model.deformable_stages={stages}"])


@pytest.mark.parametrize("line", ["iterations: 2020-01-01", "iterations: ${x", "iterations: !!set {a, b}"])
def test_a_preset_file_with_odd_yaml_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(f"training:\n  {line}\n")
    with pytest.raises(ConfigError):
        load_config(str(tmp_path / "odd.yaml"))
