"""The mean-field update against torch's softmax."""

import math

import pytest
import torch

from crfnet.kernels.gpu.update import mean_field_update
from tests.tolerances import assert_as_good, assert_close

pytestmark = pytest.mark.usefixtures("kernels_on")


def problem(rows, labels, device, dtype=torch.float32):
    unary, message = 5 * torch.randn(rows, labels), 3 * torch.randn(rows, labels)
    return unary.to(device, dtype), message.to(device, dtype), torch.rand(rows).to(device)


@pytest.mark.parametrize(
    ("rows", "labels"), [(1, 1), (101, 3), (67, 21), (5, 33), (3, 150), (2, 1024), (3, 2050)]
)
def test_any_number_of_labels(rows, labels, device):
    unary, message, scale = problem(rows, labels, device)
    expected = unary.double() + scale.double().unsqueeze(1) * message.double()
    assert_close(mean_field_update(unary, message, scale), expected.softmax(1), "update", torch.float32)
    plain = (unary.double() + message.double()).softmax(1)
    assert_close(mean_field_update(unary, message), plain, "update", torch.float32)


@pytest.mark.parametrize("labels", [4, 1500])
def test_extreme_logits(labels, device):
    """Large ones, and labels that cannot be: also all of the first block of labels."""
    unary, message, _ = problem(3, labels, device)
    unary[0] *= 1e4
    unary[1:, : labels - 2] = -math.inf
    out = mean_field_update(unary, message)
    assert_close(out, (unary.double() + message.double()).softmax(1), "update", torch.float32)
    assert (out[1:, : labels - 2] == 0).all()


@pytest.mark.parametrize("labels", [21, 1100])
def test_result_in_the_place_of_an_argument(labels, device):
    unary, message, scale = problem(3, labels, device)
    expected = mean_field_update(unary, message, scale)
    place = message.clone()
    assert mean_field_update(unary, place, scale, out=place) is place
    assert torch.equal(place, expected)
    with pytest.raises(
        ValueError, match=r"out is \(3, 21\) with strides \(1, 3\)" if labels == 21 else "out is"
    ):
        mean_field_update(unary, message, out=torch.empty(labels, 3, device=device).t())


@pytest.mark.parametrize("labels", [21, 1100])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype, labels, device):
    unary, message, scale = problem(7, labels, device, dtype)
    exactly = (unary.double() + message.double()).softmax(1)
    assert_as_good(mean_field_update(unary, message), (unary + message).softmax(1), exactly)
    scale = scale.to(dtype).unsqueeze(1)
    exactly = (unary.double() + scale.double() * message.double()).softmax(1)
    scaled = mean_field_update(unary, message, scale.squeeze(1))
    assert_as_good(scaled, (unary + scale * message).softmax(1), exactly)


def test_types_that_are_not_taken(device):
    unary, message, _ = problem(2, 3, device)
    with pytest.raises(ValueError, match=r"message is torch.float64; kernels take"):
        mean_field_update(unary, message.double())
