# ruff: noqa: N802 - the names are pydensecrf's
"""pydensecrf's `DenseCRF2D`: pixels of an image, row by row."""

from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.crf.checks import check_image_range
from crfnet.crf.features import positions
from crfnet.pydensecrf._arrays import as_array, as_tensor, first_bandwidths, whole_number
from crfnet.pydensecrf._options import KernelType, NormalizationType
from crfnet.pydensecrf._pairwise import NormalizedKernel
from crfnet.pydensecrf.points_crf import DenseCRF
from crfnet.shapes import Features

__all__ = ["DenseCRF2D"]

_CPU = torch.device("cpu")
_MAX_CACHED_PIXELS = 2**20  # the lattices of larger images are not cached (60 bytes a pixel)
_DIAG, _SYMMETRIC = KernelType.DIAG_KERNEL, NormalizationType.NORMALIZE_SYMMETRIC


class DenseCRF2D(DenseCRF):
    """A `DenseCRF` of the pixels of an image; pixel (row, column) is point ``row * w + column``.

    Args:
        w: width W, >= 1. It comes first.
        h: height H, >= 1.
        nlabels: number of labels M, >= 1.
        device: see `DenseCRF`.
        ignored: see `DenseCRF`.
        also_ignored: see `DenseCRF`.

    Raises:
        ValueError: see `DenseCRF`.
    """

    def __init__(
        self,
        w: object,
        h: object,
        nlabels: object,
        *ignored: object,
        device: str | torch.device | None = None,
        **also_ignored: object,
    ) -> None:
        self._w, self._h = whole_number("w", w, 1), whole_number("h", h, 1)
        super().__init__(self._w * self._h, nlabels, *ignored, device=device, **also_ignored)

    def addPairwiseGaussian(
        self, sxy: object, compat: object, kernel: object = _DIAG, normalization: object = _SYMMETRIC
    ) -> None:
        """Add the smoothness term, ``exp(-|p_i - p_j|^2 / 2 sxy^2)`` of positions p.

        Args:
            sxy: standard deviation in pixels, or (sx, sy), > 0; of more numbers the first two.
            compat: see `DenseCRF.addPairwiseEnergy`.
            kernel: as there.
            normalization: as there.

        Raises:
            ValueError: a width is not > 0; or as there.
        """
        sx, sy = first_bandwidths("sxy", sxy, 2)
        self._add(
            self._positions(sxy),
            compat,
            kernel,
            normalization,
            partial(_smoothness_kernel, self._h, self._w, sx, sy, self._solver.device),
        )

    def addPairwiseBilateral(
        self,
        sxy: object,
        srgb: object,
        rgbim: object,
        compat: object,
        kernel: object = _DIAG,
        normalization: object = _SYMMETRIC,
    ) -> None:
        """Add the appearance term, ``exp(-|p_i - p_j|^2 / 2 sxy^2 - |c_i - c_j|^2 / 2 srgb^2)``.

        Args:
            sxy: standard deviation of positions p in pixels, or (sx, sy), > 0; of more numbers the first two.
            srgb: standard deviation of colors c, or one per channel, > 0; of more numbers the first three.
            rgbim: (H, W, 3), values 0..255; of any type, and never normalized.
            compat: see `DenseCRF.addPairwiseEnergy`.
            kernel: as there.
            normalization: as there.

        Raises:
            TypeError: ``rgbim`` is None.
            ValueError: the image has another shape or scale, a width is not > 0; or as there.
        """
        color = self._colors(rgbim) / _column("srgb", srgb, 3)
        self._add(torch.cat([self._positions(sxy), color], dim=1), compat, kernel, normalization)

    def _positions(self, sxy: object) -> Features:
        return _scaled_positions(self._h, self._w, *first_bandwidths("sxy", sxy, 2))

    def _colors(self, rgbim: object) -> Features:
        image = as_array("rgbim", rgbim)
        if image.shape[:2] != (self._h, self._w):
            wanted = (self._h, self._w, 3)
            raise ValueError(f"Bad shape for pairwise bilateral (Need {wanted}, got {image.shape})")
        if image.shape[2:] != (3,):
            raise ValueError(
                "addPairwiseBilateral only works for RGB images. For other types, use "
                "`utils.create_pairwise_bilateral` to construct your own pairwise energy and add it through "
                "`addPairwiseEnergy`."
            )
        pixels = as_tensor("rgbim", image)
        if image.dtype not in {np.dtype(np.uint8), np.dtype(np.bool_)}:
            _check_range(pixels)
        return pixels.reshape(-1, 3).T.unsqueeze(0)


def _scaled_positions(h: int, w: int, sx: float, sy: float) -> Features:
    """Features (x / sx, y / sy); the lattice depends on their order."""
    xy = positions((h, w), dtype=torch.float32, device=_CPU)
    return xy / torch.tensor([sx, sy], dtype=torch.float32, device=_CPU).view(1, 2, 1)


def _smoothness_kernel(
    h: int, w: int, sx: float, sy: float, device: torch.device, normalization: str
) -> NormalizedKernel:
    """The smoothness term, cached with its lattice: programs make a CRF for each image of one size."""
    if str(device) == "cuda":  # which another GPU may be next time
        device = torch.device("cuda", torch.cuda.current_device())
    make = _new_smoothness_kernel if w * h <= _MAX_CACHED_PIXELS else _new_smoothness_kernel.__wrapped__
    return make(h, w, sx, sy, device, normalization)


@lru_cache(maxsize=2)
def _new_smoothness_kernel(
    h: int, w: int, sx: float, sy: float, device: torch.device, normalization: str
) -> NormalizedKernel:
    return NormalizedKernel(_scaled_positions(h, w, sx, sy).to(device), normalization)


def _column(name: str, value: object, count: int) -> Float[Tensor, "1 d 1"]:
    return torch.tensor(first_bandwidths(name, value, count), dtype=torch.float32, device=_CPU).view(
        1, count, 1
    )


def _check_range(pixels: Tensor) -> None:
    try:
        check_image_range(pixels)
    except ValueError as error:
        raise ValueError(f"rgbim: {str(error).removeprefix('image: ')}") from None
