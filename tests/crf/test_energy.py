"""Free energy and energy against sums over all pairs and against all labelings; the trace."""

import itertools

import pytest
import torch

from crfnet.crf import CRFConfig, DenseCRF, reference
from crfnet.crf.compatibility import COMPATIBILITIES
from crfnet.crf.energy import energy, free_energy, trace_of
from crfnet.crf.features import bilateral_features, spatial_features
from crfnet.crf.inference import MeanField
from tests.tolerances import assert_close

F64 = torch.float64
LABELS = 3


def _problem(pixels=6, batch=2, labels=LABELS, dtype=F64):
    features = torch.randn(batch, 2, pixels, dtype=dtype)
    kernel = reference.normalized_kernel_matrix(features, "symmetric")
    return 2 * torch.randn(batch, labels, pixels, dtype=dtype), kernel


def _penalty(kernel, mu, weight=1.5):
    return lambda q: mu.to(q.dtype) @ (weight * q @ kernel.mT.to(q.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("weights", ["scalar", "per_class", "full"])
@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_free_energy_equals_the_reference(name, weights, dtype):
    unary, first = _problem()
    second = torch.rand(2, 6, 6, dtype=F64)
    compatibility = COMPATIBILITIES[name](LABELS)
    shape = {"scalar": (), "per_class": (LABELS,), "full": (LABELS, LABELS)}[weights]
    w = [torch.rand(shape, dtype=F64) for _ in range(2)]
    with torch.no_grad():
        for parameter in compatibility.parameters():
            parameter.add_(torch.rand_like(parameter))
    q = torch.randn(2, LABELS, 6, dtype=F64).softmax(1)
    mu = compatibility.matrix().detach().double()
    expected = reference.free_energy(q, unary, [first, second], w, mu)

    def penalty(q):
        weighted = 0
        for kernel, weight in zip((first, second), w, strict=True):
            matrix = weight if weight.ndim == 2 else torch.diag(weight.expand(LABELS))
            weighted = weighted + matrix.to(q.dtype) @ (q @ kernel.mT.to(q.dtype))
        return compatibility.penalty(weighted)

    not_contiguous = q.to(dtype).mT.contiguous().mT
    found = free_energy(not_contiguous, unary.to(dtype), penalty)
    assert found.dtype == dtype
    assert_close(found, expected, "layer", dtype)


def test_two_pixels_by_hand():
    """Certain and opposite: the pair costs w k_01 once, though it is in the double sum twice."""
    unary = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]], dtype=F64)
    kernel = torch.tensor([[[1.0, 0.3], [0.3, 1.0]]], dtype=F64)
    penalty = _penalty(kernel, 1 - torch.eye(2, dtype=F64), 5.0)
    assert_close(
        energy(torch.tensor([[0, 1]]), unary, penalty), torch.tensor([-3 + 1.5]).double(), "exact", F64
    )
    assert_close(energy(torch.tensor([[0, 0]]), unary, penalty), torch.tensor([-2.0]).double(), "exact", F64)
    half = torch.full(
        (1, 2, 2), 0.5, dtype=F64
    )  # entropy 2 log 2, self terms 5 / 2 * 1/2 each, the pair 1.5 / 2
    expected = -2 * torch.log(torch.tensor([2.0], dtype=F64)) - 1.5 + 2 * 5 / 4 + 1.5 / 2
    assert_close(free_energy(half, unary, penalty), expected, "exact", F64)


@pytest.mark.parametrize("name", COMPATIBILITIES)
def test_energy_counts_every_pair_once_and_a_pixel_with_itself_half(name):
    unary, kernel = _problem(pixels=5)
    compatibility = COMPATIBILITIES[name](LABELS)
    mu = compatibility.matrix().detach().double()
    labels = torch.randint(LABELS, (2, 5))
    found = energy(labels, unary, _penalty(kernel, mu))
    for b, x in enumerate(labels.tolist()):
        expected = -sum(float(unary[b, x[i], i]) for i in range(5))
        for i, j in itertools.combinations(range(5), 2):
            expected += 1.5 * float(mu[x[i], x[j]] * kernel[b, i, j])
        expected += sum(0.5 * 1.5 * float(mu[x[i], x[i]] * kernel[b, i, i]) for i in range(5))
        assert float(found[b]) == pytest.approx(expected, rel=1e-12)


def test_free_energy_is_the_divergence_from_the_gibbs_distribution():
    """Over all 3^4 labelings, without self term: F + log Z = KL(Q | P) >= 0, and F >= -log Z."""
    unary, kernel = _problem(pixels=4, batch=1)
    kernel = kernel * (1 - torch.eye(4, dtype=F64))
    penalty = _penalty(kernel, 1 - torch.eye(LABELS, dtype=F64))
    q = torch.randn(1, LABELS, 4, dtype=F64).softmax(1)
    labelings = torch.tensor(list(itertools.product(range(LABELS), repeat=4)))
    energies = energy(labelings, unary.expand(81, -1, -1), penalty)
    log_p = -energies - torch.logsumexp(-energies, 0)
    log_q = q[0].log()[labelings, torch.arange(4)].sum(1)
    divergence = (log_q.exp() * (log_q - log_p)).sum()
    assert_close(
        free_energy(q, unary, penalty) + torch.logsumexp(-energies, 0), divergence[None], "layer", F64
    )


