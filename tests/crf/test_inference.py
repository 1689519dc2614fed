"""Mean field, regularized Frank-Wolfe, and what both promise: convergence, early stop, recomputation."""

import dataclasses
import itertools
import math

import pytest
import torch

from crfnet.crf import reference
from crfnet.crf.inference import INFERENCES, FrankWolfe, Inference, MeanField, contract
from crfnet.crf.inference.frank_wolfe import REGULARIZERS, STEPS
from crfnet.crf.inference.softmax import log_softmax, softmax
from crfnet.crf.inference.sparsemax import sparsemax
from tests.tolerances import assert_close

F64 = torch.float64
POTTS = 1 - torch.eye(3, dtype=F64)
SCHEMES = [
    *(scheme() for scheme in INFERENCES.values()),
    MeanField(damping=0.4),
    *(FrankWolfe(regularizer=r, step=s, alpha=0.7, lam=0.8) for r in REGULARIZERS for s in STEPS),
]


def named(scheme):
    own = (str(getattr(scheme, f, "")) for f in ("damping", "regularizer", "step", "alpha"))
    return "-".join((type(scheme).__name__, *own)).strip("-")


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
    assert dataclasses.is_dataclass(scheme)
    assert scheme == INFERENCES[name]()
    unary, kernel = _problem()
    trace = []
    log_q = scheme.run(unary, _penalty(kernel, 2.5), 4, trace)
    assert len(trace) == 5
    assert_close(trace[0], unary.softmax(1), "layer", F64)
    assert_close(log_q.exp(), trace[-1], "floor", F64)
    assert_close(log_q.logsumexp(1).exp(), torch.ones_like(log_q[:, 0]), "layer", F64)


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


def test_two_pixels_without_self_term_swap_for_ever_unless_damped():
    """Attractive Potts, opposite starts, a zero diagonal: each pixel follows what the other just was."""
    unary = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=F64)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F64)

    def penalty(q):
        return (1 - torch.eye(2, dtype=F64)) @ (5 * q @ swap)

    even, odd, later = (MeanField().run(unary, penalty, t).exp() for t in (100, 101, 300))
    assert torch.equal(even.argmax(1), odd.argmax(1).flip(-1))
    assert (even - odd).abs().max() > 0.9
    assert_close(later, even, "layer", F64)
    settled = [MeanField(damping=0.5).run(unary, penalty, t) for t in (80, 81)]
    assert (settled[1] - settled[0]).abs().max() < 1e-6

    def with_self_term(q):
        return penalty(q) + (1 - torch.eye(2, dtype=F64)) @ (5 * q)

    settled = [MeanField().run(unary, with_self_term, t).exp() for t in (80, 81)]
    assert_close(settled[0], settled[1], "layer", F64)


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
        ("damping", 1.0),
        ("damping", -0.1),
        ("damping", math.nan),
    ],
)
def test_bad_fields_are_refused(field, value):
    with pytest.raises(ValueError, match=f"^{field} is {value!r}, must be"):
        MeanField(**{field: value})


# convergence, on 42 pixels with the exact kernel


