"""Every label compatibility, and the signs of the codes that circulate."""

import numpy as np
import pytest
import torch

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.compatibility import (
    COMPATIBILITIES,
    DiagonalCompatibility,
    MatrixCompatibility,
    PottsCompatibility,
    SymmetricCompatibility,
)
from crfnet.crf.inference import MeanField
from crfnet.errors import InputError
from tests.tolerances import assert_close

LABELS = 4
F64 = torch.float64
LEARNED = [name for name in COMPATIBILITIES if name != "potts"]


def _messages(dtype=F64) -> torch.Tensor:
    return torch.randn(2, LABELS, 5, dtype=dtype)


def _changed(name, **options):
    """In float64 and away from where it starts, so that a transpose or a sign shows."""
    compatibility = COMPATIBILITIES[name](LABELS, **options).double()
    with torch.no_grad():
        for parameter in compatibility.parameters():
            parameter.add_(torch.randn_like(parameter))
    return compatibility


# every compatibility


@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_starts_as_the_potts_penalty_up_to_a_constant_per_pixel(name):
    messages = _messages()
    potts = (1 - torch.eye(LABELS, dtype=F64)) @ messages
    difference = COMPATIBILITIES[name](LABELS)(messages) - potts
    assert (difference - difference[:, :1]).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_forward_is_the_penalty_of_the_matrix_up_to_a_constant_per_pixel(name, dtype):
    compatibility, messages = _changed(name), _messages(dtype).mT.contiguous().mT  # not contiguous
    expected = torch.einsum("lk,bkn->bln", compatibility.matrix().double(), messages.double())
    assert_close(compatibility.penalty(messages), expected, "layer", dtype)
    forward = compatibility(messages)
    assert forward.dtype == compatibility.penalty(messages).dtype == dtype
    centered = (x - x.mean(1, keepdim=True) for x in (forward, expected))
    assert_close(*centered, "layer", dtype)


@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_gradient_of_messages(name):
    assert torch.autograd.gradcheck(_changed(name), _messages().requires_grad_())


@pytest.mark.parametrize("name", LEARNED)
def test_gradient_of_what_is_learned(name):
    compatibility, messages = _changed(name), _messages()
    ((parameter, value),) = compatibility.named_parameters()

    def forward(value):
        return torch.func.functional_call(compatibility, {parameter: value}, (messages,))

    assert torch.autograd.gradcheck(forward, value)
    mu = _changed(name).matrix()
    assert mu.requires_grad


@pytest.mark.parametrize("learnable", [True, False])
@pytest.mark.parametrize("name", LEARNED)
def test_learns_only_when_asked(name, learnable):
    (parameter,) = COMPATIBILITIES[name](LABELS, learnable=learnable).parameters()
    assert parameter.requires_grad is learnable


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("kind", [torch.tensor, np.asarray, list])
def test_starts_from_what_is_given_as_a_copy(name, kind):
    numbers = np.arange(LABELS, dtype=np.float32)
    numbers = numbers if name == "diagonal" else np.add.outer(numbers, 10 * numbers)
    given = kind(numbers.tolist()) if kind is not list else numbers.tolist()
    compatibility = COMPATIBILITIES[name](LABELS, initial=given)
    matrix = torch.from_numpy(np.diag(numbers) if name == "diagonal" else numbers)
    if name == "symmetric":
        matrix = (matrix + matrix.T) / 2
    assert torch.equal(compatibility.matrix().detach(), matrix)
    if kind is not list:
        given[0] = 99
        assert torch.equal(compatibility.matrix().detach(), matrix)


@pytest.mark.parametrize("name", LEARNED)
def test_a_start_of_another_shape_or_not_finite_is_refused(name):
    kind, shape = COMPATIBILITIES[name], (LABELS,) if name == "diagonal" else (LABELS, LABELS)
    message = rf"{kind.__name__}: initial has shape \(3, 3\), must be \({', '.join(map(str, shape))},?\)"
    with pytest.raises(InputError, match=message):
        kind(LABELS, initial=torch.eye(3))
    with pytest.raises(InputError, match=f"{kind.__name__}: initial holds NaN or infinity"):
        kind(LABELS, initial=torch.full(shape, torch.nan))


# each


def test_potts_has_nothing_to_learn_and_nothing_to_set():
    assert list(PottsCompatibility(LABELS, learnable=True).parameters()) == []
    assert torch.equal(PottsCompatibility(3).matrix(), 1 - torch.eye(3))
    with pytest.raises(InputError, match="initial is given, must be None"):
        PottsCompatibility(LABELS, initial=torch.eye(LABELS))


