"""Bad input of the layer, refused in one line that names the argument, what came and what is allowed.

What can be told without a look at the values is refused first. The values are then looked at together: a GPU
is waited for once.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from crfnet.errors import require

__all__ = [
    "check_features",
    "check_image_range",
    "check_input",
    "check_mask",
    "check_range_argument",
    "check_spacing",
]

_RANGE_HINT = ", or give image_range=(lowest, highest)"


class _Test(NamedTuple):
    """Something that the values decide."""

    numbers: Tensor  #: (k,) on the tensor's device
    judge: Callable[[list[float]], None]  #: raises, given those k numbers


def check_input(
    logits: Tensor,
    image: Tensor | None,
    num_classes: int,
    *,
    features: Mapping[str, Tensor] | None = None,
    mask: Tensor | None = None,
    spacing: Tensor | None = None,
    image_range: object = None,
) -> None:
    """Refuse what cannot be meant, in one pass over each tensor (minimum and maximum).

    Args:
        logits: should be floating point (b, num_classes, h, w), finite; 1 to 3 axes in place of h, w; one
            channel instead of two.
        image: should be (b, c, h, w) on the scale 0..255, on the same device; or None.
        num_classes: number of labels.
        features: as of `check_features`.
        mask: as of `check_mask`.
        spacing: as of `check_spacing`.
        image_range: of an image on another scale than 0..255: two finite numbers, the lower one first.

    Raises:
        ValueError: names the argument, what came and what is allowed.
    """
    tests = [_logits(logits, num_classes)]
    if image is not None:
        tests += _image(image, logits, image_range)
    check_features(features or {}, logits)
    if mask is not None:
        tests.append(_mask(mask, logits))
    if spacing is not None:
        tests.append(_spacing(spacing, logits))
    _decide(*tests)


def check_image_range(image: Tensor, image_range: object = None, *, hint: bool = False) -> None:
    """Refuse an image that is clearly not on the scale 0..255: of 0..1, normalized, or not finite.

    Args:
        image: of any shape.
        image_range: see `check_input`; without it the scale is 0..255.
        hint: whether the message says that an ``image_range`` can be given.

    Raises:
        ValueError: names the values that came and what is allowed.
    """
    if image_range is None:
        _decide(*_image_range(image, _RANGE_HINT if hint else ""))
    else:
        _decide(_other_range(image, image_range))


def check_range_argument(image_range: object) -> tuple[float, float]:
    """The two numbers of an ``image_range``.

    Raises:
        InputError: not two finite numbers, the lower one first.
    """
    try:
        low, high = (float(bound) for bound in cast(Any, image_range))
        valid = -math.inf < low < high < math.inf
    except (TypeError, ValueError):
        valid = False
    require("image_range", image_range, valid, "(lowest, highest), two finite numbers")
    return low, high


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
    _decide(_mask(mask, logits))


def check_spacing(spacing: Tensor, logits: Tensor) -> None:
    """Refuse a spacing that is not (axes,) or (b, axes) of finite numbers > 0.

    Raises:
        ValueError: names what came and what is allowed.
    """
    _decide(_spacing(spacing, logits))


def _logits(logits: Tensor, num_classes: int) -> _Test:
    channels = (2, 1) if num_classes == 2 else (num_classes,)
    wanted = f"(b, {' or '.join(map(str, channels))}, h, w)"
    if not 3 <= logits.ndim <= 5 or logits.shape[1] not in channels or logits.numel() == 0:
        raise ValueError(f"logits: shape {tuple(logits.shape)}, must be {wanted}, not empty")
    if not logits.is_floating_point():
        raise ValueError(f"logits: {logits.dtype}, must be floating point")

    def judge(bounds: list[float]) -> None:
        if not all(map(math.isfinite, bounds)):
            raise ValueError("logits: contain NaN or infinity, must be finite")

    return _Test(_bounds(logits), judge)


def _image(image: Tensor, logits: Tensor, image_range: object) -> list[_Test]:
    b, _, *grid = logits.shape
    if image.ndim != logits.ndim or image.shape[1] == 0 or [image.shape[0], *image.shape[2:]] != [b, *grid]:
        sizes = ", ".join(map(str, grid))
        raise ValueError(
            f"image: shape {tuple(image.shape)}, must be ({b}, channels, {sizes}) as of the logits"
            f"{_layout_hint(image, logits)}"
        )
    _check_device("image", image, logits)
    return _image_range(image, _RANGE_HINT) if image_range is None else [_other_range(image, image_range)]


def _layout_hint(image: Tensor, logits: Tensor) -> str:
    """What to do about the two layouts that other programs have."""
    b, _, *grid = logits.shape
    shape, no_batch = list(image.shape), image.ndim == logits.ndim + 1 and image.shape[0] == 1
    hints = {
        "its channels come last: give image.movedim(-1, 1)": shape[:-1] == [b, *grid],
        "its channels come last and it has no batch axis: give image.movedim(-1, 0)[None]": (
            b == 1 and shape[:-1] == grid
        ),
        "it has no batch axis: give image[None]": b == 1 and shape[1:] == grid,
        "these logits (b, l, n) have no batch axis: give logits[None]": (
            no_batch and shape[2:] == list(logits.shape[1:])
        ),
    }
    return next((f"; {hint}" for hint, fits in hints.items() if fits), "")


def _other_range(image: Tensor, image_range: object) -> _Test:
    """On another scale any finite value is allowed, as long as it is not all cut off."""
    lowest, highest = check_range_argument(image_range)
    if image.is_complex() or image.dtype == torch.bool:
        raise ValueError(f"image: {image.dtype}, must be real numbers")

    def judge(bounds: list[float]) -> None:
        low, high = bounds
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("image: contains NaN or infinity, must be finite")
        if low > highest or high < lowest:
            raise ValueError(
                f"image: values from {low:g} to {high:g}, must not be all outside image_range "
                f"({lowest:g}, {highest:g})"
            )

    return _Test(_bounds(image), judge)


def _image_range(image: Tensor, hint: str = "") -> list[_Test]:
    """Nothing to look at in an image of bytes."""
    if image.is_complex() or image.dtype == torch.bool:
        raise ValueError(f"image: {image.dtype}, must be uint8 or floating point")

    def judge(bounds: list[float]) -> None:
        low, high = bounds
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("image: contains NaN or infinity, must be finite")
        unit_range = image.is_floating_point() and -1 <= low <= high <= 1 and (low, high) != (0, 0)
        if unit_range or low < -1 or high > 256:
            raise ValueError(
                f"image: values from {low:g} to {high:g}, must be RGB on the scale 0..255, not normalized "
                f"(multiply a 0..1 image by 255{hint})"
            )

    return [] if image.dtype == torch.uint8 else [_Test(_bounds(image), judge)]


def _mask(mask: Tensor, logits: Tensor) -> _Test:
    wanted = (logits.shape[0], *logits.shape[2:])
    if mask.dtype != torch.bool or mask.shape != wanted:
        raise ValueError(
            f"mask: {mask.dtype} of shape {tuple(mask.shape)}, must be torch.bool of shape {wanted}"
        )
    _check_device("mask", mask, logits)

    def judge(inside: list[float]) -> None:
        if 0 in inside:
            raise ValueError(f"mask: image {inside.index(0)} has no pixel inside, must have at least one")

    return _Test(mask.flatten(1).any(1), judge)


def _spacing(spacing: Tensor, logits: Tensor) -> _Test:
    b, axes = logits.shape[0], logits.ndim - 2
    if spacing.shape not in {(axes,), (b, axes)} or not spacing.is_floating_point():
        raise ValueError(
            f"spacing: {spacing.dtype} of shape {tuple(spacing.shape)}, must be floating point of shape "
            f"({axes},) or ({b}, {axes})"
        )

    def judge(bounds: list[float]) -> None:
        low, high = bounds
        if not 0 < low <= high < math.inf:
            raise ValueError(f"spacing: values from {low:g} to {high:g}, must be finite and > 0")

    return _Test(_bounds(spacing).to(logits.device, non_blocking=logits.device.type != "cpu"), judge)


def _check_device(name: str, given: Tensor, logits: Tensor) -> None:
    if given.device != logits.device:
        raise ValueError(f"{name}: on {given.device}, must be where the logits are, {logits.device}")


def _bounds(x: Tensor) -> Tensor:
    """Smallest and largest value (2,); NaN anywhere makes both NaN."""
    return torch.stack(x.detach().aminmax()).double()


def _decide(*tests: _Test) -> None:
    """Reads all numbers in one transfer; every test judges its own."""
    if tests:
        read = iter(torch.cat([test.numbers.double() for test in tests]).tolist())
        for test in tests:
            test.judge([next(read) for _ in range(len(test.numbers))])
