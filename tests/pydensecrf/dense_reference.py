"""A CRF of a few dozen points as explicit matrices, in float64: what the drop-in must compute."""

import numpy as np
import torch

from crfnet.crf.reference import permutohedral_matrix

NORMALIZATIONS = ("NO_NORMALIZATION", "NORMALIZE_BEFORE", "NORMALIZE_AFTER", "NORMALIZE_SYMMETRIC")


def kernel(features, normalization):
    """K of the lattice, scaled. Blocks of four are filled up with points at 0: their corners count."""
    points = features.shape[1]
    padded = np.pad(np.asarray(features, np.float64), ((0, 0), (0, -points % 4)))
    matrix = permutohedral_matrix(torch.from_numpy(padded)).numpy()[:points, :points]
    sums = matrix.sum(1)
    left, right = {
        "NO_NORMALIZATION": (1, 1),
        "NORMALIZE_BEFORE": (1, 1 / sums),
        "NORMALIZE_AFTER": (1 / sums[:, None], 1),
        "NORMALIZE_SYMMETRIC": (sums[:, None] ** -0.5, sums**-0.5),
    }[normalization]
    return left * matrix * right


def term(compat, matrix, q):
    """What labels pay: Potts rewards, arrays are penalties."""
    messages = q @ matrix.T
    if np.ndim(compat) == 0:
        return -compat * messages
    if np.ndim(compat) == 1:
        return np.asarray(compat)[:, None] * messages
    return (np.asarray(compat) + np.asarray(compat).T) / 2 @ messages


def penalty(terms, q):
    return sum((term(compat, matrix, q) for compat, matrix in terms), np.zeros_like(q))


def softmax(logits):
    exp = np.exp(logits - logits.max(0))
    return exp / exp.sum(0)


def mean_field(u, terms, steps):
    """Q^0 .. Q^steps."""
    marginals = [softmax(-u)]
    for _ in range(steps):
        marginals.append(softmax(-u - penalty(terms, marginals[-1])))
    return marginals


def free_energy(u, terms, q, pairwise):
    return (q * np.log(np.maximum(q, 1e-20))).sum() + (q * u).sum() + pairwise * (q * penalty(terms, q)).sum()
