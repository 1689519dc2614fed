"""Read YAML files without trust: plain values, no key twice, no aliases that grow without bound."""

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from crfnet.errors import InputError
from crfnet.files.error_text import one_line
from crfnet.files.regular import regular

__all__ = ["MAX_BITS", "read_yaml"]

_MAX_VALUES = 10_000  #: in a file with every alias written out
MAX_BITS = 2048  #: of a whole number; 0x... may have more digits than Python shows (4300)


def read_yaml(path: Path) -> Any:
    """Read a YAML file: plain values, no key twice.

    Raises:
        InputError: it is missing, no text in UTF-8 or no YAML; has a key twice; or aliases that stand for
            more than any configuration holds.
    """
    try:
        content = yaml.load(regular(path).read_text(encoding="utf-8-sig"), _UniqueKeyLoader)
        if _count_values(content, {}) > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values, aliases written out")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as YAML ({error.strerror})") from error
    except RecursionError as error:
        raise InputError(f"{path}: cannot be read as YAML (nested too deeply)") from error
    except Exception as error:  # constructors raise what int(), float() and datetime do
        raise InputError(f"{path}: cannot be read as YAML ({one_line(error)})") from error
    return content


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which the last would be taken silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key, times in Counter(map(str, keys)).items() if times > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice} twice in the mapping of line {line}"
            )
        return super().construct_mapping(node, deep=deep)


def _count_values(value: Any, known: dict[int, int]) -> int:
    """Count the values that `value` stands for; a mapping within itself is nested too deeply."""
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError(f"it holds a whole number of {value.bit_length()} bits")
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(each, known) for each in inside)
    return known[id(value)]
