"""Reduced messages by torch: beside all labels and beside the compiled loop, and what they leave out."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from crfnet import kernels
from crfnet.crf import CRFConfig, DenseCRF, MeanField
from crfnet.crf.message_passing import Term
from crfnet.crf.potentials import FeaturePotential
from crfnet.crf.reduced_messages import ReducedMessages, leading_directions
from tests.kernels.fake_gpu import fake_gpu
from tests.lossy_products import LossyProducts

F64 = torch.float64
CONFIG = CRFConfig(theta_alpha=6.0, theta_beta=20.0, iterations=4)


def sure_scene(batch=2, labels=40, size=(23, 19), rank=3, dtype=F64):
    """Logits of a sure network, which fall off few shapes; and images."""
    coarse = interpolate(torch.randn(batch, rank, 4, 5, dtype=F64), size, mode="bilinear")
    logits = 30 * torch.einsum("lk,bkhw->blhw", torch.randn(labels, rank, dtype=F64), coarse)
    return logits.to(dtype), (255 * torch.rand(batch, 3, *size, dtype=F64)).to(dtype)


def solved(crf, reduce, *inputs, mode="off", **options):
    """Marginals; messages by torch, unless ``mode`` says otherwise."""
    config = dataclasses.replace(crf.config, inference=MeanField(reduce=reduce))
    other = DenseCRF(crf.num_classes, config, potentials=crf._potentials()).to(inputs[0].dtype).eval()
    with torch.no_grad(), kernels.using(mode):
        return other.marginals(*inputs, **options)


def calls(monkeypatch):
    """The groups of channels of every step of every run, as they come."""
    runs = []
    real = ReducedMessages.__call__

    def called(self, q):
        penalty = real(self, q)
        if not runs or runs[-1] is not self._groups:
            runs.append(self._groups)
        return penalty

    monkeypatch.setattr(ReducedMessages, "__call__", called)
    return runs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weights": "per_class"},
        {"normalization": "symmetric"},
        {"normalization": "before"},
        {"normalization": "none", "w1": 0.05, "w2": 0.05},
        {"filter": "exact"},
        {"filter": "local"},
        {"w2": 0.0},
        {"memory": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("masked", [False, True])
def test_as_all_labels(changes, masked, monkeypatch):
    """Nearly, in fewer channels; with a small tolerance still nearer."""
    logits, image = sure_scene()
    mask = torch.rand(2, 23, 19) < 0.7 if masked else None
    crf = DenseCRF(40, dataclasses.replace(CONFIG, **changes)).double()
    with torch.no_grad():
        for potential in crf.potentials.values():  # weights that differ from label to label
            if potential.weight.weights == "per_class":
                for parameter in potential.weight.parameters():
                    parameter.mul_(0.5 + torch.rand_like(parameter))
    runs = calls(monkeypatch)
    whole = solved(crf, 0.0, logits, image, mask=mask)
    assert runs == []
    for reduce, error in ((1e-3, 2e-2), (1e-7, 1e-5)):
        few = solved(crf, reduce, logits, image, mask=mask)
        assert len(runs[-1]) == 4
        torch.testing.assert_close(few, whole, rtol=0, atol=error)
        assert (few == whole).all() == (min(runs[-1]) == 5)
    assert max(runs[0]) < 5


def test_as_the_compiled_loop():
    logits, image = sure_scene(3, 30)
    crf = DenseCRF(30, CONFIG).double()
    compiled, by_torch = (solved(crf, 1e-6, logits, image, mode=mode) for mode in ("auto", "off"))
    torch.testing.assert_close(by_torch, compiled, rtol=0, atol=2e-5)


@pytest.mark.parametrize("spacing", [None, (1.0, 2.0)])
def test_what_is_left_out_is_measured_and_bounds_the_messages(spacing):
    """One step: the logits are off by at most w times the largest rest, since rows of "after" are means."""
    logits, image = sure_scene(2, 30, rank=12)
    logits /= 10
    options = {} if spacing is None else {"spacing": torch.tensor(spacing, dtype=F64)}
    crf = DenseCRF(30, dataclasses.replace(CONFIG, w1=3.0, w2=2.0)).double().eval()
    with torch.no_grad(), kernels.using("off"):
        problem = crf.problem(logits, image, **options)
        q, unary = problem.unary.softmax(1), problem.unary
        reduced = problem.reduced_messages(0.1)
        off = (reduced(q) - problem.penalty()(q)).abs().amax((1, 2))
    run = reduced.marginals(unary.log_softmax(1))
    assert run.log_q.shape == (1, *unary.shape)
    assert run.channels[0] == run.channels[1] < [30]
    largest = torch.tensor(run.largest_residual)[:, 0]
    assert (off > 0).all()
    assert (off < 5 * largest).all()
    assert (reduced.rms > 1e-3).all()
    assert (reduced.rms < 0.1).all()
    assert (reduced.rms[0] < largest).all()
    centered = q - q.mean(2, keepdim=True)
    best = torch.linalg.svdvals(centered)[:, run.channels[0][0] :].square().sum(1) / unary.shape[2]
    torch.testing.assert_close(reduced.rms[0], best.sqrt(), rtol=1e-6, atol=0)


def test_a_residual_inside_a_mask_alone():
    """Pixels outside may hold anything."""
    logits, image = sure_scene(1)
    mask = torch.ones(1, 23, 19, dtype=torch.bool)
    mask[:, :, 12:] = False
    crf = DenseCRF(40, CONFIG).double().eval()
    found = []
    for outside in (0.0, 50.0):
        other = logits + outside * torch.randn_like(logits) * ~mask
        with torch.no_grad(), kernels.using("off"):
            problem = crf.problem(other, image, mask=mask)
            reduced = problem.reduced_messages(1e-4)
            penalty = reduced(problem.unary.softmax(1))[:, :, mask.flatten()]
        found.append((penalty, reduced.rms, torch.tensor(reduced.marginals(problem.unary).largest_residual)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_an_image_alone_and_in_a_batch():
    """A batch has as many channels as the image that needs most; each image has a basis of its own."""
    easy, image = sure_scene(1)
    hard = 3 * torch.randn_like(easy)
    hard[:, 20:] -= 20
    crf = DenseCRF(40, CONFIG).double()
    together = solved(crf, 1e-5, torch.cat([easy, hard]), image.expand(2, -1, -1, -1))
    for i, logits in enumerate((easy, hard)):
        torch.testing.assert_close(together[i : i + 1], solved(crf, 0.0, logits, image), rtol=0, atol=1e-3)


@pytest.mark.parametrize("labels", [2, 8, 9])
def test_few_labels_and_one_logit(labels, monkeypatch):
    """What fills one group of channels is filtered as it is; nine labels may do with eight directions."""
    runs = calls(monkeypatch)
    logits, image = sure_scene(1, labels)
    crf = DenseCRF(labels, CONFIG).double()
    given = logits[:, 1:] - logits[:, :1] if labels == 2 else logits
    torch.testing.assert_close(
        solved(crf, 1e-4, given, image), solved(crf, 0.0, given, image), rtol=0, atol=1e-2
    )
    assert bool(runs) == (labels == 9)


def test_where_the_rank_does_not_fall_looks_get_rare(monkeypatch):
    looks = []
    real = ReducedMessages._look
    monkeypatch.setattr(
        ReducedMessages, "_look", lambda self, q: looks.append(len(self._groups)) or real(self, q)
    )
    runs = calls(monkeypatch)
    logits, image = 0.1 * torch.randn(1, 20, 9, 8, dtype=F64), 255 * torch.rand(1, 3, 9, 8, dtype=F64)
    crf = DenseCRF(20, dataclasses.replace(CONFIG, iterations=12, w1=0.01, w2=0.01)).double()
    few = solved(crf, 1e-9, logits, image)
    assert runs == [[3] * 12]
    assert looks == [0, 1, 3, 7]
    torch.testing.assert_close(few, solved(crf, 0.0, logits, image), rtol=0, atol=1e-14)


def test_a_sample_that_was_not_enough_is_noticed():
    """All but the sampled pixels are of many directions: from the second step on all are looked at."""
    q = torch.softmax(4 * torch.randn(1, 20, 17 * 2048, dtype=F64), 1)
    q[:, :, ::17] = torch.tensor([1.0, *[0.0] * 19], dtype=F64).view(1, -1, 1)
    reduced = ReducedMessages([Term(torch.clone)], q, reduce=1e-3)
    for _ in range(3):
        reduced(q)
    assert reduced._groups == [1, 3, 3]
    assert reduced.rms[0] > 1e-3


def test_points_without_a_grid():
    potentials = {"p": FeaturePotential(2.0, [1.0, 4.0], source="f", num_classes=12)}
    crf = DenseCRF(12, CONFIG, potentials=potentials).double()
    logits = 8 * torch.randn(2, 12, 61, dtype=F64)
    features = {"f": torch.randn(2, 2, 61, dtype=F64)}
    few, whole = (solved(crf, reduce, logits, features=features) for reduce in (1e-5, 0.0))
    torch.testing.assert_close(few, whole, rtol=0, atol=1e-4)


def test_what_is_not_reduced(monkeypatch):
    """Gradients, traces, dampings, full weights, other compatibilities and schemes, pruning."""
    monkeypatch.setattr(ReducedMessages, "__call__", lambda self, q: pytest.fail("reduced"))
    logits, image = sure_scene(1)
    with kernels.using("off"):
        for changes in (
            {"weights": "full"},
            {"compatibility": "matrix"},
            {"inference": MeanField(damping=0.1)},
            {"inference": MeanField(tolerance=0.1)},
            {"inference": "frank_wolfe"},
            {"prune": 1e-4},
            {"first_step": "log_softmax"},
        ):
            with torch.no_grad():
                DenseCRF(40, dataclasses.replace(CONFIG, **changes)).double().eval()(logits, image)
        DenseCRF(40, CONFIG).double().eval()(logits, image).sum().backward()
        DenseCRF(40, CONFIG).double().eval().trace(logits, image)


@pytest.mark.parametrize("labels", [3, 30])
def test_leading_directions(labels):
    """They leave what they say, and no fewer do; a label that is nowhere has no part in them."""
    x = torch.randn(labels, 500, dtype=F64) * torch.logspace(0, -5, labels, dtype=F64).unsqueeze(1)
    x[-1] = 0
    gram = (x @ x.mT / 500).numpy()
    for limit in (1e-8, 1e-4, 1e9):
        directions, rank = leading_directions(gram, limit)
        assert (directions[-1] == 0).all()
        left = [
            np.square(x.numpy() - v @ (v.T @ x.numpy())).sum() / 500
            for v in (directions[:, :rank], directions[:, : max(0, rank - 1)])
        ]
        assert left[0] <= limit * (1 + 1e-9)
        assert rank == 0 or left[1] > limit


def test_a_step_waits_once(monkeypatch):
    """For the Gram matrices of the batch, with what the step before has left out."""
    gram = np.zeros((2, 13, 12))
    gram[:, :12] = np.diag(10.0 ** -np.arange(12))
    answer = type("Answer", (), {"numpy": lambda self: gram})
    with fake_gpu(monkeypatch, *[answer() for _ in range(3)]) as waits, torch.no_grad():
        unary = torch.randn(2, 12, 40, device="cuda")
        weight = torch.rand(12, device="cuda")
        terms = [Term(torch.clone), Term(torch.clone, weight)]
        reduced = ReducedMessages(terms, unary, reduce=1e-3)
        MeanField().run(unary, reduced, 3)
    assert waits.found == ["cpu"] * 3
    assert reduced._groups == [1] * 3


@pytest.mark.parametrize("name", ["voc", "camvid"])
def test_real_scores(extra_data, name):
    """Labels and marginals beside all labels and beside the compiled loop; the residual keeps its promise."""
    (path,) = (extra_data / f"{name}_scores").glob("*.npz")
    scores = np.load(path)
    number = {"voc": 119, "camvid": 40}[name]
    if "q" in scores:
        small = (scores["q"][number].astype(np.float32) - scores["zero_point"]) * scores["scale"]
        small = np.moveaxis(small.astype(np.float32), 2, 0)
    else:
        small = scores["logits"][number].astype(np.float32)
    pixels = np.array(
        Image.open(extra_data / name / "JPEGImages" / f"{scores['ids'][number]}.jpg").convert("RGB")
    )
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    logits = interpolate(
        torch.from_numpy(small)[None], image.shape[2:], mode="bilinear", align_corners=name == "voc"
    )
    crf = DenseCRF(logits.shape[1], CRFConfig(iterations=10))
    found = {
        (mode, reduce): solved(crf, reduce, logits, image, mode=mode)
        for mode, reduce in (("off", 0.0), ("off", 1e-4), ("auto", 1e-4))
    }
    whole = found.pop(("off", 0.0))
    for few in found.values():
        assert (few.argmax(1) != whole.argmax(1)).float().mean() < 1e-4
        assert (few - whole).square().sum(1).mean().sqrt() < 1e-4
    with torch.no_grad(), kernels.using("off"):
        problem = crf.eval().problem(logits, image)
        reduced = problem.reduced_messages(1e-4)
        MeanField().run(problem.unary, reduced, 10)
    assert (reduced.rms <= 1e-4).all()
    if name == "voc":
        assert min(reduced._groups) == 1


@pytest.mark.usefixtures("operators")
def test_nothing_is_reduced_where_products_lose_digits(monkeypatch):
    """What TF32 leaves out of the marginals would be more than is promised."""
    crf, scene = DenseCRF(40, CONFIG), sure_scene(batch=1, dtype=torch.float32)
    runs = calls(monkeypatch)
    solved(crf, 1e-3, *scene)
    assert runs
    runs.clear()
    with LossyProducts():
        solved(crf, 1e-3, *scene)
    assert runs == []
