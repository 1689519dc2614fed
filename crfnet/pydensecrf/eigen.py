"""pydensecrf's wrapped Eigen matrices, here arrays of float32 that numpy and torch take as they are."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from crfnet.pydensecrf._arrays import as_array

__all__ = ["MatrixXf", "VectorXf", "matrixXf", "vectorXf"]


class _Array(np.ndarray[Any, np.dtype[np.float32]]):
    """An array whose results of functions and operators are plain numpy arrays."""

    def __array_wrap__(
        self, array: npt.NDArray[Any], context: object = None, return_scalar: bool = False
    ) -> Any:
        plain = np.asarray(array)
        return plain[()] if plain.ndim == 0 else plain

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Iterable[Any], kwargs: Any
    ) -> Any:
        result = super().__array_function__(func, types, args, kwargs)
        return result.view(np.ndarray) if isinstance(result, _Array) else result


class MatrixXf(_Array):
    """A matrix of float32, column by column in memory as in Eigen: ``np.array(Q)`` is (rows, columns).

    Args:
        values: anything of two axes; None for an empty one.

    Raises:
        ValueError: it has another number of axes, or does not hold real numbers.
    """

    def __new__(cls, values: object = None) -> "MatrixXf":  # noqa: D102
        return _copy(values, 2).view(cls)


class VectorXf(_Array):
    """A vector of float32; like `MatrixXf`, with one axis."""

    def __new__(cls, values: object = None) -> "VectorXf":  # noqa: D102
        return _copy(values, 1).view(cls)


def matrixXf(arr: object) -> MatrixXf:  # noqa: N802
    """Copy anything of two axes as `MatrixXf`.

    Raises:
        TypeError: ``arr`` is None.
        ValueError: see `MatrixXf`.
    """
    return MatrixXf(as_array("arr", arr))


def vectorXf(arr: object) -> VectorXf:  # noqa: N802
    """Copy anything of one axis as `VectorXf`.

    Raises:
        TypeError: ``arr`` is None.
        ValueError: see `VectorXf`.
    """
    return VectorXf(as_array("arr", arr))


def wrap(values: npt.NDArray[np.float32]) -> MatrixXf:
    """View an array that is not used elsewhere as `MatrixXf`, not copied."""
    return values.view(MatrixXf)


def _copy(values: object, axes: int) -> npt.NDArray[np.float32]:
    array = np.zeros((0,) * axes) if values is None else as_array("arr", values)
    if array.ndim != axes:
        raise ValueError(f"Buffer has wrong number of dimensions (expected {axes}, got {array.ndim})")
    return np.array(array, dtype=np.float32, order="F")
