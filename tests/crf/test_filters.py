"""The contract of every filter, then what each promises by itself."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from crfnet import kernels
from crfnet.crf.features import bilateral_features, spatial_features
from crfnet.crf.filters import FILTERS, ExactFilter, PermutohedralFilter, SeparableGaussian
from crfnet.crf.filters import rows as rows_module
from crfnet.crf.normalization import normalized
from crfnet.crf.reference import filter_values
from tests.tolerances import assert_close, relative_l2

F64 = torch.float64
CPU = torch.device("cpu")


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def path(request):
    """Every test runs over the compiled kernels and over torch alone."""
    with kernels.using("auto" if request.param == "compiled" else "off"):
        yield request.param


@pytest.fixture(params=FILTERS)
def name(request):
    return request.param


def operator(name, features, grid=None, mask=None):
    """On a grid of one row, unless there is another."""
    return FILTERS[name]().operator(features, grid=grid or (features.shape[2],), mask=mask)


def dense(name, features, grid=None):
    """The matrix (b, n, n) that the filter stands for, by its readable twin."""
    return FILTERS[name]().dense(features.double(), grid or (features.shape[2],))


def assert_as_promised(name, actual, expected, dtype):
    """The relative L2 error is within what the filter promises, whatever that is at most a thousandth."""
    bound = FILTERS[name].relative_error[dtype]
    assert actual.shape == expected.shape
    assert relative_l2(actual, expected) <= bound <= 1e-3


def problem(batch, dimensions, pixels, labels=3, dtype=F64, spread=1.0):
    features = spread * torch.randn(batch, dimensions, pixels, dtype=dtype)
    return features, torch.randn(batch, labels, pixels, dtype=dtype)


# every filter


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("dimensions", [*range(1, 9), 12, 16])
def test_forward_and_adjoint(name, dimensions, dtype):
    features, values = problem(2, dimensions, 23, dtype=dtype)
    values.requires_grad_()
    matrix = dense(name, features)
    out = operator(name, features)(values)
    assert out.dtype == dtype
    assert_as_promised(name, out, values.double() @ matrix.mT, dtype)
    grad = torch.randn_like(out)
    (grad_values,) = torch.autograd.grad(out, values, grad)
    assert_as_promised(name, grad_values, grad.double() @ matrix, dtype)


@pytest.mark.parametrize("pixels", [1, 2, 35, 97])
def test_awkward_sizes(name, pixels):
    features, values = problem(1, 5, pixels, labels=1)
    assert_as_promised(name, operator(name, features)(values), values @ dense(name, features).mT, F64)


def test_last_image_alone_as_in_batch(name):
    features, values = problem(3, 3, 20)
    batch = operator(name, features)(values)
    alone = operator(name, features[2:])(values[2:])
    assert_as_promised(name, batch[2:], alone, F64)


def test_images_do_not_mix(name):
    features = torch.randn(1, 2, 15, dtype=F64).expand(2, -1, -1)
    values = torch.stack([torch.randn(2, 15, dtype=F64), torch.zeros(2, 15, dtype=F64)])
    assert (operator(name, features)(values)[1] == 0).all()


def test_memory_layout_does_not_matter(name):
    features, values = problem(2, 3, 21)
    expected = operator(name, features)(values)
    apply = operator(name, features.mT.contiguous().mT)
    assert_as_promised(name, apply(values.mT.contiguous().mT), expected, F64)
    every_other = torch.stack([values, values.flip(1)], dim=-1).flatten(2)[..., ::2]
    assert_as_promised(name, apply(every_other), expected, F64)


def test_gradient_of_values_of_both_orders(name):
    features, values = problem(2, 2, 4, labels=2)
    apply = operator(name, features)
    assert gradcheck(apply, (values.requires_grad_(),))
    assert gradgradcheck(apply, (values,))


def test_adjoint_identity(name):
    features, v = problem(2, 4, 30)
    u, v = torch.randn_like(v), v.requires_grad_()
    out = operator(name, features)(v)
    (adjoint,) = torch.autograd.grad(out, v, u)
    torch.testing.assert_close((u * out).sum(), (adjoint * v).sum(), rtol=1e-12, atol=0)


def test_constant_image_and_one_pixel(name):
    """All colors equal: the bilateral kernel is the spatial one."""
    for height, width in ((7, 5), (1, 6), (1, 1)):
        features = bilateral_features(torch.full((1, 3, height, width), 9.0, dtype=F64), 2.0, 5.0)
        values = torch.rand(1, 2, height * width, dtype=F64)
        out = operator(name, features, (height, width))(values)
        expected = values @ dense(name, features, (height, width)).mT
        assert_as_promised(name, out, expected, F64)


def test_far_apart_points_keep_to_themselves(name):
    """Pairs of points, the pairs 1e6 bandwidths apart in all of 8 dimensions: codes beyond 63 bits."""
    places = torch.randint(0, 1000, (1, 8, 6)).double() * 1e6
    features = torch.cat([places, places + 0.2 * torch.randn(1, 8, 6, dtype=F64)], dim=2)
    values = torch.randn(1, 2, 12, dtype=F64)
    out = operator(name, features)(values)
    assert_as_promised(name, out, values @ dense(name, features).mT, F64)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(name, bad):
    features = torch.zeros(1, 2, 4)
    features[0, 1, 2] = bad
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        operator(name, features)


SIZES = ((5, 4), (1, 1), (2, 7), (3, 6))
HEIGHT, WIDTH = 5, 7


def padded(images):
    """(c, h, w) each, to the largest height and width: with NaN, which must not get anywhere."""
    frame = torch.full((len(images), len(images[0]), HEIGHT, WIDTH), float("nan"), dtype=F64)
    for image, place in zip(images, frame, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return frame.flatten(2)


@pytest.mark.parametrize("applied", ["product", "average"])
def test_padded_batch_equals_the_images_one_by_one(name, applied):
    """Values, gradient of values, row sums; nothing comes out of the padding and nothing goes in."""
    features = [torch.randn(3, *size, dtype=F64) for size in SIZES]
    values, grads = ([torch.rand(2, *size, dtype=F64) for size in SIZES] for _ in range(2))
    mask = ~padded([image[:1] for image in features]).isnan().squeeze(1)
    whole = operator(name, padded(features), (HEIGHT, WIDTH), mask)
    batch = padded(values).nan_to_num(9.0).requires_grad_()
    out = whole(batch) if applied == "product" else whole.average(batch)
    (grad_batch,) = torch.autograd.grad(out, batch, padded(grads).nan_to_num(7.0))
    sums = whole.row_sums(batch)
    assert (out.mT[~mask] == 0).all()
    assert (grad_batch.mT[~mask] == 0).all()
    assert (sums.mT[~mask] == 1).all()
    for i, size in enumerate(SIZES):
        kernel = operator(name, features[i].flatten(1).unsqueeze(0), size)
        one = values[i].flatten(1).unsqueeze(0).requires_grad_()
        alone = kernel(one) if applied == "product" else kernel.average(one)
        (grad_alone,) = torch.autograd.grad(alone, one, grads[i].flatten(1).unsqueeze(0))
        pairs = ((out, alone), (grad_batch, grad_alone), (sums, kernel.row_sums(one)))
        for together, expected in pairs:
            assert_as_promised(name, together[i].mT[mask[i]].mT, expected[0], F64)


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("grid", [(1, 1), (1, 13), (11, 1), (7, 5), (2, 3, 5)])
def test_averages_of_a_constant_are_that_constant(name, grid, learning):
    """Row sums are right wherever a pixel lies, up to the borders."""
    features = torch.randn(2, 4, math.prod(grid), dtype=F64, requires_grad=learning)
    average = operator(name, features, grid).average(torch.full_like(features[:, :1], 3.0))
    torch.testing.assert_close(average, torch.full_like(average, 3.0), rtol=1e-12, atol=0)


def test_features_need_grad(name):
    features = torch.zeros(1, 2, 4, requires_grad=True)
    assert operator(name, features).features_need_grad
    assert not operator(name, features.detach()).features_need_grad
    with torch.no_grad():
        assert not operator(name, features).features_need_grad


# permutohedral


def photo(height, width):
    """Smooth shading, a few flat regions with sharp edges and a little noise, 0..255."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    shading = torch.stack([60 + 80 * x, 90 + 60 * y, 120 - 70 * x * y])
    inside = ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08).float()
    return (shading + 90 * inside + 4 * torch.randn(3, height, width)).clamp(0, 255).unsqueeze(0)


