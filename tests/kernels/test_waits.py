"""How often a GPU is waited for: once per operator that is built, once for the checks, never in a step."""

import pytest
import torch

from crfnet.crf import DenseCRF
from crfnet.crf.filters import ExactFilter, PermutohedralFilter
from crfnet.crf.filters.permutohedral.lattice import build_lattice
from crfnet.crf.filters.permutohedral.sampled_theta_gradient import SampledRows
from crfnet.crf.inference import FrankWolfe, MeanField
from crfnet.crf.normalization import normalized
from crfnet.kernels.gpu import domain_transform, exact, gather, local, update
from tests.kernels.fake_gpu import fake_gpu
from tests.kernels.test_compile import every_kernel

LOGITS, BANDWIDTH = [-2.0, 3.0], [3.0, 1.0, 1.0]  # what the checks and the spatial kernel ask for
CORNERS, TILES = (
    [98.0, 5.0],
    [7, 7, 1],
)  # the last corner and the farthest feature; pairs of each image, finite


def test_the_fake_gpu_sees_waits(monkeypatch):
    """Of each kind: otherwise nothing here would mean anything."""
    waiting = {
        "item": lambda x: x.sum().item(),
        "__bool__": lambda x: bool(x[0, 0] > 0),
        "__float__": lambda x: float(x[0, 0]),
        "tolist": lambda x: x.tolist(),
        "nonzero": lambda x: x.nonzero(),
        "aten._to_copy.default": lambda x: torch.ones(3).to(x.device),
        "aten.copy_.default": lambda x: x[0].copy_(torch.ones(3)),
        "aten.index_put_.default": lambda x: x.index_put_((x[0].long(),), torch.tensor(1.0)),
    }
    for name, work in waiting.items():
        with fake_gpu(monkeypatch, False if name == "__bool__" else 0.0) as waits:
            work(torch.zeros(2, 3, device="cuda"))
        assert waits.found == [name]
    with fake_gpu(monkeypatch) as waits:
        x = torch.zeros(2, 3, device="cuda")
        x[1:] = 2
        torch.where(x > 1, x, 3).add_(x.sum()).masked_fill_(x > 1, 4)
        torch.ones(3).to(x.device, non_blocking=True)
    assert waits.found == []
    with fake_gpu(monkeypatch), pytest.raises(AssertionError, match="not foreseen: item"):
        torch.zeros(1, device="cuda").item()


@pytest.mark.parametrize("dimensions", [1, 5])
def test_a_lattice_waits_once_for_the_batch(dimensions, monkeypatch):
    with fake_gpu(monkeypatch, CORNERS) as waits:
        lattice = build_lattice(torch.randn(3, dimensions, 40, device="cuda"))
        assert waits.found == ["tolist"]
        assert lattice.corners == 99
        lattice(torch.randn(120, 3, device="cuda"))
    assert waits.found == ["tolist"]
    assert len(waits.launched) == dimensions + 4  # the splat is two


def test_a_list_of_near_tiles_waits_once_for_the_batch(monkeypatch):
    """In whatever number of chunks."""
    monkeypatch.setattr("crfnet.crf.filters.exact.tiles._TESTS", 1)
    with fake_gpu(monkeypatch, [*range(12), 1]) as waits:
        operator = ExactFilter().operator(torch.randn(3, 5, 500, device="cuda"))
        assert operator._pairs.listed.columns.shape == (sum(range(12)),)
    assert waits.found == ["tolist"]


@pytest.mark.parametrize("normalization", ["after", "symmetric"])
@pytest.mark.parametrize("scheme", [MeanField(), MeanField(damping=0.2), FrankWolfe(step="line_search")])
@pytest.mark.parametrize("filter", [PermutohedralFilter(), ExactFilter()])
def test_no_step_waits(filter, scheme, normalization, monkeypatch):
    """So that steps may be captured in a CUDA graph once the operator is there."""
    with fake_gpu(monkeypatch, CORNERS if isinstance(filter, PermutohedralFilter) else TILES) as waits:
        features, unary = torch.randn(2, 5, 40, device="cuda"), torch.randn(2, 3, 40, device="cuda")
        weight = torch.tensor(2.0, device="cpu").to("cuda")
        waits.found.clear()
        operator = filter.operator(features)
        with torch.no_grad():
            messages = normalized(operator, unary, normalization, weight)
            assert waits.found == ["tolist"]
            scheme.run(unary, lambda q: messages(q).neg_(), 3)
    assert waits.found == ["tolist"]
    assert len(waits.launched) > 3


