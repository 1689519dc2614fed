"""The names of pydensecrf's module `densecrf`.

Arguments may be anything array-like: of any real type, read-only or not contiguous, lists, torch tensors of
any device. All is computed in float32 without gradients; to learn through a CRF use `crfnet.crf.DenseCRF`.
"""

from crfnet.pydensecrf import eigen
from crfnet.pydensecrf._options import KernelType, NormalizationType
from crfnet.pydensecrf.image_crf import DenseCRF2D
from crfnet.pydensecrf.points_crf import DenseCRF
from crfnet.pydensecrf.unary import ConstUnary, LogisticUnary, Unary

__all__ = [
    "CONST_KERNEL",
    "DIAG_KERNEL",
    "FULL_KERNEL",
    "NORMALIZE_AFTER",
    "NORMALIZE_BEFORE",
    "NORMALIZE_SYMMETRIC",
    "NO_NORMALIZATION",
    "ConstUnary",
    "DenseCRF",
    "DenseCRF2D",
    "KernelType",
    "LogisticUnary",
    "NormalizationType",
    "Unary",
    "eigen",
]

CONST_KERNEL = KernelType.CONST_KERNEL
DIAG_KERNEL = KernelType.DIAG_KERNEL
FULL_KERNEL = KernelType.FULL_KERNEL
NO_NORMALIZATION = NormalizationType.NO_NORMALIZATION
NORMALIZE_BEFORE = NormalizationType.NORMALIZE_BEFORE
NORMALIZE_AFTER = NormalizationType.NORMALIZE_AFTER
NORMALIZE_SYMMETRIC = NormalizationType.NORMALIZE_SYMMETRIC