def _descending(labels=3, weight=4.0, seed=0):
    """A symmetric, positive semidefinite kernel with its self term, and Potts: what the proof asks for."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 2, 42, dtype=F64, generator=generator)
    unary = 2 * torch.randn(2, labels, 42, dtype=F64, generator=generator)
    kernel = reference.normalized_kernel_matrix(features, "symmetric")
    potts = 1 - torch.eye(labels, dtype=F64)
    return unary, kernel, lambda q: potts @ (weight * q @ kernel)


def _objective(x, unary, penalty, scheme):
    """J of `FrankWolfe`; with the entropy and lam = 1 the free energy."""
    if getattr(scheme, "regularizer", "entropy") == "entropy":
        regularizer = torch.xlogy(x, x)
    else:
        regularizer = x.square() / 2
    return (x * (penalty(x) / 2 - unary) + getattr(scheme, "lam", 1.0) * regularizer).sum((1, 2))


@pytest.mark.parametrize("weight", [1.0, 4.0, 20.0])
def test_mean_field_descends_monotonically(weight):
    unary, _, penalty = _descending(weight=weight)
    trace = []
    MeanField().run(unary, penalty, 12, trace)
    energies = torch.stack([_objective(q, unary, penalty, None) for q in trace])
    assert (energies.diff(dim=0) < 0)[:6].all()
    assert (energies.diff(dim=0) <= 1e-12 * energies.abs().max()).all()


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("lam", [0.05, 1.0, 10.0])
def test_line_search_never_raises_the_objective(regularizer, lam):
    scheme = FrankWolfe(regularizer=regularizer, step="line_search", lam=lam)
    for seed, weight in enumerate((1.0, 10.0)):
        unary, _, penalty = _descending(weight=weight, seed=seed)
        trace = []
        scheme.run(unary, penalty, 8, trace)
        energies = torch.stack([_objective(x, unary, penalty, scheme) for x in trace])
        assert (energies.diff(dim=0) <= 1e-12 * energies.abs().max()).all()
        assert (energies[-1] < energies[0] - 1e-3).all()


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_line_search_never_raises_it_for_an_asymmetric_repelling_penalty_either(regularizer):
    unary = torch.randn(2, 3, 12, dtype=F64)
    matrix = torch.randn(36, 36, dtype=F64)
    scheme = FrankWolfe(regularizer=regularizer, step="line_search", lam=0.5)

    def penalty(q):
        return (q.flatten(1) @ matrix).view_as(q)

    trace = []
    scheme.run(unary, penalty, 8, trace)
    energies = torch.stack([_objective(x, unary, penalty, scheme) for x in trace])
    assert (energies.diff(dim=0) <= 1e-12 * energies.abs().max()).all()


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_line_search_finds_the_best_point_of_the_segment(regularizer, monkeypatch):
    """Against 301 points of the segment, for every image and step; repulsion makes J convex."""
    unary, kernel, _ = _descending()

    def penalty(q):
        return 9 * q @ kernel

    scheme = FrankWolfe(regularizer=regularizer, step="line_search", lam=0.7)
    searched = []
    search = FrankWolfe._line_search

    def watch(self, x, s, *rest):
        alpha = search(self, x, s, *rest)
        searched.append((x, s, alpha))
        return alpha

    monkeypatch.setattr(FrankWolfe, "_line_search", watch)
    scheme.run(unary, penalty, 6)
    inside = 0
    for x, s, alpha in searched:
        found = _objective(x + alpha * (s - x), unary, penalty, scheme)
        every = [
            _objective(x + t * (s - x), unary, penalty, scheme) for t in torch.linspace(0, 1, 301, dtype=F64)
        ]
        assert (found <= torch.stack(every).amin(0) + 1e-9).all()
        inside += int(((alpha > 0) & (alpha < 1)).sum())
    assert inside >= 6


def test_line_search_takes_whole_steps_where_the_proof_asks_for_no_less():
    """The parabola opens downwards, and s is where its tangent, with the entropy, is lowest: J falls to s."""
    unary, _, penalty = _descending()
    answers = [FrankWolfe(step=step).run(unary, penalty, 6).exp() for step in ("line_search", "fixed")]
    assert_close(*answers, "layer", F64)


def test_line_search_filters_once_per_step_and_once_at_the_start():
    unary, _, penalty = _descending()
    calls = []

    def counted(q):
        calls.append(q)
        return penalty(q)

    FrankWolfe(step="line_search").run(unary, counted, 5)
    assert len(calls) == 6
    FrankWolfe().run(unary, counted, 5)
    assert len(calls) == 11


# regularized Frank-Wolfe


def test_frank_wolfe_with_entropy_and_whole_steps_is_mean_field():
    unary, kernel = _problem()
    penalty = _penalty(kernel, 2.5)
    traces = [], []
    answers = [s.run(unary, penalty, 6, t) for s, t in zip((FrankWolfe(), MeanField()), traces, strict=True)]
    assert_close(answers[0], answers[1], "exact", F64)
    assert len(traces[0]) == len(traces[1]) == 7
    for one, other in zip(*traces, strict=True):
        assert_close(one, other, "exact", F64)


def test_frank_wolfe_with_part_steps_is_damped_mean_field():
    unary, kernel = _problem()
    penalty = _penalty(kernel, 2.5)
    damped = MeanField(damping=0.3).run(unary, penalty, 6)
    assert_close(FrankWolfe(alpha=0.7).run(unary, penalty, 6), damped, "exact", F64)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("step", ["fixed", "decreasing"])
@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_frank_wolfe_equals_the_reference(regularizer, step, dtype):
    unary, kernel = _problem(pixels=7)
    matrix = torch.einsum("kl,bij->bkilj", POTTS * 2.5, kernel).reshape(2, 21, 21)
    scheme = FrankWolfe(regularizer=regularizer, step=step, alpha=0.6, lam=0.4)
    steps = [0.6] * 5 if step == "fixed" else [1.0, 2 / 3, 1 / 2, 2 / 5, 1 / 3]
    expected = reference.frank_wolfe(unary, matrix, steps, regularizer, 0.4)
    trace = []

    def penalty(q):
        return 2.5 * POTTS.to(dtype) @ (q @ kernel.to(dtype).mT)

    log_q = scheme.run(unary.to(dtype).mT.contiguous().mT, penalty, 5, trace)  # not contiguous
    assert len(trace) == 6
    for x, point in zip(trace, expected, strict=True):
        assert_close(x, point, "layer", dtype)
    assert_close(log_q.exp(), expected[-1], "floor", dtype)


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_last_image_alone_equals_the_batch(scheme):
    unary, kernel = _problem()
    together = scheme.run(unary, _penalty(kernel, 2.5), 5)
    alone = scheme.run(unary[1:], _penalty(kernel[1:], 2.5), 5)
    assert_close(together[1:], alone, "layer", F64)


@pytest.mark.parametrize("size", [1, 1e4])
@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_answer_and_gradient_are_finite_and_normalized(scheme, size):
    unary = (size * torch.randn(2, 3, 4)).requires_grad_()
    log_q = scheme.run(unary, lambda q: -3 * q.flip(-1), 5)
    assert log_q.isfinite().all()
    assert_close(log_q.exp().sum(1), torch.ones(2, 4), "layer", torch.float32)
    assert torch.autograd.grad(log_q[:, 0].sum(), unary)[0].isfinite().all()


def test_zero_probabilities_stay_above_the_floor():
    unary = torch.tensor([[[9.0], [0.0], [0.0]]])
    log_q = FrankWolfe(regularizer="euclidean").run(unary, lambda q: -q, 2)
    assert log_q[0, 1].item() == pytest.approx(math.log(1e-9), rel=1e-6)
    assert abs(log_q[0, 0].item()) < 1e-6
    precise = FrankWolfe(regularizer="euclidean").run(unary.double(), lambda q: -q, 2)
    assert_close(precise.exp().sum(1), torch.ones(1, 1, dtype=F64), "layer", F64)


def test_decreasing_steps_forget_the_start():
    unary, kernel = _problem()
    calls = []

    def penalty(q):
        calls.append(q)
        return torch.zeros_like(q) if len(calls) == 1 else _penalty(kernel, 2.5)(q)

    trace = []
    FrankWolfe(step="decreasing", regularizer="euclidean").run(unary, penalty, 1, trace)
    assert_close(trace[1], sparsemax(unary), "layer", F64)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("step", ["fixed", "decreasing"])
def test_frank_wolfe_gradients(regularizer, step):
    """Away from the kinks of sparsemax, of the logits and of what the penalty depends on."""
    unary, kernel = _problem(batch=1, pixels=4)
    scheme = FrankWolfe(regularizer=regularizer, step=step, alpha=0.6, lam=1.3)

    def run(unary, weight):
        return scheme.run(unary, _penalty(kernel, weight), 3)

    weight = torch.tensor(1.7, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (unary.requires_grad_(), weight))


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_line_search_gradient_is_that_of_its_steps_held_fixed(regularizer, monkeypatch):
    unary, kernel = _problem(batch=2, pixels=4)
    scheme = FrankWolfe(regularizer=regularizer, step="line_search", lam=1.3)
    weight = torch.tensor(1.7, dtype=F64, requires_grad=True)
    unary.requires_grad_()
    found = []
    search = FrankWolfe._line_search
    monkeypatch.setattr(FrankWolfe, "_line_search", lambda *a: found.append(search(*a)) or found[-1])
    log_q = scheme.run(unary, _penalty(kernel, weight), 3)
    direction = torch.randn_like(log_q)
    gradients = torch.autograd.grad((log_q * direction).sum(), (unary, weight))
    steps = itertools.cycle(list(found))
    monkeypatch.setattr(FrankWolfe, "_line_search", lambda *_: next(steps))

    def held(unary, weight):
        return (scheme.run(unary, _penalty(kernel, weight), 3) * direction).sum()

    assert torch.autograd.gradcheck(held, (unary, weight))
    expected = torch.autograd.grad(held(unary, weight), (unary, weight))
    for gradient, other in zip(gradients, expected, strict=True):
        assert_close(gradient, other, "layer", F64)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 1, 3), (1, 21, 1)])
def test_sparsemax_is_the_nearest_point_of_the_simplex(shape, dtype):
    scores = torch.randn(shape, dtype=dtype)
    p = sparsemax(scores)
    assert_close(p, reference._nearest_on_simplex(scores.double()), "layer", dtype)
    assert_close(sparsemax(scores.mT.contiguous().mT + 100), p, "layer", dtype)
    assert (p == 0).any() or shape[1] == 1


def test_sparsemax_by_hand_and_with_ties():
    scores = torch.tensor([[[1.0, 0.3, 0.5], [0.5, 0.3, 0.5], [-1.0, 0.3, -0.5]]], dtype=F64)
    expected = torch.tensor([[[0.75, 1 / 3, 0.5], [0.25, 1 / 3, 0.5], [0.0, 1 / 3, 0.0]]], dtype=F64)
    assert_close(sparsemax(scores), expected, "exact", F64)


def test_sparsemax_gradients():
    scores = torch.randn(2, 5, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(sparsemax, scores)
    assert torch.autograd.gradgradcheck(lambda z: sparsemax(z).square(), scores)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("regularizer", "l2"),
        ("step", "standard"),
        ("alpha", 0.0),
        ("alpha", 1.5),
        ("lam", 0.0),
        ("lam", math.inf),
        ("tolerance", -1e-3),
        ("tolerance", math.nan),
    ],
)
def test_bad_fields_of_frank_wolfe_are_refused(field, value):
    scheme = FrankWolfe()
    object.__setattr__(scheme, field, value)  # the constructor's annotations would refuse some in the tests
    with pytest.raises(ValueError, match=f"^{field} is {value!r}, must be"):
        scheme.__post_init__()


# early stop


def _stopping(scheme, tolerance):
    fields = {f: getattr(scheme, f) for f in scheme.__dataclass_fields__}
    return type(scheme)(**{**fields, "tolerance": tolerance})


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_early_stop_at_the_first_change_within_the_tolerance(scheme):
    unary, _, penalty = _descending(weight=1.0)
    tolerance, full, trace = 0.01, [], []
    with torch.no_grad():
        scheme.run(unary, penalty, 20, full)
        log_q = _stopping(scheme, tolerance).run(unary, penalty, 20, trace)
    changes = [(q - before).abs().max() for before, q in itertools.pairwise(full)]
    steps = next(k for k, change in enumerate(changes, 1) if change <= tolerance)
    assert 1 < steps < 20
    assert len(trace) == 1 + steps
    for one, other in zip(trace, full[: steps + 1], strict=True):
        assert_close(one, other, "exact", F64)
    assert_close(log_q.exp(), full[steps], "floor", F64)


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_no_early_stop_with_gradients_or_without_a_tolerance(scheme):
    unary, _, penalty = _descending(weight=1.0)
    for tolerance, grad in ((0.01, True), (0.0, False)):
        trace = []
        with torch.set_grad_enabled(grad):
            _stopping(scheme, tolerance).run(unary, penalty, 20, trace)
        assert len(trace) == 21


# recomputation


def _recomputing(scheme):
    fields = {f: getattr(scheme, f) for f in scheme.__dataclass_fields__}
    return type(scheme)(**{**fields, "recompute": True})


@pytest.mark.parametrize("scheme", SCHEMES, ids=named)
def test_recomputed_gradients_are_the_same_twice(scheme):
    unary, kernel = _problem()
    weight = torch.tensor(2.5, dtype=F64, requires_grad=True)
    inputs = (unary.requires_grad_(), weight)

    def loss(scheme, trace=None):
        log_q = scheme.run(unary, _penalty(kernel, weight), 4, trace)
        return (log_q * torch.linspace(0, 1, log_q.numel(), dtype=F64).view_as(log_q)).sum()

    plain = torch.autograd.grad(loss(scheme), inputs)
    trace = []
    recomputed = loss(_recomputing(scheme), trace)
    assert len(trace) == 5
    for _ in range(2):  # the second backward pass computes everything once more
        gradients = torch.autograd.grad(recomputed, inputs, retain_graph=True)
        for gradient, expected in zip(gradients, plain, strict=True):
            assert_close(gradient, expected, "exact", F64)


def _kept(scheme, steps, unary, penalty):
    """Numbers that the graph keeps for the backward pass, each storage once, beside the inputs."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scheme.run(unary, penalty, steps)
    return sum(t.numel() for t in kept.values()) / unary.numel()


