"""How K v is computed. A new filter is a file beside this one and a line in `FILTERS`."""

from crfnet.crf.filters.accuracy import FilterAccuracy, filter_accuracy
from crfnet.crf.filters.auto import AutoFilter
from crfnet.crf.filters.contract import GaussianFilter, KernelOperator
from crfnet.crf.filters.exact.filter import ExactFilter
from crfnet.crf.filters.local import LocalFilter
from crfnet.crf.filters.permutohedral.filter import PermutohedralFilter
from crfnet.crf.filters.separable import SeparableGaussian

__all__ = [
    "GaussianFilter",
    "KernelOperator",
    "FILTERS",
    "AutoFilter",
    "ExactFilter",
    "FilterAccuracy",
    "LocalFilter",
    "PermutohedralFilter",
    "SeparableGaussian",
    "filter_accuracy",
]

FILTERS: dict[str, type[GaussianFilter]] = {
    "auto": AutoFilter,
    "exact": ExactFilter,
    "local": LocalFilter,
    "permutohedral": PermutohedralFilter,
}
