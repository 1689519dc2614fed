"""What is refused, in one line that names the argument; what is only warned of."""

import warnings

import numpy as np
import pytest

from crfnet.pydensecrf import _arrays
from crfnet.pydensecrf import densecrf as dcrf
from tests.pydensecrf.small_problem import H, M, N, W, crf, image, numbers, read_only

NAN = np.full((M, N), np.nan)
INF = np.full((M, N), np.inf)
REFUSED = {
    "unary shape": (
        lambda c: c.setUnaryEnergy(numbers(M, 3)),
        r"Bad shape for unary energy \(Need \(3, 35\), got \(3, 3\)\)",
    ),
    "unary object shape": (
        lambda c: c.setUnary(dcrf.ConstUnary(numbers(2, N))),
        r"Bad shape for unary energy \(Need \(3, 35\), got \(2, 35\)\)",
    ),
    "unary of three axes": (
        lambda c: c.setUnaryEnergy(numbers(M, H, W)),
        r"wrong number of dimensions \(expected 2, got 3\): u has shape \(3, 5, 7\)",
    ),
    "unary NaN": (lambda c: c.setUnaryEnergy(NAN), "u: point 0 has an energy NaN"),
    "unary one NaN": (
        lambda c: c.setUnaryEnergy(np.where(np.arange(N) == 4, [[0], [np.nan], [0]], 0)),
        "u: point 4 has",
    ),
    "unary -inf": (lambda c: dcrf.ConstUnary(np.where(np.arange(N) == 4, -INF, 0)), "u: point 4 has"),
    "unary all inf": (lambda c: c.setUnaryEnergy(INF), "none below inf"),
    "unary text": (lambda c: c.setUnaryEnergy([["a"]]), "u: holds <U1, must hold real numbers"),
    "unary complex": (lambda c: c.setUnaryEnergy(1j * NAN), "u: holds complex128, must hold real numbers"),
    "unary ragged": (lambda c: c.setUnaryEnergy([[1, 2], [1]]), "u: .*inhomogeneous"),
    "unary empty": (lambda c: c.setUnary(dcrf.Unary()), "u is an empty Unary"),
    "logistic shapes": (
        lambda c: dcrf.LogisticUnary(numbers(M, 4), numbers(5, N)),
        r"Bad shape for logistic unary \(L is \(3, 4\), f is \(5, 35\)",
    ),
    "logistic NaN": (lambda c: dcrf.LogisticUnary(NAN, numbers(N, N)), "L: holds NaN or infinity"),
    "features shape": (
        lambda c: c.addPairwiseEnergy(numbers(2, 9), 3),
        r"Bad shape for pairwise energy \(Need \(\?, 35\), got \(2, 9\)\)",
    ),
    "features none": (
        lambda c: c.addPairwiseEnergy(numbers(0, N), 3),
        r"Bad shape for pairwise energy \(Need \(\?, 35\), got \(0, 35\)\)",
    ),
    "features NaN": (lambda c: c.addPairwiseEnergy(NAN, 3), "features: holds NaN or infinity"),
    "features too large": (
        lambda c: c.addPairwiseEnergy([[1e300] * N], 3),
        "features: holds NaN or infinity",
    ),
    "compat axes": (
        lambda c: c.addPairwiseGaussian(3, numbers(M, M, M)),
        "LabelCompatibility of dimension >2 not meaningful.",
    ),
    "compat length": (
        lambda c: c.addPairwiseGaussian(3, numbers(5)),
        r"compat has shape \(5,\), must be a number, \(3,\) or \(3, 3\)",
    ),
    "compat size": (lambda c: c.addPairwiseGaussian(3, numbers(7, 7)), r"compat has shape \(7, 7\), must be"),
    "compat NaN": (lambda c: c.addPairwiseGaussian(3, float("nan")), "compat: holds NaN or infinity"),
    "compat inf": (lambda c: c.addPairwiseGaussian(3, [np.inf, 0, 0]), "compat: holds NaN or infinity"),
    "normalization": (
        lambda c: c.addPairwiseGaussian(3, 3, normalization=9),
        r"normalization is 9, must be one of NO_NORMALIZATION \(0\), .*SYMMETRIC \(3\)",
    ),
    "kernel": (
        lambda c: c.addPairwiseGaussian(3, 3, kernel="full"),
        r"kernel is 'full', must be one of CONST_KERNEL \(0\)",
    ),
    "sxy 0": (lambda c: c.addPairwiseGaussian(0, 3), "sxy is 0, must be a number or 2 numbers, all > 0"),
    "sxy NaN": (lambda c: c.addPairwiseGaussian(float("nan"), 3), "sxy is nan, must be"),
    "sxy negative": (lambda c: c.addPairwiseGaussian((3, -3), 3), r"sxy is \(3, -3\), must be"),
    "sxy none": (lambda c: c.addPairwiseGaussian((), 3), r"sxy is \(\), must be a number or 2 numbers"),
    "sxy a matrix": (lambda c: c.addPairwiseGaussian([[3, 3], [3, 3]], 3), r"sxy is \[\[3, 3\], .*, must be"),
    "srgb 0": (
        lambda c: c.addPairwiseBilateral(3, (3, 0, 3), image(), 3),
        r"srgb is \(3, 0, 3\), must be a number or 3 numbers",
    ),
    "image transposed": (
        lambda c: c.addPairwiseBilateral(3, 3, image().transpose(1, 0, 2), 3),
        r"Bad shape for pairwise bilateral \(Need \(5, 7, 3\), got \(7, 5, 3\)\)",
    ),
    "image of four channels": (
        lambda c: c.addPairwiseBilateral(3, 3, np.zeros((H, W, 4)), 3),
        "only works for RGB images. For other types, use `utils.create_pairwise_bilateral` to construct",
    ),
    "image gray": (
        lambda c: c.addPairwiseBilateral(3, 3, np.zeros((H, W)), 3),
        "addPairwiseBilateral only works for RGB images",
    ),
    "image of 0..1": (
        lambda c: c.addPairwiseBilateral(3, 3, image() / 255, 3),
        r"rgbim: values from 0.* not normalized",
    ),
    "image normalized": (lambda c: c.addPairwiseBilateral(3, 3, image() - 120.0, 3), "rgbim: values from -1"),
    "image NaN": (
        lambda c: c.addPairwiseBilateral(3, 3, np.full((H, W, 3), np.nan), 3),
        "rgbim: contains NaN",
    ),
    "niter negative": (lambda c: c.inference(-1), "niter is -1, must be a whole number >= 0"),
    "niter broken": (lambda c: c.inference(2.5), "niter is 2.5, must be a whole number >= 0"),
    "nvar 0": (lambda c: dcrf.DenseCRF(0, 3), "nvar is 0, must be a whole number >= 1"),
    "width": (lambda c: dcrf.DenseCRF2D("7", 5, 3), "w is '7', must be a whole number"),
    "height": (lambda c: dcrf.DenseCRF2D(7, float("inf"), 3), "h is inf, must be a whole number"),
    "nlabels": (lambda c: dcrf.DenseCRF2D(7, 5, None), "nlabels is None, must be a whole number"),
    "Q shape": (
        lambda c: c.stepInference(np.zeros((N, M), np.float32)),
        r"Bad shape for Q \(Need \(3, 35\), got \(35, 3\)\)",
    ),
    "Q shape, divergence": (
        lambda c: c.klDivergence(numbers(M, 2)),
        r"Bad shape for Q \(Need \(3, 35\), got \(3, 2\)\)",
    ),
    "Q read-only": (lambda c: c.stepInference(read_only(numbers(M, N))), "read-only"),
    "labels broken": (
        lambda c: c.unaryEnergy(np.zeros(N)),
        r"l is float64 of shape \(35,\), must be 35 whole numbers",
    ),
    "labels missing": (
        lambda c: c.pairwiseEnergy([0, 1]),
        r"l is int64 of shape \(2,\), must be 35 whole numbers",
    ),
    "term": (lambda c: c.pairwiseEnergy([0] * N, 1), "term is 1, must be -1 for all or one of the 0 terms"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as caught:
        call(crf())
    assert "\n" not in str(caught.value)


def test_a_refused_term_is_not_added():
    one = crf()
    one.setUnaryEnergy(numbers(M, N))
    for wrong in ({"compat": numbers(5)}, {"compat": 3, "normalization": 7}, {"compat": 3, "kernel": 7}):
        with pytest.raises(ValueError, match=r"compat|normalization|kernel"):
            one.addPairwiseGaussian(3, **wrong)
    np.testing.assert_allclose(one.inference(2), one.inference(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.setUnaryEnergy(None), "Argument 'u' must not be None"),
        (lambda c: c.addPairwiseEnergy(None, 3), "Argument 'features' must not be None"),
        (lambda c: c.addPairwiseGaussian(3, None), "Argument 'compat' must not be None"),
        (lambda c: c.addPairwiseBilateral(3, 3, None, 3), "Argument 'rgbim' must not be None"),
        (lambda c: c.setUnary(numbers(M, N)), "Argument 'u' has incorrect type .*got ndarray"),
        (lambda c: c.stepInference(np.zeros((M, N), int)), "Argument 'Q' .* got ndarray of int64"),
        (lambda c: c.stepInference([[0.0]]), "Argument 'Q' has incorrect type .*got list"),
    ],
)
def test_missing_or_of_the_wrong_type(call, message):
    with pytest.raises(TypeError, match=message):
        call(crf())


def test_further_arguments_are_ignored_aloud():
    with pytest.warns(UserWarning, match="DenseCRF2D ignores its arguments 9, color"):
        dcrf.DenseCRF2D(W, H, M, 9, color=True, device="cpu")
    with pytest.warns(UserWarning, match="DenseCRF ignores its arguments 9"):
        dcrf.DenseCRF(N, M, 9, device="cpu")


class TestSign:
    """An array is a penalty, a number a reward: the likeliest misuse is announced, once."""

    @pytest.fixture(autouse=True)
    def _forget(self):
        _arrays.warn_once.cache_clear()
        yield
        _arrays.warn_once.cache_clear()

    @pytest.mark.parametrize(
        "compat",
        [np.eye(M), 10 * np.ones(M), np.array([1.0, -0.2, 0]), 3 - numbers(M, M) / 9 + 9 * np.eye(M)],
    )
    def test_repelling(self, compat):
        with pytest.warns(UserWarning, match="make it negative"):
            crf().addPairwiseGaussian(3, compat)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            crf().addPairwiseGaussian(3, compat)

    @pytest.mark.parametrize("compat", [-np.eye(M), 1 - np.eye(M), -10 * np.ones(M), np.ones((M, M)), 3, -3])
    def test_attracting(self, compat):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            crf().addPairwiseGaussian(3, compat)
            crf().addPairwiseEnergy(numbers(2, N), compat)
