"""What joint training asks of the layer: memory, recomputation, compilation, several processes."""

import dataclasses

import jaxtyping
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.filters import FILTERS, AutoFilter, LocalFilter, PermutohedralFilter
from crfnet.crf.inference import INFERENCES
from tests.tolerances import assert_close

LABELS = 3
SMALL = CRFConfig(w1=2.0, theta_alpha=3.0, theta_beta=60.0, w2=1.0, theta_gamma=1.5, train_iterations=3)


#: Filters with a small window, or whose gradient of theta takes all rows.
SETTINGS = {
    "auto": AutoFilter(rows=10**4),
    "local": LocalFilter(window=3),
    "permutohedral": PermutohedralFilter(rows=10**4),
}


class Net(nn.Module):
    """One convolution and the CRF behind it."""

    def __init__(self, **changes):
        super().__init__()
        self.scores = nn.Conv2d(3, LABELS, 3, padding=1)
        self.crf = DenseCRF(LABELS, dataclasses.replace(SMALL, **changes))

    def forward(self, image):
        return self.crf(self.scores(image / 255), image)


def images(batch=2):
    return (255 * torch.rand(batch, 3, 6, 7)).round()


def gradients(model, image, passes=1):
    """After that many backward passes through one graph."""
    model.zero_grad()
    loss = model(image)[:, 0].square().mean()
    for k in range(passes):
        torch.manual_seed(5)  # which rows are drawn
        loss.backward(retain_graph=k + 1 < passes)
    return [p.grad.clone() for p in model.parameters() if p.requires_grad]


def equal(found, expected, scale=1):
    for a, b in zip(found, expected, strict=True):
        assert_close(a, scale * b, "layer", torch.float32)


@pytest.mark.parametrize("filter", FILTERS)
def test_second_backward_through_one_graph(filter):
    model = Net(filter=SETTINGS.get(filter, filter))
    image = images()
    equal(gradients(model, image, passes=2), gradients(model, image), scale=2)


@pytest.mark.parametrize("filter", ["exact", "local"])
@pytest.mark.parametrize("normalization", ["after", "symmetric"])
def test_gradient_of_a_gradient(filter, normalization):
    """Hessian-vector products, of everything that learns."""
    filter = SETTINGS.get(filter, filter)
    config = dataclasses.replace(SMALL, filter=filter, normalization=normalization, train_iterations=1)
    crf = DenseCRF(2, config).double().train()
    names = [name for name, _ in crf.named_parameters()]
    image = 255 * torch.rand(1, 3, 2, 3, dtype=torch.float64)

    def forward(logits, *parameters):
        return torch.func.functional_call(crf, dict(zip(names, parameters, strict=True)), (logits, image))

    logits = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(forward, (logits, *crf.parameters()), fast_mode=True)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("inference", INFERENCES)
def test_recomputation_gives_the_same_gradients_from_less_memory(filter, inference):
    image, kept, found = images(), [], []
    for recompute in (False, True):
        torch.manual_seed(2)
        model = Net(filter=SETTINGS.get(filter, filter), inference=INFERENCES[inference](recompute=recompute))
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, saved=saved: saved.append(x) or x, lambda x: x
        ):
            loss = model(image)[:, 0].square().mean()
        loss.backward()
        found.append([p.grad for p in model.parameters()])
        kept.append(sum(x.numel() for x in {x.data_ptr(): x for x in saved}.values()))
    equal(*found)
    assert kept[1] < kept[0]


def test_saved_numbers_grow_with_the_steps_only():
    """One more step saves a fixed number of (b, l, n) arrays, whatever was saved before it."""
    image, kept = images(), []
    for steps in (1, 2, 3):
        model = Net(train_iterations=steps)
        saved = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, saved=saved: saved.setdefault(x.data_ptr(), x), lambda x: x
        ):
            model(image)
        kept.append(sum(x.numel() for x in saved.values()))
    assert kept[2] - kept[1] == kept[1] - kept[0] <= 12 * 2 * LABELS * 6 * 7


@pytest.fixture
def unchecked_shapes():
    """As users run it: the tests' shape checks are not what is to be compiled."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.filterwarnings("ignore::UserWarning")  # dynamo looks at .grad of what is no leaf
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("filter", ["permutohedral", "exact"])
def test_compiled_model(filter, training):
    """Forward and backward; graph breaks are allowed, errors and other numbers are not."""
    torch._dynamo.reset()
    model = Net(filter=SETTINGS.get(filter, filter)).train(training)
    compiled = torch.compile(model, backend="aot_eager")
    image = images()
    assert_close(compiled(image), model(image), "layer", torch.float32)
    equal(gradients(compiled, image), gradients(model, image))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_training_step(dtype):
    model, image = Net(filter=SETTINGS["permutohedral"]), images()
    with torch.autocast("cpu", dtype=dtype):
        log_q = model(image)
        assert log_q.dtype == torch.float32
        log_q[:, 0].square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())


def half_of_the_batch(rank, file, state, image, queue):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = Net(filter=SETTINGS["permutohedral"])
    model.load_state_dict(state)
    found = gradients(DistributedDataParallel(model), image[rank : rank + 1])
    if rank == 0:
        queue.put([g.numpy() for g in found])
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch without gloo")
def test_two_processes_equal_one(tmp_path):
    """Gradients of a batch of two, one image on each process, averaged by DistributedDataParallel."""
    model, image = Net(filter=SETTINGS["permutohedral"]), images()
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = (str(tmp_path / "meeting"), model.state_dict(), image, queue)
    workers = mp.spawn(half_of_the_batch, arguments, nprocs=2, join=False)
    found = [torch.from_numpy(g) for g in queue.get()]
    while not workers.join():
        pass
    equal(found, gradients(model, image))
