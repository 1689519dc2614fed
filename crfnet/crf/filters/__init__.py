"""How K v is computed. A new filter is a file beside this one and a line in `FILTERS`."""

from crfnet.crf.filters.contract import GaussianFilter, KernelOperator
from crfnet.crf.filters.exact import ExactFilter
from crfnet.crf.filters.permutohedral import PermutohedralFilter
from crfnet.crf.filters.separable import SeparableGaussian

__all__ = [
    "GaussianFilter",
    "KernelOperator",
    "FILTERS",
    "ExactFilter",
    "PermutohedralFilter",
    "SeparableGaussian",
]

FILTERS: dict[str, type[GaussianFilter]] = {"exact": ExactFilter, "permutohedral": PermutohedralFilter}
