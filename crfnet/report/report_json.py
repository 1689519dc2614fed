"""report.json: what a report was made of, beside the counts, so that it can be written again."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crfnet.errors import InputError
from crfnet.evaluation.boundary import BoundaryConfig
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.files import one_line, write_json
from crfnet.labels import Palette
from crfnet.report.arms import ArmResult
from crfnet.report.form import ARM, INPUTS, check_form

__all__ = ["INPUTS_FILE", "Inputs", "load_inputs", "save_inputs"]

INPUTS_FILE = "report.json"
_FOLDERS = ("folder", "search_folder", "train_folder")


@dataclass(frozen=True)
class Inputs:
    """All that `write_report` was given but the pictures; attributes as its arguments."""

    arms: Sequence[ArmResult]
    title: str
    class_names: Sequence[str]
    palette: Palette
    facts: Mapping[str, str]
    config: EvaluationConfig


def save_inputs(
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
    write_json(folder / INPUTS_FILE, saved)


def load_inputs(folder: Path) -> Inputs:
    """What `save_inputs` wrote into ``folder``, with the evaluations of the arms.

    Raises:
        InputError: there is no such file, it is not one of ours, or an evaluation is missing.
    """
    path = folder / INPUTS_FILE
    if not path.is_file():
        below = sorted(each.parent for each in folder.glob(f"*/{INPUTS_FILE}"))
        meant = f"; did you mean {below[0]}?" if below else ""
        raise InputError(
            f"{path}: no such file; compare and evaluate leave it in the folder of their report{meant}"
        )
    try:
        saved: dict[str, Any] = json.loads(path.read_text())
        check_form(saved, INPUTS)
        if any(len(color) != 3 or not 0 <= min(color) <= max(color) <= 255 for color in saved["palette"]):
            raise ValueError("palette holds other than three numbers of 0..255 a color")
        config = dict(saved["config"])
        config["boundary"] = BoundaryConfig(**config["boundary"])
        return Inputs(
            [_arm(each, folder) for each in saved["arms"]],
            saved["title"],
            saved["class_names"],
            saved["palette"],
            saved["facts"],
            EvaluationConfig(**config),
        )
    except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        if isinstance(error, InputError):
            raise error if str(folder) in str(error) else InputError(f"{path}: {error}") from error
        raise InputError(f"{path}: not written by this version of crfnet ({one_line(error)})") from error


def _plain_arm(arm: ArmResult, folder: Path) -> dict[str, Any]:
    fields = {field.name: getattr(arm, field.name) for field in dataclasses.fields(arm)}
    del fields["evaluation"]
    for name in _FOLDERS:
        if fields[name] is not None:
            fields[name] = os.path.relpath(fields[name], folder)
    return fields | {
        "search_ids": list(arm.search_ids),
        "crf": None if arm.crf is None else dict(arm.crf),
        "repeats": [_plain_arm(each, folder) for each in arm.repeats],
    }


def _arm(saved: dict[str, Any], folder: Path) -> ArmResult:
    check_form(saved, ARM, "arms")
    places = {name: None if saved[name] is None else folder / saved[name] for name in _FOLDERS}
    evaluation = Evaluation.load(folder / saved["folder"] / "evaluation.npz")
    repeats = [_arm(each, folder) for each in saved.get("repeats", ())]  # reports of old have none
    return ArmResult(**{**saved, **places, "evaluation": evaluation, "repeats": repeats})
