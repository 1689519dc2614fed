"""Nested mappings, as YAML has them, and flat ones with keys such as ``section.key``."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["changed", "differing", "flat", "nested"]


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, ``section.key``."""
    keys: dict[str, Any] = {}
    for name, value in plain.items():
        keys |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return keys


def nested(keys: Mapping[str, Any]) -> dict[str, Any]:
    """What `flat` was made of."""
    plain: dict[str, Any] = {}
    for key, value in keys.items():
        name, _, rest = key.partition(".")
        if rest:
            plain.setdefault(name, {})[rest] = value
        else:
            plain[name] = value
    return {name: nested(value) if isinstance(value, dict) else value for name, value in plain.items()}


def changed(
    plain: Mapping[str, Any], default: Mapping[str, Any], always: Collection[str] = ()
) -> dict[str, Any]:
    """What of a `to_plain` differs from another one, and some keys in any case."""
    kept = {key: value for key, value in plain.items() if key in always or value != default.get(key)}
    return {
        key: changed(value, default.get(key, {})) if isinstance(value, Mapping) else value
        for key, value in kept.items()
    }


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """The keys whose values differ, those of the first mapping first; a key that is missing is None."""
    return (key for key in dict.fromkeys((*first, *second)) if first.get(key) != second.get(key))
