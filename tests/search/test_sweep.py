from types import SimpleNamespace

import pytest
import torch

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.inference import label_by_label
from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.kernels.cpu import lattice
from crfnet.search import SearchConfig, sweep
from crfnet.search.grid import Point
from crfnet.search.sweep import sweep as swept
from crfnet.search.sweep import sweep_labels
from tests.tolerances import assert_close

WEIGHTS = (1.0, 2.5, 6.0)


@pytest.fixture(params=["compiled", "operators"], autouse=True)
def path(request, monkeypatch):
    """Both ways to solve, of the search and of the layer."""
    if request.param == "operators":
        monkeypatch.setattr(label_by_label, "_has_numba", lambda: False)
    return request.param


def case(height: int = 9, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 4, height, width), torch.randint(0, 80, (1, 3, height, width), dtype=torch.uint8)


def by_the_layer(logits, image, point, config):
    given = CRFConfig(
        **point._asdict(),
        normalization=config.normalization,
        prune=config.prune,
    )
    with torch.no_grad():
        return DenseCRF(logits.shape[1], given).eval()(logits, image)


def same_as_the_layer(logits, image, points, config):
    found = dict(swept(logits, image, points, config))
    assert set(found) == set(points)
    for point, log_q in found.items():
        assert_close(log_q, by_the_layer(logits, image, point, config), "layer", torch.float32)
    return found


@pytest.mark.parametrize("w2", [3.0, 0.0])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_same_as_the_layer_for_each_weight(normalization, w2):
    logits, image = case()
    scale = 50 if normalization == "none" else 1  # of large row sums
    points = [Point(w / scale, 5.0, 20.0, w2, 1.5, 3) for w in WEIGHTS]
    same_as_the_layer(logits, image, points, SearchConfig(normalization=normalization))


def test_same_as_the_layer_on_all_axes():
    logits, image = case()
    points = [
        Point(w, 5.0, 20.0, w2, g, t)
        for t in (5, 2)
        for g in (1.5, 3.0)
        for w2 in (0.0, 2.0)
        for w in WEIGHTS
    ]
    found = same_as_the_layer(logits, image, points, SearchConfig())
    assert len({float(log_q.sum()) for log_q in found.values()}) == 18  # w2 = 0: no theta_gamma


AXES = [
    Point(w, 5.0, 20.0, w2, g, t) for g in (1.5, 3.0) for t in (4, 1) for w2 in (0.0, 2.0) for w in WEIGHTS
]


def test_same_as_the_layer_symmetric_on_all_axes():
    same_as_the_layer(*case(), AXES, SearchConfig(normalization="symmetric"))


@pytest.mark.parametrize("path", ["compiled"], indirect=True)
def test_one_lattice_and_one_run_for_what_shares_it(monkeypatch, path):
    lattices, runs = [], []
    build, mean_field = lattice.build_lattice, label_by_label.mean_field
    monkeypatch.setattr(lattice, "build_lattice", lambda *args: lattices.append(1) or build(*args))
    monkeypatch.setattr(
        label_by_label,
        "mean_field",
        lambda unary, kernels, weights, **given: (
            runs.append(weights.shape) or mean_field(unary, kernels, weights, **given)
        ),
    )
    assert len(dict(swept(*case(), AXES, SearchConfig()))) == len(AXES)
    assert len(lattices) == 1
    assert sorted(runs) == [(3, 1)] * 2 + [(3, 2)] * 4  # w2 = 0 for all theta_gamma


def test_labels_are_those_of_the_layer():
    """Where both reduce messages, though in other directions: the layer's of one point, ours of all."""
    noise = torch.nn.functional.avg_pool2d(torch.randn(1, 11, 33, 41), 5, 1, 2)
    image = torch.nn.functional.avg_pool2d(255 * torch.rand(1, 3, 33, 41), 7, 1, 3)
    points = [Point(w, 8.0, 10.0, 3.0, g) for w in (3.0, 6.0) for g in (1.0, 3.0)]
    for point, log_q in swept(20 * noise, image, points, SearchConfig()):
        expected = by_the_layer(20 * noise, image, point, SearchConfig()).argmax(1)
        assert float((log_q.argmax(1) != expected).float().mean()) < 1e-3
        assert float((expected != noise.argmax(1)).float().mean()) > 0.02


def surely(logits: torch.Tensor) -> torch.Tensor:
    """Labels 2 and 3 of five are nowhere above 1e-5."""
    logits = torch.cat([logits, torch.randn_like(logits[:, :1])], 1)
    logits[:, 2:4] -= 20
    return logits


def test_pruned_same_as_the_layer(path):
    logits, image = case()
    logits = surely(logits)
    points = [Point(w, 5.0, 20.0, w2, 1.5, 3) for w2 in (0.0, 3.0) for w in WEIGHTS]
    found = same_as_the_layer(logits, image, points, SearchConfig(prune=1e-4))
    whole = dict(swept(logits, image, points, SearchConfig()))
    for point in points:
        assert_close(found[point].exp(), whole[point].exp(), "layer", torch.float32)
        # Only operators prune.
        assert torch.equal(found[point], whole[point]) == (path == "compiled")


