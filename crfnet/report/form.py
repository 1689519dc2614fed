"""The form of report.json, value by value: it may come from another version, or have been edited."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["ARM", "INPUTS", "check_form"]

#: A type, several of them, a list of one form, or a mapping whose keys have forms of their own; the key "*"
#: stands for all others, and a "?" behind a key says that it may be missing.
Form: TypeAlias = Any

_NUMBER = (int, float)
_MAYBE = (str, type(None))

#: One arm. That of its repeats is checked when they are read.
ARM: Form = {
    "name": str,
    "seconds_per_image": _NUMBER,
    "train_seconds": _NUMBER,
    "search_seconds": _NUMBER,
    "peak_memory_mb": _NUMBER,
    "crf": (dict, type(None)),
    "search_ids": [str],
    "folder": str,
    "search_folder": _MAYBE,
    "train_folder": _MAYBE,
    "seed?": (int, type(None)),
    "repeats?": [dict],
}

INPUTS: Form = {
    "title": str,
    "class_names": [str],
    "palette": [[int]],
    "facts": {"*": str},
    "config": {"draws": int, "seed": int, "max_width": int, "boundary": {"*": _NUMBER}, "*": (str, *_NUMBER)},
    "arms": [dict],
}


def check_form(value: Any, form: Form, place: str = "") -> None:
    """Raises ValueError, which names the place, unless `value` has the form."""
    if isinstance(form, list):
        _require(isinstance(value, list), value, place, "a list")
        for i, each in enumerate(value):
            check_form(each, form[0], f"{place}[{i}]")
    elif isinstance(form, Mapping):
        _require(isinstance(value, dict), value, place, "a mapping")
        _check_keys(value, form, place)
    else:
        good = isinstance(value, form) and (not isinstance(value, bool) or form is dict)
        kinds = form if isinstance(form, tuple) else (form,)
        allowed = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        _require(good, value, place, allowed)
        if isinstance(value, _NUMBER):
            _require(math.isnan(value) or abs(value) < 1e18, value, place, "a number of this world")


def _check_keys(value: dict[str, Any], form: Mapping[str, Form], place: str) -> None:
    forms = {key.removesuffix("?"): each for key, each in form.items()}
    for key in form:
        if key != "*" and not key.endswith("?") and key not in value:
            raise ValueError(f"{place}.{key} is missing".lstrip("."))
    for key, each in value.items():
        wanted = forms.get(key, forms.get("*"))
        if wanted is None:
            raise ValueError(f"unknown key {place}.{key}".replace(" .", " "))
        check_form(each, wanted, f"{place}.{key}".lstrip("."))


def _require(good: bool, value: Any, place: str, allowed: str) -> None:
    if not good:
        raise ValueError(f"{place or 'it'} is {value!r:.60}; expected {allowed}")
