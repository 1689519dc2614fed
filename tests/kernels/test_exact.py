"""The exact filter through both paths, against sums over all pairs in float64."""

import pytest
import torch

from crfnet import kernels
from crfnet.crf.filters import ExactFilter
from crfnet.crf.filters.exact import filter as exact_module
from crfnet.crf.filters.exact.tiles import build_tiles
from crfnet.crf.reference import filter_values, kernel_matrix
from crfnet.kernels.gpu import exact
from tests.kernels.conftest import gradients, recorded
from tests.tolerances import assert_as_good, assert_close

F32 = torch.float32


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(exact_module, "_TILE", 16)


@pytest.fixture
def launched(monkeypatch):
    return recorded(monkeypatch, exact)


def against_brute_force(features, values, eps=0.0, mask=None):
    """Forward and both gradients."""
    grad = torch.rand_like(values)
    if mask is not None:
        values, grad = (x * mask.unsqueeze(1) for x in (values, grad))
    actual = gradients(lambda v, f: ExactFilter(eps).operator(f, mask=mask)(v), values, features, grad)
    expected = gradients(filter_values, values.double(), features.double(), grad.double())
    for one, other in zip(actual, expected, strict=True):
        other = other if mask is None else other * mask.unsqueeze(1)
        assert one.dtype == F32
        assert_close(one, other, "exact", F32)


@pytest.mark.parametrize(
    ("pixels", "dimensions", "labels"),
    [(1, 1, 1), (2, 5, 3), (16, 2, 21), (33, 3, 21), (18, 5, 33), (17, 1, 150), (13, 18, 2)],
)
def test_awkward_sizes(path, launched, pixels, dimensions, labels, device):
    features = torch.randn(2, dimensions, pixels, device=device) / max(1, dimensions / 4) ** 0.5
    against_brute_force(features, torch.rand(2, labels, pixels, device=device))
    count = 1 if path == "kernels" else 0
    assert launched == ["filter_values", "filter_values", "grad_features"] * count


@pytest.mark.parametrize("size", [32, 64, 128])
def test_sizes_of_tiles(size, monkeypatch, device, kernels_on):
    monkeypatch.setattr(exact_module, "_TILE", size)
    features = torch.randn(1, 2, size + 7, device=device)
    against_brute_force(features, torch.rand(1, 3, size + 7, device=device))


def shapes():
    plain = 3 * torch.randn(2, 3, 29)
    outlier = torch.rand(2, 1, 29) < 0.1
    return {
        "offset by 1e5": plain + 1e5,
        "far outliers": torch.where(outlier, 1e6 * plain, plain),
        "farthest": torch.where(outlier, 1e25 * plain, plain),
        "stretched": plain * torch.tensor([1e4, 1.0, 0.1]).view(1, 3, 1),
        "constant": torch.full_like(plain, 1e3),
    }


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # the interpreter's: exp2 of -infinity is 0
@pytest.mark.parametrize("name", list(shapes()))
def test_right_wherever_the_points_are(path, name, device):
    against_brute_force(shapes()[name].to(device), torch.rand(2, 3, 29, device=device), 1e-6)


def test_masks(path, device):
    """Pixels outside neither send nor receive. The last image is nearly empty."""
    features, values = torch.randn(2, 2, 37, device=device), torch.randn(2, 3, 37, device=device)
    mask = torch.rand(2, 37, device=device) < torch.tensor([[0.7], [0.1]], device=device)
    mask[:, 5] = True
    first = mask.byte().argmax(1)
    features = torch.where(mask.unsqueeze(1), features, features[torch.arange(2), :, first].unsqueeze(2))
    against_brute_force(features, values, 1e-6, mask)


def test_last_image_alone_as_in_batch(path, device):
    features, values = torch.randn(3, 2, 21, device=device), torch.randn(3, 2, 21, device=device)
    alone = ExactFilter().operator(features[2:])(values[2:])
    assert_close(ExactFilter().operator(features)(values)[2:], alone, "exact", F32)


def test_memory_layout_is_kept_and_does_not_matter(device, kernels_on):
    features, values = torch.randn(2, 3, 21, device=device), torch.randn(2, 4, 21, device=device)
    expected = ExactFilter().operator(features)(values)
    labels_last = ExactFilter().operator(features.mT.contiguous().mT)(values.mT.contiguous().mT)
    assert labels_last.mT.is_contiguous()
    every_other = torch.stack([values, values.flip(1)], dim=-1).flatten(2)[..., ::2]
    for out in (labels_last, ExactFilter().operator(features)(every_other)):
        assert_close(out, expected, "exact", F32)
    everywhere = values[:, :1].expand(-1, 4, -1)
    assert_close(
        ExactFilter().operator(features)(everywhere), expected[:, :1].expand(-1, 4, -1), "exact", F32
    )


