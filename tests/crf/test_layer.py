import copy
import dataclasses
import math

import pytest
import torch

from crfnet import kernels
from crfnet.config.variants import to_plain
from crfnet.crf import PRESETS, CRFConfig, DenseCRF, MeanField, reference
from crfnet.crf.checks import check_input
from crfnet.crf.compatibility import COMPATIBILITIES, MatrixCompatibility
from crfnet.crf.features import bilateral_features, spatial_features
from crfnet.crf.filters import FILTERS, ExactFilter, GaussianFilter, LocalFilter, PermutohedralFilter
from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.crf.potentials import WEIGHTS, BilateralPotential, SpatialPotential
from crfnet.errors import InputError
from tests.tolerances import assert_close

LABELS, HEIGHT, WIDTH = 3, 4, 5
SMALL = CRFConfig(
    w1=2.0, theta_alpha=3.0, theta_beta=60.0, w2=1.0, theta_gamma=1.5, filter="exact", iterations=4
)


def _crf(num_classes=LABELS, **changes) -> DenseCRF:
    """A float64 CRF whose matrices are not those it starts with, so that a transpose or a swap shows."""
    crf = DenseCRF(num_classes, dataclasses.replace(SMALL, **changes)).double().eval()
    with torch.no_grad():
        for parameter in crf.parameters():
            if parameter.ndim > 0:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return crf


def _input(batch=2, labels=LABELS, height=HEIGHT, width=WIDTH):
    logits = 2 * torch.randn(batch, labels, height, width, dtype=torch.float64)
    return logits, 255 * torch.rand(batch, 3, height, width, dtype=torch.float64)


def _normalize(kernel, normalization):
    n = kernel.sum(-1)
    left = {"after": 1 / n, "symmetric": n**-0.5}.get(normalization, torch.ones_like(n))
    right = {"before": 1 / n, "symmetric": n**-0.5}.get(normalization, torch.ones_like(n))
    return left.unsqueeze(-1) * kernel * right.unsqueeze(-2)


