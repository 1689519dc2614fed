"""One image and its labels under any parameters of the CRF: a small preview soon, then full size."""

import math
import threading
import time
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from crfnet.crf.allocator import retain_freed_memory
from crfnet.crf.inference import MeanField
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.crf.potentials import SpatialPotential
from crfnet.domain_transform import DomainTransform, DomainTransformConfig, image_edges
from crfnet.errors import InputError
from crfnet.evaluation.confusion import Metrics, confusion_matrix, metrics
from crfnet.explore.canceling import Cancelable, Stop
from crfnet.explore.kept_lattices import KeptLattices, lattice_key
from crfnet.explore.pace import Pace
from crfnet.explore.palettes import distinct_colors
from crfnet.labels import Palette
from crfnet.segmenter import RefinementConfig
from crfnet.shapes import EdgeMap, Image, ImageBytes, LabelMap, Logits

__all__ = ["BUDGET", "Picture", "Session"]

BUDGET = 0.5  #: seconds that a first picture may take
#: Seconds that a picture at full size may take by a filter whose time grows with the pixels squared.
_PATIENCE = 30.0
_SMALLEST = 8  # times smaller than the whole, along each side


@dataclass(frozen=True)
class Picture:
    """Labels that the CRF gave, or the domain transform.

    Attributes:
        labels: at image size, whatever the size that was solved.
        factor: how many times smaller, along each side, the solved image was; 1 is the whole.
        seconds: that it took.
        config: of either.
    """

    labels: LabelMap
    factor: int
    seconds: float
    config: RefinementConfig