def test_matrix_is_a_penalty_by_row_and_is_not_symmetrized():
    messages = _messages()
    compatibility = MatrixCompatibility(LABELS, initial=torch.arange(LABELS**2.0).view(LABELS, LABELS))
    expected = torch.einsum("lk,bkn->bln", compatibility.mu.double(), messages)
    assert_close(compatibility(messages), expected, "layer", F64)


def test_symmetric_stays_symmetric_whatever_is_learned():
    compatibility = _changed("symmetric")
    assert not torch.equal(compatibility.free, compatibility.free.mT)
    assert torch.equal(compatibility.matrix(), compatibility.matrix().mT)


# the sign, in the words of the codes that circulate: their update in plain torch against ours


def _problem():
    unary = 2 * torch.randn(2, LABELS, 7, dtype=F64)
    kernel = torch.rand(2, 7, 7, dtype=F64)
    return unary, (kernel + kernel.mT) / 7


def _ours(unary, kernel, compatibility, weight=1.0):
    return MeanField().run(unary, lambda q: compatibility(weight * q @ kernel.mT), 4).exp()


def _theirs(unary, step):
    q = unary.softmax(1)
    for _ in range(4):
        q = step(q).softmax(1)
    return q


def test_pydensecrf_number_is_potts_of_that_weight():
    """Its ``compat=w``: the energy gains -w K Q, and the logits are minus the energy."""
    unary, kernel = _problem()
    theirs = _theirs(unary, lambda q: -(-unary + -3.0 * (q @ kernel.mT)))
    assert_close(_ours(unary, kernel, PottsCompatibility(LABELS), 3.0), theirs, "layer", F64)


def test_pydensecrf_vector_is_our_diagonal():
    """Its one-dimensional ``compat`` is added to the energy as it is: negative rewards equal labels."""
    unary, kernel = _problem()
    d = torch.tensor([-4.0, -2.0, 1.0, -0.5], dtype=F64)
    theirs = _theirs(unary, lambda q: -(-unary + d.view(-1, 1) * (q @ kernel.mT)))
    assert_close(_ours(unary, kernel, DiagonalCompatibility(LABELS, initial=d)), theirs, "layer", F64)


def test_pydensecrf_matrix_is_our_symmetric():
    """Its two-dimensional ``compat`` is symmetrized, and added to the energy."""
    unary, kernel = _problem()
    m = torch.arange(16.0).view(4, 4).sub(9).div(4)
    theirs = _theirs(unary, lambda q: -(-unary + (0.5 * (m + m.T)).double() @ (q @ kernel.mT)))
    assert_close(_ours(unary, kernel, SymmetricCompatibility(LABELS, initial=m)), theirs, "layer", F64)
    not_symmetrized = _ours(unary, kernel, MatrixCompatibility(LABELS, initial=m))
    assert (not_symmetrized - theirs).abs().max() > 0.01


@pytest.mark.parametrize(("sign", "theirs_added"), [(-1, True), (1, False)])
def test_crfasrnn_matrix_is_ours_subtracted_and_minus_ours_added(sign, theirs_added):
    """The PyTorch port adds C times the messages; Keras and Caffe subtract it."""
    unary, kernel = _problem()
    c = torch.arange(16.0).view(4, 4).sub(7).div(4)

    def step(q):
        pairwise = c.double() @ (q @ kernel.mT)
        return unary + pairwise if theirs_added else unary - pairwise

    ours = _ours(unary, kernel, MatrixCompatibility(LABELS, initial=sign * c))
    assert_close(ours, _theirs(unary, step), "layer", F64)


def test_negative_entries_attract_and_positive_ones_repel():
    """Two pixels, each leaning its own way, that hear each other."""
    unary = torch.tensor([[[0.5, 0.0], [0.0, 0.5]]], dtype=F64)
    other = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]], dtype=F64)

    def apart(compatibility):
        q = _ours(unary, other, compatibility).detach()
        return float(q[0, 0, 0] - q[0, 0, 1])

    alone = apart(DiagonalCompatibility(2, initial=[0.0, 0.0]))
    for attracts in (PottsCompatibility(2), MatrixCompatibility(2), DiagonalCompatibility(2)):
        assert apart(attracts) < alone - 0.01
    assert apart(DiagonalCompatibility(2, initial=[1.0, 1.0])) > alone + 0.01


@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_in_the_layer_every_one_starts_as_potts(name):
    logits = 2 * torch.randn(1, LABELS, 4, 5)
    image = 255 * torch.rand(1, 3, 4, 5)
    config = CRFConfig(theta_alpha=3.0, theta_beta=60.0, filter="exact")
    crf = DenseCRF(LABELS, config, compatibility=COMPATIBILITIES[name](LABELS)).eval()
    assert_close(crf(logits, image), DenseCRF(LABELS, config).eval()(logits, image), "layer", torch.float32)
