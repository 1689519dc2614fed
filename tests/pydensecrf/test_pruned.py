"""Labels that are improbable everywhere are not filtered: it shows in time, not in marginals."""

import numpy as np
import pytest

from crfnet.pydensecrf import _solver
from crfnet.pydensecrf.densecrf import (
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    DenseCRF2D,
)
from crfnet.pydensecrf.utils import unary_from_softmax

H, W, LABELS = 9, 13, 8


def crf(compat=10.0, normalization=NORMALIZE_SYMMETRIC, likely=3):
    """Labels from ``likely`` on have probability 1e-5 or less everywhere."""
    random = np.random.default_rng(0)
    probability = random.dirichlet(np.ones(likely), (H, W)).transpose(2, 0, 1)
    rare = 1e-5 * random.random((LABELS - likely, H, W))
    made = DenseCRF2D(W, H, LABELS)
    made.setUnaryEnergy(unary_from_softmax(np.concatenate([probability, rare]), clip=None))
    made.addPairwiseGaussian(2, 3.0, normalization=normalization)
    image = random.integers(0, 256, (H, W, 3), dtype=np.uint8)
    made.addPairwiseBilateral(8, 40, image, compat, normalization=normalization)
    return made


def kept(made):
    """How many labels are filtered."""
    with made._solver.computing():
        pruning = made._solver._prunable(made._solver.marginals(0))
    return LABELS if pruning is None else len(pruning.kept)


@pytest.mark.parametrize("normalization", [NORMALIZE_AFTER, NORMALIZE_BEFORE, NORMALIZE_SYMMETRIC])
@pytest.mark.parametrize("steps", [1, 5, 10])
def test_same_marginals_as_with_all_labels(normalization, steps, monkeypatch):
    made = crf(normalization=normalization)
    assert kept(made) == 3
    pruned = made.inference(steps)
    monkeypatch.setattr(_solver, "_NEGLIGIBLE", 0.0)
    assert kept(made) == LABELS
    whole = made.inference(steps)
    assert np.abs(pruned - whole).max() <= 1e-5  # rounding, which steps amplify
    assert np.array_equal(pruned.argmax(0), whole.argmax(0))
    rare = np.asarray(whole[3:])
    assert np.abs(pruned[3:] - rare).max() <= 1e-4 * rare.max()  # labels that are not filtered too


def test_steps_one_by_one_end_there_too():
    made = crf()
    q, a, b = made.startInference()
    for _ in range(5):
        made.stepInference(q, a, b)
    assert np.abs(np.array(q) - np.array(made.inference(5))).max() <= 1e-5


@pytest.mark.parametrize(
    "compat", [-1.0, -10 * np.ones(LABELS, np.float32), -10 * np.eye(LABELS, dtype=np.float32)]
)
def test_only_where_equal_labels_are_rewarded_by_a_number(compat):
    assert kept(crf(compat)) == LABELS


def test_large_sums_count_more():
    """Without normalization a label may gather rewards from everywhere: fewer are negligible."""
    assert kept(crf(compat=1e6, normalization=NO_NORMALIZATION)) == LABELS


def test_labels_that_cannot_be_stay_impossible():
    made = crf()
    unary = np.zeros((LABELS, H * W), np.float32)
    unary[2:] = np.inf
    made.setUnaryEnergy(unary)
    q = made.inference(5)
    assert (q[2:] == 0).all()
    assert np.allclose(q[:2].sum(0), 1)