def layer(monkeypatch, answers, training=False, options=None, **changes):
    """The waits of one call of a layer on a float image, that is with all of the checks."""
    changes = {"iterations": 2, "train_iterations": 2, **changes}
    with fake_gpu(monkeypatch, *answers) as waits:
        with torch.device("cuda"):
            crf = DenseCRF.preset("deeplab", 3, **changes).train(training)
            logits, image = torch.randn(2, 3, 6, 7), torch.zeros(2, 3, 6, 7)
            options = {name: make() for name, make in (options or {}).items()}
        waits.found.clear()
        with torch.set_grad_enabled(training):
            crf(logits, image, **options)
    return waits.found


@pytest.mark.parametrize(("filter", "built"), [("permutohedral", CORNERS), ("exact", TILES), ("auto", TILES)])
@pytest.mark.parametrize("changes", [{"normalization": "symmetric"}, {"weights": "full"}], ids=str)
def test_the_layer_waits_for_checks_and_for_each_kernel(filter, built, changes, monkeypatch):
    """As often with a mask, with spacings and in training."""
    checked = [*LOGITS, 0.0, 9.0]
    for training in (False, True):
        found = layer(monkeypatch, [checked, built, BANDWIDTH], training, filter=filter, **changes)
        assert found == ["tolist"] * 3
    options = {"mask": lambda: torch.ones(2, 6, 7, dtype=torch.bool), "spacing": lambda: torch.ones(2)}
    answers = [[*checked, 1.0, 1.0, 1.0, 1.0], built, BANDWIDTH]
    assert layer(monkeypatch, answers, options=options, filter=filter, **changes) == ["tolist"] * 3


def test_what_adds_waits(monkeypatch):
    """Pruning once, an early stop once per step after the first; the local filter no more than the others."""
    answers = [[*LOGITS, 0.0, 9.0], CORNERS, BANDWIDTH]
    few = [answers[0], [True, False, True], *answers[1:]]
    assert layer(monkeypatch, few, filter="permutohedral", prune=0.01) == ["tolist"] * 4
    stopped = layer(
        monkeypatch,
        [*answers, False, False],
        filter="permutohedral",
        inference=MeanField(tolerance=0.1),
        iterations=3,
    )
    assert stopped == ["tolist"] * 3 + ["__bool__"] * 2
    local = layer(monkeypatch, [answers[0], True, BANDWIDTH], filter="local")
    assert local == ["tolist", "__bool__", "tolist"]


@pytest.mark.parametrize("row_sums", [False, True])
def test_the_sampled_gradient_of_features_does_not_wait(row_sums, monkeypatch):
    with fake_gpu(monkeypatch) as waits:
        grad, values, features = (torch.randn(2, c, 40, device="cuda") for c in (3, 3, 5))
        ones = torch.ones(2, 1, 40, device="cuda")
        SampledRows(features, None, 8).gradient(grad, values, ones if row_sums else None)
    assert waits.found == []


def test_every_launch_is_on_the_device_of_its_tensors(monkeypatch):
    """Which need not be the current one."""
    with fake_gpu(monkeypatch) as waits, torch.device("cuda:1"):
        rows, indices = torch.zeros(4, 3), torch.zeros(70, dtype=torch.int32)
        gather.gather_rows(rows, indices.view(-1, 2), torch.ones(2))
        gather.gather_sum(rows, indices, torch.zeros(3, dtype=torch.int32), torch.ones(70))
        update.mean_field_update(rows, rows)
        values, features = torch.zeros(1, 3, 4, 16), torch.zeros(1, 2, 4, 16)
        local.filter_values(values, features, 1)
        local.grad_features(values, values, features, 1)
        numbers = torch.zeros(5, dtype=torch.int32)
        slots = numbers[:4].repeat(16).view(4, 16)
        pairs = exact.TilePairs(torch.zeros(4, 2, 16), slots, numbers, numbers, numbers)
        links = torch.zeros(1, 2, 1, 4, 16)
        domain_transform.recursive_filter(values, links)
        domain_transform.recursive_filter_gradient(values, links, values)
        exact.filter_values(values.flatten(2), pairs)
        exact.grad_features(values.flatten(2), values.flatten(2), pairs)
    assert {name for name, _ in waits.launched} == every_kernel()
    assert {device for _, device in waits.launched} == {1}
