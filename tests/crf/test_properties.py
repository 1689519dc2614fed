"""What must hold for any input: symmetries of the model, on images that hypothesis draws."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crfnet.crf import CRFConfig, DenseCRF, reference
from crfnet.crf.compatibility import COMPATIBILITIES
from crfnet.crf.filters import FILTERS
from crfnet.crf.inference import FrankWolfe, Inference, MeanField
from crfnet.crf.normalization import NORMALIZATIONS, normalized
from tests.tolerances import assert_close

F64 = torch.float64
FILTER_NAMES = tuple(FILTERS)
SCHEMES = (
    MeanField(),
    MeanField(damping=0.5),
    FrankWolfe(regularizer="euclidean", step="decreasing"),
    FrankWolfe(step="line_search"),
    FrankWolfe(regularizer="euclidean", step="line_search"),
)
few = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
every_filter = pytest.mark.parametrize("filter", FILTER_NAMES)
seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(1, 2), st.integers(2, 4), st.integers(1, 5), st.integers(1, 5))  # b, l, h, w


def _random(seed, *shape):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def _input(seed, batch, labels, height, width):
    image = 128 + 40 * _random(seed + 1, batch, 3, height, width).clamp(-2, 2)
    return 3 * _random(seed, batch, labels, height, width), image


def _crf(labels, mu=None, inference: Inference | None = None, **changes):
    """With a matrix or diagonal mu, if one is given."""
    config = CRFConfig(
        **{
            "w1": 2.0,
            "theta_alpha": 2.5,
            "theta_beta": 50.0,
            "w2": 1.0,
            "theta_gamma": 1.5,
            "iterations": 3,
            **changes,
        }
    )
    name = config.compatibility
    compatibility = None if mu is None else COMPATIBILITIES[name](labels, initial=mu)
    crf = DenseCRF(labels, config, compatibility=compatibility, inference=inference)
    return crf.double().eval()


def _run(crf, logits, image):
    with torch.no_grad():
        return crf(logits, image)


@every_filter
@pytest.mark.parametrize("compatibility", COMPATIBILITIES)
@few
@given(seed=seeds, size=sizes, data=st.data())
def test_permuting_the_labels_permutes_the_answer(filter, compatibility, seed, size, data):
    logits, image = _input(seed, *size)
    labels = size[1]
    order = data.draw(st.permutations(range(labels)))
    normalization = data.draw(st.sampled_from(NORMALIZATIONS))
    inference = data.draw(st.sampled_from(SCHEMES))
    mu = permuted = None
    if compatibility != "potts":
        mu = _random(seed + 2, *((labels,) if compatibility == "diagonal" else (labels, labels))).float()
        permuted = mu[order] if mu.ndim == 1 else mu[order][:, order]
    settings = {"filter": filter, "compatibility": compatibility, "normalization": normalization}
    answer = _run(_crf(labels, mu, inference, **settings), logits, image)
    other = _run(_crf(labels, permuted, inference, **settings), logits[:, order], image)
    assert_close(other.exp(), answer[:, order].exp(), "layer", F64)


@few
@given(seed=seeds, size=sizes, shift=st.floats(-40.0, 40.0))
def test_shifting_all_colors_changes_nothing(seed, size, shift):
    """K sees differences alone. The exact kernel only: the lattice's grid stays where it is (next test)."""
    logits, image = _input(seed, *size)
    crf = _crf(size[1], filter="exact")
    assert_close(_run(crf, logits, image + shift).exp(), _run(crf, logits, image).exp(), "layer", F64)


def _own_translation(dimensions, steps):
    """A shift of the features that moves the lattice onto itself.

    Its corners are integers (in the elevated space, in units of d + 1) that sum to 0 and are equal modulo
    d + 1; so all integer moves by multiples of d + 1 that sum to 0 map it to itself.
    """
    units = torch.eye(dimensions, dtype=F64).tolist()
    elevate = torch.tensor([reference._elevate(unit) for unit in units], dtype=F64).T  # (d + 1, d)
    move = torch.tensor([*steps, -sum(steps)], dtype=F64)
    return torch.linalg.lstsq(elevate, move.unsqueeze(1)).solution.squeeze(1)


