"""pydensecrf's helpers: unary energies from labels or probabilities, features of pairwise terms."""

import warnings
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from crfnet.pydensecrf._arrays import (
    as_array,
    bandwidths,
    is_number,
    leading_bandwidths,
    warn_once,
    whole_number,
)

__all__ = [
    "compute_unary",
    "create_pairwise_bilateral",
    "create_pairwise_gaussian",
    "softmax_to_unary",
    "unary_from_labels",
    "unary_from_softmax",
]

_Energies: TypeAlias = npt.NDArray[np.float32]
_Number: TypeAlias = Any  # a number of Python, numpy or torch


def unary_from_labels(
    labels: object, n_labels: object, gt_prob: _Number, zero_unsure: object = True
) -> _Energies:
    """Energies of a labeling that is right with probability ``gt_prob``, any other label sharing the rest.

    Args:
        labels: whole numbers of any shape. With ``zero_unsure`` 0 is unknown and 1..n_labels are the labels,
            without it 0..n_labels - 1 are.
        n_labels: number of labels, >= 1; the unknown is none.
        gt_prob: in (0, 1).
        zero_unsure: whether points of value 0 pay the same, ``log n_labels``, for every label.

    Returns:
        (n_labels, N), in nats; points in the order of ``labels`` flattened.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < gt_prob < 1:
        raise ValueError(f"`gt_prob` must be in (0,1), is {gt_prob}")
    count = whole_number("n_labels", n_labels, 1)
    given = as_array("labels", labels)
    if given.dtype.kind == "f":
        raise ValueError(f"labels: {given.dtype}, must be whole numbers")
    index = given.astype(np.int64).reshape(-1) - (1 if zero_unsure else 0)
    allowed = range(-1 if zero_unsure else 0, count)
    if index.size and not (index.min() in allowed and index.max() in allowed):
        low, high = given.min(), given.max()
        allowed_values = f"0..{count if zero_unsure else count - 1}"
        raise ValueError(
            f"labels: values from {low} to {high}, must be in {allowed_values} for {count} labels and "
            f"zero_unsure={zero_unsure}"
        )
    other = -np.log((1 - gt_prob) / max(count - 1, 1))
    u = np.full((count, index.size), other, dtype=np.float32)
    u[index, np.arange(index.size)] = -np.log(gt_prob)
    u[:, index == -1] = np.log(count)
    return u


def compute_unary(labels: object, M: object, GT_PROB: _Number = 0.5) -> _Energies:
    """`unary_from_labels`, by its old name."""
    _deprecated("compute_unary", "unary_from_labels")
    return unary_from_labels(labels, M, GT_PROB)


def unary_from_softmax(sm: object, scale: _Number | None = None, clip: _Number | None = 1e-5) -> _Energies:
    """Energies ``-log p`` of probabilities.

    Args:
        sm: (labels, ...): the labels' axis is the first.
        scale: how far to trust them, in (0, 1]: ``p <- scale p + (1 - scale) / labels``; None for 1.
        clip: the least probability; None for none, so that 0 costs +inf.

    Returns:
        (labels, N), in nats, C-contiguous.

    Raises:
        ValueError: ``scale`` is out of range, or ``sm`` is a single number.
    """
    given = as_array("sm", sm)
    if given.ndim == 0:
        raise ValueError("sm is a single number, must be (labels, ...)")
    p = given.astype(np.promote_types(given.dtype, np.float32), copy=False)
    if scale is not None:
        if not 0 < scale <= 1:
            raise ValueError(f"`scale` needs to be in (0,1], is {scale}")
        p = scale * p + (1 - scale) / len(p)
    if clip is not None:
        p = np.clip(p, clip, 1.0)
    with np.errstate(divide="ignore"):
        u = -np.log(p)
    return np.ascontiguousarray(u.reshape(len(p), -1), dtype=np.float32)


def softmax_to_unary(sm: object, GT_PROB: _Number = 1) -> _Energies:
    """`unary_from_softmax` without clipping, by its old name; ``GT_PROB`` is ``scale``."""
    _deprecated("softmax_to_unary", "unary_from_softmax")
    return unary_from_softmax(sm, None if GT_PROB == 1 else GT_PROB, clip=None)


def create_pairwise_gaussian(sdims: object, shape: Any) -> npt.NDArray[np.float32]:
    """Positions as features, for `DenseCRF.addPairwiseEnergy`.

    Args:
        sdims: standard deviation along each axis in pixels, > 0; or one for all, with a warning, because
            pydensecrf refuses it.
        shape: of the grid: (rows, columns), or any number of axes.

    Returns:
        (axes, N): the axes in the order of ``shape``. `DenseCRF2D` has them in the other order, x first,
        which is not quite the same to a lattice.

    Raises:
        ValueError: a width is not > 0, or there is another number of them.
    """
    _warn_about_number("sdims", sdims)
    mesh = _mesh(shape)
    return _scaled(mesh, bandwidths("sdims", sdims, len(mesh)))


def create_pairwise_bilateral(
    sdims: object, schan: object, img: object, chdim: Any = -1
) -> npt.NDArray[np.float32]:
    """Positions and colors as features, for `DenseCRF.addPairwiseEnergy`.

    Args:
        sdims: standard deviation along each axis of the grid in pixels, > 0; or one for all, with a warning,
            because pydensecrf refuses it. Fewer are those of the first axes, the others are not scaled.
        schan: standard deviation of each channel in units of ``img``, > 0; or one for all. Fewer, even a
            sequence of one, are those of the first channels, the others are not scaled.
        img: an image of any number of axes and channels.
        chdim: which axis the channels are; *-1 means that there is none*, not that it is the last.

    Returns:
        (axes + channels, N): positions in the order of the axes, then channels.

    Raises:
        ValueError: a width is not > 0, there are more of them than axes, or no axis ``chdim``.
    """
    image = as_array("img", img)
    if not -image.ndim <= chdim < image.ndim:
        raise ValueError(f"chdim is {chdim}, must be an axis of img, of shape {image.shape}, or -1 for none")
    channels = image[np.newaxis] if chdim == -1 else np.moveaxis(image, chdim, 0)
    _warn_about_number("sdims", sdims)
    mesh = _mesh(channels.shape[1:])
    position = _scaled(mesh, leading_bandwidths("sdims", sdims, len(mesh)))
    color = _scaled(channels.astype(np.float32), leading_bandwidths("schan", schan, len(channels)))
    return np.concatenate([position, color])


def _create_pairwise_gaussian_2d(sx: _Number, sy: _Number, shape: Any) -> npt.NDArray[np.float32]:
    """`create_pairwise_gaussian` for two axes."""
    return create_pairwise_gaussian((sx, sy), shape[:2])


def _create_pairwise_bilateral_2d(
    sx: _Number, sy: _Number, sr: _Number, sg: _Number, sb: _Number, img: object
) -> npt.NDArray[np.float32]:
    """`create_pairwise_bilateral` for an image (rows, columns, 3); of more channels the first three."""
    image = as_array("img", img)
    if image.ndim != 3 or image.shape[2] < 3:
        raise ValueError(f"img has shape {image.shape}, must be (rows, columns, 3)")
    return create_pairwise_bilateral((sx, sy), (sr, sg, sb), image[:, :, :3], chdim=2)


def _mesh(shape: Any) -> npt.NDArray[np.float32]:
    """(axes, *shape): the coordinates of every point."""
    sizes = [whole_number("shape", size, 1) for size in shape]
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in sizes), indexing="ij"))


def _warn_about_number(name: str, value: object) -> None:
    if is_number(value):
        warn_once(f"{name} is one number, which is used for every axis; pydensecrf needs one number per axis")


def _scaled(values: npt.NDArray[Any], scales: list[float]) -> npt.NDArray[np.float32]:
    """(d, ...) divided by one number each, flat."""
    flat: npt.NDArray[np.float32] = values.reshape(len(values), -1)
    return flat / np.array(scales, dtype=np.float32)[:, np.newaxis]


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"pydensecrf.{old} is deprecated, use {new} instead.", DeprecationWarning, stacklevel=3)
