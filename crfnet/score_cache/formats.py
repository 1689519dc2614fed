"""File formats of other programs' scores: reads one image's array as it is stored."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crfnet.errors import InputError
from crfnet.files import one_line, open_image, read_arrays, regular

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """How a program stores scores.

    Attributes:
        suffix: of the files, with its dot.
        axes: of the array, in order: l labels, h rows, w columns; further axes of size 1 are ignored.
        kind: of the numbers.
        strip: suffix of a file's name to remove for the image's id.
        group: (all files of a folder, strip) -> the files of each image, by id.
        read: (files of one image, name of the array or "" for the only one) -> the array.
        padded: whether the array is larger than the image and has to be cropped.
        axes_vary: whether other orders of the axes are usual, so that the arrays are looked at.
    """

    suffix: str
    axes: str
    kind: Literal["logits", "probabilities"]
    strip: str
    group: Callable[[Sequence[Path], str], dict[str, list[Path]]]
    read: Callable[[Sequence[Path], str], NDArray[Any]]
    padded: bool = False
    axes_vary: bool = False


def _one_file_per_image(paths: Sequence[Path], strip: str) -> dict[str, list[Path]]:
    """Group files by image, where each image has one, named after it."""
    return {path.stem.removesuffix(strip): [path] for path in paths}


def _one_file_per_class(paths: Sequence[Path], strip: str) -> dict[str, list[Path]]:
    """Group files ``<id>_<class>`` by image, in the order of the classes 0, 1, ..., without a gap."""
    found: dict[str, dict[int, Path]] = {}
    for path in paths:
        match = re.fullmatch(r"(.+)_(\d+)", path.stem.removesuffix(strip))
        if match is None:
            raise InputError(f"{path}: its name holds no class, must be <id>_<class>{path.suffix}")
        found.setdefault(match[1], {})[int(match[2])] = path
    for image_id, classes in found.items():
        missing = sorted(set(range(len(classes))) - set(classes))
        if missing:
            raise InputError(
                f"{paths[0].parent}: {image_id} has {len(classes)} files, but none of class {missing[0]}"
            )
    return {image_id: [path for _, path in sorted(classes.items())] for image_id, classes in found.items()}


def _read_mat(paths: Sequence[Path], key: str) -> NDArray[Any]:
    from scipy.io import loadmat

    try:
        arrays = loadmat(str(regular(paths[0])))
    except NotImplementedError as error:
        raise InputError(f"{paths[0]}: a MATLAB 7.3 file; save it with -v7") from error
    except Exception as error:  # scipy's reader raises whatever the broken bytes lead it to
        raise _unreadable(paths[0], error) from error
    return _select_array(
        {name: array for name, array in arrays.items() if not name.startswith("__")}, key, paths[0]
    )


def _read_npz(paths: Sequence[Path], key: str) -> NDArray[Any]:
    try:
        arrays = read_arrays(paths[0])
    except ValueError as error:
        raise _unreadable(paths[0], error) from error
    if "" in arrays:
        raise InputError(f"{paths[0]}: a .npy file, must be a .npz file")
    return _select_array(arrays, key, paths[0])


def _read_npy(paths: Sequence[Path], key: str) -> NDArray[Any]:
    del key
    try:
        return read_arrays(paths[0], [""])[""]
    except ValueError as error:
        raise _unreadable(paths[0], error) from error


def _read_png(paths: Sequence[Path], key: str) -> NDArray[Any]:
    del key
    classes = [_read_gray(path) for path in paths]
    for path, values in zip(paths, classes, strict=True):
        if values.shape != classes[0].shape:
            raise InputError(
                f"{path}: an image of {values.shape} (rows, columns); {paths[0].name} has {classes[0].shape}"
            )
    return np.stack(classes)


def _read_gray(path: Path) -> NDArray[Any]:
    """Read a gray image as 0..1."""
    with open_image(path) as file:
        mode, pixels = file.mode, np.array(file)
    if mode != "L" and not mode.startswith("I"):
        raise InputError(f"{path}: an image of mode {mode}, must be gray, 8 or 16 bit")
    scaled: NDArray[Any] = pixels.astype(np.float32) / (255 if mode == "L" else 65535)
    return scaled


def _select_array(arrays: dict[str, NDArray[Any]], key: str, path: Path) -> NDArray[Any]:
    """The array of that name, or the only one."""
    names = ", ".join(arrays) or "nothing"
    if key and key not in arrays:
        raise InputError(f"{path}: holds {names}, must hold an array {key!r}")
    if not key and len(arrays) != 1:
        raise InputError(f"{path}: holds {names}; choose an array with --key")
    return arrays[key] if key else next(iter(arrays.values()))


def _unreadable(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path}: cannot be read ({one_line(error)})")


FORMATS: dict[str, Format] = {
    "mat": Format(".mat", "whl", "logits", "_blob_0", _one_file_per_image, _read_mat, padded=True),
    "npz": Format(".npz", "lhw", "logits", "", _one_file_per_image, _read_npz, axes_vary=True),
    "npy": Format(".npy", "lhw", "logits", "", _one_file_per_image, _read_npy, axes_vary=True),
    "png": Format(".png", "lhw", "probabilities", "", _one_file_per_class, _read_png),
}