@pytest.mark.parametrize("scheme", [MeanField(), FrankWolfe(regularizer="euclidean")], ids=named)
def test_recomputation_keeps_one_array_per_step(scheme):
    """What a step starts from, and no input of a filter: here the penalty keeps six arrays of its own."""
    unary, kernel = _problem(batch=1, pixels=50)
    unary.requires_grad_()

    def penalty(q):
        for _ in range(6):
            q = (q @ kernel.mT).sin()
        return q

    def per_step(scheme):
        return (_kept(scheme, 9, unary, penalty) - _kept(scheme, 3, unary, penalty)) / 6

    assert per_step(scheme) >= 7
    assert per_step(_recomputing(scheme)) <= 1


def test_recomputation_does_nothing_without_gradients(monkeypatch):
    unary, kernel = _problem()
    monkeypatch.delattr(contract, "checkpoint")
    with torch.no_grad():
        answer = MeanField(recompute=True).run(unary, _penalty(kernel, 2.5), 4)
        assert torch.equal(answer, MeanField().run(unary, _penalty(kernel, 2.5), 4))


@pytest.mark.parametrize("labels", [2, 15, 16, 21, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("row", [(0, 0), (-1e4, 1e4), (-60, -50), (-800, -790), (80, 100), (700, 720)])
def test_softmax_in_the_memory_of_another_table(labels, dtype, row):
    """Short and long rows, several images, one row far from 0."""
    logits = 3 * torch.randn(2, 7, labels, dtype=dtype)
    logits[1, 2] += torch.linspace(*row, labels)
    out = torch.full_like(logits, torch.nan)
    with torch.no_grad():
        assert softmax(logits, out) is out
        assert_close(out, logits.softmax(2), "exact", dtype)
        assert_close(log_softmax(logits), logits.log_softmax(2), "exact", dtype)


def test_nothing_that_was_given_is_overwritten():
    """Without gradients the steps reuse memory, but neither the logits' nor an earlier answer's."""
    unary, kernel = _problem()
    unary = unary.mT.contiguous().mT  # as the steps want it: they need not copy it
    before = unary.clone()
    with torch.no_grad():
        first = MeanField().run(unary, _penalty(kernel, 2.5), 4)
        kept = first.clone()
        MeanField().run(-unary, _penalty(kernel, 2.5), 4)
    assert torch.equal(unary, before)
    assert torch.equal(first, kept)