@every_filter
@few
@given(
    seed=seeds,
    labels=st.integers(1, 3),
    pixels=st.integers(2, 12),
    steps=st.lists(st.integers(-3, 3), min_size=1, max_size=5),
    normalization=st.sampled_from(NORMALIZATIONS),
)
def test_shifting_all_features_changes_nothing(filter, seed, labels, pixels, steps, normalization):
    """By anything for kernels of differences; for the lattice, by a step between two of its corners."""
    dimensions = len(steps)
    shift = _own_translation(dimensions, steps)
    if filter != "permutohedral":
        shift = shift + 0.3
    features, values = _random(seed, 2, dimensions, pixels), _random(seed + 1, 2, labels, pixels)
    moved = features + shift.view(-1, 1)
    answers = [
        normalized(FILTERS[filter]().operator(f, grid=(pixels,)), values, normalization)(values)
        for f in (features, moved)
    ]
    assert_close(*answers, "layer", F64)


@few
@given(seed=seeds, size=sizes, color=st.floats(10.0, 250.0))
def test_in_a_constant_image_the_bilateral_kernel_is_spatial(seed, size, color):
    """The exact kernel only: a lattice of five dimensions is another approximation than one of two."""
    logits, image = _input(seed, *size)
    bilateral = _crf(size[1], filter="exact", w1=2.0, theta_alpha=1.5, w2=0.0)
    spatial = _crf(size[1], filter="exact", w1=0.0, w2=2.0, theta_gamma=1.5)
    constant = torch.full_like(image, color)
    assert_close(
        _run(bilateral, logits, constant).exp(), _run(spatial, logits, image).exp(), "separable", F64
    )


@every_filter
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@few
@given(seed=seeds, size=sizes, magnitude=st.sampled_from([0.0, 1.0, 100.0, 1e4, 1e9]), data=st.data())
def test_marginals_are_finite_and_sum_to_one(filter, dtype, seed, size, magnitude, data):
    logits, image = _input(seed, *size)
    logits = (magnitude * logits.sign() * logits.abs().clamp_max(1)).to(dtype)
    inference = data.draw(st.sampled_from(SCHEMES))
    crf = _crf(
        size[1], inference=inference, filter=filter, normalization=data.draw(st.sampled_from(NORMALIZATIONS))
    )
    log_q = _run(crf, logits, image.to(dtype))
    assert log_q.isfinite().all()
    assert_close(log_q.exp().sum(1), torch.ones_like(log_q[:, 0]), "layer", dtype)


@every_filter
@few
@given(seed=seeds, size=sizes, magnitude=st.sampled_from([1.0, 1e3]), inference=st.sampled_from(SCHEMES))
def test_a_constant_added_to_the_logits_of_a_pixel_changes_nothing(filter, seed, size, magnitude, inference):
    logits, image = _input(seed, *size)
    constant = magnitude * _random(seed + 2, size[0], 1, *size[2:])
    crf = _crf(size[1], inference=inference, filter=filter)
    assert_close(_run(crf, logits + constant, image).exp(), _run(crf, logits, image).exp(), "layer", F64)


@every_filter
@few
@given(seed=seeds, size=sizes, inference=st.sampled_from(SCHEMES))
def test_an_image_does_not_know_its_batch(filter, seed, size, inference):
    batch, labels, height, width = size
    logits, image = _input(seed, batch + 1, labels, height, width)
    crf = _crf(labels, inference=inference, filter=filter)
    alone = _run(crf, logits[-1:], image[-1:])
    assert_close(_run(crf, logits, image)[-1:].exp(), alone.exp(), "layer", F64)