@pytest.mark.parametrize("eps", [1e-2, 1e-4])
def test_what_is_left_out_is_below_eps(eps, device, kernels_on):
    """The operator as a matrix: symmetric, each entry K_ij or, if K_ij < eps, possibly 0."""
    features = 4 * torch.randn(1, 2, 70, device=device)
    matrix = ExactFilter(eps).operator(features)(torch.eye(70, device=device).unsqueeze(0))[0]
    kernel = kernel_matrix(features.double())[0]
    left_out = (matrix == 0) & (kernel > 1e-30)
    assert left_out.sum() > 100
    assert (kernel[left_out] < eps).all()
    assert_close(matrix[~left_out], kernel[~left_out], "exact", F32)
    assert torch.equal(left_out, left_out.mT)


def test_second_derivatives(device, launched, kernels_on):
    """They go through torch where features learn; those of values alone are kernels again."""
    features, values, grad = (torch.randn(1, c, 20, device=device) for c in (2, 3, 3))

    def second(dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (values, features)]
        out = ExactFilter().operator(leaves[1])(leaves[0])
        first = torch.autograd.grad(out, leaves, grad.to(dtype), create_graph=True)
        assert "grad_features" not in launched
        return torch.autograd.grad(sum(x.square().sum() for x in first), leaves)

    actual = second(F32)
    launched.clear()
    for one, other in zip(actual, second(torch.float64), strict=True):
        assert_close(one, other, "exact", F32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_values(dtype, device, kernels_on):
    features, values, grad = (
        torch.randn(2, 2, 23, device=device),
        *(torch.randn(2, 3, 23, device=device, dtype=dtype) for _ in range(2)),
    )
    actual = gradients(lambda v, f: ExactFilter().operator(f)(v), values, features, grad)
    plain = gradients(filter_values, values, features.to(dtype), grad)
    expected = gradients(filter_values, values.double(), features.double(), grad.double())
    assert actual[2].dtype == F32
    for one, other, truth in zip(actual[:2], plain, expected, strict=False):
        assert_as_good(one, other, truth)
    assert_as_good(actual[2].to(dtype), plain[2], expected[2])


@pytest.mark.parametrize("pixels", [1, 16, 17, 40, 163])
def test_tiles_of_a_given_size(pixels, monkeypatch):
    """As many as that takes: each pixel counts once, and boxes that are near are listed, in chunks or not."""
    features = torch.randn(2, 2, pixels)
    tiles = build_tiles(features, None, 16)
    count = -(-pixels // 16)
    assert tiles.order.shape == (2, 16 * count)
    assert torch.equal(
        tiles.order[tiles.counts].view(2, -1).sort(1).values, torch.arange(pixels).expand(2, -1)
    )
    spread = (tiles.high - tiles.low).amax(2).sum(1)
    assert (spread < 0.8 * count * (features.amax(2) - features.amin(2)).amax(1)).all() or count < 3
    for tests in (1 << 20, 1):
        monkeypatch.setattr("crfnet.crf.filters.exact.tiles._TESTS", tests)
        starts, columns = tiles.pair_list(0.7)
        listed = [some.tolist() for some in columns.split(starts.diff().tolist())]
        assert listed == [(near + image * count).tolist() for image, _, near in tiles.pairs(0.7)]
    assert count < 4 or len(columns) < 2 * count**2


def test_tiles_without_a_pixel_of_the_mask_are_not_listed():
    features, mask = torch.zeros(1, 1, 64), torch.arange(64).unsqueeze(0) < 10
    tiles = build_tiles(features, mask, 16)
    starts, columns = tiles.pair_list(1.0)
    assert tiles.used.tolist() == [[True, False, False, False]]
    assert starts.tolist() == [0, 1, 1, 1, 1]
    assert columns.tolist() == [0]


def test_types_that_are_not_taken(device):
    with kernels.using("on"):
        pairs = ExactFilter().operator(torch.randn(1, 2, 5, device=device))._pairs.listed
    with pytest.raises(ValueError, match=r"values is torch.float64; kernels take"):
        exact.filter_values(torch.zeros(1, 2, 5, dtype=torch.float64, device=device), pairs)
