"""Image -> kernel space: where two pixels are, so that ``K_ij = exp(-|f_i - f_j|^2 / 2)``."""

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.shapes import Features, Image

__all__ = ["bilateral_features", "spatial_features"]


def bilateral_features(image: Image, theta_alpha: float | Tensor, theta_beta: float | Tensor) -> Features:
    """``f = (x / theta_alpha, y / theta_alpha, colour / theta_beta)`` for every pixel, row-major.

    Krahenbuhl & Koltun 2011, eq. 3 (first kernel); the order of the features is that of pydensecrf's
    `DenseCRF2D`.

    Args:
        image: Any number of channels, usually RGB in 0..255. Float64 stays float64, all else becomes float32.
        theta_alpha: Bandwidth in pixels, > 0; a 0-d tensor gets a gradient.
        theta_beta: Bandwidth in units of the image, > 0; a 0-d tensor gets a gradient.

    Returns:
        Features of 2 + c dimensions, in units of one bandwidth.
    """
    batch, _, height, width = image.shape
    dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
    place = spatial_features(height, width, theta_alpha, dtype=dtype, device=image.device)
    colour = image.to(dtype).flatten(2) / theta_beta
    return torch.cat([place.expand(batch, -1, -1), colour], dim=1)


def spatial_features(
    height: int, width: int, theta_gamma: float | Tensor, *, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 2 n"]:
    """``f = (x, y) / theta_gamma`` for every pixel of a grid, row-major; ``theta_gamma`` in pixels, > 0."""
    y = torch.arange(height, dtype=dtype, device=device).view(-1, 1).expand(height, width)
    x = torch.arange(width, dtype=dtype, device=device).expand(height, width)
    return torch.stack([x, y]).flatten(1).unsqueeze(0) / theta_gamma
