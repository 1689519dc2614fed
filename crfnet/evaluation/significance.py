"""How sure a score or a difference is: the bootstrap over images.

As many images as the data set has are drawn from it with replacement; every draw sums the confusion matrices
of the images it holds and takes the metric of the sum, as the real score does. Arms are compared on the same
draws (paired), which takes out what makes an image hard for both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Num
from torch import Tensor

__all__ = [
    "Interval",
    "PerImage",
    "Statistic",
    "bootstrap",
    "paired_bootstrap",
    "percentile_interval",
    "resample_counts",
    "resampled",
]

PerImage: TypeAlias = Num[Tensor, "i l l"]  #: one confusion matrix per image
#: The same of another arm; with axes of its own, so that a wrong size is a plain `ValueError`.
OtherPerImage: TypeAlias = Num[Tensor, "ib lb lb"]
#: Confusion matrices (..., l, l) -> metrics (...) or (..., m).
Statistic: TypeAlias = Callable[[Tensor], Tensor]

CHUNK = 250  #: draws whose summed confusion matrices are in memory at once


@dataclass(frozen=True)
class Interval:
    """An estimate with the 95 % percentile interval of its bootstrap draws, all in the metric's unit."""

    low: float
    high: float
    estimate: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0; False for NaN."""
        return self.low > 0 or self.high < 0


def resample_counts(images: int, draws: int, seed: int) -> Float[Tensor, "draws i"]:
    """How often each draw holds each image: multinomial counts that sum to ``images``; float64."""
    if images < 1 or draws < 1:
        raise ValueError(f"images is {images} and draws is {draws}: both must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(images, (draws, images), generator=generator)
    drawn += torch.arange(draws).unsqueeze(1) * images
    return torch.bincount(drawn.flatten(), minlength=draws * images).reshape(draws, images).double()


def resampled(
    confusions: PerImage, statistic: Statistic, counts: Float[Tensor, "draws i"]
) -> Float[Tensor, " draws *m"]:
    """The statistic of every draw; arms given the same ``counts`` are paired draw by draw."""
    flat = confusions.double().flatten(1)
    return torch.cat(
        [statistic((part @ flat).unflatten(1, confusions.shape[1:])) for part in counts.split(CHUNK)]
    )


def percentile_interval(estimate: Float[Tensor, ""], samples: Float[Tensor, " draws"]) -> Interval:
    """The 2.5 % and 97.5 % quantiles of the draws around the estimate.

    Draws in which the statistic is not defined (NaN: no image with that class, no pixel in the band) are left
    out; when the estimate itself is not defined, neither is the interval.
    """
    value = float(estimate)
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan)
    low, high = samples.nanquantile(torch.tensor([0.025, 0.975], dtype=samples.dtype)).tolist()
    return Interval(low, high, value)


def bootstrap(confusions: PerImage, statistic: Statistic, draws: int = 2000, seed: int = 0) -> Interval:
    """Interval of one arm's own score; ``statistic`` maps (..., l, l) to (...)."""
    counts = resample_counts(len(confusions), draws, seed)
    return percentile_interval(
        statistic(confusions.sum(0).double()), resampled(confusions, statistic, counts)
    )


def paired_bootstrap(
    a: PerImage, b: OtherPerImage, statistic: Statistic, draws: int = 2000, seed: int = 0
) -> Interval:
    """Interval of the difference ``statistic(b) - statistic(a)`` of two arms over the same images.

    Args:
        a: confusion matrix of each image, one arm.
        b: the other arm's, of the same images in the same order.
        statistic: maps confusion matrices (..., l, l) to metrics (...), e.g. ``lambda c: metrics(c).miou``.
        draws: number of resampled data sets.
        seed: of the drawing; equal seeds draw the same images.

    The cost is one product (draws, i) x (i, l*l) per arm. Images are taken as independent: frames of one
    video are not, and then the interval is too narrow.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"a is {tuple(a.shape)} and b is {tuple(b.shape)}: a pair needs the same images and classes"
        )
    counts = resample_counts(len(a), draws, seed)
    estimate = statistic(b.sum(0).double()) - statistic(a.sum(0).double())
    return percentile_interval(estimate, resampled(b, statistic, counts) - resampled(a, statistic, counts))