class Session:
    """Solves the CRF of one image again and again, and keeps what does not change between them.

    Lattices and the images of every size are kept: a weight, sigma_gamma or the number of iterations builds
    nothing; sigma_alpha and sigma_beta build a lattice, unless they were seen lately. What the layer's
    compiled loop does not take (the filters ``exact`` and ``local``, Frank-Wolfe, full weights) goes through
    the layer's operators, which are built for each picture. Threads may share a session; they wait for one
    another.

    Args:
        image: what the CRF looks at.
        logits: the network's, at image size.
        truth: labels to score against; None for none.
        names: of the classes; their numbers by default.
        colors: of the classes; by default ones that can be told apart.

    Raises:
        InputError: sizes that differ, more than 255 classes or less than 2, another number of names or
            colors, labels outside the classes.
    """

    def __init__(
        self,
        image: ImageBytes,
        logits: Logits,
        *,
        truth: LabelMap | None = None,
        names: tuple[str, ...] | None = None,
        colors: Palette | None = None,
    ) -> None:
        b, l, *size = logits.shape
        if b != 1 or not 2 <= l <= 255 or size != list(image.shape[1:]):
            wanted = f"(1, 2..255, {image.shape[1]}, {image.shape[2]})"
            raise InputError(f"logits: shape {tuple(logits.shape)}, must be {wanted}")
        if names is not None and len(names) != l:
            raise InputError(f"names: {len(names)} class names, must be {l} as the scores have")
        if colors is not None and len(colors) != l:
            raise InputError(f"colors: {len(colors)}, must be {l} as the scores have")
        self.image, self.logits, self.truth = image, logits, truth
        self.names = names or tuple(map(str, range(l)))
        self.colors: Palette = distinct_colors(l) if colors is None else colors
        self.network = logits[0].argmax(0)  #: labels without a CRF
        self.network_metrics = self.metrics(self.network)  # a wrong truth is refused now
        self._lattices = KeptLattices()
        self._scenes: dict[int, tuple[Image, Logits, Tensor]] = {}
        self._pace = Pace()
        self._lock = threading.Lock()

    @property
    def built(self) -> int:
        """How many lattices were built so far, those of operators aside."""
        return self._lattices.built

    @cached_property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.logits.shape[2], self.logits.shape[3]

    def preview(self, config: RefinementConfig) -> Picture:
        """As large a picture as half a second allows, by the times of earlier ones: maybe the whole.

        That of a domain transform, which is fast, is always the whole.
        """
        if isinstance(config, DomainTransformConfig):
            return self._smoothed(config)
        return self.solve(config, self._factor_in_time(config))

    def full_size_seconds(self, first: Picture) -> float:
        """Estimate for the whole image, from the first picture: linear in pixels, squared for ``exact``."""
        growth = first.config.build_filter().growth if isinstance(first.config, CRFConfig) else 1
        return float(first.seconds * first.factor ** (2 * growth))

    def full_size(self, first: Picture, stop: Stop | None = None) -> Picture | None:
        """The whole image with the parameters of a first picture.

        None only for the filter ``exact`` where that takes over half a minute: no step of it can be stopped.

        Raises:
            Canceled: ``stop`` was set, on its way.
        """
        if first.factor == 1 or isinstance(first.config, DomainTransformConfig):
            return first
        endless = first.config.build_filter().growth > 1 and self.full_size_seconds(first) > _PATIENCE
        return None if endless else self.solve(first.config, 1, stop)

    def solve(self, config: CRFConfig, factor: int = 1, stop: Stop | None = None) -> Picture:
        """The picture at a size.

        Args:
            config: its widths are in pixels of the whole image, whatever the factor.
            factor: image and logits are averaged over so many pixels along each side, >= 1.
            stop: set by another thread, it ends this between two steps.

        Raises:
            ValueError: something that the CRF does not take.
            Canceled: ``stop`` was set.
        """
        with self._lock, torch.no_grad(), retain_freed_memory(self.logits.device):
            start = time.perf_counter()
            labels, built = self._labels(config, factor, stop or Stop())
            if factor > 1:
                labels = F.interpolate(labels[None, None].float(), self.size, mode="nearest")[0, 0].long()
            seconds = time.perf_counter() - start
            self._pace.note(config, built, factor, self._scene(factor)[0][0, 0].numel(), seconds)
            return Picture(labels, factor, seconds, config)

    def metrics(self, labels: LabelMap) -> Metrics | None:
        """Pixel accuracy and mIoU of this image alone; None without truth."""
        if self.truth is None:
            return None
        return metrics(confusion_matrix(labels, self.truth, len(self.names)))

    def _smoothed(self, config: DomainTransformConfig) -> Picture:
        with self._lock, torch.no_grad():
            start = time.perf_counter()
            labels = DomainTransform(config).eval()(self.logits, edges=self._edges)[0].max(0).indices
            return Picture(labels, 1, time.perf_counter() - start, config)

    @cached_property
    def _edges(self) -> EdgeMap:
        return image_edges(self.image[None])

    def _labels(self, config: CRFConfig, factor: int, stop: Stop) -> tuple[LabelMap, bool]:
        """The labels at the size that is solved, and whether an operator or lattice was built for them."""
        image, logits, spacing = self._scene(factor)
        crf = self._layer(config, factor)
        problem = crf.problem(logits, image, spacing=None if factor == 1 else spacing)
        kernels, before = problem.compiled_kernels(crf.inference), self.built
        stop.check()
        if kernels is None:
            inference = Cancelable(crf.inference, stop)
            log_q = problem.solve(inference, config.iterations, prune=config.prune)
        else:
            assert isinstance(crf.inference, MeanField)
            keys = [lattice_key(name, config, factor) for name in crf.potentials]
            kept = self._lattices.ready(keys, kernels, problem.unary)
            stop.check()
            log_q = problem.run_compiled(kept, config.iterations, crf.inference.reduce, stop.flag)
            stop.check()
        labels = log_q[0].max(0).indices  # over an axis that is not the last argmax takes six times as long
        return labels.view(image.shape[2:]), config.w1 != 0 and (kernels is None or self.built > before)

    def _layer(self, config: CRFConfig, factor: int) -> DenseCRF:
        """The CRF, with windows for an image of that size."""
        filter = config.build_filter().for_smaller(factor)
        crf = DenseCRF(self.logits.shape[1], config, filter=filter).eval()
        for potential in crf.potentials.values():
            if isinstance(potential, SpatialPotential) and potential.filter is not None:
                potential.filter = potential.filter.for_smaller(factor)
        return crf

    def _builds(self, config: CRFConfig, factor: int) -> bool:
        """Whether a lattice has to be built, as far as can be told without trying."""
        return config.w1 != 0 and lattice_key("bilateral", config, factor) not in self._lattices

    def _factor_in_time(self, config: CRFConfig) -> int:
        """The least factor whose picture is expected within the budget."""
        pixels = self.size[0] * self.size[1]
        for factor in range(1, _SMALLEST + 1):
            builds = self._builds(config, factor)
            seconds = self._pace.predict(config, builds, factor, pixels // factor**2)
            if seconds is None:  # the very first picture
                return max(1, math.ceil(math.sqrt(pixels / config.build_filter().quick_pixels)))
            if seconds <= BUDGET:
                return factor
        return _SMALLEST

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
