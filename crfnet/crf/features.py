"""Image -> kernel space: where two pixels are, so that ``K_ij = exp(-|f_i - f_j|^2 / 2)``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.shapes import Features, Grid, GridImage, Mask, Spacing

__all__ = ["KernelInputs", "bilateral_features", "positions", "spatial_features"]


@dataclass(frozen=True)
class KernelInputs:
    """What kernels see of a batch: where its pixels are and what they look like.

    Attributes:
        image: float32 or float64, 0..255; None where the pixels have features only.
        batch: number of images.
        grid: axes of the pixels, slowest first; None for a set of points.
        features: further ones by name, in units of one bandwidth or of a kernel's precision matrix.
        mask: the pixels that count; None for all.
        spacing: distance between neighbors along each axis of ``grid``; None for 1.
    """

    image: GridImage | None = None
    grid: Grid | None = None
    features: Mapping[str, Features] = field(default_factory=dict)
    mask: Mask | None = None
    spacing: Spacing | None = None
    batch: int = 1


def positions(
    grid: Grid, *, dtype: torch.dtype, device: torch.device, spacing: Spacing | None = None
) -> Float[Tensor, "b_or_1 axes n"]:
    """Where the pixels of a grid are, row-major; the fastest axis first: (x), (x, y) or (x, y, z).

    Args:
        grid: sizes of 1 to 3 axes, slowest first.
        dtype: of the result.
        device: of the result.
        spacing: distance between neighbors along each axis, in the order of ``grid``, for all images or
            for each; None for 1, so that positions are in pixels.
    """
    axes = torch.meshgrid([torch.arange(size, dtype=dtype, device=device) for size in grid], indexing="ij")
    place = torch.stack([axis.flatten() for axis in reversed(axes)]).unsqueeze(0)
    if spacing is None:
        return place
    return place * spacing.to(place).flip(-1).view(-1, len(grid), 1)


def bilateral_features(
    image: GridImage,
    theta_alpha: float | Tensor,
    theta_beta: float | Tensor,
    spacing: Spacing | None = None,
) -> Features:
    """``f = (x / theta_alpha, y / theta_alpha, color / theta_beta)`` for every pixel, row-major.

    Krahenbuhl & Koltun 2011, eq. 3 (first kernel); the order of the features is that of pydensecrf's
    `DenseCRF2D`.

    Args:
        image: On a grid of 1 to 3 axes, any number of channels, usually RGB in 0..255. Float64 stays float64,
            all else becomes float32.
        theta_alpha: Bandwidth in pixels (in units of ``spacing``), > 0; a 0-d tensor gets a gradient.
        theta_beta: Bandwidth in units of the image, > 0; a 0-d tensor gets a gradient.
        spacing: as of `positions`.

    Returns:
        Features of axes + c dimensions, in units of one bandwidth.
    """
    dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
    grid = tuple(image.shape[2:])
    place = positions(grid, dtype=dtype, device=image.device, spacing=spacing) / theta_alpha
    color = image.to(dtype).flatten(2) / theta_beta
    return torch.cat([place.expand(len(image), -1, -1), color], dim=1)


def spatial_features(
    height: int, width: int, theta_gamma: float | Tensor, *, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 2 n"]:
    """``f = (x, y) / theta_gamma`` for every pixel of a grid, row-major; ``theta_gamma`` in pixels, > 0."""
    return positions((height, width), dtype=dtype, device=device) / theta_gamma
