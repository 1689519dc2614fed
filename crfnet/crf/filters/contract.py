"""What a Gaussian filter promises: the linear operator K of one batch of features, applied to values."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.crf.reference import kernel_matrix
from crfnet.shapes import Channel, Features, Grid, Mask, Values

__all__ = ["EPS", "GaussianFilter", "KernelOperator", "features_inside", "require_finite"]

EPS = 1e-20  #: added to row sums before they divide, as in pydensecrf


def require_finite(finite: bool) -> None:
    """Refuses features that are not.

    Raises:
        ValueError: ``finite`` is False.
    """
    if not finite:
        raise ValueError("features hold NaN or infinity, must be finite numbers")


class KernelOperator(ABC):
    """``K_ij = exp(-|f_i - f_j|^2 / 2)`` of one batch of features: built once, applied many times.

    With a mask, K is zero in the rows and columns of pixels outside: they neither send nor receive.

    Args:
        mask: the pixels that count; None for all.
    """

    features_need_grad: bool  #: a gradient has to flow to the features (and so to the bandwidths theta)

    def __init__(self, mask: Mask | None = None) -> None:
        self._inside = None if mask is None else mask.unsqueeze(1)

    @abstractmethod
    def product(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j`` as if there were no mask; values are 0 outside it."""

    def __call__(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j`` for every image and label: unnormalized, self term included."""
        return self._masked(self.product(self._masked(values)))

    def scaled(self, send: Tensor | None, receive: Tensor | None) -> Callable[[Values], Values]:
        """``v -> receive * K (send * v)``.

        Args:
            send: Factors of every pixel (b, 1, n), or one number (); None for 1.
            receive: Like ``send``.
        """

        def apply(values: Values) -> Values:
            filtered = self(values if send is None else values * send)
            if receive is None:
                return filtered
            # In place where no gradient is recorded: fresh memory costs more than the product.
            return filtered * receive if torch.is_grad_enabled() else filtered.mul_(receive)

        return apply

    def average(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j / sum_j K_ij``, that is D^-1 K v; differentiable like K v."""
        values = self._masked(values)
        filtered = self.product(torch.cat([values, self.ones(values)], dim=1))
        return self._masked(filtered[:, :-1] / (filtered[:, -1:] + EPS))

    def ones(self, like: Values) -> Channel:
        """One channel of 1, and of 0 outside the mask, of the batch, pixels and dtype of ``like``."""
        ones = torch.ones_like(like[:, :1])
        return ones if self._inside is None else ones * self._inside

    def row_sums(self, like: Values) -> Channel:
        """``n = K 1`` as one channel; 1 outside the mask, so that it can divide."""
        sums = self.product(self.ones(like))
        return sums if self._inside is None else torch.where(self._inside, sums, 1.0)

    def _masked(self, values: Tensor) -> Tensor:
        return values if self._inside is None else values * self._inside


def features_inside(features: Features, mask: Mask | None) -> Features:
    """The features, those outside the mask where the first pixel inside is: operators look at all."""
    if mask is None:
        return features
    first = mask.byte().argmax(1)[:, None, None].expand(-1, features.shape[1], 1)
    return torch.where(mask.unsqueeze(1), features, features.gather(2, first))


class GaussianFilter(ABC):
    """A recipe for `KernelOperator`: a frozen dataclass of the filter's own hyper-parameters.

    Its fields are the keys of its section in a configuration file, its docstring explains them there.
    """

    learns_features: ClassVar[bool]
    """The gradient of every single feature is exact, so that features may be learned."""
    checks_features: ClassVar[bool] = False
    """`build` itself refuses features that are not finite."""
    relative_error: ClassVar[Mapping[torch.dtype, float]] = {torch.float64: 1e-12, torch.float32: 1e-5}
    """What K v may differ by from the product with `dense`, relative L2: the same sums in another order."""
    may_be_lattice: ClassVar[bool] = False
    """`is_lattice` may say yes: it is worth making features to ask."""
    growth: ClassVar[int] = 1
    """Time grows with this power of the number of pixels."""
    quick_pixels: ClassVar[int] = 65536
    """So many pixels take well under a second on a CPU, with 21 labels and 10 steps."""

    def operator(
        self, features: Features, *, grid: Grid | None = None, mask: Mask | None = None
    ) -> KernelOperator:
        """The operator of these features.

        Args:
            features: of every pixel; those outside the mask may hold anything.
            grid: rows and columns of the pixels (or 1 or 3 axes), row-major; None for points without order.
            mask: the pixels that count, at least one in every image; None for all.

        Raises:
            ValueError: The features hold a number that is not finite, or the filter needs a grid.
        """
        features = features_inside(features, mask)
        if not self.checks_features:
            require_finite(bool(torch.isfinite(features.detach()).all()))
        return self.build(features, grid, mask)

    def is_lattice(self, points: int, dimensions: int, device: torch.device) -> bool:
        """Whether it is the permutohedral lattice for so many points of an image: compiled loops know it."""
        del points, dimensions, device
        return False

    def for_learned_features(self) -> "GaussianFilter | None":
        """The filter for features that are learned one by one, as of an image with gradient, if any."""
        return self if self.learns_features else None

    @abstractmethod
    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        """The operator of finite features; outside the mask they repeat those of a pixel inside.

        With ``checks_features`` they may not be finite: ValueError then, by `require_finite`.
        """

    def dense(self, features: Features, grid: Grid) -> Float[Tensor, "b n n"]:
        """The matrix that `build` stands for, written out: slow, readable, for tests of small problems.

        The Gaussian itself, unless a filter stands for another one.

        Args:
            features: float64, not masked.
            grid: sizes of the pixel grid.
        """
        return kernel_matrix(features)

    def for_smaller(self, factor: int) -> "GaussianFilter":
        """The filter that does the same to an image ``factor`` times smaller along each side."""
        return self
