"""Any array, any image, any number; subclasses; whatever torch's defaults are."""

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.pydensecrf import densecrf as dcrf
from tests.pydensecrf.small_problem import H, M, N, W, crf, image, numbers, read_only

AS_ANYTHING = {
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "big-endian": lambda a: a.astype(">f4"),
    "list": lambda a: a.tolist(),
    "read-only": read_only,
    "read-only float64": lambda a: read_only(a.astype(np.float64)),
    "fortran": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "field of a record": lambda a: np.rec.fromarrays([a, a.astype(np.int8)], names="a,b")["a"],
    "torch": torch.from_numpy,
    "torch float64 with gradient": lambda a: torch.from_numpy(a).double().requires_grad_(),
    "torch bfloat16": lambda a: torch.from_numpy(a).bfloat16(),
    "torch transposed": lambda a: torch.from_numpy(a).mT.contiguous().mT,
}


@pytest.mark.parametrize("kind", AS_ANYTHING)
def test_any_array(kind):
    """Unary, features, compatibility and marginals."""
    given = AS_ANYTHING[kind]
    u, f, mu, q = numbers(M, N), numbers(2, N), -numbers(M, M), numbers(M, N)
    if kind == "torch bfloat16":
        u, f, mu, q = (torch.from_numpy(a).bfloat16().float().numpy() for a in (u, f, mu, q))
    expected, ours = crf(), crf()
    for one, form in ((expected, np.asarray), (ours, given)):
        one.setUnaryEnergy(form(u))
        one.addPairwiseEnergy(form(f), form(mu))
        one.addPairwiseEnergy(form(f), form(mu)[0])
    assert (expected.inference(2) == ours.inference(2)).all()
    assert expected.klDivergence(q) == ours.klDivergence(given(q))
    ours.setUnary(dcrf.ConstUnary(given(u)))
    assert (expected.inference(2) == ours.inference(2)).all()


AS_ANY_IMAGE = {
    "int64": lambda a: a.astype(np.int64),
    "float64": lambda a: a.astype(np.float64),
    "list": lambda a: a.tolist(),
    "read-only": read_only,
    "fortran": np.asfortranarray,
    "mirrored twice": lambda a: a[:, ::-1].copy()[:, ::-1],
    "torch": torch.from_numpy,
    "torch permuted": lambda a: torch.from_numpy(a).permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "PIL": Image.fromarray,
}


@pytest.mark.parametrize("kind", AS_ANY_IMAGE)
def test_any_image(kind):
    answers = []
    for form in (np.asarray, AS_ANY_IMAGE[kind]):
        one = crf()
        one.setUnaryEnergy(numbers(M, N))
        one.addPairwiseBilateral(20, 30, form(image()), 3)
        answers.append(one.inference(2))
    assert (answers[0] == answers[1]).all()


def test_a_mask_for_an_image():
    """Bytes of 0 and 1 are on the scale 0..255; only floating-point numbers look normalized."""
    one, other = crf(), crf()
    for each in (one, other):
        each.setUnaryEnergy(numbers(M, N))
    one.addPairwiseBilateral(20, 0.5, image() // 128, 3)
    other.addPairwiseBilateral(20, 50, image() // 128 * np.uint8(100), 3)
    np.testing.assert_allclose(one.inference(2), other.inference(2), atol=1e-5)


def test_any_number():
    answers = []
    for number in (3, 3.0, np.float32(3), np.int64(3), np.array(3.0), torch.tensor(3)):
        one = dcrf.DenseCRF2D(np.int64(W), float(H), M, device="cpu")
        one.setUnaryEnergy(numbers(M, N))
        one.addPairwiseGaussian(number, number, normalization=np.int64(2))
        answers.append(np.array(one.inference(np.int32(2))))
    assert all((answers[0] == answer).all() for answer in answers)


def test_what_cannot_be_has_infinite_energy():
    u, u_large = numbers(M, N), numbers(M, N)
    u[1, :9], u_large[1, :9] = np.inf, 1e4
    one, other = crf(), crf()
    for each, energies in ((one, u), (other, u_large)):
        each.setUnaryEnergy(energies)
        each.addPairwiseGaussian(2, 3)
    q = one.inference(3)
    assert (q[1, :9] == 0).all()
    np.testing.assert_allclose(q, other.inference(3), atol=1e-6)
    assert one.klDivergence(q) == pytest.approx(other.klDivergence(q), rel=1e-6)


def test_default_type_and_device_of_torch_do_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        one = crf()
        one.setUnaryEnergy(numbers(M, N))
        one.addPairwiseBilateral(3, 5, image(), -np.eye(M))
        one.addPairwiseGaussian(3, -np.ones(M))
        with torch.autocast("cpu"):
            q = one.inference(2)
            divergence = one.klDivergence(q)
    finally:
        torch.set_default_dtype(torch.float32)
    assert q.dtype == np.float32
    one = crf()
    one.setUnaryEnergy(numbers(M, N))
    one.addPairwiseBilateral(3, 5, image(), -np.eye(M))
    one.addPairwiseGaussian(3, -np.ones(M))
    assert (one.inference(2) == q).all()
    assert one.klDivergence(q) == divergence


def test_a_subclass_in_python():
    class Mine(dcrf.DenseCRF2D):
        def __init__(self, rgb, labels):
            super().__init__(rgb.shape[1], rgb.shape[0], labels, device="cpu")
            self.addPairwiseBilateral(20, 13, rgb, 4)

        def labels(self, u):
            self.setUnaryEnergy(u)
            return np.argmax(self.inference(3), axis=0)

    expected = crf()
    expected.setUnaryEnergy(numbers(M, N))
    expected.addPairwiseBilateral(20, 13, image(), 4)
    assert (Mine(image(), M).labels(numbers(M, N)) == expected.map(3)).all()
