import math

import pytest
import torch

from crfnet.crf import reference
from crfnet.crf.features import KernelInputs, bilateral_features, spatial_features
from crfnet.crf.filters import ExactFilter
from crfnet.crf.layer import DenseCRF
from crfnet.crf.potentials import (
    WEIGHTS,
    BilateralPotential,
    FeaturePotential,
    PotentialWeight,
    SpatialPotential,
)
from tests.lossy_products import LossyProducts
from tests.tolerances import assert_close

LABELS = 3
MESSAGES = {"per_class": "l,bln->bln", "full": "lk,bkn->bln"}


def _image() -> torch.Tensor:
    return 255 * torch.rand(2, 3, 3, 4, dtype=torch.float64)


def _weight(weights, value=2.5, learnable=True) -> PotentialWeight:
    return PotentialWeight(value, weights=weights, num_classes=LABELS, learnable=learnable)


def _bilateral(**changes) -> BilateralPotential:
    return BilateralPotential(4.0, 2.0, 60.0, num_classes=LABELS, **changes).double()


def _spatial(**changes) -> SpatialPotential:
    return SpatialPotential(3.0, 1.5, num_classes=LABELS, **changes).double()


@pytest.mark.parametrize(("weights", "shape"), [("scalar", ()), ("per_class", (3,)), ("full", (3, 3))])
def test_weight_starts_where_asked(weights, shape):
    value = _weight(weights).value
    expected = 2.5 * torch.eye(3) if weights == "full" else torch.full(shape, 2.5)
    assert_close(value, expected, "layer", torch.float32)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weigh_by_einsum(weights):
    weight = _weight(weights).double()
    with torch.no_grad():
        weight.raw.add_(torch.randn_like(weight.raw))
    messages = torch.randn(2, LABELS, 5, dtype=torch.float64)
    if weights == "scalar":
        expected = weight.value.item() * messages
    else:
        expected = torch.einsum(MESSAGES[weights], weight.value, messages)
    assert_close(weight(messages), expected, "layer", torch.float64)


@pytest.mark.parametrize("weights", ["scalar", "per_class"])
def test_positive_weight_survives_a_large_step(weights):
    weight = _weight(weights)
    torch.optim.SGD(weight.parameters(), lr=20.0).step(lambda: weight.value.sum().backward())
    assert (weight.value > 0).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weight_gradient(weights):
    weight = _weight(weights).double()
    messages = torch.randn(1, LABELS, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda raw, m: torch.func.functional_call(weight, {"raw": raw}, (m,)), (weight.raw, messages)
    )


def test_bilateral_operator_is_the_kernel_of_the_paper():
    image, kernel = _image(), _bilateral()
    values = torch.randn(2, LABELS, 12, dtype=torch.float64)
    expected = reference.filter_values(values, bilateral_features(image, 2.0, 60.0))
    assert_close(
        kernel.operator(KernelInputs(image, (3, 4)), ExactFilter())(values), expected, "layer", torch.float32
    )
    thetas = kernel.theta_alpha, kernel.theta_beta
    expected = reference.filter_values(values, bilateral_features(image, *thetas))
    assert_close(
        kernel.operator(KernelInputs(image, (3, 4)), ExactFilter())(values), expected, "layer", torch.float64
    )


def test_positions_need_no_image():
    kernel = FeaturePotential(2.0, [0.5, 0.25], source="spatial", num_classes=LABELS)
    layer = DenseCRF(3, potentials={"here": kernel}).eval()
    logits = torch.randn(2, 3, 5, 6)
    image = torch.rand(2, 3, 5, 6) * 255
    torch.testing.assert_close(layer(logits), layer(logits, image))


def test_spatial_operator_is_the_kernel_of_the_paper():
    kernel = _spatial()
    values = torch.randn(2, LABELS, 12, dtype=torch.float64)
    features = spatial_features(3, 4, kernel.theta_gamma, dtype=torch.float64, device=values.device)
    expected = reference.filter_values(values, features.expand(2, -1, -1))
    assert_close(
        kernel.operator(KernelInputs(_image(), (3, 4)), ExactFilter())(values),
        expected,
        "layer",
        torch.float64,
    )


