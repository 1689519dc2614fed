"""The compiled kernels of a CPU as functions of tensors: lattices, the Gaussian of a grid or in a window."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from crfnet.shapes import Features, Grid, Values

if TYPE_CHECKING:
    from crfnet.kernels.cpu.filtering import Lattices

__all__ = [
    "CompiledGrid",
    "CompiledLattice",
    "array_of",
    "features_gradient_in_window",
    "filter_in_window",
    "outside_graphs",
]

_Result = TypeVar("_Result")


def outside_graphs(function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
    """Calls the function; under `torch.compile` between two graphs, where numpy is left alone."""
    if torch.compiler.is_compiling():
        function = torch.compiler.disable(function)
    return function(*arguments, **options)


def array_of(tensor: Tensor) -> np.ndarray:
    """The tensor as an array: its own memory where that is contiguous."""
    array: np.ndarray = tensor.detach().contiguous().numpy()
    return array


class CompiledLattice:
    """The lattices of a batch of features (b, d, n), an image at a time."""

    def __init__(self, features: Features) -> None:
        self._lattices = outside_graphs(_built, features)
        self._as: dict[torch.dtype, Lattices] = {features.dtype: self._lattices}

    @property
    def corners(self) -> int:
        """How many corners of simplices hold a point, in all images."""
        return self._lattices.corners_in_all

    def filter(
        self, values: Values, transposed: bool, send: Tensor | None = None, receive: Tensor | None = None
    ) -> Values:
        """``receive K (send v)``, or with the transpose of K.

        Values of other than float32 and float64 are filtered in float32.

        Args:
            values: v.
            transposed: whether K is to be transposed; the factors stand as they are.
            send: a factor of every point (b or 1, 1, n), or one number; None for 1.
            receive: like ``send``.
        """
        return outside_graphs(self._filter, values, transposed, send, receive)

    def _filter(
        self, values: Values, transposed: bool, send: Tensor | None, receive: Tensor | None
    ) -> Values:
        from crfnet.kernels.cpu.filtering import filter_on_lattices

        dtype = values.dtype if values.dtype == torch.float64 else torch.float32
        if dtype not in self._as:
            weights = self._lattices.weights.astype(np.float64 if dtype == torch.float64 else np.float32)
            self._as[dtype] = self._lattices._replace(weights=weights)
        filtered = filter_on_lattices(
            array_of(values.to(dtype)),
            self._as[dtype],
            send=_factors(send, values, dtype),
            receive=_factors(receive, values, dtype),
            transposed=transposed,
        )
        return torch.from_numpy(filtered).to(values.dtype)


def _built(features: Features) -> "Lattices":
    from crfnet.kernels.cpu.filtering import lattices_of
    from crfnet.kernels.cpu.lattice import build_lattice

    array = array_of(features)
    return lattices_of([build_lattice(array[i : i + 1]) for i in range(len(array))])


class CompiledGrid:
    """The Gaussian of a pixel grid of 1 to 3 axes.

    Args:
        grid: sizes of the axes, slowest first.
        radii: how many pixels a pixel reaches along each.
        apart: distance between neighbors along each axis, (1 or b, axes).
        theta: bandwidth, > 0.
    """

    def __init__(self, grid: Grid, radii: list[int], apart: Tensor, theta: float) -> None:
        missing = 3 - len(grid)
        self._shape = np.array([1] * missing + list(grid), np.int64)
        self._radii = np.array([0] * missing + radii, np.int64)
        steps = np.arange(self._radii.max() + 1)
        away = np.zeros((len(apart), 3, len(steps)))
        away[:, missing:] = steps * array_of(apart)[:, :, None]
        self._taps = np.exp(-0.5 * (away / theta) ** 2)
        self._slopes = self._taps * away**2 / theta**3
        self._missing = missing

    @property
    def sums_theta(self) -> bool:
        """`filter_with_slope` takes this grid: it has at most two axes."""
        return int(self._shape[0]) == 1

    def filter(self, values: Values, send: Tensor | None = None, receive: Tensor | None = None) -> Values:
        """``receive K (send v)`` of float32 or float64; factors as of `CompiledLattice.filter`."""
        return outside_graphs(self._filter, values, self._taps, send, receive)

    def derivative(self, values: Values) -> Values:
        """``(dK / dtheta) v``."""
        total = torch.zeros_like(values)
        for axis in range(self._missing, 3):
            taps = self._taps.copy()
            taps[:, axis] = self._slopes[:, axis]
            total += outside_graphs(self._filter, values, taps, None, None)
        return total

    def _filter(
        self, values: Values, taps: np.ndarray, send: Tensor | None, receive: Tensor | None
    ) -> Values:
        from crfnet.kernels.cpu.filtering_on_grid import filter_on_grid

        array = array_of(values)
        filtered = filter_on_grid(
            array,
            self._shape,
            self._radii,
            taps.astype(array.dtype),
            send=_factors(send, values, values.dtype),
            receive=_factors(receive, values, values.dtype),
        )
        return torch.from_numpy(filtered)

    def filter_with_slope(
        self, grad: Values, values: Values, send: Tensor, receive: Tensor, common: np.ndarray
    ) -> tuple[Values, float]:
        """``receive K (send g)``, and ``<receive (K' - c K) (send g), v>``, c a number of each image or all.

        See `crfnet.kernels.cpu.theta_gamma.filter_with_slope`; ``common`` is c.
        """
        return outside_graphs(self._filter_with_slope, grad, values, send, receive, common)

    def _filter_with_slope(
        self, grad: Values, values: Values, send: Tensor, receive: Tensor, common: np.ndarray
    ) -> tuple[Values, float]:
        from crfnet.kernels.cpu.theta_gamma import filter_with_slope

        array, slopes = array_of(values), self._slopes.copy()
        slopes[:, 2] -= common[:, None] * self._taps[:, 2]
        filtered, slope = filter_with_slope(
            array_of(grad),
            array,
            self._shape,
            self._radii,
            self._taps.astype(array.dtype),
            slopes.astype(array.dtype),
            send=_factors(send, values, values.dtype),
            receive=_factors(receive, values, values.dtype),
        )
        return torch.from_numpy(filtered), slope

    def row_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every pixel, float64 (1 or b, n): ``K 1`` and ``K' 1 / K 1``, without a mask."""
        along = [self._along_axis(self._taps, axis) for axis in range(3)]
        sums, changes = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))
        for axis, each in enumerate(along):
            sums = sums * each
            changes = changes + self._along_axis(self._slopes, axis) / each
        return sums.reshape(len(sums), -1), changes.reshape(len(changes), -1)

    def _along_axis(self, taps: np.ndarray, axis: int) -> np.ndarray:
        """The row sums of one axis (1 or b, size or 1, ..)."""
        size, radius = int(self._shape[axis]), int(self._radii[axis])
        windows = [np.concatenate([each[radius:0:-1], each[: radius + 1]]) for each in taps[:, axis]]
        whole = np.stack([np.convolve(np.ones(size), window) for window in windows])
        shape = [len(taps), 1, 1, 1]
        shape[axis + 1] = size
        return whole[:, radius : radius + size].reshape(shape)

    def whole_change(self) -> np.ndarray:
        """``K' 1 / K 1`` of a pixel far from all borders, float64 (1 or b,)."""
        changes = np.zeros(len(self._taps))
        for axis in range(3):
            end = int(self._radii[axis]) + 1
            taps, slopes = self._taps[:, axis, :end], self._slopes[:, axis, :end]
            changes += (2 * slopes.sum(1) - slopes[:, 0]) / (2 * taps.sum(1) - taps[:, 0])
        return changes