def test_lattice_is_near_the_gaussian_once_normalized():
    features = bilateral_features(photo(36, 48), 20.0, 12.0)
    values = torch.randn(1, 4, 36 * 48).softmax(1)
    values = normalized(SeparableGaussian((36, 48), 2.0), values, "after")(values)
    lattice, exact = (
        normalized(filter.operator(features), values, "after")(values)
        for filter in (PermutohedralFilter(), ExactFilter())
    )
    assert_close(lattice, exact, "lattice-vs-gaussian", torch.float32)


def test_float32_far_from_zero_is_placed_as_in_float64():
    """Features that float32 holds exactly, at 2e5 bandwidths: the simplex must not suffer from the offset."""
    features = 2e5 + torch.randint(-64, 64, (1, 4, 40)).float() / 32
    values = torch.rand(1, 2, 40)
    assert_close(
        PermutohedralFilter().operator(features)(values),
        values.double() @ dense("permutohedral", features).mT,
        "lattice",
        torch.float32,
    )


def test_too_far_is_refused():
    with pytest.raises(ValueError, match="features reach 1e\\+13 bandwidths"):
        PermutohedralFilter().operator(torch.tensor([[[0.0, 1e13]]]))


def test_no_rows_is_refused():
    with pytest.raises(ValueError, match="rows is 0"):
        PermutohedralFilter(rows=0)