@pytest.mark.parametrize("path", ["operators"], indirect=True)
def test_pruning_filters_fewer_labels(monkeypatch, path):
    logits, image = case()
    channels = []
    original = sweep.normalized

    def spied(*args):
        operator = original(*args)

        def call(values):
            channels.append(values.shape[1])
            return operator(values)

        return call

    monkeypatch.setattr(sweep, "normalized", spied)
    points = [Point(w, 5.0, 20.0, 3.0, 1.5, 1) for w in WEIGHTS]
    list(swept(surely(logits), image, points, SearchConfig(prune=1e-4)))
    assert channels == [9, 9]  # three weights of three labels; bilateral and spatial
    list(swept(surely(logits), image, points, SearchConfig()))
    assert channels[2:] == [15, 15]


def test_weights_in_turns_change_nothing(monkeypatch, path):
    logits, image = case(5, 4)
    points = [Point(w, 3.0, 20.0, w2, 3.0, 2) for w in WEIGHTS for w2 in (1.0, 3.0)]
    together = dict(swept(logits, image, points, SearchConfig()))
    monkeypatch.setitem(sweep._LARGEST_STACK, {"compiled": "compiled", "operators": "cpu"}[path], 1)
    in_turns = dict(swept(logits, image, points, SearchConfig()))
    for point in points:
        assert_close(in_turns[point], together[point], "layer", torch.float32)
        assert together[point].shape == (1, 4, 5, 4)


def test_one_pixel_one_weight():
    logits, image = case(1, 1)
    point = Point(4.0, 3.0, 20.0, 0.0, 3.0, 1)
    found = dict(swept(logits, image, [point], SearchConfig()))
    # The only pixel is its own only neighbor, so K~ Q = Q.
    assert_close(found[point], (logits + 4 * logits.softmax(1)).log_softmax(1), "layer", torch.float32)


def test_no_gradient_and_inputs_untouched():
    logits, image = case(4, 4)
    logits.requires_grad_()
    before = logits.detach().clone()
    points = [Point(w, 3.0, 20.0, 3.0, 3.0, 2) for w in WEIGHTS]
    assert not any(log_q.requires_grad for _, log_q in swept(logits, image, points, SearchConfig()))
    assert torch.equal(logits.detach(), before)


def regions() -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth regions of eleven labels, and an image."""
    noise = torch.nn.functional.avg_pool2d(torch.randn(1, 11, 33, 41), 5, 1, 2)
    image = torch.nn.functional.avg_pool2d(255 * torch.rand(1, 3, 33, 41), 7, 1, 3)
    return 20 * noise, image


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_labels_of_settled_pixels_are_those_of_all_iterations(normalization):
    logits, image = regions()
    scale = 100 if normalization == "none" else 1
    points = [
        Point(w / scale, 8.0, 10.0, w2 / scale, g, t)
        for w in (3.0, 6.0)
        for w2, g in ((3.0, 1.0), (3.0, 2.0), (0.0, 1.0))
        for t in (10, 1, 5)
    ]
    config = SearchConfig(normalization=normalization)
    found = dict(sweep_labels(logits, image, points, config))
    assert list(found) == list(dict(swept(logits, image, points, config)))
    for point, log_q in swept(logits, image, points, config):
        assert found[point].dtype == torch.int64
        assert float((found[point] != log_q[0].argmax(0)).float().mean()) < 2e-3


@pytest.mark.parametrize("path", ["compiled"], indirect=True)
def test_without_tolerance_every_pixel_takes_all_iterations(monkeypatch, path):
    logits, image = regions()
    points = [Point(w, 8.0, 10.0, 3.0, 1.0) for w in (3.0, 6.0)]
    runs, settled = [], label_by_label.settled_labels
    monkeypatch.setattr(
        label_by_label, "settled_labels", lambda *a, **given: runs.append(given) or settled(*a, **given)
    )
    labels = dict(sweep_labels(logits, image, points, SearchConfig(tolerance=0.0)))
    assert not runs
    for point, log_q in swept(logits, image, points, SearchConfig()):
        assert torch.equal(labels[point], log_q[0].argmax(0))
    dict(sweep_labels(logits, image, points, SearchConfig(tolerance=0.02)))
    assert [run["tolerance"] for run in runs] == [0.02]  # both weights side by side


def test_on_a_small_gpu_fewer_weights_run_together(monkeypatch):
    """Fifteen arrays of float32 are alive at once, which take half of the memory at most."""
    for memory, most in ((80 << 30, 2**28), (8 << 30, (8 << 30) // 2 // 60)):
        properties = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, found=properties: found)
        assert sweep._largest_stack(torch.device("cuda")) == most
