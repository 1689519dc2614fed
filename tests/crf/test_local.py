"""The local filter: windows, cells, borders, masks, gradients."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from crfnet import kernels
from crfnet.crf.filters import ExactFilter, LocalFilter
from crfnet.crf.reference import local_matrix
from tests.tolerances import assert_close

F64 = torch.float64
GRIDS = [(1, 1), (9,), (1, 6), (5, 7), (11, 13), (2, 3, 4)]


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request):
    """Every test runs through the compiled kernels and through torch."""
    with kernels.using("auto" if request.param == "compiled" else "off"):
        yield request.param


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("window", "pool", "centered"),
    [
        (1, 1, False),
        (3, 1, False),
        (5, 2, False),
        (3, 4, False),
        (11, 1, False),
        (11, 3, False),
        (3, 4, True),
        (11, 3, True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_forward_and_both_gradients(grid, window, pool, centered, dtype):
    """Against the matrix; batch of 2; values and features that do not lie in memory one after the other."""
    pixels = math.prod(grid)
    values = torch.rand(2, pixels, 3, dtype=dtype).mT.requires_grad_()
    features = torch.randn(2, pixels, 2, dtype=dtype).mT.requires_grad_()
    grad = torch.rand(2, 3, pixels, dtype=dtype)
    out = LocalFilter(window, pool, centered).operator(features, grid=grid)(values)
    actual = out, *torch.autograd.grad(out, (values, features), grad)
    wide = [x.detach().double().requires_grad_() for x in (values, features)]
    expected_out = wide[0] @ local_matrix(wide[1], grid, window, pool, centered=centered).mT
    expected = expected_out, *torch.autograd.grad(expected_out, wide, grad.double())
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, "exact", dtype)


@pytest.mark.parametrize("grid", [(13,), (4, 6), (3, 2, 4)])
def test_a_window_over_everything_is_exact(grid):
    features, values = (torch.randn(2, 3, math.prod(grid), dtype=F64) for _ in range(2))
    local = LocalFilter(window=2 * max(grid) - 1).operator(features, grid=grid)
    assert_close(local(values), ExactFilter().operator(features)(values), "exact", F64)


@pytest.mark.parametrize("pool", [1, 2])
def test_gradients_of_both_orders(pool):
    features, values = torch.randn(1, 2, 12, dtype=F64), torch.randn(1, 1, 12, dtype=F64)
    mask = torch.arange(12).unsqueeze(0) < 9

    def run(values, features):
        return LocalFilter(3, pool).operator(features, grid=(4, 3), mask=mask)(values)

    assert gradcheck(run, (values.requires_grad_(), features.requires_grad_()))
    assert gradgradcheck(run, (values, features))


@pytest.mark.parametrize("applied", ["product", "average"])
@pytest.mark.parametrize("pool", [1, 2, 3, 4])
def test_padded_batch_equals_the_images_one_by_one(pool, applied):
    """Also where the padding begins inside a cell: output, gradient of values and of features."""
    sizes, frame = ((7, 5), (4, 8), (1, 1)), (7, 8)
    mask = torch.zeros(3, *frame, dtype=torch.bool)
    for inside, (height, width) in zip(mask, sizes, strict=True):
        inside[:height, :width] = True
    mask = mask.flatten(1)
    features, values, grad = (torch.rand(3, c, 56, dtype=F64) for c in (3, 2, 2))
    leaves = values.requires_grad_(), features.requires_grad_()

    def run(values, features, grid, mask=None):
        kernel = LocalFilter(3, pool).operator(features, grid=grid, mask=mask)
        return kernel(values) if applied == "product" else kernel.average(values)

    out = run(*leaves, frame, mask)
    together = out, *torch.autograd.grad(out, leaves, grad)
    for i, size in enumerate(sizes):
        ones = [x.detach()[i : i + 1, :, mask[i]].requires_grad_() for x in leaves]
        alone = run(*ones, size)
        expected = alone, *torch.autograd.grad(alone, ones, grad[i : i + 1, :, mask[i]])
        for batch, single in zip(together, expected, strict=True):
            torch.testing.assert_close(batch[i : i + 1, :, mask[i]], single, rtol=1e-12, atol=1e-14)
            assert (batch[i, :, ~mask[i]] == 0).all()


@pytest.mark.parametrize("pool", [1, 2, 5])
def test_a_mask_with_holes(pool):
    """A constant stays that constant, and what lies in the holes does not matter."""
    features, values = torch.rand(1, 3, 77, dtype=F64), torch.full((1, 1, 77), 2.0, dtype=F64)
    mask = torch.rand(1, 77) < 0.4
    values[:, :, ~mask[0]] = 1e9
    out = LocalFilter(3, pool).operator(features, grid=(7, 11), mask=mask).average(values)
    torch.testing.assert_close(
        out[0, 0, mask[0]], torch.full_like(out[0, 0, mask[0]], 2.0), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("size", [1, 5, 8, 9])
def test_upsampling_is_linear_between_the_centers_of_cells(size):
    """With features all equal and window 1: a ramp's averages are the ramp at the centers."""
    ramp = torch.arange(float(size), dtype=F64).view(1, 1, -1)
    out = LocalFilter(1, 4).operator(torch.zeros(1, 1, size, dtype=F64), grid=(size,))(ramp).flatten()
    whole = size // 4  # the last cell, if it has fewer pixels, has their average
    if whole > 1:
        between = slice(2, 4 * whole - 2)
        torch.testing.assert_close(out[between], ramp.flatten()[between], rtol=1e-12, atol=0)
        assert (out[:2] == 1.5).all()
    last = ramp.flatten()[(size - 1) // 4 * 4 :].mean()
    if size % 4 in (0, 1) and size > 1:
        expected = last if size % 4 == 0 else out[-2] + (last - 1.5 - 4 * (whole - 1)) / 4
        torch.testing.assert_close(out[-1], expected, rtol=1e-12, atol=0)


def test_memory_does_not_grow_with_the_window():
    """What autograd keeps: values and features, whatever the window."""
    kept = []
    for window in (3, 15):
        values, features = (torch.rand(1, 4, 64 * 64, requires_grad=True) for _ in range(2))
        sizes = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        )
        with hooks:
            LocalFilter(window).operator(features, grid=(64, 64))(values)
        kept.append(sum(sizes))
    assert kept == [2 * 4 * 64 * 64] * 2


@pytest.mark.parametrize("grid", [None, (4, 4), (1, 1, 3, 4), ()])
def test_grids_are_checked(grid):
    with pytest.raises(ValueError, match="grid is"):
        LocalFilter().operator(torch.zeros(1, 2, 12), grid=grid)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"window": 4}, "window is 4"), ({"window": -1}, "window is -1"), ({"pool": 0}, "pool is 0")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        LocalFilter(**settings)
