"""Your own data: a folder of images, a folder of masks, and a list of classes in the config."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from crfnet.data.config import DataConfig
from crfnet.data.dataset import SegmentationDataset, Split
from crfnet.data.file_dataset import FileDataset, MaskFiles
from crfnet.data.id_lists import existing_root, read_ids
from crfnet.data.image_files import IMAGE_ENDINGS
from crfnet.errors import InputError

__all__ = ["folders"]

_MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".gif")
_SHOWN = 3  #: names in a message


def folders(config: DataConfig, split: Split) -> SegmentationDataset:
    """Images and masks paired by name, divided by folders or by lists.

    ``images/train/<id>.jpg`` (or another common ending, in any case) with ``masks/train/<id>.png``, the same
    for ``val``: all images of the folder, sorted by name; hidden files are none. Or ``images/<id>.jpg``,
    ``masks/<id>.png`` and the lists ``train.txt`` and ``val.txt`` in the root, one id a line. Other names:
    ``data.images``, ``data.masks``, ``data.mask_suffix``, ``data.train``, ``data.val``. Images and masks may
    lie in one folder, the masks then have a suffix or are the .png there.

    Masks are palette or 8-bit gray images whose numbers are the positions in ``data.classes``; 255, and the
    numbers of ``data.void``, are void (a number in ``data.void`` that is a position too is void); or what
    ``data.label_map`` and ``data.colors`` say.

    Raises:
        InputError: No root, a folder or list that does not exist or is empty, two images of one name, or no
            image that has a mask.
    """
    name = config.train if split == "train" else config.val
    root = existing_root("folders", config.root, config.images, config.masks)
    sub, without_image = "", tuple[str, ...]()
    if (root / config.images / name).is_dir():
        sub = f"{name}/"
        ids = _names(root / config.images / name, _beside_masks(config))
        without_image = _unpaired(root / config.masks / name, ids, config)
    elif (root / f"{name}.txt").is_file():
        ids = tuple(_without_ending(image_id) for image_id in read_ids([root], name, spaces=True))
    else:
        raise InputError(
            f"data.{split} is {name!r}, must be the name of a folder {root / config.images / name} "
            f"or of a list {root / name}.txt"
        )
    endings = [each for each in IMAGE_ENDINGS if not (_beside_masks(config) == "" and each == ".png")]
    return FileDataset(
        "folders",
        root,
        ids,
        config,
        images=tuple(f"{config.images}/{sub}{{id}}{ending}" for ending in endings),
        masks=tuple(
            MaskFiles(f"{config.masks}/{sub}{{id}}{config.mask_suffix}{ending}", np.arange(256))
            for ending in _MASK_ENDINGS
        ),
        without_image=without_image,
    )


def _without_ending(name: str) -> str:
    """``a`` for ``a`` and for ``a.jpg``, as many lists have it."""
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in IMAGE_ENDINGS else name


def _beside_masks(config: DataConfig) -> str | None:
    """The suffix of the masks in the images' own folder; None where those have a folder of their own."""
    return config.mask_suffix if Path(config.images) == Path(config.masks) else None


def _names(folder: Path, mask_suffix: str | None) -> tuple[str, ...]:
    def is_image(path: Path) -> bool:
        ending = path.suffix.lower()
        if path.name.startswith(".") or ending not in IMAGE_ENDINGS or mask_suffix is None:
            return not path.name.startswith(".") and ending in IMAGE_ENDINGS
        return not path.stem.endswith(mask_suffix) if mask_suffix else ending != ".png"

    names = sorted(path.stem for path in folder.iterdir() if is_image(path))
    if not names:
        raise InputError(
            f"{folder}: no image, must be at least one with an ending of {', '.join(IMAGE_ENDINGS)}"
        )
    twice = next((a for a, b in pairwise(names) if a == b), None)
    if twice is not None:
        raise InputError(f"{folder}: two images are called {twice}, must be one, whatever its ending")
    return tuple(names)


def _unpaired(folder: Path, ids: Sequence[str], config: DataConfig) -> tuple[str, ...]:
    """Names of the masks that no image has."""
    if not folder.is_dir():
        return ()
    suffix, beside = config.mask_suffix, _beside_masks(config)
    masks = [
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.suffix.lower() in _MASK_ENDINGS
    ]
    if beside is not None:
        masks = [
            path
            for path in masks
            if (path.stem.endswith(suffix) if suffix else path.suffix.lower() == ".png")
        ]
    known = {f"{image_id}{suffix}" for image_id in ids}
    return tuple(sorted(path.name for path in masks if path.stem not in known))
