import pytest
import torch

from crfnet.crf.filters import ExactFilter, PermutohedralFilter
from crfnet.crf.normalization import NORMALIZATIONS, normalized
from crfnet.crf.reference import normalized_kernel_matrix, permutohedral_matrix
from tests.tolerances import assert_close

F64 = torch.float64


def scaled(kernel, normalization):
    n = kernel.sum(-1)
    left, right = {"after": (-1, 0), "before": (0, -1), "symmetric": (-0.5, -0.5), "none": (0, 0)}[
        normalization
    ]
    return n.unsqueeze(-1) ** left * kernel * n.unsqueeze(-2) ** right


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_exact_against_reference(normalization, learn):
    features = torch.randn(2, 3, 7, dtype=F64, requires_grad=learn)
    values = torch.randn(2, 4, 7, dtype=F64)
    operator = normalized(ExactFilter().operator(features), values, normalization)
    expected = values @ normalized_kernel_matrix(features.detach(), normalization).mT
    assert_close(operator(values), expected, "exact", F64)
    assert_close(operator(2 * values), 2 * expected, "exact", F64)


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_lattice_against_reference(normalization, learn):
    features = torch.randn(2, 3, 9, dtype=F64)
    kernel = torch.stack([permutohedral_matrix(one) for one in features])
    values = torch.rand(2, 4, 9, dtype=F64)
    operator = PermutohedralFilter().operator(features.requires_grad_(learn))
    # The row sums of the lattice's matrix: it is not symmetric, so "before" too divides by K 1, not by 1 K.
    expected = values @ scaled(kernel, normalization).mT
    assert_close(normalized(operator, values, normalization)(values), expected, "lattice", F64)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_of_values_and_features(normalization):
    features = torch.randn(1, 2, 5, dtype=F64, requires_grad=True)
    values = torch.randn(1, 2, 5, dtype=F64, requires_grad=True)

    def run(values, features):
        return normalized(ExactFilter().operator(features), values, normalization)(values)

    assert torch.autograd.gradcheck(run, (values, features))


def test_rows_of_after_sum_to_one():
    values = torch.rand(1, 2, 11)
    operator = normalized(PermutohedralFilter().operator(torch.randn(1, 3, 11)), values, "after")
    torch.testing.assert_close(operator(torch.ones(1, 2, 11)), torch.ones(1, 2, 11))


def test_unknown_normalization_is_named():
    operator = ExactFilter().operator(torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match=r"'sym'.*after, symmetric, before, none"):
        normalized(operator, torch.zeros(1, 1, 2), "sym")
