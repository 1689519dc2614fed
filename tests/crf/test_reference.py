"""The oracle has its own oracle: two pixels by hand, closed forms, and real pydensecrf output."""

import itertools
import math
from pathlib import Path

import numpy as np
import torch

from crfnet.crf.reference import (
    filter_values,
    kernel_matrix,
    mean_field,
    normalized_kernel_matrix,
    permutohedral_matrix,
)

F64 = torch.float64


def test_two_pixels_by_hand():
    features = torch.tensor([[[0.0, 3.0], [0.0, 4.0]]], dtype=F64)
    k = math.exp(-12.5)  # distance 5
    torch.testing.assert_close(kernel_matrix(features), torch.tensor([[[1.0, k], [k, 1.0]]], dtype=F64))
    values = torch.tensor([[[1.0, 10.0]]], dtype=F64)
    torch.testing.assert_close(
        filter_values(values, features), torch.tensor([[[1 + 10 * k, 10 + k]]], dtype=F64)
    )


def test_normalizations_scale_rows_and_columns():
    features = torch.randn(2, 3, 6, dtype=F64)
    after, before = (normalized_kernel_matrix(features, name) for name in ("after", "before"))
    symmetric = normalized_kernel_matrix(features, "symmetric")
    torch.testing.assert_close(after.sum(2), torch.ones(2, 6, dtype=F64))
    torch.testing.assert_close(before, after.mT)
    torch.testing.assert_close(symmetric.square(), after * before)
    torch.testing.assert_close(symmetric, symmetric.mT)
    assert torch.equal(normalized_kernel_matrix(features, "none"), kernel_matrix(features))


def test_one_mean_field_step_by_hand():
    kernel = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]], dtype=F64)
    unary = torch.tensor([[[math.log(4.0), 0.0], [0.0, 0.0]]], dtype=F64)  # Q0 = (.8, .2), (.5, .5)
    potts = 1 - torch.eye(2, dtype=F64)
    first, second = mean_field(unary, [kernel], [torch.tensor(2.0, dtype=F64)], potts, 1)
    torch.testing.assert_close(first, torch.tensor([[[0.8, 0.5], [0.2, 0.5]]], dtype=F64))
    # Pixel 0 hears label 0 with 0.65 and label 1 with 0.35: label 0 gains 2 (0.65 - 0.35) + log 4 nats.
    odds = 4 * math.exp(2 * 0.3)
    torch.testing.assert_close(second[0, 0, 0], torch.tensor(odds / (1 + odds), dtype=F64))


def test_attraction_lowers_the_free_energy_at_every_step():
    """Krahenbuhl & Koltun 2013: self term kept and kernel symmetric, the parallel update descends."""
    features = torch.randn(1, 2, 20, dtype=F64)
    unary, weight = torch.randn(1, 3, 20, dtype=F64), torch.tensor(5.0, dtype=F64)
    kernel = normalized_kernel_matrix(features, "symmetric")
    steps = mean_field(unary, [kernel], [weight], 1 - torch.eye(3, dtype=F64), 8)
    energies = [
        float((q * q.log()).sum() - (q * unary).sum() - 0.5 * 5 * torch.einsum("bli,bij,blj->", q, kernel, q))
        for q in steps
    ]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(energies))
    assert energies[-1] < energies[0] - 0.1


def test_lattice_in_one_dimension_is_linear_interpolation():
    """d = 1: corners at regular steps, hat functions, a (1/2, 1, 1/2) blur twice."""
    spacing = 1 / (2 * math.sqrt(2 / 3) / math.sqrt(2))  # the lattice step in units of the feature
    features = torch.tensor([[0.0, spacing, 1.5 * spacing]], dtype=F64)
    matrix = permutohedral_matrix(features)
    # Three corners 0, 1, 2 hold points. Both axes of d = 1 blur along the line: B B = [[5/4, 1, 1/4], ...].
    blur = torch.tensor([[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]], dtype=F64)
    splat = torch.tensor([[1, 0, 0], [0, 1, 0.5], [0, 0, 0.5]], dtype=F64)
    torch.testing.assert_close(matrix, splat.T @ blur @ blur @ splat / 1.5)


def padded(features: torch.Tensor) -> torch.Tensor:
    """pydensecrf works on four points at once and fills up with points at 0: no values, but corners."""
    return torch.nn.functional.pad(features, (0, -features.shape[-1] % 4))


def test_pydensecrf_generic(extra_data: Path):
    """Lattice matrix, symmetric normalization and mean field together are pydensecrf's `DenseCRF`."""
    golden = np.load(extra_data / "pydensecrf_golden.npz")
    names = [name for name in golden.files if name.startswith("gen_Q_")]
    assert names
    for name in names:
        features = torch.from_numpy(golden[name.replace("Q", "F", 1)]).double()
        logits = -torch.from_numpy(golden[name.replace("Q", "U", 1)]).double().unsqueeze(0)
        labels, points = logits.shape[1:]
        kernel = permutohedral_matrix(padded(features))[:points, :points]
        root = kernel.sum(1).rsqrt()
        kernel = (root[:, None] * kernel * root).unsqueeze(0)
        weight, potts = torch.tensor(4.0, dtype=F64), 1 - torch.eye(labels, dtype=F64)
        q = mean_field(logits, [kernel], [weight], potts, 5)[-1][0]
        expected = torch.from_numpy(golden[name]).double()
        assert torch.equal(q.argmax(0), expected.argmax(0)), name
        assert (q - expected).abs().max() <= 1e-5, name
