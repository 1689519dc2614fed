"""Your own data: a folder of images, a folder of masks, and a list of classes in the config."""

from itertools import pairwise
from pathlib import Path

from crfnet.data.dataset import DataConfig, SegmentationDataset, Split
from crfnet.data.file_dataset import FileDataset, MaskFiles, label_table
from crfnet.data.id_lists import existing_root, read_ids
from crfnet.errors import InputError
from crfnet.labels import VOC_PALETTE

__all__ = ["folders"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".JPG", ".JPEG", ".PNG")


def folders(config: DataConfig, split: Split) -> SegmentationDataset:
    """Images and masks paired by name, divided by folders or by lists.

    ``images/train/<id>.jpg`` (or another common ending) with ``masks/train/<id>.png``, the same for ``val``:
    all images of the folder, sorted by name. Or ``images/<id>.jpg``, ``masks/<id>.png`` and the lists
    ``train.txt`` and ``val.txt`` in the root, one id a line. Other names: ``data.images``, ``data.masks``,
    ``data.train``, ``data.val``.

    Masks are palette or 8-bit gray images whose numbers are the positions in ``data.classes``; 255, and the
    numbers of ``data.void``, are void. A number in ``data.void`` that is a position too is void.

    Raises:
        InputError: No root, a folder or list that does not exist or is empty, or two images of one name.
    """
    name = config.train if split == "train" else config.val
    root = existing_root("folders", config.root, config.images, config.masks)
    sub = ""
    if (root / config.images / name).is_dir():
        ids, sub = _names(root / config.images / name), f"{name}/"
    elif (root / f"{name}.txt").is_file():
        ids = read_ids([root], name)
    else:
        raise InputError(
            f"data.{split} is {name!r}, must be the name of a folder {root / config.images / name} "
            f"or of a list {root / name}.txt"
        )
    return FileDataset(
        "folders",
        root,
        ids,
        config.classes,
        VOC_PALETTE[: len(config.classes)],
        images=tuple(f"{config.images}/{sub}{{id}}{ending}" for ending in _ENDINGS),
        masks=(MaskFiles(f"{config.masks}/{sub}{{id}}.png", label_table(len(config.classes), config.void)),),
    )


def _names(folder: Path) -> tuple[str, ...]:
    names = sorted(path.stem for path in folder.iterdir() if path.suffix in _ENDINGS)
    if not names:
        raise InputError(f"{folder}: no image, must be at least one with an ending of {', '.join(_ENDINGS)}")
    twice = next((a for a, b in pairwise(names) if a == b), None)
    if twice is not None:
        raise InputError(f"{folder}: two images are called {twice}, must be one, whatever its ending")
    return tuple(names)
