"""report.json: what a report was made of, beside the counts, so that it can be written again."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from crfnet.errors import InputError
from crfnet.evaluation.boundary import BoundaryConfig
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.files import one_line, write_json
from crfnet.labels import Palette
from crfnet.report.arms import ArmResult

__all__ = ["REPORT_FILE", "ReportInputs", "read_report_json", "write_report_json"]

REPORT_FILE = "report.json"
_FOLDERS = ("folder", "search_folder", "train_folder")
_COSTS = (
    "seconds_per_image",
    "cpu_seconds_per_image",
    "train_seconds",
    "search_seconds",
    "peak_memory_mb",
    "machine_load",
)
#: What reports of old do not have.
_LATER: dict[str, Any] = {
    "folds": 0,
    "seed": None,
    "repeats": [],
    "cpu_seconds_per_image": math.nan,
    "machine_load": math.nan,
    "seen_ids": [],
}
_LARGEST = 10**18
_KINDS = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    int: "a whole number below 1e18",
    float: "a number below 1e18",
    NoneType: "null",
}


@dataclass(frozen=True)
class ReportInputs:
    """All that `write_report` was given but the pictures; the attributes are its arguments."""

    arms: Sequence[ArmResult]
    title: str
    class_names: Sequence[str]
    palette: Palette
    facts: Mapping[str, str]
    config: EvaluationConfig


def write_report_json(
    folder: Path,
    arms: Sequence[ArmResult],
    title: str,
    class_names: Sequence[str],
    palette: Palette,
    facts: Mapping[str, str],
    config: EvaluationConfig,
) -> None:
    """Write report.json, unless an arm's counts lie nowhere; its paths are relative, so that all can move."""
    if any(each.folder is None for arm in arms for each in arm.seeds):
        return
    saved = {
        "title": title,
        "class_names": list(class_names),
        "palette": [[int(part) for part in color] for color in palette],
        "facts": dict(facts),
        "config": dataclasses.asdict(config),
        "arms": [_plain_arm(arm, folder) for arm in arms],
    }
    write_json(folder / REPORT_FILE, saved)


def read_report_json(folder: Path) -> ReportInputs:
    """What `write_report_json` wrote into ``folder``, with the evaluations of the arms.

    Raises:
        InputError: there is no such file, it is not one of ours, or an evaluation is missing.
    """
    path = folder / REPORT_FILE
    if not path.is_file():
        below = sorted(each.parent for each in folder.glob(f"*/{REPORT_FILE}"))
        meant = f"; did you mean {below[0]}?" if below else ""
        raise InputError(
            f"{path}: no such file; compare and evaluate leave it in the folder of their report{meant}"
        )
    try:
        saved = _checked(json.loads(path.read_text(encoding="utf-8")), "the file", dict)
        facts = _take(saved, "facts", dict)
        for name, each in facts.items():
            _checked(each, f"facts.{name}", str)
        inputs = ReportInputs(
            arms=[_read_arm(each, folder) for each in _take_list(saved, "arms", dict)],
            title=_take(saved, "title", str),
            class_names=_take_list(saved, "class_names", str),
            palette=[_read_color(each) for each in _take_list(saved, "palette", list)],
            facts=facts,
            config=_read_config(_take(saved, "config", dict)),
        )
        _refuse_rest(saved)
    except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        if isinstance(error, InputError):
            raise error if str(folder) in str(error) else InputError(f"{path}: {error}") from error
        raise InputError(f"{path}: not written by this version of crfnet ({one_line(error)})") from error
    return inputs


def _plain_arm(arm: ArmResult, folder: Path) -> dict[str, Any]:
    fields = {field.name: getattr(arm, field.name) for field in dataclasses.fields(arm)}
    del fields["evaluation"]
    for name in _FOLDERS:
        if fields[name] is not None:
            fields[name] = os.path.relpath(fields[name], folder)
    return fields | {
        "search_ids": list(arm.search_ids),
        "seen_ids": list(arm.seen_ids),
        "crf": None if arm.crf is None else dict(arm.crf),
        "repeats": [_plain_arm(each, folder) for each in arm.repeats],
    }


def _read_arm(saved: dict[str, Any], folder: Path) -> ArmResult:
    places: dict[str, Any] = {}
    for name in _FOLDERS:
        place = _take(saved, name, str, *([] if name == "folder" else [NoneType]), within="arms.")
        places[name] = None if place is None else folder / place
    saved = _LATER | saved
    costs = {name: _take(saved, name, int, float, within="arms.") for name in _COSTS}
    arm = ArmResult(
        name=_take(saved, "name", str, within="arms."),
        evaluation=Evaluation.load(places["folder"] / "evaluation.npz"),
        crf=_take(saved, "crf", dict, NoneType, within="arms."),
        search_ids=_take_list(saved, "search_ids", str, within="arms."),
        seen_ids=_take_list(saved, "seen_ids", str, within="arms."),
        folds=_take(saved, "folds", int, within="arms."),
        seed=_take(saved, "seed", int, NoneType, within="arms."),
        repeats=[_read_arm(each, folder) for each in _take_list(saved, "repeats", dict, within="arms.")],
        **costs,
        **places,
    )
    _refuse_rest(saved, within="arms.")
    return arm


def _read_config(saved: dict[str, Any]) -> EvaluationConfig:
    numbers = {name: _take(saved, name, int, within="config.") for name in ("max_width", "draws", "seed")}
    boundary = _take(saved, "boundary", dict, within="config.")
    widths = {name: _checked(each, f"config.boundary.{name}", int, float) for name, each in boundary.items()}
    choices = {name: _checked(each, f"config.{name}", str) for name, each in saved.items()}
    return EvaluationConfig(**numbers, boundary=BoundaryConfig(**widths), **choices)


def _read_color(parts: list[Any]) -> list[int]:
    if len(parts) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in parts):
        raise ValueError(f"palette holds {parts!r:.60}, must be three numbers of 0..255 for each color")
    return parts


def _take(saved: dict[str, Any], key: str, *kinds: type, within: str = "") -> Any:
    """Take a value out of a mapping; ValueError where it is missing or of another kind."""
    if key not in saved:
        raise ValueError(f"{within}{key} is missing")
    return _checked(saved.pop(key), f"{within}{key}", *kinds)


def _take_list(saved: dict[str, Any], key: str, kind: type, within: str = "") -> list[Any]:
    values = _take(saved, key, list, within=within)
    return [_checked(each, f"{within}{key}[{i}]", kind) for i, each in enumerate(values)]


def _checked(value: Any, place: str, *kinds: type) -> Any:
    good = isinstance(value, kinds) and not isinstance(value, bool)
    if isinstance(value, (int, float)):  # larger ones overflow where they are formatted
        good = good and not abs(value) >= _LARGEST  # NaN, of what was not measured, is good
    if not good:
        allowed = dict.fromkeys(_KINDS[kind] for kind in kinds)
        raise ValueError(f"{place} is {value!r:.60}, must be {' or '.join(allowed)}")
    return value


def _refuse_rest(saved: dict[str, Any], within: str = "") -> None:
    for key in saved:
        raise ValueError(f"unknown key {within}{key}")
