"""Bad input of the layer, refused in one line that names the argument, what came and what is allowed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["check_features", "check_image_range", "check_input", "check_mask", "check_spacing"]


def check_input(logits: Tensor, image: Tensor | None, num_classes: int) -> None:
    """Refuse what cannot be meant, in one pass over each tensor (minimum and maximum).

    Args:
        logits: should be floating point (b, num_classes, h, w), finite; 1 to 3 axes in place of h, w; one
            channel instead of two.
        image: should be (b, c, h, w) on the scale 0..255, on the same device; or None.
        num_classes: number of labels.

    Raises:
        ValueError: names the argument, what came and what is allowed.
    """
    channels = (2, 1) if num_classes == 2 else (num_classes,)
    wanted = f"(b, {' or '.join(map(str, channels))}, h, w)"
    if not 3 <= logits.ndim <= 5 or logits.shape[1] not in channels or logits.numel() == 0:
        raise ValueError(f"logits: shape {tuple(logits.shape)}, must be {wanted}, not empty")
    if not logits.is_floating_point():
        raise ValueError(f"logits: {logits.dtype}, must be floating point")
    if not all(math.isfinite(bound) for bound in _range(logits)):
        raise ValueError("logits: contain NaN or infinity, must be finite")
    if image is None:
        return
    b, _, *grid = logits.shape
    if image.ndim != logits.ndim or image.shape[1] == 0 or [image.shape[0], *image.shape[2:]] != [b, *grid]:
        sizes = ", ".join(map(str, grid))
        raise ValueError(
            f"image: shape {tuple(image.shape)}, must be ({b}, channels, {sizes}) as of the logits"
        )
    _check_device("image", image, logits)
    check_image_range(image)


def check_image_range(image: Tensor) -> None:
    """Refuse an image that is clearly not on the scale 0..255: of 0..1, normalised, or not finite.

    Raises:
        ValueError: names the values that came and what is allowed.
    """
    if image.is_complex() or image.dtype == torch.bool:
        raise ValueError(f"image: {image.dtype}, must be uint8 or floating point")
    if image.dtype == torch.uint8:
        return
    low, high = _range(image)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("image: contains NaN or infinity, must be finite")
    unit_range = image.is_floating_point() and -1 <= low <= high <= 1 and (low, high) != (0, 0)
    if unit_range or low < -1 or high > 256:
        raise ValueError(
            f"image: values from {low:g} to {high:g}, must be RGB on the scale 0..255, not normalised "
            "(multiply a 0..1 image by 255)"
        )


def check_features(features: Mapping[str, Tensor], logits: Tensor) -> None:
    """Refuse features that are not floating point (b, d, n) or (b, d, h, w) of the logits' pixels.

    Raises:
        ValueError: names the features, what came and what is allowed.
    """
    b, _, *grid = logits.shape
    for name, given in features.items():
        shapes = {(b, *grid), (b, math.prod(grid))}
        if given.ndim < 3 or given.shape[1] == 0 or (given.shape[0], *given.shape[2:]) not in shapes:
            raise ValueError(
                f"features {name!r}: shape {tuple(given.shape)}, must be ({b}, d, {math.prod(grid)})"
            )
        if not given.is_floating_point():
            raise ValueError(f"features {name!r}: {given.dtype}, must be floating point")
        _check_device(f"features {name!r}", given, logits)


def check_mask(mask: Tensor, logits: Tensor) -> None:
    """Refuse a mask that is not boolean (b, h, w), or has an image without a pixel.

    Raises:
        ValueError: names what came and what is allowed.
    """
    wanted = (logits.shape[0], *logits.shape[2:])
    if mask.dtype != torch.bool or mask.shape != wanted:
        raise ValueError(
            f"mask: {mask.dtype} of shape {tuple(mask.shape)}, must be torch.bool of shape {wanted}"
        )
    _check_device("mask", mask, logits)
    empty = ~mask.flatten(1).any(1)
    if empty.any():
        raise ValueError(
            f"mask: image {int(empty.byte().argmax())} has no pixel inside, must have at least one"
        )


def check_spacing(spacing: Tensor, logits: Tensor) -> None:
    """Refuse a spacing that is not (axes,) or (b, axes) of finite numbers > 0.

    Raises:
        ValueError: names what came and what is allowed.
    """
    b, axes = logits.shape[0], logits.ndim - 2
    if spacing.shape not in {(axes,), (b, axes)} or not spacing.is_floating_point():
        raise ValueError(
            f"spacing: {spacing.dtype} of shape {tuple(spacing.shape)}, must be floating point of shape "
            f"({axes},) or ({b}, {axes})"
        )
    low, high = _range(spacing)
    if not 0 < low <= high < math.inf:
        raise ValueError(f"spacing: values from {low:g} to {high:g}, must be finite and > 0")


def _check_device(name: str, given: Tensor, logits: Tensor) -> None:
    if given.device != logits.device:
        raise ValueError(f"{name}: on {given.device}, must be where the logits are, {logits.device}")


def _range(x: Tensor) -> tuple[float, float]:
    """Smallest and largest value; NaN anywhere makes both NaN."""
    low, high = x.detach().aminmax()
    return float(low), float(high)
