"""Reading the files that `crfnet explore` is given into a `Session`."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crfnet.errors import InputError
from crfnet.explore.palettes import known_classes, palette_of_png, read_palette
from crfnet.explore.session import Session
from crfnet.files import read_arrays, regular, why
from crfnet.labels import Palette, read_label_png
from crfnet.resize import resize_logits
from crfnet.score_cache import ScoreFolder, hold_probabilities, log_probabilities
from crfnet.score_cache.score_size import check_score_size
from crfnet.shapes import ImageBytes

__all__ = ["open_session"]


def open_session(
    image: ImageBytes,
    scores: Path,
    id: str,
    *,
    labels: Path | None = None,
    classes: Path | None = None,
    palette: str | None = None,
) -> Session:
    """Open a session of an image and the files that belong to it.

    Args:
        image: of any channels; the page shows it as RGB.
        scores: a score folder or the single `.npz` file of many images, as `ScoreFolder` reads them; a file
            of such a folder; or a `.npy` or `.npz` file of one array (l, h, w), logits or probabilities.
        id: the image's name in a score folder.
        labels: PNG of true labels, 255 for void.
        classes: text file with one class name a line.
        palette: a data set of `DATASET_CLASSES`, whose names are used too where ``classes`` is not given; or
            a text file with ``red green blue`` a line. By default the colors in which ``labels`` is stored,
            if it holds any.

    Raises:
        InputError: a file that is missing, cannot be read or does not fit; the line names it.
    """
    size = (image.shape[1], image.shape[2])
    folder, id = _folder_of(scores, id)
    if folder is not None:
        logits = folder.logits(id, size)
    else:
        stored = _read_array(scores, size)
        check_score_size(str(scores), (stored.shape[1], stored.shape[2]), size)
        logits = resize_logits(stored[None], size, align_corners=False)
    truth = None if labels is None else read_label_png(labels)
    if truth is not None and tuple(truth.shape) != size:
        raise InputError(f"{labels}: labels of {tuple(truth.shape)} pixels, must be {size} as the image")
    names = None if classes is None else _read_names(classes)
    count = logits.shape[1]
    colors: Palette | None = None if labels is None else palette_of_png(labels, count)
    if palette is not None and Path(palette).is_file():
        colors = read_palette(Path(palette), count)
    elif palette is not None:
        known, colors = known_classes(palette, count)
        names = names or known
    return Session(image, logits, truth=truth, names=names, colors=colors)


def _folder_of(scores: Path, id: str) -> tuple[ScoreFolder | None, str]:
    """The score folder that is meant, if one is, and the id in it."""
    if scores.suffix not in (".npy", ".npz") or scores.is_dir():
        return ScoreFolder(scores), id
    if (scores.parent / "scores.yaml").is_file():
        return ScoreFolder(scores.parent), scores.stem
    if scores.suffix == ".npz" and {"ids", "logits"} <= set(_arrays(scores)):
        return ScoreFolder(scores), id
    return None, id


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; that of a .npy file has the name ''."""
    try:
        return read_arrays(path)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as a .npy or .npz file ({error})") from error


def _read_array(path: Path, size: tuple[int, int]) -> Tensor:
    """Scores (l, hs, ws) as logits, float32."""
    arrays = _arrays(path)
    array = arrays.get("scores", next(iter(arrays.values()), None))
    if array is None or ("scores" not in arrays and len(arrays) > 1):
        raise InputError(f"{path}: holds arrays {', '.join(arrays) or 'none'}, must be one, or 'scores'")
    last = array.ndim == 3 and array.shape[:2] == size
    if array.ndim != 3 or not 2 <= array.shape[0] <= 255 or 0 in array.shape or last:
        hint = ", not (h, w, l)" if last else ""
        raise InputError(f"{path}: shape {array.shape}, must be (l, h, w) with 2 to 255 classes l{hint}")
    with np.errstate(over="ignore"):
        scores = torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else np.array(np.nan))
    if not scores.isfinite().all():
        raise InputError(f"{path}: {array.dtype}, must be finite floating point numbers")
    return log_probabilities(scores) if hold_probabilities(scores) else scores


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        lines = regular(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of class names ({why(error)})") from error
    return tuple(line.strip() for line in lines if line.strip())
