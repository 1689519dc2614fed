"""Filters that cache the operators they built, and that can be canceled between two mean-field steps."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crfnet.crf.features import KernelInputs
from crfnet.crf.filters import GaussianFilter, KernelOperator
from crfnet.crf.potentials import SpatialPotential
from crfnet.shapes import Channel, Features, Grid, Mask, Values

__all__ = ["CachedFilter", "CachedSpatialPotential", "Canceled"]

_WIDTHS = 8  # of the spatial kernel that are cached
_POINTS = 1_500_000  # of all that is cached; a lattice takes some 300 bytes a point

_Stop = Callable[[], bool]


class Canceled(Exception):  # noqa: N818 - nothing went wrong
    """The result is not wanted any more."""


def _never() -> bool:
    return False


class _CachedOperator(KernelOperator):
    """An operator whose row sums are computed once, and that asks before each use whether to go on."""

    def __init__(self, inner: KernelOperator) -> None:
        super().__init__()
        self.features_need_grad = inner.features_need_grad
        self.stop: _Stop = _never
        self._inner = inner
        self._sums: Channel | None = None

    def product(self, values: Values) -> Values:
        if self.stop():
            raise Canceled
        return self._inner.product(values)

    def scaled(self, send: Tensor | None, receive: Tensor | None) -> Callable[[Values], Values]:
        apply = self._inner.scaled(send, receive)

        def unless_stopped(values: Values) -> Values:
            if self.stop():
                raise Canceled
            return apply(values)

        return unless_stopped

    def row_sums(self, like: Values) -> Channel:
        if self._sums is None:
            self._sums = self._inner.row_sums(like)
        return self._sums


class _Entry(NamedTuple):
    filter: GaussianFilter
    features: Features
    operator: _CachedOperator


class CachedFilter(GaussianFilter):
    """A cache of another filter's operators: features that were seen before build nothing.

    For features without gradient. What comes out is what the other filter gives.

    Attributes:
        built: how many operators the other filters have built.
    """

    learns_features = False

    def __init__(self) -> None:
        self.built = 0
        self._inner: GaussianFilter | None = None
        self._stop: _Stop = _never
        self._entries: list[_Entry] = []  # the latest first
        self._spatial: dict[Hashable, _CachedOperator] = {}  # the latest last

    def use(self, inner: GaussianFilter, stop: _Stop = _never) -> "CachedFilter":
        """Choose the filter whose operators are cached.

        Args:
            inner: the filter that builds; what an unequal one has built is not reused.
            stop: asked before every building and application; True raises `Canceled` there.
        """
        self._inner, self._stop = inner, stop
        return self

    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        """Look up the cached operator of equal features and an equal filter, or a new one.

        Raises:
            ValueError: a mask, features that require a gradient or that the filter does not take, or no
                filter to build by.
            Canceled: ``stop`` of `use` said so.
        """
        if self._inner is None or mask is not None or features.requires_grad:
            raise ValueError("CachedFilter: needs use() first, no mask, and features without gradient")
        if self._stop():
            raise Canceled
        found = [each for each in self._entries if each.filter == self._inner and _same(each, features)]
        if found:
            entry = found[0]
        else:
            entry = _Entry(self._inner, features, _CachedOperator(self._inner.build(features, grid, None)))
            self.built += 1
        entry.operator.stop = self._stop
        self._remember(entry)
        return entry.operator

    def spatial(self, key: Hashable, build: Callable[[], KernelOperator]) -> KernelOperator:
        """Look up the cached operator of a spatial kernel, or the one that ``build`` makes."""
        operator = self._spatial.pop(key, None) or _CachedOperator(build())
        operator.stop = self._stop
        self._spatial[key] = operator
        while len(self._spatial) > _WIDTHS:
            del self._spatial[next(iter(self._spatial))]
        return operator

    def _remember(self, entry: _Entry) -> None:
        entries, points = [entry], entry.features.shape[2]
        for each in self._entries:
            points += each.features.shape[2]
            if each is not entry and points <= _POINTS:
                entries.append(each)
        self._entries = entries


class CachedSpatialPotential(SpatialPotential):
    """A spatial potential whose operators of a few widths and grids are cached, with their row sums.

    Args:
        memory: the cache.
        weight: see `SpatialPotential`.
        theta_gamma: see `SpatialPotential`.
        options: see `SpatialPotential`.
    """

    def __init__(self, memory: CachedFilter, weight: float, theta_gamma: float, **options: Any) -> None:
        super().__init__(weight, theta_gamma, learn_theta=False, **options)
        self._memory = memory

    def operator(self, scene: KernelInputs, filter: GaussianFilter) -> KernelOperator:
        """Look up the cached operator of an equal width, grid and spacing, or a new one."""
        spacing = None if scene.spacing is None else tuple(scene.spacing.flatten().tolist())
        key = (float(self.theta_gamma), scene.grid, spacing, self.filter)
        return self._memory.spatial(key, lambda: super(CachedSpatialPotential, self).operator(scene, filter))


def _same(entry: _Entry, features: Features) -> bool:
    seen = entry.features
    return seen.shape == features.shape and seen.dtype == features.dtype and torch.equal(seen, features)