def filter_in_window(values: Tensor, features: Tensor, radius: int) -> Tensor:
    """K v within each pixel's window: values (b, l, *grid) and features (b, d, *grid) of one precision."""
    return outside_graphs(_filter_in_window, values, features, radius)


def _filter_in_window(values: Tensor, features: Tensor, radius: int) -> Tensor:
    from crfnet.kernels.cpu import local

    grid = values.shape[2:]
    filtered = local.filter_values(array_of(values.flatten(2)), array_of(features.flatten(2)), grid, radius)
    return torch.from_numpy(filtered).view(values.shape)


def features_gradient_in_window(grad: Tensor, values: Tensor, features: Tensor, radius: int) -> Tensor:
    """The gradient of the features of `filter_in_window`, from that of its result."""
    return outside_graphs(_features_gradient_in_window, grad, values, features, radius)


def _features_gradient_in_window(grad: Tensor, values: Tensor, features: Tensor, radius: int) -> Tensor:
    from crfnet.kernels.cpu import local

    g, v, f = (array_of(x.flatten(2)) for x in (grad, values, features))
    return torch.from_numpy(local.grad_features(g, v, f, features.shape[2:], radius)).view(features.shape)


def _factors(factor: Tensor | None, values: Values, dtype: torch.dtype) -> np.ndarray:
    """A number for each pixel, (b, n); 1 of none."""
    if factor is None:
        kind = np.float64 if dtype == torch.float64 else np.float32
        return np.ones((len(values), values.shape[2]), kind)
    wide = factor.detach().to(dtype).expand(len(values), 1, values.shape[2])
    return array_of(wide.reshape(len(values), -1))