def test_mask_is_the_image_without_the_others():
    unary, kernel = _problem(pixels=7)
    mask = torch.tensor([[True] * 7, [True, False, True, True, False, True, True]])
    mu = 1 - torch.eye(LABELS, dtype=F64)
    q = torch.randn(2, LABELS, 7, dtype=F64).softmax(1)
    labels = torch.randint(LABELS, (2, 7))
    inside = mask[1]
    apart = _penalty(kernel[1:][:, inside][:, :, inside], mu)
    expected = [
        free_energy(q[1:, :, inside], unary[1:, :, inside], apart),
        energy(labels[1:, inside], unary[1:, :, inside], apart),
    ]
    junk = torch.where(mask.unsqueeze(1), unary, torch.nan)
    found = [
        free_energy(torch.where(mask.unsqueeze(1), q, 7.0), junk, _penalty(kernel, mu), mask),
        energy(torch.where(mask, labels, 255), junk, _penalty(kernel, mu), mask),
    ]
    for one, other in zip(found, expected, strict=True):
        assert_close(one[1:], other, "layer", F64)
    all_of_it = free_energy(q[:1], unary[:1], _penalty(kernel[:1], mu))
    assert_close(found[0][:1], all_of_it, "layer", F64)


def test_zero_probability_has_no_entropy():
    unary, kernel = _problem(pixels=2)
    q = torch.zeros(2, LABELS, 2, dtype=F64)
    q[:, 0] = 1
    assert free_energy(q, unary, _penalty(kernel, 1 - torch.eye(LABELS, dtype=F64))).isfinite().all()


def test_gradient_of_the_free_energy():
    unary, kernel = _problem(pixels=3)
    q = torch.randn_like(unary).softmax(1).requires_grad_()
    penalty = _penalty(kernel, 1 - torch.eye(LABELS, dtype=F64))
    assert torch.autograd.gradcheck(lambda q, u: free_energy(q, u, penalty), (q, unary.requires_grad_()))


def test_mean_field_is_where_its_gradient_is_the_same_for_all_labels():
    """A fixed point of the update is a stationary point of F on the simplex."""
    unary, kernel = _problem()
    penalty = _penalty(kernel, 1 - torch.eye(LABELS, dtype=F64))
    q = MeanField().run(unary, penalty, 400).exp().requires_grad_()
    (gradient,) = torch.autograd.grad(free_energy(q, unary, penalty).sum(), q)
    assert (gradient - gradient[:, :1]).abs().max() < 1e-8


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_that_is_no_class_is_refused(label):
    unary, kernel = _problem()
    labels = torch.zeros(2, 6, dtype=torch.long)
    labels[1, 5] = label
    with pytest.raises(ValueError, match=r"labels: values from .* must be in 0\.\.2 inside the mask"):
        energy(labels, unary, _penalty(kernel, torch.eye(3)))


def test_trace_of_a_run():
    unary, kernel = _problem()
    penalty = _penalty(kernel, 1 - torch.eye(LABELS, dtype=F64))
    steps = []
    MeanField().run(unary, penalty, 4, steps)
    trace = trace_of(steps, unary, penalty)
    assert trace.marginals is None
    assert trace.free_energy.shape == (5, 2)
    assert (trace.free_energy.diff(dim=0) <= 0).all()
    assert_close(trace.free_energy[3], free_energy(steps[3], unary, penalty), "exact", F64)
    assert_close(trace.change[2, 1], (steps[3] - steps[2])[1].abs().max(), "exact", F64)
    kept = trace_of(steps, unary, penalty, keep_marginals=True)
    assert kept.marginals is not None
    assert all(torch.equal(one, other) for one, other in zip(kept.marginals, steps, strict=True))
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, (steps[1] - steps[0])[1].abs().amax(0).argmax()] = False
    masked = trace_of(steps, unary, penalty, mask)
    assert masked.change[0, 1] < trace.change[0, 1]
    assert_close(masked.change[:, 0], trace.change[:, 0], "exact", F64)


def test_energy_of_the_layer_falls():
    """Through the layer's own penalty, with the constant of Potts."""
    config = CRFConfig(theta_alpha=3.0, theta_beta=60.0, filter="exact", normalization="symmetric")
    crf = DenseCRF(LABELS, config).eval()
    logits, image = 2 * torch.randn(2, LABELS, 4, 5), 255 * torch.rand(2, 3, 4, 5)
    steps = []
    with torch.no_grad():
        crf(logits, image, trace=steps)
        terms = [
            (kernel, reference.normalized_kernel_matrix(features, "symmetric"))
            for kernel, features in zip(crf.potentials.values(), _features(crf, image), strict=True)
        ]

        def penalty(q):
            return crf.compatibility.penalty(sum(kernel.weight(q @ matrix.mT) for kernel, matrix in terms))

        trace = trace_of([q.flatten(2) for q in steps], logits.flatten(2), penalty)
        own = crf.trace(logits, image)
    assert (trace.free_energy.diff(dim=0)[:4] < 0).all()
    assert_close(own.free_energy, trace.free_energy, "layer", torch.float32)
    assert_close(own.change, trace.change, "layer", torch.float32)
    assert_close(crf.free_energy(steps[-1], logits, image), trace.free_energy[-1], "layer", torch.float32)
    labels = crf.map(logits, image)
    one_hot = torch.nn.functional.one_hot(labels, LABELS).movedim(-1, 1).float()
    assert torch.equal(labels, steps[-1].argmax(1))
    assert_close(
        crf.energy(labels, logits, image), crf.free_energy(one_hot, logits, image), "layer", torch.float32
    )


def _features(crf, image):
    bilateral, spatial = crf.potentials["bilateral"], crf.potentials["spatial"]
    place = spatial_features(4, 5, spatial.theta_gamma, dtype=image.dtype, device=image.device)
    return (
        bilateral_features(image, bilateral.theta_alpha, bilateral.theta_beta),
        place.expand(len(image), -1, -1),
    )
