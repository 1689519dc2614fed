"""The whole dense CRF in plain O(N^2) torch: what every faster thing is compared with.

Read it with Krahenbuhl & Koltun 2011 open (equations 2-4 and algorithm 1). Works in any float dtype;
float64 in tests.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.shapes import Features, Values

__all__ = [
    "filter_values",
    "frank_wolfe",
    "free_energy",
    "kernel_matrix",
    "local_matrix",
    "mean_field",
    "normalized_kernel_matrix",
    "permutohedral_matrix",
]


def kernel_matrix(features: Features) -> Float[Tensor, "b n n"]:
    """``K_ij = exp(-|f_i - f_j|^2 / 2)``, K_ii = 1 included."""
    difference = features.unsqueeze(-1) - features.unsqueeze(-2)  # (b, d, n, n)
    return torch.exp(-0.5 * difference.square().sum(1))


def filter_values(values: Values, features: Features) -> Values:
    """``out_i = sum_j K_ij v_j`` for every image and label."""
    return torch.einsum("bij,blj->bli", kernel_matrix(features), values)


def normalized_kernel_matrix(features: Features, normalization: str) -> Float[Tensor, "b n n"]:
    """K scaled by its row sums n = K 1.

    ``after`` K_ij / n_i, ``before`` K_ij / n_j, ``symmetric`` K_ij / sqrt(n_i n_j), ``none`` K_ij.
    """
    kernel = kernel_matrix(features)
    row_sums = kernel.sum(-1)
    by_row, by_column = row_sums.unsqueeze(-1), row_sums.unsqueeze(-2)
    scale = {
        "after": by_row,
        "before": by_column,
        "symmetric": (by_row * by_column).sqrt(),
        "none": torch.ones_like(by_row),
    }[normalization]
    return kernel / scale


def mean_field(
    unary_logits: Values,
    kernels: Sequence[Float[Tensor, "b n n"]],
    weights: Sequence[Tensor],
    compatibility: Float[Tensor, "l l"],
    iterations: int,
) -> list[Values]:
    """``Q^0 = softmax(U)``, ``Q^{t+1} = softmax(U - mu sum_m W_m K_m Q^t)``.

    Krahenbuhl & Koltun 2011, algorithm 1.

    Args:
        unary_logits: U, minus the unary energy.
        kernels: Normalized kernel matrices; the sum over j includes j = i, as in both released codes.
        weights: W_m of each kernel: () one number, (l,) one per label, (l, l) a matrix over labels.
        compatibility: mu, the penalty of label l (row) beside label l' (column); Potts is 1 - I.
        iterations: T, the number of parallel updates.

    Returns:
        Q^0 .. Q^T.
    """
    marginals = [unary_logits.softmax(1)]
    for _ in range(iterations):
        messages = torch.zeros_like(unary_logits)
        for kernel, weight in zip(kernels, weights, strict=True):
            filtered = torch.einsum("bij,blj->bli", kernel, marginals[-1])
            matrix = weight if weight.ndim == 2 else torch.diag(weight.expand(unary_logits.shape[1]))
            messages = messages + matrix @ filtered
        marginals.append((unary_logits - compatibility @ messages).softmax(1))
    return marginals


def free_energy(
    marginals: Values,
    unary_logits: Values,
    kernels: Sequence[Float[Tensor, "b n n"]],
    weights: Sequence[Tensor],
    compatibility: Float[Tensor, "l l"],
) -> Float[Tensor, " b"]:
    """``sum Q log Q - sum U Q + 1/2 sum_ij Q_i . mu sum_m W_m K_m,ij Q_j``, in nats; KL(Q | P) - log Z.

    Krahenbuhl & Koltun 2011, section 3, with the pairs i = j in the sum. Arguments as of `mean_field`.
    """
    total = (torch.xlogy(marginals, marginals) - unary_logits * marginals).sum((1, 2))
    for kernel, weight in zip(kernels, weights, strict=True):
        matrix = weight if weight.ndim == 2 else torch.diag(weight.expand(len(compatibility)))
        pairs = torch.einsum("bki,bij,blj->bkl", marginals, kernel, marginals)  # sum_ij Q_i(k) K_ij Q_j(l)
        total = total + 0.5 * ((compatibility @ matrix) * pairs).sum((1, 2))
    return total


def frank_wolfe(
    unary_logits: Values,
    pairwise: Float[Tensor, "b ln ln"],
    steps: Sequence[float],
    regularizer: str,
    lam: float,
) -> list[Values]:
    """``s = argmin <P x - u, s> + lam r(s)``, ``x <- x + alpha (s - x)``, from ``x = softmax(u)``.

    Le-Huu & Alahari 2021.

    Args:
        unary_logits: u.
        pairwise: P on ``x`` flattened to one axis, label by label.
        steps: alpha of every step.
        regularizer: r is ``entropy`` sum x log x, or ``euclidean`` |x|^2 / 2.
        lam: its strength.

    Returns:
        x^0 .. x^T.
    """
    points = [unary_logits.softmax(1)]
    for alpha in steps:
        penalty = torch.einsum("bij,bj->bi", pairwise, points[-1].flatten(1)).view_as(unary_logits)
        scores = (unary_logits - penalty) / lam
        target = scores.softmax(1) if regularizer == "entropy" else _nearest_on_simplex(scores)
        points.append(points[-1] + alpha * (target - points[-1]))
    return points


def _nearest_on_simplex(scores: Values) -> Values:
    """``max(z - tau, 0)`` over labels, with tau found by halving until it sums to 1."""
    low, high = scores.amax(1, keepdim=True) - 1, scores.amax(1, keepdim=True)
    for _ in range(60):
        tau = (low + high) / 2
        too_much = (scores - tau).clamp_min(0).sum(1, keepdim=True) > 1
        low, high = torch.where(too_much, tau, low), torch.where(too_much, high, tau)
    return (scores - low).clamp_min(0)


def local_matrix(
    features: Features, grid: Sequence[int], window: int, pool: int, *, centered: bool = False
) -> Float[Tensor, "b n n"]:
    """The matrix ``U K P``: averages over cells of pool^axes pixels, K within a window of cells, upsampling.

    Teichmann & Cipolla 2018. With ``pool`` 1 both U and P are the identity.

    Args:
        features: of the pixels.
        grid: sizes of the axes of the pixel grid, slowest first; their product is n.
        window: cells along each axis, odd: those up to ``window // 2`` away in every axis are neighbors.
        pool: pixels along each axis of a cell; the last cell of an axis may have fewer.
        centered: the pixels that cells lack are shared out before the first and behind the last one.
    """
    down = up = features.new_ones(1, 1)
    near = torch.ones(1, 1, dtype=torch.bool)
    for size in grid:
        cells = -(-size // pool)
        before = math.ceil((cells * pool - size) / 2) if centered else 0
        average, spread = features.new_zeros(cells, size), features.new_zeros(size, cells)
        for pixel in range(size):
            average[(pixel + before) // pool, pixel] = 1
            place = min(max((pixel + before + 0.5) / pool - 0.5, 0.0), cells - 1.0)  # in units of cells
            for c in range(cells):
                spread[pixel, c] = max(0.0, 1 - abs(c - place))
        average = average / average.sum(1, keepdim=True)
        down, up = torch.kron(down, average), torch.kron(up, spread)
        index = torch.arange(cells)
        near = torch.kron(near, (index - index.unsqueeze(1)).abs() <= window // 2)
    kernel = kernel_matrix(features @ down.T) * near
    return up @ kernel @ down


def permutohedral_matrix(features: Float[Tensor, "d n"]) -> Float[Tensor, "n n"]:
    """The matrix ``alpha S^T B_d .. B_0 S`` that the permutohedral lattice applies in place of K.

    Adams, Baek & Davis 2010, section 3: S splats every point on the d+1 corners of the simplex that holds
    it, B_j blurs along lattice axis j over the corners that exist, S^T slices; alpha = 1 / (1 + 2^-d). For
    a few dozen points.
    """
    dimensions, points = features.shape
    splat: dict[tuple[int, ...], list[float]] = {}  # corner -> its row of S
    for point in range(points):
        for corner, weight in _simplex(_elevate(features[:, point].tolist())):
            splat.setdefault(corner, [0.0] * points)[point] += weight
    corners = {corner: row for row, corner in enumerate(splat)}
    matrix = torch.tensor(list(splat.values()), dtype=features.dtype)
    blurred = matrix
    for axis in range(dimensions + 1):
        blur = torch.eye(len(corners), dtype=features.dtype)
        for corner, row in corners.items():
            for sign in (-1, 1):
                neighbor = tuple(
                    c + sign * (1 - (dimensions + 1) * (i == axis)) for i, c in enumerate(corner)
                )
                if neighbor in corners:
                    blur[row, corners[neighbor]] = 0.5
        blurred = blur @ blurred
    return matrix.T @ blurred / (1 + 2.0**-dimensions)


def _elevate(feature: list[float]) -> list[float]:
    """A point of R^d in the hyperplane sum = 0 of R^(d+1), in units of d+1.

    Feature i moves it along the direction (1, .., 1, -i, 0, .., 0), which has i ones; these are orthogonal,
    and scaled so that the blur is as wide as one unit of a feature.
    """
    elevated, above = [], 0.0
    for i in range(len(feature), 0, -1):
        scaled = feature[i - 1] * math.sqrt(2 / 3 / (i * (i + 1)))
        elevated.append(above - scaled * i)
        above += scaled
    return [above, *reversed(elevated)]


def _simplex(elevated: list[float]) -> list[tuple[tuple[int, ...], float]]:
    """The corners of the simplex around a point, with the point's barycentric weights.

    A corner is d+1 integers that sum to 0 and are all equal modulo d+1.
    """
    size = len(elevated)
    base = [round(x) for x in elevated]
    order = sorted(range(size), key=lambda i: base[i] - elevated[i])  # largest remainder first
    excess = sum(base)  # take 1 off the excess lowest remainders, or give the -excess highest 1 more
    for i in order[size - excess :]:
        base[i] -= 1
    for i in order[: max(0, -excess)]:
        base[i] += 1
    order = order[-excess:] + order[:-excess]  # again largest remainder first
    rest = [elevated[i] - base[i] for i in order]
    falling = [1 + rest[-1], *rest]
    corners = []
    for k in range(size):  # corner k: the size - k largest go up by k, the others down by size - k
        corner = tuple(size * b + (k if i in order[: size - k] else k - size) for i, b in enumerate(base))
        weight = falling[0] - falling[1] if k == 0 else falling[size - k] - falling[size - k + 1]
        corners.append((corner, weight))
    return corners
