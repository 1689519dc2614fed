"""`DenseCRF` and `DenseCRF2D` against matrices and plain loops."""

import pickle

import numpy as np
import pytest
import torch

from crfnet.crf.energy import energy
from crfnet.crf.inference import MeanField
from crfnet.kernels.cpu import lattice
from crfnet.pydensecrf import _pairwise, image_crf
from crfnet.pydensecrf import densecrf as dcrf
from tests.pydensecrf import dense_reference

M, N = 4, 30
COMPATS = ("number", "diagonal", "matrix")


def problem(points=N, labels=M):
    """Energies and two sets of features, clustered enough for points to share corners."""
    random = np.random.default_rng(0)
    u = 3 * random.random((labels, points), dtype=np.float32)
    features = [random.normal(size=(d, points), scale=s).astype(np.float32) for d, s in ((2, 1.0), (4, 0.7))]
    matrix = random.normal(size=(labels, labels)).astype(np.float32) - 2 * np.eye(labels, dtype=np.float32)
    compats = {"number": 1.5, "diagonal": -random.random(labels, dtype=np.float32), "matrix": matrix}
    return u, features, compats


def both(normalization, kind, points=N, labels=M):
    """The same CRF here and as matrices; its second term is Potts in any case."""
    u, (few, many), compats = problem(points, labels)
    crf = dcrf.DenseCRF(points, labels, device="cpu")
    crf.setUnaryEnergy(u)
    terms = []
    for features, compat in ((few, compats[kind]), (many, 2.0)):
        crf.addPairwiseEnergy(features, compat, normalization=getattr(dcrf, normalization))
        terms.append((compat, dense_reference.kernel(features, normalization)))
    return crf, u.astype(np.float64), terms


@pytest.mark.parametrize("normalization", dense_reference.NORMALIZATIONS)
@pytest.mark.parametrize("kind", COMPATS)
class TestAgainstPlainLoops:
    def test_inference(self, normalization, kind):
        crf, u, terms = both(normalization, kind)
        for steps, expected in enumerate(dense_reference.mean_field(u, terms, 4)):
            np.testing.assert_allclose(crf.inference(steps), expected, atol=2e-5)
        assert np.abs(expected - dense_reference.softmax(-u)).max() > 0.1

    def test_step_by_step(self, normalization, kind):
        crf, u, terms = both(normalization, kind)
        q, tmp1, tmp2 = crf.startInference()
        seen = np.asarray(q)
        for expected in dense_reference.mean_field(u, terms, 3):
            np.testing.assert_allclose(seen, expected, atol=2e-5)
            assert crf.klDivergence(q) == pytest.approx(
                dense_reference.free_energy(u, terms, expected, 1.0), rel=1e-5
            )
            assert crf.freeEnergy(q) == pytest.approx(
                dense_reference.free_energy(u, terms, expected, 0.5), rel=1e-5
            )
            assert crf.stepInference(q, tmp1, tmp2) is None

    def test_energies_of_a_labeling(self, normalization, kind):
        crf, u, terms = both(normalization, kind)
        labels = np.random.default_rng(1).integers(0, M, N)
        labels[[0, 5]] = -1, M  # no labels: they neither pay nor cost
        known = np.flatnonzero((labels >= 0) & (labels < M))
        chosen = np.zeros((M, N))
        chosen[labels[known], known] = 1
        np.testing.assert_allclose(crf.unaryEnergy(labels), (chosen * u).sum(0), rtol=1e-6)
        one = [-(chosen * dense_reference.penalty([term], chosen)).sum(0) / 2 for term in terms]
        for index in (0, 1):
            np.testing.assert_allclose(crf.pairwiseEnergy(labels, index), one[index], atol=1e-5)
        np.testing.assert_allclose(crf.pairwiseEnergy(labels.reshape(5, 6)), one[0] + one[1], atol=1e-5)


@pytest.mark.parametrize("points", [1, 2, 3, 4, 5, 31])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_few_points_and_labels(points, labels):
    """The last block of four points is filled up with points that have corners and no values."""
    crf, u, terms = both("NORMALIZE_SYMMETRIC", "number", points, labels)
    q = crf.inference(3)
    assert q.shape == (labels, points)
    np.testing.assert_allclose(q, dense_reference.mean_field(u, terms, 3)[-1], atol=2e-5)


def image_problem():
    random = np.random.default_rng(2)
    image = random.integers(0, 256, (3, 5, 3), dtype=np.uint8) // 8
    return 2 * random.random((M, 15), dtype=np.float32), image


