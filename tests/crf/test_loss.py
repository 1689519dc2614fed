"""The dense CRF loss against sums over all pairs, in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from crfnet.crf import reference
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import ExactFilter, PermutohedralFilter
from crfnet.crf.loss import DenseCRFLoss, check_loss_input
from crfnet.errors import InputError
from tests.tolerances import assert_close

F64 = torch.float64


def _loss(**options):
    """Small widths, a weight that leaves numbers of order 1, the exact filter, no scaling."""
    settings = {"weight": 0.1, "sigma_rgb": 60.0, "sigma_xy": 3.0, "scale": 1.0, "filter": ExactFilter()}
    return DenseCRFLoss(**{**settings, **options})


def _problem(batch=2, labels=3, height=4, width=5, dtype=F64):
    probabilities = (2 * torch.randn(batch, labels, height, width, dtype=F64)).softmax(1)
    return probabilities.to(dtype), (255 * torch.rand(batch, 3, height, width, dtype=F64)).to(dtype)


def _dense(loss, probabilities, image, mask=None):
    """``-weight / b sum_l S_l . K S_l``, or ``weight / b sum_l S_l . K (1 - S_l)``, with the whole K."""
    if loss.scale != 1:
        image = F.interpolate(image, scale_factor=loss.scale)
        probabilities = F.interpolate(
            probabilities, scale_factor=loss.scale, mode="bilinear", align_corners=False
        )
        mask = None if mask is None else F.interpolate(mask[:, None].double(), scale_factor=loss.scale)[:, 0]
    inside = torch.ones_like(image[:, :1]) if mask is None else mask[:, None].to(F64)
    s, inside = (probabilities * inside).flatten(2), inside.flatten(2)
    kernel = reference.kernel_matrix(bilateral_features(image, loss.sigma_xy * loss.scale, loss.sigma_rgb))
    other = inside - s if loss.full else -s
    return loss.weight * torch.einsum("bli,bij,blj->", s, kernel, other) / len(s)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("scale", "size"), [(1.0, (4, 5)), (0.5, (8, 9)), (0.5, (7, 10)), (0.3, (9, 11))])
def test_value_and_gradient_equal_the_sum_over_all_pairs(scale, size, masked, full, dtype):
    loss = _loss(scale=scale, full=full)
    probabilities, image = _problem(2, 3, *size)
    mask = torch.rand(2, *size) < 0.7 if masked else None
    expected = _dense(loss, probabilities.requires_grad_(), image, mask)
    (expected_gradient,) = torch.autograd.grad(expected, probabilities)
    given = probabilities.detach().to(dtype).mT.contiguous().mT.requires_grad_()  # not contiguous
    found = loss(given, image.to(dtype), mask)
    assert found.dtype == dtype
    assert_close(found, expected, "layer", dtype)
    assert_close(torch.autograd.grad(found, given)[0], expected_gradient, "layer", dtype)


@pytest.mark.parametrize("full", [False, True])
def test_gradcheck(full):
    loss = _loss(full=full, scale=0.5)
    probabilities, image = _problem(1, 2, 4, 4)
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[0, 2, 2] = False
    s = (0.1 + 0.8 * probabilities).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, image, mask), s)
    assert torch.autograd.gradgradcheck(lambda s: loss(s, image, mask), s, fast_mode=True)


def test_gradient_is_minus_twice_the_filtered_segmentation():
    """-2 weight K S / batch, as the public code has it."""
    loss = _loss()
    probabilities, image = _problem()
    (gradient,) = torch.autograd.grad(loss(probabilities.requires_grad_(), image), probabilities)
    filtered = reference.filter_values(probabilities.flatten(2), bilateral_features(image, 3.0, 60.0))
    assert_close(gradient.flatten(2), -2 * 0.1 * filtered / 2, "layer", F64)


def test_full_form_is_the_other_and_the_sum_of_the_kernel():
    probabilities, image = _problem()
    constant = 0.1 * reference.kernel_matrix(bilateral_features(image, 3.0, 60.0)).sum() / 2
    difference = _loss(full=True)(probabilities, image) - _loss()(probabilities, image)
    assert_close(difference, constant, "layer", F64)
    certain = torch.zeros_like(probabilities)
    certain[:, 1] = 1
    assert abs(float(_loss(full=True)(certain, image))) < 1e-10


def test_disagreement_of_like_pixels_costs_more():
    image = torch.full((1, 3, 2, 2), 100.0)
    image[..., 1] = 250.0  # a dark and a bright column
    columns = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]])
    along, across = columns, columns.mT
    assert _loss(full=True)(along, image) < _loss(full=True)(across, image)


@pytest.mark.parametrize("filter", [ExactFilter(), PermutohedralFilter()])
def test_loss_is_the_mean_over_images(filter):
    loss = _loss(filter=filter)
    probabilities, image = _problem(3)
    each = [loss(probabilities[i : i + 1], image[i : i + 1]) for i in range(3)]
    assert_close(loss(probabilities, image), torch.stack(each).mean(), "layer", F64)


def test_gradient_on_the_lattice_is_that_of_its_value():
    loss = _loss(filter=PermutohedralFilter(), full=True)
    probabilities, image = _problem(2, 2, 3, 4)
    probabilities = 0.1 + 0.8 * probabilities
    assert torch.autograd.gradcheck(lambda s: loss(s, image), probabilities.requires_grad_())


def test_an_image_without_any_pixel_inside_adds_nothing():
    probabilities, image = _problem()
    mask = torch.ones(2, 4, 5, dtype=torch.bool)
    mask[1] = False
    alone = _loss()(probabilities[:1], image[:1])
    assert_close(_loss()(probabilities, image, mask), alone / 2, "layer", F64)


def test_defaults_are_those_of_the_public_code():
    loss = DenseCRFLoss()
    assert (loss.weight, loss.sigma_rgb, loss.sigma_xy, loss.scale) == (2e-9, 15.0, 100.0, 0.5)
    assert loss.filter == PermutohedralFilter()
    assert not loss.full
    assert "sigma_xy=100.0" in repr(loss)
    probabilities, image = _problem(1, 2, 8, 8, torch.float32)
    assert -1e-4 < float(loss(probabilities, image.byte())) < 0


def test_computes_in_float32_under_autocast_and_for_half_precision():
    probabilities, image = _problem(dtype=torch.float32)
    expected = _loss()(probabilities, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(_loss()(probabilities, image), expected, "layer", torch.float32)
    assert _loss()(probabilities.bfloat16(), image).dtype == torch.float32


def test_the_image_gets_no_gradient():
    probabilities, image = _problem()
    loss = _loss()(probabilities.requires_grad_(), image.requires_grad_())
    assert torch.autograd.grad(loss, image, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weight", -1.0),
        ("weight", math.inf),
        ("sigma_rgb", 0.0),
        ("sigma_xy", math.nan),
        ("scale", 0.0),
        ("scale", 2.0),
    ],
)
def test_bad_settings_are_refused(field, value):
    with pytest.raises(InputError, match=f"DenseCRFLoss: {field} is {value}, must be"):
        DenseCRFLoss(**{field: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"probabilities": torch.rand(3, 4, 5)},
            r"probabilities: torch.float32 of shape \(3, 4, 5\), must be",
        ),
        ({"probabilities": torch.zeros(2, 3, 4, 5, dtype=torch.long)}, "probabilities: torch.int64"),
        ({"probabilities": torch.full((2, 3, 4, 5), math.nan)}, r"probabilities: values from nan .*0\.\.1"),
        ({"probabilities": torch.full((2, 3, 4, 5), 1.5)}, r"probabilities: values from 1\.5 to 1\.5"),
        ({"probabilities": torch.full((2, 3, 4, 5), -0.5)}, r"of logits, the softmax"),
        ({"image": torch.zeros(2, 0, 4, 5)}, r"image: shape \(2, 0, 4, 5\), must be \(2, channels, 4, 5\)"),
        ({"image": torch.zeros(2, 4, 5)}, r"image: shape \(2, 4, 5\), must be \(2, channels, 4, 5\)"),
        ({"image": torch.zeros(2, 3, 5, 4)}, "image: shape"),
        ({"image": torch.rand(2, 3, 4, 5)}, r"must be RGB on the scale 0\.\.255"),
        ({"image": torch.full((2, 3, 4, 5), math.nan)}, "image: contains NaN"),
        ({"image": torch.zeros(2, 3, 4, 5, device="meta")}, "image: on meta, must be where"),
        ({"mask": torch.ones(2, 4, 5)}, r"mask: torch.float32 .* must be torch.bool of \(2, 4, 5\)"),
        ({"mask": torch.ones(2, 5, 4, dtype=torch.bool)}, "mask: torch.bool of shape"),
        ({"scale": 0.2}, r"image: 4 x 5 pixels, must keep at least 1 x 1 when scaled by 0\.2"),
    ],
)
def test_bad_input_is_refused(change, message):
    good = {"probabilities": torch.rand(2, 3, 4, 5), "image": 255 * torch.rand(2, 3, 4, 5), "mask": None}
    check_loss_input(**{**good, "scale": 1.0})
    with pytest.raises(ValueError, match=message):
        check_loss_input(**{**good, "scale": 1.0, **change})
