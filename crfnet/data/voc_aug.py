"""Building trainaug: the 10,582 training images of VOC 2012 and SBD together, VOC's masks winning."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from crfnet.data.file_dataset import read_mat
from crfnet.data.id_lists import existing_root, read_ids
from crfnet.data.voc import AUG_MASKS, IMAGES, LISTS, MASKS
from crfnet.errors import InputError, require
from crfnet.files import check_writable, open_image, read_indices, write_atomically
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
    """Write ``SegmentationClassAug/<id>.png`` and ``ImageSets/Segmentation/trainaug.txt`` into VOC's folder.

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
    require("--workers", workers, workers >= 1, "at least 1")
    root, sbd = existing_root("VOC 2012", voc, IMAGES, MASKS, LISTS, argument="VOC"), _sbd_root(sbd)
    trainaug, val = _ids(root, sbd, expected)
    ids = sorted({*trainaug, *val})
    own = {path.stem for path in (root / MASKS).glob("*.png")}
    _check_files(root / IMAGES, ".jpg", ids)
    _check_files(sbd / "cls", ".mat", [image_id for image_id in ids if image_id not in own])
    _check_void(root, val)
    path = root / LISTS / "trainaug.txt"
    listed = path.is_file() and _read_list_or_empty(path) == set(trainaug)
    if path.is_file() and not listed and not overwrite:
        raise InputError(f"{path}: another list is there, must be none, the same ids, or --overwrite")

    if not listed or any(not (root / AUG_MASKS / f"{image_id}.png").is_file() for image_id in ids):
        check_writable(root / AUG_MASKS)

    def place(image_id: str) -> str:
        return _place_mask(root, sbd, image_id, overwrite=overwrite)

    done = _in_threads(place, ids, workers)
    differing = [image_id for image_id, what in zip(ids, done, strict=True) if what == "differs"]
    if differing:
        raise InputError(
            f"{root / AUG_MASKS / differing[0]}.png: not VOC's mask, nor SBD's where VOC has none, and "
            f"{len(differing) - 1} more, must be equal masks; or pass --overwrite"
        )
    if not listed:
        write_atomically(path, "".join(f"{image_id}\n" for image_id in trainaug).encode())
    from_voc = len(own.intersection(ids))
    return TrainAug(len(trainaug), from_voc, len(ids) - from_voc, done.count("written"), path)


def _ids(root: Path, sbd: Path, expected: int) -> tuple[list[str], list[str]]:
    """The sorted ids of trainaug and of val; every image that VOC lists has a mask of VOC."""
    train, val = (set(read_ids([root / LISTS], name)) for name in ("train", "val"))
    berkeley = {image_id for name in ("train", "val") for image_id in read_ids([sbd], name)}
    trainaug = sorted((berkeley | train) - val)
    if len(trainaug) != expected:
        raise InputError(
            f"trainaug: {len(trainaug)} ids from {len(berkeley)} of SBD, {len(train)} of VOC train and "
            f"{len(val)} of VOC val, must be {expected} (another number: --count)"
        )
    _check_files(root / MASKS, ".png", sorted(train | val))
    return trainaug, sorted(val)


def _read_list_or_empty(path: Path) -> set[str]:
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
        f"SBD: {given}: no folder cls, must be the folder of SBD that holds cls/<id>.mat, train.txt"
    )


def _check_files(folder: Path, ending: str, ids: Sequence[str]) -> None:
    there = {path.name for path in folder.glob(f"*{ending}")}
    missing = [image_id for image_id in ids if f"{image_id}{ending}" not in there]
    if missing:
        raise InputError(
            f"{folder / missing[0]}{ending}: no such file, and {len(missing) - 1} more, must be one for "
            "every id of the lists"
        )


def _check_void(root: Path, val: list[str]) -> None:
    """VOC's own masks have a ribbon of 255; SBD's, which some archives put in their place, have none."""
    if not any((read_indices(root / MASKS / f"{image_id}.png") == VOID).any() for image_id in val):
        raise InputError(
            f"{root / MASKS}: no mask of the {len(val)} of val holds {VOID} (void), must be VOC's own masks"
        )


def _place_mask(root: Path, sbd: Path, image_id: str, *, overwrite: bool) -> str:
    """Put one mask into the folder: ``written``, ``kept`` when it was there, or it ``differs`` and stays."""
    target, own = (root / folder / f"{image_id}.png" for folder in (AUG_MASKS, MASKS))
    theirs = sbd / "cls" / f"{image_id}.mat"
    source = own if own.is_file() else theirs
    values = read_indices(own) if source is own else _sbd_mask(theirs)
    size = _image_size(root / IMAGES / f"{image_id}.jpg")
    if size != values.shape[::-1]:
        raise InputError(
            f"{source}: the mask is {values.shape[::-1]} but the image {size} (width, height), "
            "must be of equal sizes"
        )
    if target.is_file():
        if np.array_equal(_read_or_empty(target), values):
            return "kept"
        if not overwrite:
            return "differs"
    if source is own:
        write_atomically(target, own.read_bytes())
    else:
        write_label_png(target, torch.from_numpy(values).long())
    return "written"


def _image_size(path: Path) -> tuple[int, int]:
    with open_image(path) as image:
        return image.size


def _read_or_empty(path: Path) -> np.ndarray:
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
            f"{values.max(initial=0)}, must be 8 bits, (h, w), 0..{_CLASSES - 1}"
        )
    return values


def _in_threads(work: Callable[[str], str], ids: list[str], workers: int) -> list[str]:
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, image_id) for image_id in ids]
        try:
            return [each.result() for each in tqdm(futures, desc="trainaug", unit="mask", mininterval=0.5)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
