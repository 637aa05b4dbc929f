"""What a run trains: one resolved configuration per variant, each under a name of its own.

All variants of a run share the prepared data, so they must agree on the section `data`. A wrong name or key
is found here, in seconds, and not after hours of the other variants' training.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upsnet.config import Config, load_config, to_yaml
from upsnet.errors import ConfigError

KEYS = {"name", "variant", "overrides"}
NO_VARIANT = "upsnet"
"""Name of the preset alone."""


@dataclass(frozen=True)
class PlannedVariant:
    """One training of a run; `name` is that of its file, its folder and its row."""

    name: str
    config: Config

    @property
    def version(self) -> str:
        """12 hex digits that stand for everything that the figures depend on."""
        text = to_yaml(self.config.model_copy(update={"tracking": Config.model_fields["tracking"].default}))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def plan(
    preset: str, variants: Sequence[Any], overrides: Sequence[str], experiment: str = ""
) -> list[PlannedVariant]:
    """Resolves the configuration of every variant.

    Args:
        preset: name of a preset, or path of one.
        variants: each a text (`upsnet_c`, `a+b`, empty for the preset alone), or a mapping with `variant`,
            `overrides` (a list, or a text as the shell reads it) and `name`, all of them optional.
        overrides: `section.key=value`, for all variants.
        experiment: MLflow experiment; empty: the preset's.

    Raises:
        ConfigError: nothing to train, an unknown name or key, two variants of one name, or other data.
    """
    if not variants:
        raise ConfigError("variants: the list is empty; give names of variants, '' for the preset alone")
    common = [*overrides, *([f"tracking.experiment={experiment}"] if experiment else [])]
    planned = [_planned(preset, _settings(given), common) for given in variants]
    names = [variant.name for variant in planned]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"variants: {', '.join(twice)} comes twice; give each a 'name' of its own")
    for variant in planned:
        if variant.config.data != planned[0].config.data:
            raise ConfigError(
                f"variants: {variant.name} has other data than {names[0]}; all variants of a run train on "
                "the same data, so set 'data' in the overrides of the run, or start another run"
            )
    return planned


def _settings(given: Any) -> dict[str, Any]:
    """One entry of the list as a mapping with known keys."""
    if isinstance(given, str):
        return {"variant": given}
    if not isinstance(given, Mapping) or not set(given) <= KEYS:
        raise ConfigError(
            f"variants: {given!r} found; expected a name, or a mapping with some of {', '.join(sorted(KEYS))}"
        )
    return dict(given)


def _planned(preset: str, settings: Mapping[str, Any], common: Sequence[str]) -> PlannedVariant:
    parts = [name for name in re.split(r"[+\s]+", str(settings.get("variant") or "")) if name]
    own = settings.get("overrides") or []
    config = load_config(preset, parts, [*common, *(shlex.split(own) if isinstance(own, str) else own)])
    name = str(settings.get("name") or config.variant or NO_VARIANT)
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,60}", name):
        raise ConfigError(f"variants: name {name!r}; expected letters, digits and _ . + -, at most 61")
    return PlannedVariant(name, config)
