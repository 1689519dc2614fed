"""What a Gaussian filter promises: the linear operator K of one batch of features, applied to values."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from crfnet.shapes import Features, Values

__all__ = ["EPS", "GaussianFilter", "KernelOperator"]

EPS = 1e-20  #: added to row sums before they divide, as in pydensecrf


class KernelOperator(ABC):
    """``K_ij = exp(-|f_i - f_j|^2 / 2)`` of one batch of features: built once, applied many times."""

    features_need_grad: bool  #: a gradient has to flow to the features (and so to the bandwidths theta)

    @abstractmethod
    def __call__(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j`` for every image and label: unnormalised, self term included."""

    def average(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j / sum_j K_ij``, that is D^-1 K v; differentiable like K v."""
        filtered = self(torch.cat([values, torch.ones_like(values[:, :1])], dim=1))
        return filtered[:, :-1] / (filtered[:, -1:] + EPS)


class GaussianFilter(ABC):
    """A recipe for `KernelOperator`: a frozen dataclass of the filter's own hyper-parameters."""

    learns_features: ClassVar[
        bool
    ]  #: the gradient of every single feature is exact, so that features may be learned

    @abstractmethod
    def operator(self, features: Features) -> KernelOperator:
        """The operator of these features.

        Raises:
            ValueError: The features hold a number that is not finite.
        """
