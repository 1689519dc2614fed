"""The few directions in which marginals are filtered: the leading ones of their Gram matrix."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import numpy as np

from crfnet.kernels.cpu.compile import kernel, making_arrays

__all__ = ["choose_basis"]

_NOTHING = 1e-5  # share of the limit that columns may come to that the basis leaves out
_TURNS = 2  # of orthogonal iteration, from a start that is already good


@making_arrays
def choose_basis(gram, limit, most, basis, supported):
    """The smallest number of groups of eight directions that leave little of the marginals.

    Args:
        gram: (c, c) sum of q q^T over pixels, of all columns q of the marginals.
        limit: the sum of squares over those pixels that may be left.
        most: groups that all columns fill: the answer where fewer do not do.
        basis: (c, 8 groups or more), receives an orthonormal basis; columns beyond the rank of ``gram`` are
            0, and so are rows of columns whose squares come to nearly nothing.
        supported: bool (c,), receives which rows are not 0.
    """
    columns = len(gram)
    everything = np.trace(gram)
    gram = _supported_part(gram, limit, supported)
    for groups in range(1, most):
        directions = _pivoted(gram, 8 * groups)
        _orthonormalize(directions)
        for _ in range(_TURNS):
            directions = _product(gram, directions)
            _orthonormalize(directions)
        kept = 0.0
        image = _product(gram, directions)
        for c in range(columns):
            for k in range(8 * groups):
                kept += image[c, k] * directions[c, k]
        if everything - kept <= limit:
            for c in range(columns):
                for k in range(8 * groups):
                    basis[c, k] = directions[c, k]
            return groups
    return most


@making_arrays
def _supported_part(gram, limit, supported):
    """The matrix with 0 in rows and columns whose squares come to nearly nothing."""
    part = gram.copy()
    for c in range(len(gram)):
        supported[c] = gram[c, c] > _NOTHING * limit / len(gram)
        if not supported[c]:
            part[c, :] = 0.0
            part[:, c] = 0.0
    return part


@making_arrays
def _pivoted(gram, rank):
    """Columns of a Cholesky factor, each for the column of which most is left: a good first basis."""
    columns = len(gram)
    factor = np.zeros((columns, rank))
    left = np.diag(gram).copy()
    for k in range(rank):
        pivot = left.argmax()
        if left[pivot] <= 1e-15 * gram[pivot, pivot]:
            break
        root = np.sqrt(left[pivot])
        for c in range(columns):
            value = gram[c, pivot]
            for j in range(k):
                value -= factor[c, j] * factor[pivot, j]
            factor[c, k] = value / root
        for c in range(columns):
            left[c] = max(0.0, left[c] - factor[c, k] ** 2)
        left[pivot] = 0.0
    return factor


@making_arrays
def _product(gram, directions):
    columns, rank = directions.shape
    out = np.zeros((columns, rank))
    for c in range(columns):
        for b in range(columns):
            if gram[c, b] != 0.0:
                for k in range(rank):
                    out[c, k] += gram[c, b] * directions[b, k]
    return out


@kernel
def _orthonormalize(directions):
    """Gram-Schmidt, each column twice; one that lies in the span of those before becomes 0."""
    columns, rank = directions.shape
    for k in range(rank):
        before = _length(directions, k)
        for _ in range(2):
            for j in range(k):
                along = 0.0
                for c in range(columns):
                    along += directions[c, j] * directions[c, k]
                for c in range(columns):
                    directions[c, k] -= along * directions[c, j]
        after = _length(directions, k)
        scale = 1 / after if after > 1e-12 * before else 0.0
        for c in range(columns):
            directions[c, k] *= scale


@kernel
def _length(directions, k):
    total = 0.0
    for c in range(len(directions)):
        total += directions[c, k] ** 2
    return np.sqrt(total)