@pytest.mark.parametrize("applied", ["average", "product"])
class TestSampledRows:
    """The lattice's theta gradient: an unbiased estimate of the exact kernel's.

    ``average`` is D^-1 K v; for the ``product`` K v the exact rows are scaled to the lattice's row sums.
    """

    pixels = 5 * 8

    def setup_method(self):
        torch.manual_seed(1)
        self.image = photo(5, 8).double().expand(2, -1, -1, -1).contiguous()
        self.image[1] = 255 - self.image[1].flip(-1)
        self.values = torch.rand(2, 3, self.pixels, dtype=F64)
        # Some pixels hold all of the gradient, as at the boundaries of objects.
        self.grad = torch.rand(2, 3, self.pixels, dtype=F64) * (torch.rand(2, 1, self.pixels) < 0.4).double()

        features = bilateral_features(self.image, 3.0, 40.0)
        ones = torch.ones(2, 1, self.pixels, dtype=F64)
        lattice, exact = (
            filter.operator(features)(ones) for filter in (PermutohedralFilter(), ExactFilter())
        )
        self.scale = lattice / exact

    def apply(self, filter, features, values, applied):
        """What is differentiated, and what the exact kernel's rows are to be scaled with."""
        operator = filter.operator(features)
        if applied == "average":
            return operator.average(values), 1
        return operator(values), self.scale[: len(values)] if isinstance(filter, ExactFilter) else 1

    def theta_gradient(self, filter, applied):
        thetas = [torch.tensor(theta, dtype=F64, requires_grad=True) for theta in (3.0, 40.0)]
        out, scale = self.apply(filter, bilateral_features(self.image, *thetas), self.values, applied)
        return torch.stack(torch.autograd.grad(out, thetas, self.grad * scale))

    def test_all_rows_is_exact(self, applied):
        everything = self.theta_gradient(PermutohedralFilter(rows=self.pixels), applied)
        expected = self.theta_gradient(ExactFilter(), applied)
        torch.testing.assert_close(everything, expected, rtol=1e-10, atol=0)

    def test_mean_over_draws_is_exact(self, applied):
        """Every image of a batch draws its own rows, so that 8000 equal images are 8000 draws."""
        draws = 8000
        thetas = torch.tensor([3.0, 3.0, 40.0, 40.0, 40.0], dtype=F64).view(1, 5, 1)

        def theta_gradients(filter, batch):
            features = bilateral_features(self.image[:1], 3.0, 40.0).expand(batch, -1, -1).clone()
            values = self.values[:1].expand(batch, -1, -1)
            out, scale = self.apply(filter, features.requires_grad_(), values, applied)
            (grad,) = torch.autograd.grad(out, features, (self.grad[:1] * scale).expand(batch, -1, -1))
            by_feature = -(grad * features / thetas).sum(2)  # f = p / theta
            return torch.stack([by_feature[:, :2].sum(1), by_feature[:, 2:].sum(1)], dim=1).detach()

        expected = theta_gradients(ExactFilter(), 1)[0]
        drawn = theta_gradients(PermutohedralFilter(rows=16), draws)
        standard_error = drawn.std(0) / draws**0.5
        assert ((drawn.mean(0) - expected).abs() <= 3.5 * standard_error).all()
        # Tight enough to see an error: a small part of the gradient, but not nothing.
        assert (standard_error < 0.1 * expected.abs()).all()
        assert (standard_error > 1e-4 * expected.abs()).all()

    def test_seed_decides(self, applied):
        filter = PermutohedralFilter(rows=8)
        draws = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            draws.append(self.theta_gradient(filter, applied))
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])

    def test_no_gradient_is_no_gradient(self, applied):
        self.grad.zero_()
        assert (self.theta_gradient(PermutohedralFilter(rows=8), applied) == 0).all()

    def test_chunks_do_not_change_it(self, applied, monkeypatch):
        monkeypatch.setitem(sys.modules, "numba", None)  # compiled rows have no chunks
        torch.manual_seed(3)
        whole = self.theta_gradient(PermutohedralFilter(rows=8), applied)
        monkeypatch.setattr(rows_module, "_CHUNK", 2 * self.pixels * 3)
        torch.manual_seed(3)
        chunked = self.theta_gradient(PermutohedralFilter(rows=8), applied)
        torch.testing.assert_close(chunked, whole, rtol=1e-10, atol=0)


