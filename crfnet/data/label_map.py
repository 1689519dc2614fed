"""What the numbers or colors of masks mean: classes renumbered, merged, mapped to void."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crfnet.data.config import DataConfig
from crfnet.errors import InputError
from crfnet.files import MASK_FORMATS, open_image, upright
from crfnet.labels import DATASET_CLASSES, VOC_PALETTE, VOID, Classes, Color

__all__ = ["Labeling", "own_classes", "read_colors", "resolve_labels"]

_VOID = "void"  #: what label_map and colors call it


class Labeling(NamedTuple):
    """The classes that are trained on, and what makes them.

    Attributes:
        classes: names and colors of class 0, 1, ...
        labels: int64 (256,) of the label that each number means (with colors: each of them by its position),
            255 = void, -1 where it is not allowed.
        colors: those of the masks; empty for masks of numbers.
        by_user: the numbers' meaning is the user's, and may be mistaken.
        void_is_meant: the user said which numbers or colors are void.
    """

    classes: Classes
    labels: np.ndarray
    colors: tuple[Color, ...]
    by_user: bool
    void_is_meant: bool


def own_classes(config: DataConfig) -> Classes:
    """The classes before ``label_map``: those of the data set, or of ``classes`` or ``colors``."""
    if config.name != "folders":
        return DATASET_CLASSES[config.name]
    if config.colors:
        names = tuple(name for name in config.colors if name != _VOID)
        return Classes(names, tuple(config.colors[name] for name in names))
    return Classes(config.classes, VOC_PALETTE[: len(config.classes)])


def resolve_labels(config: DataConfig) -> Labeling:
    """The meaning of every number or color of the masks; no file is opened.

    Raises:
        InputError: ``label_map``, ``colors`` and ``classes`` contradict each other.
    """
    own = own_classes(config)
    meant = _meant(config, own)
    order = config.classes or own.names
    _check_targets(config, meant, order)
    names = tuple(name for name in order if name in meant.values())
    if len(names) < len(order) and config.classes and config.name != "folders":
        gone = next(name for name in order if name not in names)
        raise InputError(
            f"data.classes has {gone!r}, which nothing becomes; must be a target of data.label_map"
        )
    labels = np.full(256, -1, np.int64)
    position = {name: place for place, name in enumerate(names)} | {_VOID: VOID}
    for number, name in meant.items():
        labels[number] = position[name]
    first = {name: number for number, name in reversed(meant.items())}
    palette = dict(zip(*own, strict=True))
    colors = tuple((config.colors or {}).values())
    sources = colors or (*own.colors, *VOC_PALETTE[len(own.colors) :])
    return Labeling(
        Classes(names, tuple(palette.get(name) or sources[first[name]] for name in names)),
        labels,
        colors,
        config.name == "folders" or bool(config.label_map or config.colors),
        bool(config.void) or config.colors is not None or _VOID in (config.label_map or {}).values(),
    )


def _meant(config: DataConfig, own: Classes) -> dict[int, str]:
    """The name that each number, or the color of that position, stands for behind ``label_map``."""
    if config.colors:
        before = dict(enumerate(config.colors))
    else:
        before = dict(enumerate(own.names)) | dict.fromkeys((VOID, *config.void), _VOID)
    after = dict(before)
    names, numbers = _split_keys(config.label_map or {}, before.values())
    for key, value in names.items():
        found = [number for number, name in before.items() if name == key]
        if not found:
            raise InputError(f"data.label_map has {key!r}, must be numbers or {_listed(before.values())}")
        after |= dict.fromkeys(found, value)
    for number, value in numbers.items():
        known = not config.colors and (config.name == "folders" or number in before)
        if not known:
            whose = (
                "names of data.colors" if config.colors else f"labels of {config.name}, {_numbers(before)}"
            )
            raise InputError(f"data.label_map has {number}, must be {whose}")
        after[number] = value
    return after


def _split_keys(
    given: Mapping[int | str, str], known: Collection[str]
) -> tuple[dict[str, str], dict[int, str]]:
    """``label_map`` by names, and by numbers: also those in quotes, as JSON has them."""
    names, numbers = dict[str, str](), dict[int, str]()
    for key, value in given.items():
        if isinstance(key, str) and (key in known or not key.isdecimal()):
            names[key] = value
        else:
            numbers[int(key)] = value
    return names, numbers


def _check_targets(config: DataConfig, meant: dict[int, str], order: Sequence[str]) -> None:
    """Refuse names that are no class."""
    for number, name in meant.items():
        if name == _VOID or name in order:
            continue
        if name in (config.label_map or {}).values():
            raise InputError(f"data.label_map has {name!r}, must be void or a class: {', '.join(order)}")
        what = "color" if config.colors else "label"
        raise InputError(
            f"data.label_map says nothing of {name!r} ({what} {number}), must name one of "
            f"{', '.join(order)} or void"
        )


def _listed(names: object) -> str:
    return ", ".join(dict.fromkeys(names))  # type: ignore[call-overload]


def _numbers(known: dict[int, str]) -> str:
    return f"0..{max(number for number in known if number != VOID)} or {VOID}"


def read_colors(path: Path, colors: Sequence[Color]) -> np.ndarray:
    """The position in ``colors`` of each pixel's color (h, w).

    Raises:
        InputError: The file is broken, or has a color that is none of them.
    """
    with open_image(path, MASK_FORMATS) as file:
        pixels = np.array(upright(file).convert("RGB"))
    codes = _codes(pixels)
    known = _codes(np.array(colors))
    order = np.argsort(known)
    found = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    wrong = known[order][found] != codes
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise InputError(
            f"{path}: color {pixels[y, x].tolist()} at x={x}, y={y} (so have {wrong.sum()} pixels), must "
            "be one of data.colors"
        )
    positions: np.ndarray = order[found]
    return positions


def _codes(colors: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(colors.astype(np.int64), -1, 0)
    codes: np.ndarray = red << 16 | green << 8 | blue
    return codes
