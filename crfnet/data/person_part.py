"""PASCAL-Person-Part: the six parts of persons and background."""

from pathlib import Path

import numpy as np

from crfnet.data.config import DataConfig
from crfnet.data.dataset import SegmentationDataset, Split
from crfnet.data.file_dataset import FileDataset, MaskFiles, label_table, read_mat
from crfnet.data.id_lists import existing_root, read_ids
from crfnet.data.voc import IMAGES
from crfnet.errors import InputError
from crfnet.labels import DATASET_CLASSES

__all__ = ["PERSON_PARTS", "part_map", "person_part"]

#: The parts of PASCAL-Part's annotation that each class is made of.
_PARTS = (
    (),  # background
    ("head", "leye", "reye", "lear", "rear", "lebrow", "rebrow", "nose", "mouth", "hair"),
    ("torso", "neck"),
    ("luarm", "ruarm"),
    ("llarm", "rlarm", "lhand", "rhand"),
    ("luleg", "ruleg"),
    ("llleg", "rlleg", "lfoot", "rfoot"),
)
PERSON_PARTS = dict(zip(DATASET_CLASSES["person_part"].names, _PARTS, strict=True))

_LABEL = {part: label for label, parts in enumerate(_PARTS) for part in parts}


def person_part(config: DataConfig, split: Split) -> SegmentationDataset:
    """PASCAL-Person-Part (Chen et al., CVPR 2014 and 2016): 1,716 training and 1,817 validation images.

    In the root lie ``JPEGImages/<id>.jpg`` (of VOC 2010) and one of the following, preferred in this order:

    * ``pascal_person_part_gt/<id>.png``, the label maps of the benchmark, 0..6;
    * ``Annotations_Part/<id>.mat``, the annotations of PASCAL-Part, merged by `part_map`.

    The benchmark's lists are ``<list>.txt`` in ``pascal_person_part_trainval_list``,
    ``ImageSets/PersonPart`` or the root (there often ``train_id``: ``data.train``).

    Raises:
        InputError: No root, folder or list, or one that cannot be used.
    """
    root = existing_root("person_part", config.root, IMAGES)
    lists = [root / "pascal_person_part_trainval_list", root / "ImageSets/PersonPart", root]
    table = label_table(len(PERSON_PARTS))
    return FileDataset(
        "person_part",
        root,
        read_ids(lists, config.train if split == "train" else config.val),
        config,
        images=(f"{IMAGES}/{{id}}.jpg", f"{IMAGES}/{{id}}.png"),
        masks=(
            MaskFiles("pascal_person_part_gt/{id}.png", table),
            MaskFiles("Annotations_Part/{id}.mat", table, part_map),
        ),
    )


def part_map(path: Path) -> np.ndarray:
    """One annotation of PASCAL-Part as a map of `PERSON_PARTS`.

    Expected is the variable ``anno``, a structure with the field ``objects``; each of those has ``class``,
    ``mask`` (h, w) and ``parts``, each of those ``part_name`` and ``mask``. Parts are painted in the order of
    the file, later ones over earlier ones; what of a person no part covers, and all else, is background.

    Returns:
        (h, w), uint8, 0..6.

    Raises:
        InputError: The file is broken, laid out otherwise, or a person has a part of another name.
    """
    found = read_mat(path, "anno")
    try:
        # Structures come as arrays of records: (1, 1), (1, objects), (1, parts), and (0, 0) for no part.
        objects = found.flat[0]["objects"].ravel()
        labels = np.zeros(objects[0]["mask"].shape, np.uint8)
        parts = [
            (str(part["part_name"].item()), part["mask"])
            for each in objects
            if each["class"].item() == "person"
            for part in each["parts"].ravel()
        ]
        for name, mask in parts:
            labels[mask.astype(bool)] = _LABEL[name]
    except KeyError as error:
        raise InputError(f"{path}: part {error} of a person, must be one of {', '.join(_LABEL)}") from error
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: anno is not laid out as in PASCAL-Part ({error}), must be objects, each with class, "
            "mask and parts of one size"
        ) from error
    return labels
