"""What only a GPU shows: streams, several devices, CUDA graphs, and the waits that torch itself sees."""

import warnings

import pytest
import torch

from crfnet.crf import DenseCRF
from crfnet.crf.filters import ExactFilter, LocalFilter, PermutohedralFilter, SeparableGaussian
from crfnet.crf.inference import MeanField
from crfnet.crf.normalization import normalized
from tests.tolerances import assert_close

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GRID = (15, 20)


@pytest.fixture(
    params=[PermutohedralFilter(), ExactFilter(), LocalFilter(3)], ids=["lattice", "exact", "local"]
)
def filter(request):
    return request.param


def problem(seed, device="cuda"):
    generator = torch.Generator().manual_seed(seed)
    shapes = (2, 5, 300), (2, 21, 300)
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def steps_of(filter, features, unary):
    """A function that does five steps; the operators are built here."""
    weight = torch.tensor(2.0, device=unary.device)
    messages = normalized(filter.operator(features, grid=GRID), unary, "after", weight)
    smooth = normalized(SeparableGaussian(GRID, weight), unary, "after", weight)
    return lambda: MeanField().run(unary, lambda q: messages(q).add_(smooth(q)).neg_(), 5)


@torch.no_grad()
def test_two_streams(filter):
    """Each stream writes late what it filters: a launch on another stream would read what was there."""
    problems = [problem(seed) for seed in range(2)]
    expected = [steps_of(filter, *one)() for one in problems]
    torch.cuda.synchronize()
    found = []
    for one in problems:
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(50_000_000)
            found.append(steps_of(filter, *(x.clone() for x in one))())
    torch.cuda.synchronize()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices(filter):
    """Whichever is the current one, and in the backward pass."""
    found = []
    for device in ("cuda:0", "cuda:1"):
        features, unary = problem(0, device)
        with torch.cuda.device(0):
            unary.requires_grad_()
            out = filter.operator(features, grid=GRID)(unary)
            (grad,) = torch.autograd.grad(out.square().sum(), unary)
            with torch.no_grad():
                found.append((out, grad, steps_of(filter, features, unary.detach())()))
            assert torch.cuda.current_device() == 0
    for one, other in zip(*found, strict=True):
        assert other.device.index == 1
        assert_close(other.to(one.device), one, "exact", torch.float32)


@torch.no_grad()
def test_steps_in_a_cuda_graph(filter):
    """As crfnet/kernels/README.md says; played again with other logits."""
    features, unary = problem(0)
    steps = steps_of(filter, features, unary)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        steps()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        log_q = steps()
    for seed in (0, 1):
        unary.copy_(problem(seed)[1])
        graph.replay()
        assert torch.equal(log_q, steps())


def waits(work):
    """How often torch itself says that the host waited."""
    work()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing CUDA operation" in str(one.message) for one in caught)


@pytest.mark.parametrize("name", ["permutohedral", "exact"])
def test_waits_of_the_layer(name):
    """One for the checks, one for each kernel: as `test_waits.py` counts them without a GPU."""
    crf = DenseCRF.preset("deeplab", 5, filter=name, iterations=3, train_iterations=3).cuda()
    logits = torch.randn(2, 5, 36, 50, device="cuda", requires_grad=True)  # more pixels than rows are drawn
    image = torch.rand(2, 3, 36, 50, device="cuda") * 255
    with torch.no_grad():
        assert waits(lambda: crf.eval()(logits, image)) == 3
    assert waits(lambda: crf.train()(logits, image)) == 3
    inputs = [logits, *(x for x in crf.parameters() if x.requires_grad)]
    assert waits(lambda: torch.autograd.grad(crf.train()(logits, image).square().sum(), inputs)) == 3


@torch.no_grad()
def test_steps_do_not_wait(filter):
    assert waits(steps_of(filter, *problem(0))) == 0


@pytest.mark.parametrize("name", ["permutohedral", "exact"])
def test_inside_a_compiled_model(name):
    crf = DenseCRF.preset("deeplab", 3, filter=name, iterations=2).eval().cuda()
    logits, image = torch.randn(1, 3, 9, 8, device="cuda"), torch.rand(1, 3, 9, 8, device="cuda") * 255
    compiled = torch.compile(lambda x, image: crf(2 * x, image) + 1, backend="aot_eager")
    with torch.no_grad():
        assert_close(compiled(logits, image), crf(2 * logits, image) + 1, "layer", torch.float32)
