"""PASCAL-Context: the images of VOC 2010 labeled as a whole, background and the 59 most frequent classes."""

import functools
from pathlib import Path

import numpy as np

from crfnet.data.config import DataConfig
from crfnet.data.dataset import SegmentationDataset, Split
from crfnet.data.file_dataset import FileDataset, MaskFiles, read_mat
from crfnet.data.id_lists import existing_root, read_ids
from crfnet.data.voc import IMAGES
from crfnet.errors import InputError
from crfnet.files import regular
from crfnet.labels import DATASET_CLASSES, VOID

__all__ = ["CONTEXT", "context", "context59"]

#: Number of each class among the 459 of the full annotation (labels.txt of the data set), in ascending and
#: thereby alphabetical order. The label is 1 + the position, background is 0.
_NUMBERS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144,
    158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354,
    355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
CONTEXT = dict(zip(DATASET_CLASSES["context59"].names, _NUMBERS, strict=True))

#: Spellings of 59_labels.txt that differ from those of labels.txt.
_SPELLINGS = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
_ALL = 459  # classes of the full annotation
_NAMED = "59_context_labels"


def context(config: DataConfig, split: Split) -> SegmentationDataset:
    """PASCAL-Context (Mottaghi et al., CVPR 2014) with 60 classes: background and the 59 of the benchmark.

    This is what DeepLab reports; its mIoU and that over 59 classes do not compare. In the root, a
    ``VOC2010`` folder, lie ``JPEGImages/<id>.jpg`` and one of the following, preferred in this order:

    * ``trainval/<id>.mat``, the official full annotation: variable ``LabelMap`` (h, w) with numbers 0..459;
    * ``SegmentationClassContext/<id>.png``, as mmsegmentation's converter writes it: 0 is background,
      1..59 are the classes in ascending order of their number among the 459 (not in the order, VOC's
      classes first, in which that project lists their names);
    * ``59_context_labels/<id>.png`` of the official site, 0 background, 1..59 numbered by the
      ``59_labels.txt`` (``1: aeroplane`` ...) that has to lie in the root too.

    The lists are ``<list>.txt`` in ``ImageSets/SegmentationContext``, ``ImageSets/Main`` (train and val of
    VOC 2010 are those of the benchmark, 4,998 and 5,105 images) or the root. In all forms the labels come
    out in the order of `CONTEXT`.

    Raises:
        InputError: No root, folder or list, or one that cannot be used.
    """
    return _context("context", config, split, background=0)


def context59(config: DataConfig, split: Split) -> SegmentationDataset:
    """`context` without its background, which is void here: 59 classes, aeroplane is 0 and wood is 58."""
    return _context("context59", config, split, background=VOID)


def _context(name: str, config: DataConfig, split: Split, *, background: int) -> FileDataset:
    root = existing_root(name, config.root, IMAGES)
    first = len(DATASET_CLASSES[name].names) - len(CONTEXT)
    label = {each: first + place for place, each in enumerate(CONTEXT)}
    full = np.full(_ALL + 2, background, np.int64)
    full[list(CONTEXT.values())] = list(label.values())
    full[-1] = -1
    masks = [
        MaskFiles("trainval/{id}.mat", full, _label_map),
        MaskFiles("SegmentationClassContext/{id}.png", _png_table(background, list(label.values()))),
    ]
    if (root / _NAMED).is_dir():
        order = [label[each] for each in _named_order(root / "59_labels.txt")]
        masks.append(MaskFiles(f"{_NAMED}/{{id}}.png", _png_table(background, order)))
    lists = [root / "ImageSets/SegmentationContext", root / "ImageSets/Main", root]
    return FileDataset(
        name,
        root,
        read_ids(lists, config.train if split == "train" else config.val),
        config,
        images=(f"{IMAGES}/{{id}}.jpg", f"{IMAGES}/{{id}}.png"),
        masks=tuple(masks),
    )


def _png_table(background: int, labels: list[int]) -> np.ndarray:
    table = np.full(256, -1, np.int64)
    table[0], table[1 : 1 + len(labels)], table[VOID] = background, labels, VOID
    return table


def _label_map(path: Path) -> np.ndarray:
    values = read_mat(path, "LabelMap")
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.min(initial=0) < 0:
        raise InputError(
            f"{path}: LabelMap of shape {values.shape} and type {values.dtype}, "
            "must be whole numbers >= 0 of shape (h, w)"
        )
    return values


@functools.cache
def _named_order(path: Path) -> tuple[str, ...]:
    """The names that 59_labels.txt gives the numbers 1..59."""
    try:
        lines = regular(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); {_NAMED} needs it, must be lines such as '1: aeroplane'"
        ) from error
    pairs = [line.replace(" ", "").split(":") for line in lines if line.strip()]
    names = {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and pair[0].isdigit()}
    order = tuple(_SPELLINGS.get(names[key], names[key]) for key in sorted(names))
    if sorted(names) != list(range(1, 60)) or set(order) != set(CONTEXT):
        wrong = sorted(set(order) ^ set(CONTEXT))[:3]
        raise InputError(f"{path}: {len(names)} names, differing in {wrong}, must be the 59 of the benchmark")
    return order
