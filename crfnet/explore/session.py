"""One image, its scores, and its labels under any parameters of the CRF: small soon, then the whole."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.errors import InputError
from crfnet.evaluation.confusion import Metrics, confusion_matrix, metrics
from crfnet.explore.kept import KeptFilter
from crfnet.shapes import Image, ImageBytes, LabelMap, Logits

__all__ = ["BUDGET", "Picture", "Session"]

BUDGET = 0.5  #: seconds that a first picture may take
_PATIENCE = 30.0  # seconds that a picture at full size may take
#: Pixels of a filter's very first picture; from then on its size follows the time that it takes.
_FIRST_PIXELS = {"exact": 4096, "local": 16384}
_MANY_PIXELS = 65536


@dataclass(frozen=True)
class Picture:
    """Labels that the CRF gave.

    Attributes:
        labels: at image size, whatever the size that was solved.
        factor: how many times smaller, along each side, the solved image was; 1 is the whole.
        seconds: that it took.
        config: of the CRF.
    """

    labels: LabelMap
    factor: int
    seconds: float
    config: CRFConfig


class Session:
    """Solves the CRF of one image again and again, and keeps what does not change in between.

    Lattices and their row sums are kept, so that weights and iterations never build one. Threads may share a
    session; they wait for one another.

    Args:
        image: what the CRF looks at.
        logits: the network's, at image size.
        truth: labels to score against; None for none.
        names: of the classes; their numbers by default.

    Raises:
        InputError: sizes that differ, more than 255 classes or less than 2, another number of names,
            labels outside the classes.
    """

    def __init__(
        self,
        image: ImageBytes,
        logits: Logits,
        *,
        truth: LabelMap | None = None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        b, l, *size = logits.shape
        if b != 1 or not 2 <= l <= 255 or size != list(image.shape[1:]):
            wanted = f"(1, 2..255, {image.shape[1]}, {image.shape[2]})"
            raise InputError(f"logits: shape {tuple(logits.shape)}, must be {wanted}")
        if names is not None and len(names) != l:
            raise InputError(f"names: {len(names)} class names, must be {l} as the scores have")
        self.image, self.logits, self.truth = image, logits, truth
        self.names = names or tuple(map(str, range(l)))
        self.network = logits[0].argmax(0)  #: labels without a CRF
        self.scores(self.network)  # a wrong truth is refused now
        self._filter = KeptFilter()
        self._scenes: dict[int, tuple[Image, Logits, Tensor]] = {}
        self._factors: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def built(self) -> int:
        """How many lattices (or what other filters have in their place) were built so far."""
        return self._filter.built

    @cached_property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.logits.shape[2], self.logits.shape[3]

    def first(self, config: CRFConfig) -> Picture:
        """As large a picture as half a second allows, by the time that the last one took: maybe the whole."""
        factor = self._factors.get(config.filter) or self._first_factor(config.filter)
        picture = self.solve(config, factor)
        self._factors[config.filter] = _next_factor(factor, picture.seconds)
        return picture

    def seconds_of_full(self, first: Picture) -> float:
        """Estimate for the whole image, from the first picture: linear in pixels, squared for ``exact``."""
        power = 4 if first.config.filter == "exact" else 2
        return float(first.seconds * first.factor**power)

    def full(self, first: Picture, stop: Callable[[], bool] = lambda: False) -> Picture | None:
        """The whole image with the parameters of a first picture; None if that takes over half a minute.

        Raises:
            Superseded: ``stop`` said so, on its way.
        """
        if first.factor == 1:
            return first
        return None if self.seconds_of_full(first) > _PATIENCE else self.solve(first.config, 1, stop)

    def solve(self, config: CRFConfig, factor: int = 1, stop: Callable[[], bool] = lambda: False) -> Picture:
        """The picture at a size.

        Args:
            config: its widths are in pixels of the whole image, whatever the factor.
            factor: image and logits are averaged over so many pixels along each side, >= 1.
            stop: asked at every filtering; True ends it.

        Raises:
            ValueError: something that the CRF does not take.
            Superseded: ``stop`` said so.
        """
        with self._lock, torch.no_grad():
            start = time.perf_counter()
            image, logits, spacing = self._scene(factor)
            inner = _at(config, factor).build_filter()
            crf = DenseCRF(logits.shape[1], config, filter=self._filter.use(inner, stop)).eval()
            small = crf.map(logits, image, spacing=None if factor == 1 else spacing)
            labels = F.interpolate(small[None].double(), self.size, mode="nearest")[0, 0].long()
            return Picture(labels, factor, time.perf_counter() - start, config)

    def scores(self, labels: LabelMap) -> Metrics | None:
        """Pixel accuracy and mIoU of this image alone; None without truth."""
        if self.truth is None:
            return None
        return metrics(confusion_matrix(labels, self.truth, len(self.names)))

    def _first_factor(self, filter: str) -> int:
        pixels = self.size[0] * self.size[1]
        return max(1, math.ceil(math.sqrt(pixels / _FIRST_PIXELS.get(filter, _MANY_PIXELS))))

    def _scene(self, factor: int) -> tuple[Image, Logits, Tensor]:
        """Image, logits, and how far apart pixels are along each side, in pixels of the whole image."""
        if factor not in self._scenes:
            image, logits = self.image.unsqueeze(0), self.logits
            small = [max(1, side // factor) for side in self.size]
            if factor > 1:
                image = F.interpolate(image.float(), small, mode="area").round().byte()
                logits = F.interpolate(logits, small, mode="area")
            spacing = torch.tensor([whole / few for whole, few in zip(self.size, small, strict=True)])
            self._scenes[factor] = image, logits, spacing
        return self._scenes[factor]


def _at(config: CRFConfig, factor: int) -> CRFConfig:
    """The filter ``local`` counts in pixels of what it is given: its window shrinks with the image."""
    pool = max(1, round(config.pool / factor))
    reach = config.window // 2 * config.pool / (factor * pool)
    return replace(config, pool=pool, window=2 * max(1, round(reach)) + 1) if factor > 1 else config


def _next_factor(factor: int, seconds: float) -> int:
    """One smaller after a picture that took too long; one larger where that leaves time to spare."""
    if seconds > BUDGET:
        return factor + 1
    spare = factor > 1 and seconds * (factor / (factor - 1)) ** 2 < 0.6 * BUDGET
    return factor - 1 if spare else factor
