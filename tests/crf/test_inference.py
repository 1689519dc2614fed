import math

import pytest
import torch

from crfnet.crf import reference
from crfnet.crf.inference import INFERENCES, Inference, MeanField
from tests.tolerances import assert_close

POTTS = 1 - torch.eye(3, dtype=torch.float64)


def _problem(batch=2, labels=3, pixels=6):
    unary = torch.randn(batch, labels, pixels, dtype=torch.float64)
    kernel = torch.rand(batch, pixels, pixels, dtype=torch.float64)
    return unary, kernel / kernel.sum(-1, keepdim=True)


def _penalty(kernel, weight):
    return lambda q: POTTS @ (weight * torch.einsum("bij,blj->bli", kernel, q))


@pytest.mark.parametrize("name", INFERENCES)
def test_every_scheme_keeps_the_contract(name):
    scheme = INFERENCES[name]()
    assert isinstance(scheme, Inference)
    assert (scheme.iterations, scheme.train_iterations) == (10, 5)


def test_two_pixels_by_hand():
    """Logits (a, 0) and (0, 0); the second pixel hears only the first, and moves to (w q, w (1 - q))."""
    a, w = 1.5, 2.0
    unary = torch.tensor([[[a, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    kernel = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    q = 1 / (1 + math.exp(-a))
    log_q = MeanField().run(unary, lambda m: -w * m @ kernel.T, 1)
    expected = 1 / (1 + math.exp(-w * (2 * q - 1)))
    assert math.isclose(log_q[0, 0, 1].exp().item(), expected, rel_tol=1e-12)


def test_every_step_equals_the_reference():
    unary, kernel = _problem()
    weight = torch.tensor(2.5, dtype=torch.float64)
    expected = reference.mean_field(unary, [kernel], [weight], POTTS, 6)
    trace = []
    log_q = MeanField().run(unary, _penalty(kernel, weight), 6, trace)
    assert len(trace) == 7
    for step, q in zip(trace, expected, strict=True):
        assert_close(step, q, "layer", torch.float64)
    assert_close(log_q.exp(), expected[-1], "layer", torch.float64)


def test_no_iterations_is_the_softmax():
    unary, kernel = _problem()
    assert_close(
        MeanField().run(unary, _penalty(kernel, 1.0), 0), unary.log_softmax(1), "layer", torch.float64
    )


def test_damping_keeps_a_share_of_the_old_marginals():
    unary, kernel = _problem()
    penalty = _penalty(kernel, 2.5)
    q = unary.softmax(1)
    for _ in range(3):
        q = 0.7 * (unary - penalty(q)).softmax(1) + 0.3 * q
    assert_close(MeanField(damping=0.3).run(unary, penalty, 3).exp(), q, "layer", torch.float64)


def test_damping_ends_the_oscillation_of_two_pixels_without_self_term():
    """Opposite starts that each follow the other swap labels for ever; half steps meet in the middle."""
    unary = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64)

    def follow(q):
        return -5 * q.flip(-1)

    swapped = [MeanField().run(unary, follow, t).argmax(1) for t in (8, 9)]
    assert not torch.equal(*swapped)
    settled = [MeanField(damping=0.5).run(unary, follow, t) for t in (80, 81)]
    assert (settled[1] - settled[0]).abs().max() < 1e-6


def test_many_settings_of_one_image_at_once():
    unary, kernel = _problem(batch=1)
    weights = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64).view(-1, 1, 1)

    def penalty(q):
        return -weights * torch.einsum("ij,wlj->wli", kernel[0], q)

    together = MeanField().run(unary.expand(3, -1, -1), penalty, 5)
    alone = MeanField().run(unary, _penalty(kernel, weights[2]), 5)
    assert_close(together[2:], alone, "layer", torch.float64)


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_extreme_logits_stay_finite(damping):
    unary = 1e4 * torch.tensor([[[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]], requires_grad=True)
    log_q = MeanField(damping=damping).run(unary, lambda q: -3 * q.flip(-1), 5)
    assert torch.isfinite(log_q).all()
    assert torch.isfinite(torch.autograd.grad(log_q.logsumexp((0, 1, 2)), unary)[0]).all()


@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_gradient_of_logits(damping):
    unary, kernel = _problem(batch=1, pixels=4)
    scheme = MeanField(damping=damping)
    assert torch.autograd.gradcheck(lambda u: scheme.run(u, _penalty(kernel, 2.0), 3), unary.requires_grad_())


def test_computes_in_float32_under_autocast():
    unary, kernel = _problem()
    seen = []

    def penalty(q):
        seen.append((q @ kernel.float().mT).dtype)
        return -q

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert MeanField().run(unary.float(), penalty, 2).dtype == torch.float32
    assert seen == [torch.float32] * 2


def test_half_precision_input_is_computed_in_float32():
    seen = []

    def penalty(q):
        seen.append(q.dtype)
        return -q

    assert MeanField().run(torch.randn(1, 2, 3).bfloat16(), penalty, 1).dtype == torch.float32
    assert seen == [torch.float32]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", -1),
        ("train_iterations", -1),
        ("damping", 1.0),
        ("damping", -0.1),
        ("damping", math.nan),
    ],
)
def test_bad_fields_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        MeanField(**{field: value})