def test_pixels_row_by_row_width_first():
    """Features are (x, y) and (x, y, r, g, b), each by its own width."""
    u, image = image_problem()
    crf = dcrf.DenseCRF2D(5, 3, M, device="cpu")
    crf.setUnaryEnergy(u)
    crf.addPairwiseGaussian((2.1, 1.3), 1.5)
    crf.addPairwiseBilateral((4.1, 2.7), (5, 7, 9), image, 2.5, normalization=dcrf.NORMALIZE_AFTER)
    place = np.array([[x / 2.1, y / 1.3] for y in range(3) for x in range(5)]).T
    color = np.array(
        [[x / 4.1, y / 2.7, *(image[y, x] / np.array([5, 7, 9]))] for y in range(3) for x in range(5)]
    ).T
    terms = [
        (1.5, dense_reference.kernel(place, "NORMALIZE_SYMMETRIC")),
        (2.5, dense_reference.kernel(color, "NORMALIZE_AFTER")),
    ]
    np.testing.assert_allclose(crf.inference(5), dense_reference.mean_field(u, terms, 5)[-1], atol=5e-5)


@pytest.mark.filterwarnings("ignore:srgb is a sequence of one number")
def test_one_width_for_all():
    u, image = image_problem()
    answers = []
    for sxy, srgb in ((3, 5), ((3.0, 3.0), [5, 5, 5]), (np.float32(3), np.array([5.0]))):
        crf = dcrf.DenseCRF2D(w=5, h=3, nlabels=M, device="cpu")
        crf.setUnaryEnergy(u)
        crf.addPairwiseGaussian(sxy=sxy, compat=3)
        crf.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=image, compat=4)
        answers.append(crf.inference(2))
    assert (answers[0] == answers[1]).all()
    assert (answers[0] == answers[2]).all()


def test_step_is_that_of_mean_field():
    crf, _, _ = both("NORMALIZE_AFTER", "matrix")
    solver = crf._solver
    log_q = MeanField().run(solver.logits, solver._penalty, 4)
    np.testing.assert_allclose(crf.inference(4), log_q[0].exp().numpy(), atol=1e-6)


def test_free_energy_falls_and_the_legacy_number_is_another():
    crf, _, _ = both("NORMALIZE_SYMMETRIC", "number")
    q, tmp1, tmp2 = crf.startInference()
    energies = [crf.freeEnergy(q)]
    for _ in range(5):
        crf.stepInference(q, tmp1, tmp2)
        energies.append(crf.freeEnergy(q))
    assert (np.diff(energies) < 1e-4).all()
    assert energies[-1] < energies[0] - 0.5
    assert crf.klDivergence(q) < energies[-1] - 1


def test_energy_of_a_labeling_is_that_of_the_layer():
    """`crfnet.crf.energy.energy` of Potts, 1 - I, is higher by half of the kernel's sum."""
    crf, u, terms = both("NORMALIZE_SYMMETRIC", "number")
    labels = np.random.default_rng(1).integers(0, M, N)
    expected = energy(
        torch.from_numpy(labels)[None],
        -torch.from_numpy(u)[None],
        lambda q: torch.from_numpy(dense_reference.penalty(terms, q[0].numpy()))[None],
    )
    ours = crf.unaryEnergy(labels).sum() - crf.pairwiseEnergy(labels).sum()
    assert ours == pytest.approx(float(expected), rel=1e-5)


def test_map_is_the_likeliest_label():
    crf, _, _ = both("NORMALIZE_SYMMETRIC", "number")
    q = crf.inference(3)
    expected = np.argmax(q, axis=0)
    assert (crf.map(3) == expected).all()
    assert (crf.currentMap(q) == expected).all()
    assert crf.currentMap(np.eye(4)[:, [2, 0] * 15]).tolist() == [2, 0] * 15


def test_without_a_unary():
    crf = dcrf.DenseCRF(6, 3, device="cpu")
    crf.addPairwiseEnergy(np.arange(12).reshape(2, 6) / 5, 3)
    np.testing.assert_allclose(crf.inference(2), 1 / 3, rtol=1e-6)
    q, tmp1, tmp2 = crf.startInference()
    assert (np.asarray(q) == 0).all()
    assert tmp1.shape == tmp2.shape == (0, 0)
    assert crf.klDivergence(q) == 0
    crf.stepInference(q, tmp1, tmp2)
    np.testing.assert_allclose(q, 1 / 3, rtol=1e-6)
    assert (crf.unaryEnergy([0] * 6) == 0).all()


def test_without_terms():
    u, _, _ = problem()
    crf = dcrf.DenseCRF(N, M, device="cpu")
    crf.setUnaryEnergy(u)
    np.testing.assert_allclose(crf.inference(3), dense_reference.softmax(-u), atol=1e-6)
    assert (crf.pairwiseEnergy([0] * N) == 0).all()


