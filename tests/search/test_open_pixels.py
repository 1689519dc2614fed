import pytest
import torch

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters.permutohedral.lattice import Lattice, build_lattice
from crfnet.crf.filters.separable import SeparableGaussian
from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.search import SearchConfig, open_pixels
from crfnet.search.grid import Point
from crfnet.search.open_kernels import coarse_gaussian, in_half, read_at, restricted
from crfnet.search.open_pixels import OpenPixels
from crfnet.search.sweep import sweep
from tests.tolerances import assert_close

WEIGHTS = (1.0, 2.5, 6.0)
ALL_OPEN = 1e-12


def case(height: int = 9, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 4, height, width), torch.randint(0, 80, (1, 3, height, width), dtype=torch.uint8)


def two_halves(height: int = 45, width: int = 61) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture of two colors, and blurred noisy scores of it."""
    right = (torch.arange(width) > width // 2).float().expand(height, -1)
    image = 60 * right + 20 * torch.rand(3, height, width)
    noise = torch.nn.functional.avg_pool2d(torch.randn(1, 3, height, width), 5, 1, 2)
    blurred = torch.nn.functional.avg_pool2d(right[None, None], 9, 1, 4, count_include_pad=False)
    logits = torch.cat([8 * blurred, 8 * (1 - blurred), torch.zeros_like(blurred)], 1)
    return logits + 12 * noise, image[None].to(torch.uint8)


def exact(logits, image, points, config):
    return {point: log_q[0].argmax(0) for point, log_q in sweep(logits, image, points, config)}


@pytest.fixture
def _in_float32(monkeypatch):
    """Without the float16 of the messages, where ties must not turn."""
    monkeypatch.setattr(open_pixels, "in_half", lambda lattice: lattice)


@pytest.mark.usefixtures("_in_float32")
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_with_all_pixels_open_it_is_the_sweep(normalization):
    logits, image = case()
    scale = 50 if normalization == "none" else 1  # of large row sums
    points = [
        Point(w / scale, 5.0, 20.0, w2 / scale, 1.5, t) for w in WEIGHTS for w2 in (0.0, 3.0) for t in (1, 4)
    ]
    config = SearchConfig(normalization=normalization, tolerance=ALL_OPEN, theta_gamma=1.5)
    pixels = OpenPixels(logits, image, config)
    assert len(pixels.open) == logits[0, 0].numel()
    found, expected = dict(pixels.labels(points)), exact(logits, image, points, config)
    assert set(found) == set(points)
    assert all(torch.equal(found[point], expected[point]) for point in points)
    assert len({tuple(labels.flatten().tolist()) for labels in found.values()}) > 2


def test_labels_of_no_weight_are_left_out():
    logits, image = case()
    logits[:, 2] -= 20
    config = SearchConfig(tolerance=ALL_OPEN, theta_gamma=1.5, prune=1e-4)
    points = [Point(w, 5.0, 20.0, 3.0, 1.5, 3) for w in WEIGHTS]
    found, expected = (
        dict(OpenPixels(logits, image, config).labels(points)),
        exact(logits, image, points, config),
    )
    assert all(torch.equal(found[point], expected[point]) for point in points)
    assert {int(label) for labels in found.values() for label in labels.unique()} == {0, 1, 3}


def test_few_open_pixels_end_as_the_sweep():
    logits, image = two_halves()
    config = SearchConfig(tolerance=0.01, theta_alpha=(10.0, 30.0), theta_beta=(5.0, 20.0))
    pixels = OpenPixels(logits, image, config)
    share = len(pixels.open) / logits[0, 0].numel()
    assert 0.02 < share < 0.5
    for alpha, beta in ((10.0, 5.0), (20.0, 20.0)):
        points = [Point(w, alpha, beta) for w in (3.0, 6.0)]
        expected = exact(logits, image, points, config)
        for point, labels in pixels.labels(points):
            wrong = float((labels != expected[point]).float().mean())
            moved = float((labels != logits[0].argmax(0)).float().mean())
            assert wrong < 0.01
            assert moved > 0.02


def test_settled_pixels_keep_the_mean_of_two_steps_at_the_ends_of_the_grid():
    logits, image = two_halves()
    config = SearchConfig(
        tolerance=0.45, w1=(0.5, 1.0, 6.0), theta_alpha=(5.0, 20.0, 30.0), theta_beta=(5.0, 20.0)
    )
    pixels = OpenPixels(logits, image, config)
    ends = [Point(w, *thetas, iterations=2) for w in (0.5, 6.0) for thetas in ((5.0, 5.0), (30.0, 20.0))]
    marginals = torch.stack(
        [log_q[0].flatten(1).T.exp() for end in ends for _, log_q in sweep(logits, image, [end], config)]
    )
    assert_close(pixels._reference, marginals.mean(0), "layer", torch.float32)
    sure = (marginals.amax(2) > 1 - config.tolerance).all(0)
    agree = (marginals.argmax(2) == marginals[0].argmax(1)).all(0)
    assert (sure & ~agree).any()
    assert (~sure & agree).any()
    assert torch.equal(pixels.open, (~(sure & agree)).nonzero().flatten())


def test_weights_in_turns_change_nothing(monkeypatch):
    logits, image = two_halves(20, 31)
    config = SearchConfig(tolerance=0.05, theta_alpha=(10.0,), theta_beta=(5.0,))
    points = [Point(w, 10.0, 5.0, w2) for w in WEIGHTS for w2 in (1.0, 3.0)]
    together = dict(OpenPixels(logits, image, config).labels(points))
    monkeypatch.setattr(open_pixels, "_LARGEST_STACK", 1)
    in_turns = dict(OpenPixels(logits, image, config).labels(points))
    assert all(torch.equal(in_turns[point], together[point]) for point in points)


def test_nothing_open():
    logits, image = case()
    logits[:, 1] += 50
    point = Point(3.0, 5.0, 20.0)
    pixels = OpenPixels(logits, image, SearchConfig(tolerance=0.01))
    assert len(pixels.open) == 0
    assert dict(pixels.labels([point]))[point].unique().tolist() == [1]


def test_far_logits_stay_finite():
    logits, image = case()
    config = SearchConfig(tolerance=ALL_OPEN, theta_gamma=1.5, normalization="none")
    points = [Point(w, 5.0, 20.0, 3.0, 1.5, 3) for w in WEIGHTS]
    found = dict(OpenPixels(1e3 + logits, image, config).labels(points))
    expected = exact(logits, image, points, config)
    assert all(torch.equal(found[point], expected[point]) for point in points)


def test_the_lattice_read_at_some_points():
    lattice = build_lattice(bilateral_features(case()[1].float(), 5.0, 20.0))
    values, some = torch.rand(63, 5), torch.tensor([0, 7, 8, 40, 62])
    assert_close(read_at(lattice, some)(values), lattice(values)[some], "layer", torch.float32)


def test_the_lattice_restricted_to_all_points_and_to_some():
    lattice = build_lattice(bilateral_features(case()[1].float(), 5.0, 20.0))
    values = torch.rand(63, 5)
    assert_close(restricted(lattice, torch.arange(63))(values), lattice(values), "layer", torch.float32)
    some = torch.arange(0, 63, 2)
    alone = torch.zeros_like(values)
    alone[some] = values[some]
    small = restricted(lattice, some)
    assert small.corners < lattice.corners
    expected, found = lattice(alone)[some], small(values[some])
    assert (found <= expected + 1e-5).all()
    assert float(found.sum()) > 0.6 * float(expected.sum())


@pytest.mark.parametrize(("theta", "error"), [(1.9, 1e-5), (3.0, 0.03), (4.5, 0.03)])
def test_coarse_gaussian(theta, error):
    grid = (23, 34)
    pixels = torch.randperm(23 * 34)[:300].sort().values
    like = build_lattice(torch.rand(1, 2, 5))
    values = torch.zeros(23 * 34, 3)
    values[pixels] = torch.rand(300, 3)
    exactly = SeparableGaussian(grid, theta).product(values.T.unsqueeze(0))[0].T[pixels]
    found = coarse_gaussian(grid, theta, pixels, like)(values[pixels])
    assert float((found - exactly).norm() / exactly.norm()) < error


def one_color(side: int) -> Lattice:
    """All pixels but a strip gather in the same few corners."""
    image = torch.full((1, 3, side, side), 7.0)
    image[..., :3] = 200.0
    return build_lattice(bilateral_features(image, 1e5, 20.0))


def test_the_lattice_in_half():
    lattice, values = one_color(100), torch.rand(10_000, 3)
    expected = lattice(values)
    error = (in_half(lattice)(values) - expected).abs() / expected
    assert 0 < error.max() < 5e-3


def test_the_lattice_in_half_where_a_corner_gathers_more_than_float16_holds():
    lattice, values = one_color(600), torch.rand(360_000, 2)
    sums = lattice(torch.ones(360_000, 1)).flatten()
    assert sums.max() > torch.finfo(torch.float16).max
    assert in_half(lattice) is lattice
    normalized = lattice.scaled(sums.rsqrt(), sums.rsqrt())
    error = (in_half(normalized)(values) - normalized(values)).abs()
    assert 0 < error.max() < 5e-3


def test_the_factors_of_the_spatial_kernel():
    pixels, values = torch.tensor([0, 5, 17, 40, 62]), torch.rand(5, 3)
    lattice = build_lattice(bilateral_features(case()[1].float(), 5.0, 20.0))
    send, receive = torch.rand(2, 5, 1)
    plain = coarse_gaussian((9, 7), 2.5, pixels, lattice)
    scaled = coarse_gaussian((9, 7), 2.5, pixels, lattice, send, receive)
    assert_close(scaled(values), receive * plain(send * values), "layer", torch.float32)
