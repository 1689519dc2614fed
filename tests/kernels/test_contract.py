"""The contract of every filter once more, through the kernels: in float32 against matrices in float64."""

import pytest
import torch

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import FILTERS
from crfnet.crf.filters.exact import filter as exact_module
from tests.crf.test_filters import assert_as_promised, dense

F32 = torch.float32
pytestmark = pytest.mark.usefixtures("kernels_on")


@pytest.fixture(params=["exact", "local", "permutohedral"])
def name(request, monkeypatch):
    monkeypatch.setattr(exact_module, "_TILE", 16)  # several tiles of few points
    return request.param


def operator(name, features, grid=None, mask=None):
    return FILTERS[name]().operator(features, grid=grid or (features.shape[2],), mask=mask)


def problem(device, batch, dimensions, pixels, labels=3):
    features = torch.randn(batch, dimensions, pixels, device=device)
    return features, torch.randn(batch, labels, pixels, device=device)


@pytest.mark.parametrize("dimensions", [1, 5, 9])
def test_forward_and_adjoint(name, dimensions, device):
    features, values = problem(device, 2, dimensions, 23)
    matrix = dense(name, features.cpu()).to(device)
    out = operator(name, features)(values.requires_grad_())
    assert_as_promised(name, out, values.double() @ matrix.mT, F32)
    grad = torch.randn_like(out)
    (grad_values,) = torch.autograd.grad(out, values, grad)
    assert_as_promised(name, grad_values, grad.double() @ matrix, F32)


@pytest.mark.parametrize("pixels", [1, 2, 35])
def test_awkward_sizes(name, pixels, device):
    features, values = problem(device, 1, 5, pixels, labels=1)
    expected = values.double() @ dense(name, features.cpu()).to(device).mT
    assert_as_promised(name, operator(name, features)(values), expected, F32)


def test_last_image_alone_as_in_batch(name, device):
    features, values = problem(device, 3, 3, 20)
    batch = operator(name, features)(values)
    assert_as_promised(name, batch[2:], operator(name, features[2:])(values[2:]), F32)


def test_images_do_not_mix(name, device):
    features = torch.randn(1, 2, 15, device=device).expand(2, -1, -1)
    values = torch.stack([torch.randn(2, 15, device=device), torch.zeros(2, 15, device=device)])
    assert (operator(name, features)(values)[1] == 0).all()


def test_memory_layout_does_not_matter(name, device):
    features, values = problem(device, 2, 3, 21)
    expected = operator(name, features)(values)
    apply = operator(name, features.mT.contiguous().mT)
    assert_as_promised(name, apply(values.mT.contiguous().mT), expected, F32)
    every_other = torch.stack([values, values.flip(1)], dim=-1).flatten(2)[..., ::2]
    assert_as_promised(name, apply(every_other), expected, F32)


def test_constant_image_and_one_pixel(name, device):
    for grid in ((4, 5), (1, 1)):
        features = bilateral_features(torch.full((1, 3, *grid), 9.0, device=device), 2.0, 5.0)
        values = torch.rand(1, 2, features.shape[2], device=device)
        expected = values.double() @ dense(name, features.cpu(), grid).to(device).mT
        assert_as_promised(name, operator(name, features, grid)(values), expected, F32)


def test_a_mask_keeps_the_rest_out(name, device):
    """Values and gradient inside are those of the image alone; outside they are 0."""
    features, values = problem(device, 2, 3, 12)
    mask = torch.zeros(2, 3, 4, dtype=torch.bool, device=device)
    mask[0, :2, :3] = mask[1] = True
    inside = mask.flatten(1)
    out = operator(name, features, (3, 4), inside)(values.requires_grad_())
    (grad,) = torch.autograd.grad(out.square().sum(), values)
    assert (out.mT[~inside] == 0).all()
    assert (grad.mT[~inside] == 0).all()
    few = features[:1, :, inside[0]]
    own = values[:1, :, inside[0]].detach().requires_grad_()
    alone = operator(name, few, (2, 3))(own)
    (grad_alone,) = torch.autograd.grad(alone.square().sum(), own)
    assert_as_promised(name, out[:1, :, inside[0]], alone, F32)
    assert_as_promised(name, grad[:1, :, inside[0]], grad_alone, F32)


def test_averages_of_a_constant_are_that_constant(name, device):
    features = torch.randn(2, 4, 15, device=device)
    average = operator(name, features, (3, 5)).average(torch.full_like(features[:, :1], 3.0))
    torch.testing.assert_close(average, torch.full_like(average, 3.0), rtol=1e-5, atol=0)
