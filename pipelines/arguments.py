"""From the options of submit to the arguments of a compiled pipeline, checked against its parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.package import parameter_types, pipeline_name, required_parameters
from upsnet.errors import UpsnetError


def pipeline_arguments(
    package: Mapping[str, Any],
    options: Mapping[str, Any],
    parameters: Sequence[str],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The pipeline's arguments.

    Args:
        package: the compiled pipeline.
        options: by parameter; those that were given (not None) the pipeline must have.
        parameters: NAME=VALUE pairs, which go before the others.
        settings: by parameter; for those that the pipeline has.

    Raises:
        UpsnetError: a name that the pipeline does not have, a value of another type, or a missing one.
    """
    types, name = parameter_types(package), pipeline_name(package)
    wanted = {**{key: value for key, value in settings.items() if key in types}, **options}
    given = {key: _as_type(key, value, types, name) for key, value in wanted.items() if value is not None}
    for pair in parameters:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UpsnetError(f"--parameter {pair}: expected NAME=VALUE")
        given[key] = _parse(key, text, types.get(key, ""))
    unknown = [key for key in given if key not in types]
    if unknown:
        raise UpsnetError(
            f"pipeline {name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(types))}"
        )
    missing = sorted(required_parameters(package) - set(given))
    if missing:
        raise UpsnetError(f"pipeline {name} needs {', '.join(missing)}; give --parameter {missing[0]}=VALUE")
    return given


def _as_type(name: str, value: Any, types: Mapping[str, str], pipeline: str) -> Any:
    """A list as it is, or its only entry where the pipeline takes one: `training` trains one network."""
    if not isinstance(value, list) or types.get(name) != "STRING":
        return value
    if len(value) > 1:
        raise UpsnetError(
            f"--{name} {','.join(value)}: pipeline {pipeline} takes one; join them by + for one network with "
            "all of them, or submit 'ablation' for a network each"
        )
    return value[0] if value else ""


def _parse(name: str, text: str, kind: str) -> Any:
    """The value of a parameter of some type; all but texts are JSON."""
    if kind in ("", "STRING"):
        return text
    expected: dict[str, tuple[type, ...]] = {
        "NUMBER_INTEGER": (int,),
        "NUMBER_DOUBLE": (int, float),
        "BOOLEAN": (bool,),
        "LIST": (list,),
        "STRUCT": (dict,),
    }
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UpsnetError(f"--parameter {name}={text}: expected {kind} as JSON: {error}") from error
    wanted = expected.get(kind, (object,))
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise UpsnetError(f"--parameter {name}={text}: found {type(value).__name__}, expected {kind}")
    return value
