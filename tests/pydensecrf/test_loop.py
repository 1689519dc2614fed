"""`inference` is one compiled loop that filters few directions: it shows in time, not in marginals."""

import sys

import numpy as np
import pytest

from crfnet.crf.inference import label_by_label
from crfnet.kernels.cpu import mean_field
from crfnet.pydensecrf import _solver
from crfnet.pydensecrf.densecrf import (
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    DenseCRF2D,
    NormalizationType,
)
from crfnet.pydensecrf.utils import unary_from_softmax

H, W, LABELS = 9, 13, 12


def hide_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    label_by_label._has_numba.cache_clear()


@pytest.fixture(autouse=True)
def _numba_is_seen_again():
    yield
    label_by_label._has_numba.cache_clear()


def filtered(made, steps, monkeypatch):
    """How many channels the loop filters in each step; None where torch does it."""
    runs = []
    with monkeypatch.context() as patch:
        loop = mean_field.mean_field
        patch.setattr(mean_field, "mean_field", lambda *a, **k: runs.append(loop(*a, **k)) or runs[-1])
        made.inference(steps)
    return runs[0].channels.tolist() if runs else None


def crf(compat=10.0, normalization=NORMALIZE_SYMMETRIC, likely=3):
    """Labels from ``likely`` on have probability 1e-5 or less everywhere."""
    random = np.random.default_rng(0)
    probability = random.dirichlet(np.ones(likely), (H, W)).transpose(2, 0, 1)
    rare = 1e-5 * random.random((LABELS - likely, H, W))
    made = DenseCRF2D(W, H, LABELS, device="cpu")
    made.setUnaryEnergy(unary_from_softmax(np.concatenate([probability, rare]), clip=None))
    made.addPairwiseGaussian(2, 3.0, normalization=normalization)
    image = random.integers(0, 256, (H, W, 3), dtype=np.uint8)
    made.addPairwiseBilateral(8, 40, image, compat, normalization=normalization)
    return made


@pytest.mark.parametrize("normalization", [NORMALIZE_AFTER, NORMALIZE_BEFORE, NORMALIZE_SYMMETRIC])
@pytest.mark.parametrize("steps", [1, 5, 10])
def test_same_marginals_as_with_all_labels(normalization, steps, monkeypatch):
    made = crf(normalization=normalization)
    reduced = made.inference(steps)
    assert filtered(made, steps, monkeypatch) == [8] * steps
    monkeypatch.setattr(_solver, "_REDUCE", 0.0)
    whole = made.inference(steps)
    assert filtered(made, steps, monkeypatch) == [LABELS] * steps
    assert np.abs(reduced - whole).max() <= 1e-4  # what the drop-in promises of marginals
    assert np.array_equal(reduced.argmax(0), whole.argmax(0))
    rare = np.asarray(whole[3:])
    assert np.abs(reduced[3:] - rare).max() <= 1e-4 * rare.max()  # labels that are nowhere likely too


@pytest.mark.parametrize("compat", [10.0, 0.0, -1.0, 1e3])
@pytest.mark.parametrize("normalization", list(NormalizationType))
def test_the_loop_answers_like_torch(compat, normalization, monkeypatch):
    made = crf(compat, normalization)
    compiled = made.inference(3)
    hide_numba(monkeypatch)
    by_torch = made.inference(3)
    tolerance = 1e-5 if compat < 1e3 else 1e-3  # a weight amplifies rounding
    assert np.abs(compiled - by_torch).max() <= tolerance


def test_every_term_has_a_normalization_of_its_own(monkeypatch):
    made = crf(normalization=NORMALIZE_AFTER)
    features = np.random.default_rng(1).normal(size=(2, H * W))
    made.addPairwiseEnergy(features, 2.0, normalization=NORMALIZE_BEFORE)
    made.addPairwiseEnergy(features / 2, -0.1, normalization=NO_NORMALIZATION)
    compiled = made.inference(5)
    assert filtered(made, 1, monkeypatch) == [LABELS]  # unnormalized messages may be of any size
    hide_numba(monkeypatch)
    assert np.abs(compiled - made.inference(5)).max() <= 1e-5


@pytest.mark.parametrize("compat", [10.0, -10 * np.eye(LABELS, dtype=np.float32)])
def test_without_numba_torch_does_it(compat, monkeypatch):
    made = crf(compat)
    before = made.inference(4)
    hide_numba(monkeypatch)
    made = crf(compat)
    assert np.abs(made.inference(4) - before).max() <= 1e-5


def test_steps_one_by_one_end_there_too():
    made = crf()
    q, a, b = made.startInference()
    for _ in range(5):
        made.stepInference(q, a, b)
    # Steps one by one reduce no messages; 1e-4 is what the drop-in promises of marginals.
    assert np.abs(np.array(q) - np.array(made.inference(5))).max() <= 1e-4


@pytest.mark.parametrize(
    "compat", [-10 * np.ones(LABELS, np.float32), -10 * np.eye(LABELS, dtype=np.float32)]
)
def test_only_numbers_go_through_the_loop(compat, monkeypatch):
    assert filtered(crf(compat), 2, monkeypatch) is None


def test_labels_that_cannot_be_stay_impossible():
    made = crf()
    unary = np.zeros((LABELS, H * W), np.float32)
    unary[2:] = np.inf
    made.setUnaryEnergy(unary)
    q = made.inference(5)
    assert (q[2:] == 0).all()
    assert np.allclose(q[:2].sum(0), 1)
