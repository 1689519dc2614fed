"""The exact filter: tiles, cut-off, precision, gradients."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from crfnet import kernels
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import ExactFilter
from crfnet.crf.filters.exact import filter as exact_module
from crfnet.crf.filters.exact.tiles import build_tiles
from crfnet.crf.filters.rows import kernel_rows
from crfnet.crf.reference import filter_values, kernel_matrix
from tests.tolerances import assert_close

F64 = torch.float64


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request):
    """Every test runs through the compiled kernels and through torch."""
    with kernels.using("auto" if request.param == "compiled" else "off"):
        yield request.param


def with_gradients(run, values, features, grad):
    values, features = values.detach().requires_grad_(), features.detach().requires_grad_()
    out = run(values, features)
    return out, *torch.autograd.grad(out, (values, features), grad)


def against_brute_force(features, values, eps):
    """Forward and both gradients, relative to float64 sums over all pairs."""
    grad = torch.rand_like(values)
    actual = with_gradients(lambda v, f: ExactFilter(eps).operator(f)(v), values, features, grad)
    expected = with_gradients(filter_values, values.double(), features.double(), grad.double())
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, "exact", features.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("pixels", [256, 257, 601])
def test_tiles_leave_out_nothing_at_eps_0(pixels, dtype, monkeypatch):
    """One tile and several, several blocks of columns, sizes that do not divide, batch of 2."""
    monkeypatch.setattr(exact_module, "_BLOCK", 2 * 150**2)
    against_brute_force(
        3 * torch.randn(2, 4, pixels, dtype=dtype), torch.rand(2, 3, pixels, dtype=dtype), 0.0
    )


def shapes():
    """Point sets that make the expanded square cancel, if it is used where it must not be."""
    plain = 3 * torch.randn(2, 3, 500)
    outlier = torch.rand(2, 1, 500) < 0.03
    return {
        "plain": plain,
        "offset by 1e3": plain + 1e3,
        "offset by 1e5": plain + 1e5,
        "far outliers": torch.where(outlier, 1e6 * plain, plain),
        "outliers": torch.where(outlier, 1e3 * plain, plain),
        "farthest": torch.where(outlier, 1e25 * plain, plain),
        "stretched": plain * torch.tensor([1e4, 1.0, 0.1]).view(1, 3, 1),
        "three clusters": plain + 300 * (torch.arange(500) % 3 - 1),
        "constant": torch.full_like(plain, 1e3),
    }


@pytest.mark.parametrize("eps", [0.0, 1e-6])
@pytest.mark.parametrize("name", list(shapes()))
def test_float32_is_right_wherever_the_points_are(name, eps):
    against_brute_force(shapes()[name], torch.rand(2, 3, 500), eps)


def test_float64_with_outliers():
    features = torch.randn(1, 2, 400, dtype=F64)
    features[..., ::50] *= 1e6
    against_brute_force(features, torch.rand(1, 2, 400, dtype=F64), 0.0)


@pytest.mark.parametrize("setting", ["autocast", "lossy"])
def test_lossy_matrix_products_are_not_used_for_distances(setting, monkeypatch, path):
    """Under autocast, and where a setting of torch lets float32 products run in TF32 or bfloat16."""
    features, values = torch.randn(1, 3, 300) + 50, torch.rand(1, 2, 300)
    if setting == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            against_brute_force(features, values, 1e-6)
    else:
        monkeypatch.setattr(exact_module, "multiplies_in_full", lambda like: False)
        used = []
        plain = exact_module._exponents
        monkeypatch.setattr(
            exact_module, "_exponents", lambda x, y: used.append((x.dtype, y.dtype)) or plain(x, y)
        )
        against_brute_force(features, values, 1e-6)
        assert set(used) == ({(F64, F64)} if path == "torch" else set())


def photo_features(height, width):
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    shading = torch.stack([60 + 80 * x, 90 + 60 * y, 120 - 70 * x * y])
    inside = ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08).float()
    image = (shading + 90 * inside + 4 * torch.randn(3, height, width)).clamp(0, 255)
    return bilateral_features(image.unsqueeze(0), 8.0, 4.0)


def test_cut_off_leaves_out_most_and_keeps_the_promise():
    features, values = photo_features(30, 40), torch.rand(1, 3, 1200)
    against_brute_force(features, values, 1e-6)
    tiles = build_tiles(features, None)
    count = tiles.used.shape[1]
    kept = sum(len(near) for _, _, near in tiles.pairs(math.sqrt(-2 * math.log(1e-6))))
    assert count == 16
    assert count < kept < 0.5 * count**2


@pytest.mark.parametrize("eps", [1e-2, 1e-4])
def test_what_is_left_out_is_below_eps(eps):
    """The operator as a matrix: symmetric, each entry K_ij or, if K_ij < eps, possibly 0."""
    features = 3 * photo_features(20, 30).double()
    matrix = ExactFilter(eps).operator(features)(torch.eye(600, dtype=F64).unsqueeze(0))[0]
    kernel = kernel_matrix(features)[0]
    left_out = matrix == 0
    assert left_out.any()
    assert (kernel[left_out] < eps).all()
    assert_close(matrix[~left_out], kernel[~left_out], "exact", F64)
    assert torch.equal(left_out, left_out.mT)


def test_tests_of_boxes_in_chunks_find_the_same_pairs(monkeypatch):
    tiles = build_tiles(photo_features(40, 50).repeat(2, 1, 1), None)
    whole = [(image, tile, near.tolist()) for image, tile, near in tiles.pairs(3.0)]
    monkeypatch.setattr("crfnet.crf.filters.exact.tiles._TESTS", 40)
    assert [(image, tile, near.tolist()) for image, tile, near in tiles.pairs(3.0)] == whole
    assert [pair[:2] for pair in whole] == [(image, tile) for image in range(2) for tile in range(16)]
    assert all(
        (j, i) in found
        for found in [{(t, n) for m, t, near in whole if m == 1 for n in near}]
        for i, j in found
    )


def test_order_is_a_permutation_and_boxes_hold_their_points():
    features = torch.randn(2, 3, 777)
    tiles = build_tiles(features, None)
    values = torch.rand(2, 2, 777)
    assert torch.equal(tiles.unsort(tiles.sort_once(values).flatten(1, 2)), values)
    assert tiles.counts.sum() == 2 * 777
    points = tiles.sort(features).permute(0, 2, 3, 1)
    assert (points >= tiles.low.unsqueeze(2)).all()
    assert (points <= tiles.high.unsqueeze(2)).all()


def test_many_points_outside_the_mask_cost_nothing():
    """They all lie where one pixel inside does; tiles of nothing else are left out."""
    features = torch.randn(2, 3, 2000)
    mask = torch.rand(2, 2000) < torch.tensor([[1.0], [0.2]])
    operator = ExactFilter().operator(features, mask=mask)
    values = torch.rand(2, 2, 2000)
    expected = torch.einsum("bij,blj->bli", kernel_matrix(features.double()), values.double() * mask[:, None])
    assert_close(operator(values), expected * mask[:, None], "exact", torch.float32)
    full, sparse = operator._tiles.used.sum(1).tolist()
    assert full == 16
    assert sparse <= 8


def test_gradients_of_features_of_both_orders():
    features, values = torch.randn(2, 2, 3, dtype=F64), torch.randn(2, 1, 3, dtype=F64)

    def run(values, features):
        return ExactFilter().operator(features)(values)

    assert gradcheck(run, (values.requires_grad_(), features.requires_grad_()))
    assert gradgradcheck(run, (values, features))


def test_gradients_of_both_orders_over_tiles():
    """257 points are 4 tiles, with points that come twice to fill them up."""
    features, values = torch.randn(1, 2, 257, dtype=F64), torch.randn(1, 1, 257, dtype=F64)

    def run(values, features):
        return ExactFilter(eps=0.0).operator(features)(values)

    assert gradcheck(run, (values.requires_grad_(), features.requires_grad_()), fast_mode=True)
    assert gradgradcheck(run, (values, features), fast_mode=True)


def test_gradient_of_theta():
    image, values = 255 * torch.rand(2, 3, 2, 3, dtype=F64), torch.rand(2, 2, 6, dtype=F64)

    def run(alpha, beta):
        return ExactFilter().operator(bilateral_features(image, alpha, beta))(values)

    thetas = [torch.tensor(theta, dtype=F64, requires_grad=True) for theta in (2.0, 90.0)]
    assert gradcheck(run, thetas)


def test_kernel_values_are_never_denormal():
    """A processor computes with denormal numbers a hundred times slower."""
    row, far = torch.zeros(1, 1, 1), torch.tensor([0.0, 1.0, 13.5, 14.0, 1e4, 1e30]).view(1, 1, -1)
    for dtype in (torch.float32, F64):
        kernel = kernel_rows(row.to(dtype), far.to(dtype)).flatten()
        assert (kernel >= torch.finfo(dtype).tiny).all()
        assert_close(kernel, torch.exp(-0.5 * far.double().flatten().square()), "exact", dtype)


@pytest.mark.parametrize("eps", [-1e-9, 1.0, float("nan")])
def test_eps_outside_its_range_is_refused(eps):
    with pytest.raises(ValueError, match=r"eps is .*, must be in \[0, 1\)"):
        ExactFilter(eps=eps)