@pytest.mark.parametrize("make", [_bilateral, _spatial])
def test_gradient_of_every_theta(make):
    image, kernel = _image(), make()
    values = torch.randn(2, LABELS, 12, dtype=torch.float64)
    thetas = {name: p for name, p in kernel.named_parameters() if name.startswith("log_theta")}

    def filtered(*logs):
        state = {f"kernel.{name}": log for name, log in zip(thetas, logs, strict=True)}
        return torch.func.functional_call(_Filtered(kernel, image), state, (values,))

    assert len(thetas) == (2 if make is _bilateral else 1)
    assert torch.autograd.gradcheck(filtered, tuple(thetas.values()))


class _Filtered(torch.nn.Module):
    def __init__(self, kernel, image):
        super().__init__()
        self.kernel, self.image = kernel, image

    def forward(self, values):
        return self.kernel.operator(KernelInputs(self.image, (3, 4)), ExactFilter())(values)


def test_names_and_units():
    assert {name: round(v.item(), 4) for name, v in _bilateral().parameters_by_name().items()} == {
        "w1": 4.0,
        "theta_alpha": 2.0,
        "theta_beta": 60.0,
    }
    assert {name: round(v.item(), 4) for name, v in _spatial().parameters_by_name().items()} == {
        "w2": 3.0,
        "theta_gamma": 1.5,
    }


def test_bandwidths_of_a_bfloat16_module_are_float32():
    assert _bilateral().bfloat16().theta_alpha.dtype == torch.float32


@pytest.mark.parametrize("make", [_bilateral, _spatial])
@pytest.mark.parametrize("learned", ["learn_weight", "learn_theta"])
def test_learns_only_what_is_asked(make, learned):
    kernel = make(**{"learn_weight": False, "learn_theta": False, learned: True})
    for name, parameter in kernel.named_parameters():
        assert parameter.requires_grad is (("theta" in name) == (learned == "learn_theta")), name


@pytest.mark.parametrize("theta", [0.0, -3.0, math.nan, math.inf])
def test_bad_theta_is_refused(theta):
    if theta != math.inf:  # which leaves positions out
        with pytest.raises(ValueError, match="theta_alpha is"):
            BilateralPotential(1.0, theta, 5.0, num_classes=2)
    with pytest.raises(ValueError, match="theta_beta is"):
        BilateralPotential(1.0, 5.0, theta, num_classes=2)
    with pytest.raises(ValueError, match="theta_gamma is"):
        SpatialPotential(1.0, theta, num_classes=2)


@pytest.mark.parametrize(
    ("weights", "value"), [("scalar", 0.0), ("scalar", -1.0), ("per_class", math.nan), ("full", 0.0)]
)
def test_bad_weight_is_refused(weights, value):
    with pytest.raises(ValueError, match="weight is"):
        _weight(weights, value)


def test_print_shows_weights_and_widths():
    text = str(BilateralPotential(4.0, 67.0, 3.0, num_classes=2))
    assert "theta_alpha=67, theta_beta=3" in text
    assert "PotentialWeight(4)" in text
    assert "theta_gamma=3" in str(SpatialPotential(1.0, 3.0, num_classes=2))
    assert "per_class, 5 labels" in str(SpatialPotential(1.0, 3.0, num_classes=5, weights="per_class"))


def test_full_precision_places_points_where_products_lose_digits():
    root = torch.randn(5, 5, dtype=torch.float64)
    precision = root @ root.mT / 25 + torch.eye(5, dtype=torch.float64) / 9
    kernel = FeaturePotential(2.0, precision, num_classes=LABELS)
    image = 255 * torch.rand(2, 3, 30, 40)
    plain = kernel.factor.double().mT @ bilateral_features(image.double(), 1.0, 1.0)
    with LossyProducts():
        features = kernel.features(KernelInputs(image, (30, 40)))
    torch.testing.assert_close(features.double(), plain, rtol=0, atol=1e-4)
