"""The only tolerances of the tests: (quantity, dtype) -> relative L2 error. None is loosened to get green."""

import torch
from torch import Tensor

RELATIVE_L2 = {
    # float64 against the O(N^2) reference: the same sums in another order.
    ("exact", torch.float64): 1e-12,
    # Promised: 1e-5 against float64 brute force. Float32 sums of a few thousand terms stay below 1e-6.
    ("exact", torch.float32): 1e-5,
    ("separable", torch.float64): 1e-6,  # the truncation at the stated radius
    ("separable", torch.float32): 1e-5,
    # The same lattice in two batchings or as an explicit matrix: rounding only.
    ("lattice", torch.float64): 1e-12,
    ("lattice", torch.float32): 1e-5,
    # The lattice is an approximation of the Gaussian: after row normalization, against brute force.
    ("lattice-vs-gaussian", torch.float32): 0.08,
    ("layer", torch.float64): 1e-10,
    ("layer", torch.float32): 1e-4,
    # Kernels against the same sums in float64: sums of up to a thousand float32 terms, a softmax.
    ("gather", torch.float32): 1e-6,
    ("update", torch.float32): 1e-6,
    # Euclidean Frank-Wolfe answers with logarithms of (x + 1e-9) / (1 + 1e-9 labels).
    ("floor", torch.float64): 1e-8,
    ("floor", torch.float32): 1e-4,
    # The same 20 updates, their sums over pixels split into parts or over processes.
    ("training", torch.float64): 1e-10,
    ("training", torch.float32): 1e-4,
    # The loss of one forward pass beside float32: a few roundings of 2^-9 and 2^-12.
    ("training", torch.bfloat16): 1e-2,
    ("training", torch.float16): 1e-3,
}


def relative_l2(actual: Tensor, expected: Tensor) -> float:
    """``|actual - expected| / |expected|`` in float64; a NaN anywhere fails every comparison."""
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-300))


def assert_as_good(actual: Tensor, plain: Tensor, expected: Tensor) -> None:
    """At low precision: the error is at most twice that of plain torch at the same precision."""
    assert actual.dtype == plain.dtype != torch.float32
    assert relative_l2(actual, expected) <= 2 * relative_l2(plain, expected)


def assert_close(actual: Tensor, expected: Tensor, quantity: str, dtype: torch.dtype) -> None:
    """Shapes are equal and the relative L2 error is within the table's bound."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    error, bound = relative_l2(actual, expected), RELATIVE_L2[quantity, dtype]
    assert error <= bound, f"{quantity}: relative L2 error {error:.3g} > {bound:.3g}"