def _reference(crf, logits, image, iterations):
    """The O(N^2) CRF with the layer's parameters; with the lattice's own matrix for the lattice."""
    bilateral, spatial = crf.potentials["bilateral"], crf.potentials["spatial"]
    features = bilateral_features(image, bilateral.theta_alpha, bilateral.theta_beta).detach()
    if isinstance(crf.filter, PermutohedralFilter):
        appearance = torch.stack([reference.permutohedral_matrix(f) for f in features])
    else:
        appearance = reference.kernel_matrix(features)
    place = spatial_features(
        *image.shape[-2:], spatial.theta_gamma.detach(), dtype=image.dtype, device=image.device
    )
    kernels = [appearance, reference.kernel_matrix(place).expand(len(image), -1, -1)]
    return reference.mean_field(
        logits.flatten(2),
        [_normalize(kernel, crf.config.normalization) for kernel in kernels],
        [bilateral.weight.value, spatial.weight.value],
        crf.compatibility.matrix().detach().to(logits),
        iterations,
    )


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("compatibility", COMPATIBILITIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_step_equals_the_reference(normalization, compatibility, weights, filter):
    crf = _crf(normalization=normalization, compatibility=compatibility, weights=weights, filter=filter)
    logits, image = _input()
    trace = []
    with torch.no_grad():
        log_q = crf(logits, image, trace=trace)
        expected = _reference(crf, logits, image, 4)
    assert len(trace) == len(expected) == 5
    for step, q in zip(trace, expected, strict=True):
        assert_close(step.flatten(2), q, "layer", torch.float64)
    assert_close(log_q.flatten(2).exp(), expected[-1], "layer", torch.float64)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("training", [False, True])
def test_last_image_alone_equals_the_batch(filter, training):
    crf = _crf(filter=filter, learn_theta=training).train(training)
    logits, image = _input()
    assert_close(crf(logits[1:], image[1:])[0], crf(logits, image)[1], "layer", torch.float64)


def _gradcheck(crf, logits, image, **options):
    """Of the logits and of every parameter that learns."""
    crf.train()
    names = [name for name, p in crf.named_parameters() if p.requires_grad]

    def forward(logits, *parameters):
        return torch.func.functional_call(crf, dict(zip(names, parameters, strict=True)), (logits, image))

    learned = tuple(p for p in crf.parameters() if p.requires_grad)
    return torch.autograd.gradcheck(forward, (logits.requires_grad_(), *learned), **options)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_of_everything_exact(normalization, weights):
    crf = _crf(2, normalization=normalization, weights=weights, compatibility="matrix", train_iterations=2)
    assert len(list(crf.parameters())) == 6
    assert _gradcheck(crf, *_input(1, 2, 2, 3), fast_mode=True)


def test_gradient_of_a_damped_crf():
    assert _gradcheck(_crf(2, inference=MeanField(damping=0.4), train_iterations=2), *_input(1, 2, 2, 3))


def test_gradient_of_the_image_exact():
    crf = _crf(2, train_iterations=2).train()
    logits, image = _input(1, 2, 2, 3)
    image = 20 + 0.8 * image  # away from the ends of 0..255
    assert torch.autograd.gradcheck(lambda im: crf(logits, im), image.requires_grad_(), eps=1e-4)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_of_logits_weights_compatibility_on_the_lattice(normalization):
    crf = _crf(
        2,
        normalization=normalization,
        weights="full",
        compatibility="matrix",
        train_iterations=2,
        filter="permutohedral",
        learn_theta=False,
    )
    assert len([p for p in crf.parameters() if p.requires_grad]) == 3
    assert _gradcheck(crf, *_input(1, 2, 2, 3), fast_mode=True)


def _theta_gradients(crf, logits, image):
    """d loss / d log theta_alpha, log theta_beta, log theta_gamma of a loss with a large gradient."""
    labels = torch.arange(logits[:, 0].numel()).view(logits[:, 0].shape) % logits.shape[1]
    loss = torch.nn.functional.nll_loss(crf(logits, image), labels, reduction="sum")
    thetas = [p for name, p in crf.named_parameters() if "log_theta" in name]
    return torch.stack(torch.autograd.grad(loss, thetas))


def test_sampled_theta_gradients_on_the_lattice_surround_the_exact_one():
    exact = _crf(train_iterations=1, theta_beta=100.0).train()
    config = dataclasses.replace(exact.config, filter=PermutohedralFilter(rows=32))
    lattice = DenseCRF(LABELS, config).double().train()
    lattice.load_state_dict(exact.state_dict())
    logits, image = _input(1, LABELS, 8, 8)
    sampled = torch.stack([_theta_gradients(lattice, logits, image) for _ in range(100)])
    expected = _theta_gradients(exact, logits, image)
    assert (sampled.std(0)[:2] > 0).all()
    assert ((sampled.mean(0) - expected).abs() < 0.15 * expected.norm()).all(), (sampled.mean(0), expected)


@pytest.mark.parametrize("filter", FILTERS)
def test_constant_per_pixel_added_to_the_logits_changes_nothing(filter):
    crf = _crf(filter=filter, compatibility="matrix", weights="full")
    logits, image = _input()
    shifted = logits + 7 * torch.randn_like(logits[:, :1])
    assert_close(crf(shifted, image), crf(logits, image), "layer", torch.float64)


@pytest.mark.parametrize("filter", FILTERS)
def test_permuting_labels_permutes_answers(filter):
    crf = _crf(filter=filter, compatibility="matrix", weights="full")
    logits, image = _input()
    order = torch.tensor([2, 0, 1])
    expected = crf(logits, image)[:, order]
    with torch.no_grad():
        for matrix in (p for p in crf.parameters() if p.ndim == 2):
            matrix.copy_(matrix[order][:, order])
    assert_close(crf(logits[:, order], image), expected, "layer", torch.float64)


@pytest.mark.parametrize("filter", FILTERS)
def test_constant_image(filter):
    crf = _crf(filter=filter)
    logits, image = _input(1)
    image = torch.full_like(image, 127.0)
    with torch.no_grad():
        expected = _reference(crf, logits, image, 4)[-1]
        assert_close(crf.marginals(logits, image).flatten(2), expected, "layer", torch.float64)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_marginals_sum_to_one(normalization, filter):
    crf = _crf(filter=filter, normalization=normalization).float()
    logits, image = _input()
    total = crf.marginals(logits.float(), image.float()).sum(1)
    assert_close(total, torch.ones_like(total), "layer", torch.float32)


@pytest.mark.parametrize("filter", FILTERS)
def test_extreme_logits_stay_finite(filter):
    crf = DenseCRF(LABELS, dataclasses.replace(SMALL, filter=filter)).train()
    logits, image = _input()
    logits = (1e4 * logits.sign()).float().requires_grad_()
    log_q = crf(logits, image.float())
    assert torch.isfinite(log_q).all()
    log_q.sum().backward()
    for tensor in (logits, *crf.parameters()):
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.parametrize("prune", [0.0, 1e-3])
def test_a_default_device_is_none_of_the_layers_business(mode, prune):
    """Its helpers are on the host, its tensors where the logits are."""
    crf = _crf(prune=prune).float()
    logits, image = _input()
    logits, image = logits.float(), image.float()
    with kernels.using(mode):
        with torch.no_grad():
            expected = crf.eval()(logits, image)
        with torch.device("meta"), torch.no_grad():
            assert torch.equal(crf(logits, image), expected)
        with torch.device("meta"):
            found = crf.train()(logits.requires_grad_(), image)
            found.sum().backward()
    assert found.device == logits.grad.device == logits.device


def test_energies_are_in_full_precision_under_autocast():
    crf = _crf(normalization="symmetric").float().eval()
    logits, image = _input()
    logits, image = logits.float(), image.float()
    q, labels = logits.softmax(1), logits.argmax(1)
    with torch.no_grad():
        expected = crf.free_energy(q, logits, image), crf.energy(labels, logits, image)
        traced = crf.trace(logits, image).free_energy
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(crf.free_energy(q, logits, image), expected[0])
            assert torch.equal(crf.energy(labels, logits, image), expected[1])
            assert torch.equal(crf.trace(logits, image).free_energy, traced)


def test_convention_of_crf_as_rnn():
    """Their C = +I is added to the logits, our mu = -C is subtracted."""
    crf = _crf(compatibility="matrix", weights="full")
    with torch.no_grad():
        crf.compatibility.mu.copy_(-torch.eye(LABELS))
    logits, image = _input()
    bilateral, spatial = crf.potentials["bilateral"], crf.potentials["spatial"]
    features = bilateral_features(image, bilateral.theta_alpha, bilateral.theta_beta)
    k_b = reference.normalized_kernel_matrix(features, "after")
    place = spatial_features(HEIGHT, WIDTH, spatial.theta_gamma, dtype=image.dtype, device=image.device)
    k_s = reference.normalized_kernel_matrix(place, "after")
    w_b, w_s, compatibility = bilateral.weight.value, spatial.weight.value, torch.eye(LABELS).double()
    current = unary = logits.flatten(2)
    for _ in range(4):
        q = current.softmax(1)
        current = unary + compatibility @ (w_s @ (q @ k_s.mT) + w_b @ (q @ k_b.mT))
    assert_close(crf.marginals(logits, image).flatten(2), current.softmax(1), "layer", torch.float64)


def test_minus_identity_and_one_minus_identity_are_the_same_crf():
    crf = _crf(compatibility="matrix", weights="full")
    logits, image = _input()
    answers = []
    for mu in (-torch.eye(LABELS), 1 - torch.eye(LABELS)):
        with torch.no_grad():
            crf.compatibility.mu.copy_(mu)
        answers.append(crf(logits, image))
    assert_close(answers[0], answers[1], "layer", torch.float64)


@pytest.mark.parametrize("filter", FILTERS)
def test_autocast_computes_and_returns_float32(filter):
    crf = DenseCRF(LABELS, dataclasses.replace(SMALL, filter=filter, weights="full", compatibility="matrix"))
    logits, image = _input()
    logits, image = logits.bfloat16(), image.float()
    for learning in (False, True):  # the row sums are computed in other places
        with torch.set_grad_enabled(learning):
            plain = crf.eval()(logits.float(), image)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                cast = crf(logits, image)
        assert cast.dtype == torch.float32
        assert torch.equal(cast, plain)


def test_float64_logits_compute_in_float64_whatever_the_parameters():
    crf = DenseCRF(LABELS, SMALL).eval()
    logits, image = _input()
    answer = crf(logits, image.to(torch.uint8))
    assert answer.dtype == torch.float64
    doubled = copy.deepcopy(crf).double()
    expected = doubled(logits, image.to(torch.uint8))
    assert (answer - expected).abs().max() < 1e-5  # the thetas themselves are rounded to float32


def test_bytes_are_the_same_image():
    crf = _crf()
    logits, image = _input()
    image = image.round()
    assert torch.equal(crf(logits, image.to(torch.uint8)), crf(logits, image))


def test_any_size_any_batch_any_layout():
    crf = _crf()
    for batch, height, width in ((1, 1, 1), (3, 1, 6), (1, 5, 2)):
        logits, image = _input(batch, LABELS, height, width)
        assert crf(logits, image).shape == logits.shape
    logits, image = _input()
    scattered = (x.contiguous(memory_format=torch.channels_last) for x in (logits, image))
    assert_close(crf(*scattered), crf(logits, image), "layer", torch.float64)


@pytest.mark.parametrize(
    ("switch", "names"),
    [("learn_theta", "log_theta"), ("learn_weights", "weight.raw"), ("learn_compatibility", "mu")],
)
def test_what_is_not_learned_has_no_gradient(switch, names):
    crf = _crf(compatibility="matrix", **{switch: False})
    frozen = {name for name, p in crf.named_parameters() if not p.requires_grad}
    assert frozen
    assert frozen == {name for name, _ in crf.named_parameters() if names in name}


class _Watched(GaussianFilter):
    """The exact filter, remembering whether each operator had to give a gradient to its features."""

    learns_features = True

    def __init__(self):
        self.asked = []

    def build(self, features, grid, mask):
        operator = ExactFilter().operator(features)
        self.asked.append(operator.features_need_grad)
        return operator


def test_no_work_for_theta_without_a_gradient():
    logits, image = _input()
    watched = _Watched()
    learning, fixed = (
        DenseCRF(LABELS, dataclasses.replace(SMALL, learn_theta=x), filter=watched) for x in (True, False)
    )
    learning(logits, image)
    fixed(logits, image)
    with torch.no_grad():
        learning(logits, image)
    assert watched.asked == [True, False, False]


@pytest.mark.parametrize(("change", "left"), [({"w1": 0.0}, {"spatial"}), ({"w2": 0.0}, {"bilateral"})])
def test_weight_zero_leaves_the_kernel_out(change, left):
    watched = _Watched()
    config = dataclasses.replace(SMALL, **change)
    crf = DenseCRF(LABELS, config, filter=watched).double()
    logits, image = _input()
    crf(logits, image)
    assert set(crf.potentials) == left
    assert len(watched.asked) == ("bilateral" in left)
    assert crf.config_now() == config


def test_without_kernels_it_is_the_log_softmax():
    crf = _crf(w1=0.0, w2=0.0)
    logits, image = _input()
    assert_close(crf(logits, image), logits.log_softmax(1), "layer", torch.float64)


def test_iterations_of_training_and_evaluation():
    crf = _crf(iterations=3, train_iterations=2)
    logits, image = _input()
    for training, steps in ((True, 2), (False, 3)):
        trace = []
        crf.train(training)(logits, image, trace=trace)
        assert len(trace) == 1 + steps


@pytest.mark.parametrize("name", PRESETS)
def test_state_dict_round_trip(name):
    crf = DenseCRF.preset(name, LABELS, filter="exact").double().eval()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    other = DenseCRF.preset(name, LABELS, filter="exact").double().eval()
    logits, image = _input()
    assert not torch.equal(other(logits, image), crf(logits, image))
    other.load_state_dict(crf.state_dict())
    assert torch.equal(other(logits, image), crf(logits, image))


PUBLISHED = {
    "deeplab": {
        "w1": 4.0, "theta_alpha": 49.0, "theta_beta": 5.0, "w2": 3.0, "theta_gamma": 3.0,
        "normalization": "after", "compatibility": "potts", "weights": "scalar", "iterations": 10,
    },
    "crfasrnn": {
        "w1": 5.0, "theta_alpha": 160.0, "theta_beta": 3.0, "w2": 3.0, "theta_gamma": 3.0,
        "normalization": "after", "compatibility": "matrix", "weights": "full",
        "iterations": 10, "train_iterations": 5, "learn_theta": False, "spatial": "permutohedral",
    },
    "pydensecrf": {
        "w1": 10.0, "theta_alpha": 80.0, "theta_beta": 13.0, "w2": 3.0, "theta_gamma": 3.0,
        "normalization": "symmetric", "compatibility": "potts", "weights": "scalar", "iterations": 5,
        "spatial": "permutohedral",
    },
    "convcrf": {
        "w1": 10 * 0.2, "theta_alpha": math.inf, "theta_beta": 13.0, "w2": 3 * 0.2, "theta_gamma": 3.0,
        "normalization": "none", "compatibility": "potts", "weights": "per_class", "iterations": 5,
        "unary_weight": 1 - 0.2, "filter": LocalFilter(window=11, pool=4, centered=True),
        "spatial": "local", "first_step": "log_softmax", "learn_theta": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_the_published_values(name):
    values = vars(PRESETS[name])
    numbers = {key: value for key, value in PUBLISHED[name].items() if isinstance(value, float)}
    assert {key: values[key] for key in PUBLISHED[name]} == PUBLISHED[name] | {
        key: pytest.approx(value) for key, value in numbers.items()
    }
    assert DenseCRF.preset(name, LABELS).config_now() == PRESETS[name]
    assert DenseCRF.preset(name, LABELS, iterations=2).config == dataclasses.replace(
        PRESETS[name], iterations=2
    )


def test_crfasrnn_preset_starts_with_their_matrices():
    now = DenseCRF.preset("crfasrnn", LABELS).parameters_by_name()
    assert torch.equal(now["w1"], 5 * torch.eye(LABELS))
    assert torch.equal(now["w2"], 3 * torch.eye(LABELS))
    assert torch.equal(now["mu"], 1 - torch.eye(LABELS))


def test_parameters_by_name_are_in_the_units_of_the_config():
    now = DenseCRF(LABELS, SMALL).parameters_by_name()
    assert {name: round(value, 4) for name, value in now.items()} == {
        "w1": 2.0, "theta_alpha": 3.0, "theta_beta": 60.0, "w2": 1.0, "theta_gamma": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("weights", WEIGHTS)
def test_config_now_follows_what_was_learned(weights):
    crf = DenseCRF(LABELS, dataclasses.replace(SMALL, weights=weights))
    with torch.no_grad():
        crf.potentials["bilateral"].log_theta_beta.fill_(math.log(20.0))
        crf.potentials["spatial"].weight.raw.mul_(2)
    now = crf.config_now()
    assert now.theta_beta == pytest.approx(20.0, rel=1e-5)
    expected = 2.0 if weights == "full" else math.log1p((math.e - 1) ** 2)  # softplus(2 softplus^-1(1))
    assert now.w2 == pytest.approx(expected, rel=1e-5)
    assert dataclasses.replace(now, theta_beta=60.0, w2=1.0) == crf.config


def test_every_axis_can_be_replaced():
    logits, image = _input()
    compatibility = MatrixCompatibility(LABELS)
    with torch.no_grad():
        compatibility.mu.zero_()
    crf = DenseCRF(
        LABELS,
        CRFConfig(iterations=1),
        potentials={"wide": SpatialPotential(1.0, 9.0, num_classes=LABELS)},
        compatibility=compatibility,
        inference=MeanField(),
        filter=ExactFilter(),
    ).eval()
    assert set(crf.parameters_by_name()) == {"w2", "theta_gamma", "mu"}
    trace = []
    assert_close(crf(logits, image, trace=trace), logits.log_softmax(1), "layer", torch.float64)
    assert len(trace) == 2
    two = {
        name: BilateralPotential(1.0, a, 50.0, num_classes=LABELS)
        for name, a in (("near", 2.0), ("far", 9.0))
    }
    crf = DenseCRF(LABELS, potentials=two, filter=ExactFilter()).double().eval()
    q = logits.flatten(2).softmax(1)
    for _ in range(10):
        messages = sum(
            q
            @ reference.normalized_kernel_matrix(
                bilateral_features(image, k.theta_alpha, k.theta_beta), "after"
            ).mT
            for k in two.values()
        )
        q = (logits.flatten(2) + messages).softmax(1)
    assert_close(crf.marginals(logits, image).flatten(2), q, "layer", torch.float64)


@pytest.mark.filterwarnings("ignore")  # Dynamo's own, at every graph break
def test_works_inside_a_compiled_model():
    crf = DenseCRF(LABELS, SMALL).eval()
    logits, image = (x.float() for x in _input())
    compiled = torch.compile(lambda logits, image: crf(2 * logits, image), backend="eager")
    assert_close(compiled(logits, image), crf(2 * logits, image), "layer", torch.float32)


def _changed(tensor, value):
    tensor = tensor.clone()
    tensor[-1, -1, -1, -1] = value
    return tensor


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value):
    logits, image = _input()
    with pytest.raises(ValueError, match="logits: contain NaN"):
        _crf()(_changed(logits, value), image)
    with pytest.raises(ValueError, match="image: contains NaN"):
        _crf()(logits, _changed(image, value))


@pytest.mark.parametrize(
    "make",
    [
        lambda image: image / 255,
        lambda image: image / 127.5 - 1,
        lambda image: (image - 120) / 60,
        lambda image: image - 120,
        lambda image: image * 257,
        lambda image: (image * 257).int(),
    ],
)
def test_image_on_another_scale_is_refused(make):
    logits, image = _input()
    with pytest.raises(ValueError, match=r"image: values from .* must be RGB on the scale 0\.\.255"):
        _crf()(logits, make(image))


def test_black_image_and_resampling_overshoot_are_accepted():
    logits, image = _input()
    _crf()(logits, torch.zeros_like(image))
    _crf()(logits, _changed(_changed(image, -0.5), 255.5))


@pytest.mark.parametrize(
    ("logits", "image", "message"),
    [
        ((2, 4, 4, 5), (2, 3, 4, 5), r"logits: shape \(2, 4, 4, 5\), must be \(b, 3, h, w\)"),
        ((3, 4, 5), (3, 4, 5), "logits: shape"),
        ((2, 3, 0, 5), (2, 3, 0, 5), "logits: shape"),
        ((2, 3, 4, 5), (2, 3, 5, 4), r"image: shape \(2, 3, 5, 4\), must be \(2, channels, 4, 5\)"),
        ((2, 3, 4, 5), (1, 3, 4, 5), "image: shape"),
        ((2, 3, 4, 5), (2, 4, 5, 3), "image: shape"),
        ((2, 3, 4, 5), (2, 0, 4, 5), "image: shape"),
        ((2, 3, 4, 5), (3, 4, 5), "image: shape"),
    ],
)
def test_wrong_shapes_are_refused(logits, image, message):
    with pytest.raises(ValueError, match=message):
        check_input(torch.zeros(logits), torch.zeros(image), LABELS)


def test_integer_logits_and_another_device_are_refused():
    logits, image = _input()
    with pytest.raises(ValueError, match=r"logits: torch.int64, must be floating point"):
        check_input(logits.long(), image, LABELS)
    with pytest.raises(ValueError, match="image: on meta, must be where the logits are, cpu"):
        check_input(logits, image.to("meta"), LABELS)


def test_lattice_has_no_gradient_for_the_image():
    crf = _crf(filter="permutohedral")
    logits, image = _input()
    with pytest.raises(ValueError, match=r"PermutohedralFilter does not have; pass image\.detach"):
        crf(logits, image.requires_grad_())
    with torch.no_grad():
        crf(logits, image)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(InputError, match="num_classes is 1, must be >= 2"):
        DenseCRF(1)


def test_settings_reach_their_owners():
    crf = DenseCRF(2, CRFConfig(inference=MeanField(damping=0.25), filter=PermutohedralFilter(rows=17)))
    assert crf.inference == MeanField(damping=0.25)
    assert crf.filter == PermutohedralFilter(rows=17)


def test_unknown_preset_is_refused():
    with pytest.raises(InputError, match="name is 'deeplap', must be one of deeplab, crfasrnn, pydensecrf"):
        DenseCRF.preset("deeplap", 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("w1", -1.0),
        ("w2", math.nan),
        ("theta_alpha", 0.0),
        ("theta_beta", -5.0),
        ("theta_gamma", math.inf),
        ("iterations", -1),
        ("train_iterations", -1),
    ],
)
def test_bad_config_names_the_key_the_value_and_what_is_allowed(field, value):
    with pytest.raises(InputError, match=f"crf.{field} is {value!r}, must be"):
        CRFConfig(**{field: value})


DEFAULTS = to_plain(CRFConfig())


@pytest.mark.parametrize("field", ["normalization", "compatibility", "weights", "filter", "inference"])
def test_unknown_choice_names_the_key_and_the_choices(field):
    config = CRFConfig()
    object.__setattr__(
        config, field, "round"
    )  # the constructor's annotations would refuse it first in the tests
    with pytest.raises(InputError, match=f"crf.{field} is 'round', must be one of .*{DEFAULTS[field]}"):
        config.__post_init__()