def test_logistic_unary():
    random = np.random.default_rng(3)
    weights, features = random.normal(size=(M, 6)), random.normal(size=(6, N))
    crfs = [dcrf.DenseCRF(N, M, device="cpu") for _ in range(3)]
    crfs[0].setUnaryEnergy(weights @ features)
    crfs[1].setUnary(dcrf.LogisticUnary(weights, features))
    crfs[2].setUnaryEnergy(weights, features)
    expected, *others = [np.array(crf.inference(0)) for crf in crfs]
    for other in others:
        np.testing.assert_allclose(other, expected, atol=1e-6)


def test_a_unary_serves_twice_and_keeps_its_own_numbers():
    u, _, _ = problem()
    expected = dense_reference.softmax(-u)
    unary = dcrf.ConstUnary(u)
    first, second, third = (dcrf.DenseCRF(N, M, device="cpu") for _ in range(3))
    third.setUnaryEnergy(u)
    u[:] = 0  # the caller's array is the caller's again
    first.setUnary(unary)
    second.setUnary(pickle.loads(pickle.dumps(unary)))
    for crf in (first, second, third):
        np.testing.assert_allclose(crf.inference(0), expected, atol=1e-6)


def test_a_new_unary_replaces_the_old():
    crf, u, terms = both("NORMALIZE_SYMMETRIC", "number")
    crf.inference(1)
    crf.setUnaryEnergy(u[::-1])
    np.testing.assert_allclose(crf.inference(2), dense_reference.mean_field(u[::-1], terms, 2)[-1], atol=2e-5)


def counted_builds(monkeypatch):
    """A list that takes a word for every lattice that is built."""
    built = []
    for module, name in ((_pairwise, "torch"), (lattice, "compiled")):
        build = module.build_lattice

        def counted(*args, build=build, name=name):
            built.append(name)
            return build(*args)

        monkeypatch.setattr(module, "build_lattice", counted)
    return built


def test_lattices_are_built_once(monkeypatch):
    built = counted_builds(monkeypatch)
    crf, u, terms = both("NORMALIZE_SYMMETRIC", "number")
    crf.inference(2)
    q, tmp1, tmp2 = crf.startInference()
    crf.stepInference(q, tmp1, tmp2)
    crf.klDivergence(q)
    assert sorted(built) == sorted(2 * ["torch", "compiled"])  # the steps one by one are torch's
    third = problem()[1][0][:1]
    crf.addPairwiseEnergy(third, 3)  # after an inference: it counts
    terms.append((3, dense_reference.kernel(third, "NORMALIZE_SYMMETRIC")))
    np.testing.assert_allclose(crf.inference(2), dense_reference.mean_field(u, terms, 2)[-1], atol=2e-5)


@pytest.mark.parametrize(
    "other", [{"h": 6}, {"sxy": (2, 4)}, {"normalization": dcrf.NORMALIZE_AFTER}, {"compat": 5}]
)
def test_images_of_one_size_share_the_smoothness_lattice(monkeypatch, other):
    built = counted_builds(monkeypatch)
    image_crf._new_smoothness_kernel.cache_clear()

    def answer(h=5, sxy=(2, 3), compat=3, normalization=dcrf.NORMALIZE_SYMMETRIC):
        crf = dcrf.DenseCRF2D(7, h, M, device="cpu")
        crf.setUnaryEnergy(np.random.default_rng(0).random((M, 7 * h)))
        crf.addPairwiseGaussian(sxy, compat, normalization=normalization)
        return np.array(crf.inference(3))

    first = answer()
    assert np.array_equal(answer(), first)
    assert len(built) == 1
    changed = answer(**other)
    assert len(built) == 1 + ("compat" not in other)  # the weight is not in what is shared
    image_crf._new_smoothness_kernel.cache_clear()
    assert np.array_equal(answer(**other), changed)
    assert np.array_equal(answer(), first)


@pytest.mark.parametrize("kernel", [dcrf.CONST_KERNEL, dcrf.DIAG_KERNEL, dcrf.FULL_KERNEL, 0, 2])
def test_kernel_types_change_nothing(kernel):
    u, (features, _), _ = problem()
    answers = []
    for given in ({}, {"kernel": kernel}):
        crf = dcrf.DenseCRF(N, M, device="cpu")
        crf.setUnaryEnergy(u)
        crf.addPairwiseEnergy(features, 3, **given)
        answers.append(crf.inference(2))
    assert (answers[0] == answers[1]).all()


def test_names_and_numbers_of_the_constants():
    for number, name in enumerate(dense_reference.NORMALIZATIONS):
        assert getattr(dcrf, name) == getattr(dcrf.NormalizationType, name) == number
    for number, name in enumerate(("CONST_KERNEL", "DIAG_KERNEL", "FULL_KERNEL")):
        assert getattr(dcrf, name) == getattr(dcrf.KernelType, name) == number
