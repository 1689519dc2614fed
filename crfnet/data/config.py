"""Which images and what their masks mean: the section ``data:`` of a configuration."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crfnet.config.variants import check_choices, free, section
from crfnet.errors import require
from crfnet.labels import VOID, Color

__all__ = ["DataConfig", "ToyConfig"]

_QUOTE = "; YAML reads yes, no, on and off as true and false: put names in quotes"


@dataclass(frozen=True)
class ToyConfig:
    """The set toy, drawn on the fly.

    Attributes:
        train: Number of training images, >= 1.
        val: Number of validation images, >= 1.
        size: Height and width in pixels, each >= 32.
        seed: Another seed is another toy set; >= 0.
    """

    train: int = 200
    val: int = 60
    size: tuple[int, int] = (96, 128)
    seed: int = 0

    def __post_init__(self) -> None:
        require("train", self.train, self.train >= 1, ">= 1")
        require("val", self.val, self.val >= 1, ">= 1")
        require("size", list(self.size), min(self.size) >= 32, "height and width, each >= 32")
        require("seed", self.seed, self.seed >= 0, ">= 0")


@dataclass(frozen=True)
class DataConfig:
    """Which data set, where it lies and which of its lists are trained on and scored.

    Attributes:
        name: ``toy`` (drawn on the fly), ``camvid``, ``voc``, ``context`` (60 classes), ``context59`` (the
            same without background), ``person_part``, ``cityscapes``, or ``folders``: your own.
        root: The folder of the data set, laid out as the file of its name in crfnet/data says; unused by toy.
        train: Name of the training list (without ``.txt``) or folder; unused by toy.
        val: Name of the validation list (without ``.txt``) or folder; unused by toy.
        classes: Class names of folders, the position is the label; the other sets know theirs, and take a new
            list together with label_map or colors.
        images: Folder of the images below the root; of folders alone.
        masks: Folder of the masks below the root; of folders alone.
        mask_suffix: What a mask's name has behind its image's: ``_mask`` for a_mask.png of a.jpg; of folders
            alone.
        void: Numbers in the masks that mean void, beside 255; of folders alone.
        label_map: What labels become: a number in the masks (of the other sets: a label), or a class name or
            name of colors, to the name of a class or ``void``. What is not named stays; a class that nothing
            becomes is no class any more.
        colors: Of masks in colors: for each name its color [r, g, b], ``void`` for the one that is not
            scored.
        image_range: The values that become 0 and 255, of images with 16 bits or floating point.
        channels: Of the images: 1 gray, 3 RGB, or as many bands as the files have.
        toy: Of the set toy.
    """

    name: Literal["toy", "camvid", "voc", "context", "context59", "person_part", "cityscapes", "folders"] = (
        "toy"
    )
    root: Path | None = free(None)
    train: str = "train"
    val: str = "val"
    classes: tuple[str, ...] = ()
    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    void: tuple[int, ...] = ()
    label_map: dict[int | str, str] | None = None
    colors: dict[str, Color] | None = None
    image_range: tuple[float, float] | None = None
    channels: int = 3
    toy: ToyConfig = section(ToyConfig, "name", ("toy",))

    def __post_init__(self) -> None:
        check_choices(self, "data.")
        if self.root is not None:
            object.__setattr__(self, "root", expanded(self.root))
        self._check_owner()
        self._check_classes()
        self._check_label_map()
        self._check_colors()
        low, high = self.image_range or (0, 1)
        ordered = math.isfinite(low) and math.isfinite(high) and low < high
        require("data.image_range", self.image_range, ordered, "[low, high], two finite numbers, low < high")
        require("data.channels", self.channels, self.channels >= 1, "at least 1")

    def _check_owner(self) -> None:
        """Refuse keys that the data set would not read."""
        own, known = self.name == "folders", f"left out: {self.name} knows its own"
        require("data.void", list(self.void), own or not self.void, known)
        require("data.mask_suffix", self.mask_suffix, own or not self.mask_suffix, known)
        translated = own or bool(self.label_map or self.colors)
        require("data.classes", list(self.classes), translated or not self.classes, known)
        drawn = {"label_map": None, "colors": None, "image_range": None, "channels": 3}
        for key, default in drawn.items() if self.name == "toy" else ():
            value = getattr(self, key)
            require(f"data.{key}", value, value == default, "left out: toy is drawn")

    def _check_classes(self) -> None:
        translated = bool(self.label_map or self.colors)
        needed = self.name == "folders" and not self.colors
        once = len(set(self.classes)) == len(self.classes)
        good = int(needed) <= len(self.classes) <= VOID and once
        names = f"1 to {VOID} names, each once, in the order of the masks' labels"
        require("data.classes", list(self.classes), good, names)
        fine = all(str(name) == name and name.strip() for name in self.classes)
        require("data.classes", list(self.classes), fine, f"names{_QUOTE}")
        if translated:
            allowed = "other names than void, with label_map or colors"
            require("data.classes", list(self.classes), "void" not in self.classes, allowed)
        inside = all(0 <= number <= VOID for number in self.void)
        require("data.void", list(self.void), inside, f"numbers in 0..{VOID}")

    def _check_label_map(self) -> None:
        for key, value in (self.label_map or {}).items():
            good = type(key) in (int, str) and isinstance(value, str)
            require(
                "data.label_map", {key: value}, good, f"a number or name: name of a class or void{_QUOTE}"
            )
            number = isinstance(key, str) or 0 <= key <= VOID
            require("data.label_map", {key: value}, number, f"numbers in 0..{VOID}, or names")

    def _check_colors(self) -> None:
        seen: dict[Any, str] = {}
        for name, color in (self.colors or {}).items():
            place = f"data.colors.{name}"
            require("data.colors", {name: list(color)}, isinstance(name, str), f"a name: [r, g, b]{_QUOTE}")
            inside = all(0 <= part <= 255 for part in color)
            require(place, list(color), inside, "[r, g, b], each in 0..255")
            once = tuple(color) not in seen
            require(place, list(color), once, f"another color than that of {seen.get(tuple(color))}")
            seen[tuple(color)] = name


def expanded(path: Path) -> Path:
    """The path with a leading ``~`` replaced by the home folder, where there is one."""
    try:
        return path.expanduser()
    except RuntimeError:  # a user that the machine does not know: a folder that begins with ~
        return path
