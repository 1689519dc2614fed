"""Reads the parameters that a search wrote, or that a person did in the same form."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crfnet.crf.config import CRFConfig
from crfnet.errors import InputError
from crfnet.files import read_yaml

__all__ = ["load_crf_config"]


def load_crf_config(path: Path) -> CRFConfig:
    """The CRF parameters under the one key `crf` of a YAML file; keys left out keep their defaults.

    Raises:
        InputError: no such file, not YAML, an unknown key, a value of a wrong type or out of its range.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or list(content) != ["crf"] or not isinstance(content["crf"], dict):
        got = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise InputError(f"{path}: holds {got}; expected the one key crf with a mapping under it")
    types = get_type_hints(CRFConfig)
    known = [field.name for field in fields(CRFConfig)]
    values: dict[str, Any] = {}
    for key, value in content["crf"].items():
        if key not in known:
            raise InputError(f"{path}: unknown key crf.{key}; known are {', '.join(known)}")
        values[key] = _typed(value, types[key], f"{path}: crf.{key}")
    try:
        return CRFConfig(**values)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _typed(value: object, wanted: Any, place: str) -> object:
    """`value`, if it is what the annotation `wanted` allows; an integer serves as a float."""
    if type(None) in get_args(wanted):
        if value is None:
            return None
        wanted = get_args(wanted)[0]
    if get_origin(wanted) is Literal:
        good, allowed = value in get_args(wanted), "one of " + ", ".join(get_args(wanted))
    elif wanted is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good, allowed = number and math.isfinite(float(str(value))), "a finite number"
        value = float(str(value)) if good else value
    else:
        good, allowed = type(value) is wanted, {int: "an integer", bool: "true or false", str: "text"}[wanted]
    if not good:
        raise InputError(f"{place} is {value!r}; expected {allowed}")
    return value
