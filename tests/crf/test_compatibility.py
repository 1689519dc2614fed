import pytest
import torch

from crfnet.crf.compatibility import COMPATIBILITIES, MatrixCompatibility, PottsCompatibility
from tests.tolerances import assert_close

LABELS = 4


def _messages() -> torch.Tensor:
    return torch.randn(2, LABELS, 5, dtype=torch.float64)


@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_starts_as_the_potts_penalty_up_to_a_constant_per_pixel(name):
    messages = _messages()
    potts = (1 - torch.eye(LABELS, dtype=torch.float64)) @ messages
    difference = COMPATIBILITIES[name](LABELS)(messages) - potts
    assert (difference - difference[:, :1]).abs().max() < 1e-12


@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_gradient_of_messages(name):
    compatibility = COMPATIBILITIES[name](LABELS).double()
    assert torch.autograd.gradcheck(compatibility, _messages().requires_grad_())


def test_potts_has_nothing_to_learn():
    assert list(PottsCompatibility(LABELS, learnable=True).parameters()) == []


def test_matrix_is_a_penalty_by_row_and_is_not_symmetrised():
    messages = _messages()
    compatibility = MatrixCompatibility(LABELS)
    with torch.no_grad():
        compatibility.mu.copy_(torch.arange(LABELS**2.0).view(LABELS, LABELS))
    expected = torch.einsum("lk,bkn->bln", compatibility.mu.double(), messages)
    assert_close(compatibility(messages), expected, "layer", torch.float64)


def test_matrix_gradient_of_mu():
    messages = _messages()
    compatibility = MatrixCompatibility(LABELS).double()
    assert torch.autograd.gradcheck(
        lambda mu: torch.func.functional_call(compatibility, {"mu": mu}, (messages,)), compatibility.mu
    )


@pytest.mark.parametrize("learnable", [True, False])
def test_matrix_learns_only_when_asked(learnable):
    assert MatrixCompatibility(LABELS, learnable=learnable).mu.requires_grad is learnable


def test_matrix_keeps_the_precision_of_the_messages():
    assert MatrixCompatibility(LABELS)(_messages()).dtype == torch.float64