def pydensecrf_marginals(golden, name):
    """`DenseCRF2D(17, 11, 4)` with the golden file's two kernels, on our filters; both are lattices there."""
    logits = -torch.from_numpy(golden["U"]).unsqueeze(0)
    image = torch.from_numpy(golden["img"]).permute(2, 0, 1).unsqueeze(0).float()
    thetas = torch.tensor([80.0, 60.0, 13.0, 10.0, 12.0]).view(1, 5, 1)
    smoothness = spatial_features(11, 17, 3.0, dtype=torch.float32, device=CPU)
    appearance = bilateral_features(image, 1.0, 1.0) / thetas
    ones = torch.ones(1, 1, 188)
    messages = []
    for features, weight in ((smoothness, 3.0), (appearance, 10.0)):
        # pydensecrf works on four points at once and fills up with points at 0: no values, but corners.
        operator = PermutohedralFilter().operator(torch.nn.functional.pad(features, (0, 1)))
        ones[..., 187] = 0
        root = {"SYMMETRIC": -0.5, "AFTER": -1.0, "BEFORE": -1.0}[name]
        scale = torch.nn.functional.pad(operator(ones)[..., :187], (0, 1), value=1.0) ** root
        before, after = (scale if name != skip else torch.ones(()) for skip in ("AFTER", "BEFORE"))
        messages.append(
            lambda q, operator=operator, before=before, after=after, weight=weight: (
                weight * after * operator(before * q)
            )
        )
    q = logits.softmax(1)
    for _ in range(5):
        q = torch.nn.functional.pad(q, (0, 1))
        q = (logits + sum(message(q) for message in messages)[..., :187]).softmax(1)
    return q[0]


@pytest.mark.parametrize("normalization", ["SYMMETRIC", "AFTER", "BEFORE"])
def test_mean_field_on_the_lattice_is_that_of_pydensecrf(extra_data: Path, normalization):
    golden = np.load(extra_data / "pydensecrf_golden.npz")
    expected = torch.from_numpy(golden[f"Q_NORMALIZE_{normalization}_potts_5"])
    q = pydensecrf_marginals(golden, normalization)
    assert torch.equal(q.argmax(0), expected.argmax(0))
    assert (q - expected).abs().max() <= 1e-4


# separable


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 5), (70, 3), (2, 131)])
@pytest.mark.parametrize("theta", [0.4, 3.0, 40.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_separable_against_reference(height, width, theta, dtype):
    values = torch.rand(2, 3, height * width, dtype=dtype)
    features = spatial_features(height, width, theta, dtype=F64, device=CPU).expand(2, -1, -1)
    out = SeparableGaussian((height, width), theta)(values)
    assert out.dtype == dtype
    assert_close(out, filter_values(values.double(), features), "separable", dtype)


def test_separable_gradients_of_both_orders():
    values = torch.rand(1, 2, 12, dtype=F64, requires_grad=True)
    theta = torch.tensor(1.3, dtype=F64, requires_grad=True)

    def run(values, theta):
        return SeparableGaussian((3, 4), theta)(values)

    assert gradcheck(run, (values, theta))
    assert gradgradcheck(run, (values, theta))


def test_separable_needs_grad_with_theta():
    assert SeparableGaussian((2, 2), torch.tensor(1.0, requires_grad=True)).features_need_grad
    assert not SeparableGaussian((2, 2), torch.tensor(1.0)).features_need_grad
    assert not SeparableGaussian((2, 2), 1.0).features_need_grad


def test_separable_is_cut_off_at_its_radius():
    impulse = torch.zeros(1, 1, 9)
    impulse[..., 4] = 1
    out = SeparableGaussian((1, 9), 1.0, radius_in_sigmas=2.0)(impulse)[0, 0]
    assert (out[2:7] > 0).all()
    assert (out[:2] == 0).all()
    assert (out[7:] == 0).all()


@pytest.mark.parametrize("theta", [0.0, -1.0, float("nan")])
def test_separable_refuses_bandwidths(theta):
    with pytest.raises(ValueError, match="theta_gamma is"):
        SeparableGaussian((2, 2), theta)
