"""Building trainaug: the 10,582 training images of VOC 2012 and SBD together, VOC's masks winning."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from crfnet.data.lists import existing_root, read_ids
from crfnet.data.on_disk import read_mat
from crfnet.data.voc import AUG_MASKS, IMAGES, LISTS, MASKS
from crfnet.errors import InputError
from crfnet.files import check_writable, opened_picture, read_indices, write_atomically
from crfnet.labels import DATASET_CLASSES, VOID, write_label_png

__all__ = ["TRAINAUG", "TrainAug", "build_trainaug"]

_CLASSES = len(DATASET_CLASSES["voc"].names)
TRAINAUG = 10_582  #: ids of trainaug in the lists of DeepLab's authors


class TrainAug(NamedTuple):
    """What `build_trainaug` found and wrote; all are numbers of images.

    Attributes:
        ids: Images of trainaug.
        from_voc: Masks of VOC in the folder, those of val included.
        from_sbd: Masks of SBD in the folder.
        written: Masks that were not there yet.
        path: The list.
    """

    ids: int
    from_voc: int
    from_sbd: int
    written: int
    path: Path


def build_trainaug(
    voc: Path, sbd: Path, *, expected: int = TRAINAUG, overwrite: bool = False, workers: int = 4
) -> TrainAug:
    """Writes ``SegmentationClassAug/<id>.png`` and ``ImageSets/Segmentation/trainaug.txt`` into VOC's folder.

    trainaug = (all of SBD and VOC train and val) without VOC val (Hariharan et al., ICCV 2011; the recipe of
    DeepLab's authors). The folder gets the masks of trainaug and of val: VOC's file where there is one, byte
    for byte, else that of SBD, which has no void. Files appear whole, and the list last; a second run checks
    what is there, goes on where the first one stopped and changes nothing that is as it should be.

    Args:
        voc: ``VOCdevkit/VOC2012``.
        sbd: Folder with ``cls``, ``train.txt`` and ``val.txt``, or the unpacked ``benchmark_RELEASE``.
        expected: Number of ids that trainaug must have.
        overwrite: Whether masks that differ, and another list, are replaced.
        workers: Threads.

    Raises:
        InputError: A folder, list, image or mask is missing or cannot be used; another number of ids; masks
            of VOC's val without void; or what is there differs. What is there is left as it is then; the list
            is written only when all masks are in their place.
    """
    if workers < 1:
        raise InputError(f"--workers: {workers}; allowed are numbers >= 1")
    root, sbd = existing_root("VOC 2012", voc, IMAGES, MASKS, LISTS, argument="VOC"), _sbd_root(sbd)
    trainaug, val = _ids(root, sbd, expected)
    ids = sorted({*trainaug, *val})
    own = {path.stem for path in (root / MASKS).glob("*.png")}
    there = {path.stem for path in (sbd / "cls").glob("*.mat")}
    _require([id_ for id_ in ids if not (root / IMAGES / f"{id_}.jpg").is_file()], root / IMAGES, ".jpg")
    _require([id_ for id_ in ids if id_ not in own and id_ not in there], sbd / "cls", ".mat")
    _check_void(root, val)
    path = root / LISTS / "trainaug.txt"
    listed = path.is_file() and _listed(path) == set(trainaug)
    if path.is_file() and not listed and not overwrite:
        raise InputError(f"{path}: there is another list; allowed is none, the same ids, or --overwrite")

    if not listed or any(not (root / AUG_MASKS / f"{id_}.png").is_file() for id_ in ids):
        check_writable(root / AUG_MASKS)

    def place(id_: str) -> str:
        return _place_mask(root, sbd, id_, overwrite=overwrite)

    done = _in_threads(place, ids, workers)
    differing = [id_ for id_, what in zip(ids, done, strict=True) if what == "differs"]
    if differing:
        raise InputError(
            f"{root / AUG_MASKS / differing[0]}.png: not VOC's mask, nor SBD's where VOC has none, and "
            f"{len(differing) - 1} more; allowed are equal masks, or --overwrite"
        )
    if not listed:
        write_atomically(path, "".join(f"{id_}\n" for id_ in trainaug).encode())
    from_voc = len(own.intersection(ids))
    return TrainAug(len(trainaug), from_voc, len(ids) - from_voc, done.count("written"), path)


def _ids(root: Path, sbd: Path, expected: int) -> tuple[list[str], list[str]]:
    """The sorted ids of trainaug and of val; every image that VOC lists has a mask of VOC."""
    train, val = (set(read_ids([root / LISTS], name)) for name in ("train", "val"))
    berkeley = {id_ for name in ("train", "val") for id_ in read_ids([sbd], name)}
    trainaug = sorted((berkeley | train) - val)
    if len(trainaug) != expected:
        raise InputError(
            f"trainaug: {len(trainaug)} ids from {len(berkeley)} of SBD, {len(train)} of VOC train and "
            f"{len(val)} of VOC val; allowed are {expected} (another number: --count)"
        )
    masks = root / MASKS
    _require([id_ for id_ in sorted(train | val) if not (masks / f"{id_}.png").is_file()], masks, ".png")
    return trainaug, sorted(val)


def _listed(path: Path) -> set[str]:
    """The ids of a list, in whichever of the forms it is written; none when it is not one."""
    try:
        return set(read_ids([path.parent], path.stem))
    except InputError:
        return set()


def _sbd_root(given: Path) -> Path:
    for root in (given, given / "dataset", given / "benchmark_RELEASE/dataset"):
        if (root / "cls").is_dir():
            return root
    raise InputError(
        f"SBD: {given}: no folder cls; allowed is the folder of SBD that holds cls/<id>.mat, train.txt"
    )


def _require(missing: list[str], folder: Path, ending: str) -> None:
    if missing:
        raise InputError(
            f"{folder / missing[0]}{ending}: no such file, and {len(missing) - 1} more; allowed is one for "
            "every id of the lists"
        )


def _check_void(root: Path, val: list[str]) -> None:
    """VOC's own masks have a ribbon of 255; SBD's, which some archives put in their place, have none."""
    if not any((read_indices(root / MASKS / f"{id_}.png") == VOID).any() for id_ in val):
        raise InputError(
            f"{root / MASKS}: no mask of the {len(val)} of val holds {VOID} (void); "
            "allowed are VOC's own masks"
        )


def _place_mask(root: Path, sbd: Path, id_: str, *, overwrite: bool) -> str:
    """Puts one mask into the folder: ``written``, ``kept`` when it was there, or it ``differs`` and stays."""
    target, own = (root / folder / f"{id_}.png" for folder in (AUG_MASKS, MASKS))
    theirs = sbd / "cls" / f"{id_}.mat"
    source = own if own.is_file() else theirs
    values = read_indices(own) if source is own else _sbd_mask(theirs)
    size = _image_size(root / IMAGES / f"{id_}.jpg")
    if size != values.shape[::-1]:
        raise InputError(
            f"{source}: the mask is {values.shape[::-1]} but the image {size} (width, height); "
            "allowed are equal sizes"
        )
    if target.is_file():
        if np.array_equal(_or_nothing(target), values):
            return "kept"
        if not overwrite:
            return "differs"
    if source is own:
        write_atomically(target, own.read_bytes())
    else:
        write_label_png(target, torch.from_numpy(values).long())
    return "written"


def _image_size(path: Path) -> tuple[int, int]:
    with opened_picture(path) as image:
        return image.size


def _or_nothing(path: Path) -> np.ndarray:
    try:
        return read_indices(path)
    except InputError:
        return np.empty(0)


def _sbd_mask(path: Path) -> np.ndarray:
    """``GTcls.Segmentation``: (h, w), uint8, 0..20. torchvision's reader would decode the image as well."""
    found = read_mat(path, "GTcls")
    try:
        values = np.asarray(found.flat[0]["Segmentation"])
    except (IndexError, ValueError, TypeError) as error:
        raise InputError(f"{path}: GTcls is no structure with Segmentation, as that of SBD is") from error
    if values.ndim != 2 or values.dtype != np.uint8 or values.max(initial=0) >= _CLASSES:
        raise InputError(
            f"{path}: Segmentation of shape {values.shape}, type {values.dtype}, up to "
            f"{values.max(initial=0)}; allowed are 8 bits, (h, w), 0..{_CLASSES - 1}"
        )
    return values


def _in_threads(work: Callable[[str], str], ids: list[str], workers: int) -> list[str]:
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, id_) for id_ in ids]
        try:
            return [each.result() for each in tqdm(futures, desc="trainaug", unit="mask", mininterval=0.5)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
