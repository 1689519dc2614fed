"""Labels filtered in groups: the same marginals, in the memory that is stated."""

import dataclasses
import tracemalloc

import pytest
import torch

from crfnet import kernels
from crfnet.crf import CRFConfig, DenseCRF, MeanField
from crfnet.crf import message_passing as module
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters.permutohedral.lattice import build_lattice
from crfnet.crf.message_passing import labels_at_once
from crfnet.errors import InputError
from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.lattice import build_lattice as build_compiled
from tests.allocations import Held
from tests.tolerances import assert_close

pytestmark = pytest.mark.usefixtures("operators")
LABELS, HEIGHT, WIDTH = 7, 50, 48
CONFIG = CRFConfig(theta_alpha=8.0, theta_beta=20.0, iterations=3)


def scene(batch=2, labels=LABELS, height=HEIGHT, width=WIDTH, dtype=torch.float64):
    """Smooth colors and logits."""
    coarse = torch.rand(batch, 3 + labels, 5, 6, dtype=dtype)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return 6 * fine[:, 3:].contiguous(), 255 * fine[:, :3]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"filter": "exact"},
        {"weights": "per_class"},
        {"weights": "full"},
        {"compatibility": "matrix"},
        {"normalization": "symmetric", "inference": MeanField(damping=0.3)},
        {"prune": 1e-1},
        {"inference": "frank_wolfe"},
        {"w1": 0.0, "inference": MeanField(tolerance=1e-9)},
    ],
    ids=str,
)
def test_groups_give_what_all_labels_give(changes, monkeypatch):
    crf = DenseCRF(LABELS, dataclasses.replace(CONFIG, **changes)).double().eval()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.add_(0.2 * torch.rand_like(parameter))
    logits, image = scene()
    if "prune" in changes:
        logits[:, 2] = -9
    mask = torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    mask[1, :, 30:] = False
    sizes = []
    monkeypatch.setattr(
        module, "labels_at_once", lambda q, memory: sizes.append(labels_at_once(q, memory)) or sizes[-1]
    )
    with torch.inference_mode():
        whole = crf(logits, image, mask=mask)
        crf.memory = 1
        parts = crf(logits, image, mask=mask)
    assert {size for size in sizes if size < LABELS} == {4}
    assert_close(parts, whole, "layer", torch.float64)


def test_gradients_take_all_labels_at_once():
    crf = DenseCRF(LABELS, CONFIG, memory=1).double().eval()
    logits, image = scene()
    logits.requires_grad_()
    crf(logits, image).sum().backward()
    assert logits.grad is not None


def test_as_many_labels_as_fit():
    q = torch.empty(2, 21, 1 << 20)
    assert labels_at_once(q, 6 * 8) == 1
    assert labels_at_once(q, 6 * 8 * 5 - 1) == 4
    assert labels_at_once(q, 6 * 8 * 5) == 5
    assert labels_at_once(q.double(), 6 * 8 * 5) == 2
    assert labels_at_once(q, 1) == 1
    assert labels_at_once(q) == 1024 // 48


def test_memory_of_the_configuration_and_of_the_layer():
    assert DenseCRF(3).memory is None
    assert DenseCRF(3, CRFConfig(memory=7)).memory == 7
    assert DenseCRF(3, CRFConfig(memory=7), memory=5).memory == 5
    with pytest.raises(InputError, match=r"^DenseCRF: memory is 0, must be >= 1 MiB$"):
        DenseCRF(3, memory=0)
    for memory in (0, -3):
        with pytest.raises(InputError, match=rf"^crf\.memory is {memory}, must be >= 1 MiB, or null$"):
            CRFConfig(memory=memory)


@pytest.mark.parametrize("prune", [0.0, 1e-4])
def test_three_arrays_the_lattice_and_what_is_allowed(prune):
    """Unary, marginals and penalty, beside the logits; the lattice with its scaled weights."""
    labels, height, width = 30, 180, 160
    logits, image = scene(1, labels, height, width, torch.float32)
    crf = DenseCRF(labels, dataclasses.replace(CONFIG, prune=prune, memory=1)).eval()
    pixels, array = height * width, 4 * labels * height * width
    with torch.inference_mode(), kernels.using("off"):  # what torch allocates
        with Held() as lattice:
            kept = build_lattice(bilateral_features(image, 8.0, 20.0))
        with Held(logits, image) as held:
            parts = crf.map(logits, image)
        crf.memory = None
        with Held(logits, image) as free:
            whole = crf.map(logits, image)
    assert torch.equal(parts, whole)
    assert kept.corners < pixels
    scaled = 2 * 6 * 4 * pixels
    bound = 3.5 * array + lattice.now + scaled  # half an array: one label at a time, and some numbers a pixel
    assert held.most < bound < free.most


@pytest.mark.skipif(not kernels.compiled(torch.zeros(1)), reason="needs numba")
def test_compiled_operators_hold_eight_channels_beside():
    """Numpy's arrays count too: a thread works in tables of eight channels, however few labels."""
    labels, height, width = 60, 180, 160
    logits, image = scene(1, labels, height, width, torch.float32)
    crf = DenseCRF(labels, CONFIG, memory=1).eval()
    pixels, array = height * width, 4 * labels * height * width
    with torch.inference_mode():
        most = {}
        for memory in (1, 1, 1000):  # the first run loads what is compiled
            crf.memory = memory
            tracemalloc.start()
            with Held(logits, image) as held:
                crf.map(logits, image)
            most[memory] = held.most + tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        kept = build_compiled(bilateral_features(image, 8.0, 20.0).numpy())
    lattice = kept.corners.nbytes + kept.weights.nbytes + kept.neighbors.nbytes
    tables = threads.threads() * 32 * (2 * kept.size + 2 * pixels)
    factors = 8 * 4 * pixels  # and some numbers a pixel
    assert most[1] < 3.5 * array + lattice + tables + factors < most[1000]


@pytest.mark.parametrize("noise", [0, 100])
def test_the_lattice_is_built_in_little_more_than_what_stays(noise):
    """Smooth, and with five corners a pixel."""
    _, image = scene(1, 1, 180, 160, torch.float32)
    image = (image + noise * torch.randn_like(image)).clamp(0, 255)
    features = bilateral_features(image, 8.0, 20.0)
    with torch.inference_mode(), Held(features) as held:
        lattice = build_lattice(features)
    assert (lattice.corners > 4 * 180 * 160) == (noise > 0)
    assert held.most - held.now < 160 * 180 * 160
