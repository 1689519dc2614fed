"""Several runs of one comparison, trained with different seeds, as one."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

from crfnet.config.nested import differing, flat
from crfnet.errors import InputError
from crfnet.files import read_yaml
from crfnet.report.arms import ArmResult, short
from crfnet.report.report_json import ReportInputs, read_report_json

__all__ = ["CONFIG_FILE", "combine", "written_config"]

CONFIG_FILE = "config.yaml"  #: in a run's folder: the configuration that it was begun with

#: What runs must have in common, besides images and configuration.
_ALIKE: dict[str, Callable[[ReportInputs], object]] = {
    "arms": lambda run: ", ".join(arm.name for arm in run.arms),
    "networks": lambda run: "trained before" if "network" in run.facts else "trained in the run",
    "classes": lambda run: ", ".join(run.class_names),
    "counted widths": lambda run: [
        (each.max_width, each.element, each.boundary) for each in (arm.evaluation for arm in run.arms)
    ],
}


def combine(folders: Sequence[Path], unimportant: Collection[str]) -> ReportInputs:
    """What the reports in some folders were made of, as what one report over all seeds is made of.

    Every arm is that of the first folder, with those of the other folders as its ``repeats``.

    Args:
        folders: each of a finished ``compare`` (or ``evaluate``): of one configuration but for ``seed``.
        unimportant: keys of the configuration, ``section.key``, that do not change what a run measures.

    Raises:
        InputError: a folder holds no report; or runs differ in more than the seed: in arms, images, classes,
            how they were scored, or configuration. The line names the folder and what differs.
    """
    if not folders:
        raise InputError("no run to report on, must be at least one folder")
    runs = [read_report_json(folder) for folder in folders]
    if len(runs) == 1:
        return runs[0]
    configs = [written_config(folder) for folder in folders]
    for folder, run, config in zip(folders, runs, configs, strict=True):
        if any(arm.repeats for arm in run.arms):
            raise InputError(f"{folder}: a report of several runs already; give the folders of its runs")
        _check_alike(folders[0], runs[0], folder, run)
        _check_configs(folders[0], configs[0], folder, config, unimportant)
    seeds = [seed if isinstance(seed := config.get("seed"), int) else None for config in configs]
    _check_seeds(folders, seeds)
    arms = [
        _with_repeats([replace(arm, seed=seed) for arm, seed in zip(same, seeds, strict=True)])
        for same in zip(*(run.arms for run in runs), strict=True)
    ]
    labels = [f"{folder} ({label})" for folder, label in zip(folders, arms[0].seed_labels, strict=True)]
    facts = {"runs": ", ".join(labels)} | _joined([run.facts for run in runs], arms[0].seed_labels)
    return replace(runs[0], arms=arms, facts=facts)


def _with_repeats(seeds: Sequence[ArmResult]) -> ArmResult:
    return replace(seeds[0], repeats=seeds[1:])


def _joined(facts: Sequence[Mapping[str, str]], labels: Sequence[str]) -> dict[str, str]:
    """Each fact once where all runs agree, else with the seeds that it belongs to."""
    joined = {}
    for name in dict.fromkeys(name for each in facts for name in each):
        values = [each.get(name, "unknown") for each in facts]
        owners = {value: [l for v, l in zip(values, labels, strict=True) if v == value] for value in values}
        said = [f"{', '.join(owned)}: {value}" for value, owned in owners.items()]
        joined[name] = values[0] if len(owners) == 1 else "; ".join(said)
    return joined


def _check_alike(first_folder: Path, first: ReportInputs, folder: Path, run: ReportInputs) -> None:
    """Refuse a run with other arms, images, classes or widths than the first."""
    scored: dict[str, Callable[[ReportInputs], object]] = {
        f"evaluation.{field.name}": partial(_setting, name=field.name) for field in fields(first.config)
    }
    for what, of in {**_ALIKE, **scored}.items():
        theirs, mine = of(first), of(run)
        if theirs != mine:
            _refuse(first_folder, f"{what} {short(theirs)}", folder, f"{what} {short(mine)}")
    for old, new in zip(first.arms, run.arms, strict=True):
        theirs, mine = old.evaluation.ids, new.evaluation.ids
        if theirs != mine:
            pairs = zip_longest(theirs, mine, fillvalue="none")
            place, (a, b) = next((i, pair) for i, pair in enumerate(pairs, 1) if pair[0] != pair[1])
            what = f"{len(theirs)} images in arm {old.name}, number {place} is {short(a)}"
            _refuse(first_folder, what, folder, f"{len(mine)} images, number {place} is {short(b)}")
    truth, other = (each.arms[0].evaluation.confusion.sum(2) for each in (first, run))
    for image, label in (truth != other).nonzero()[:1].tolist():  # masks were changed in between
        where = f"pixels of class {label} in the mask of {short(run.arms[0].evaluation.ids[image])}"
        there, here = (f"{each[image, label]} {where}" for each in (truth, other))
        _refuse(first_folder, there, folder, here)


def _setting(run: ReportInputs, name: str) -> object:
    return getattr(run.config, name)


def _refuse(first: Path, theirs: str, place: Path, mine: str) -> NoReturn:
    raise InputError(f"{place}: {mine}; {first}: {theirs}; runs of one report differ in nothing but the seed")


def _check_configs(
    first_folder: Path,
    first: Mapping[str, Any],
    folder: Path,
    config: Mapping[str, Any],
    unimportant: Collection[str],
) -> None:
    """Refuse a run of another configuration; runs without one are taken as they are."""
    if not first or not config:
        return
    for key in differing(first, config):
        if key not in unimportant:
            there, here = (f"{key} is {short(each.get(key))}" for each in (first, config))
            _refuse(first_folder / CONFIG_FILE, there, folder / CONFIG_FILE, here)


def _check_seeds(folders: Sequence[Path], seeds: Sequence[int | None]) -> None:
    seen: dict[int | Path, Path] = {}
    for folder, seed in zip(folders, seeds, strict=True):
        key = folder.resolve() if seed is None else seed
        if key in seen:
            what = "the folder" if seed is None else f"seed {seed}"
            raise InputError(
                f"{folder}: {what} is that of {seen[key]}; a run that is counted twice says nothing of chance"
            )
        seen[key] = folder


def written_config(folder: Path) -> dict[str, Any]:
    """The configuration in a run's folder, its keys ``section.key``; nothing where there is none.

    Raises:
        InputError: it cannot be read.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return {}
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: cannot be read as a configuration, must be keys and values")
    return flat(found)
