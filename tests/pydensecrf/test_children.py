"""Pools of workers: a child computes after torch's work in the parent, with one thread, and does not hang."""

import multiprocessing

import numpy as np
import pytest
import torch

from crfnet.kernels.cpu import threads
from crfnet.pydensecrf import densecrf as dcrf
from crfnet.pydensecrf.utils import unary_from_softmax

H, W, LABELS = 48, 64, 21  # enough for torch to share the work out


def crf(compat=10):
    random = np.random.default_rng(0)
    made = dcrf.DenseCRF2D(W, H, LABELS, device="cpu")
    made.setUnaryEnergy(unary_from_softmax(random.dirichlet(np.ones(LABELS), H * W).T))
    made.addPairwiseGaussian(3, 3)
    image = random.integers(0, 256, (H, W, 3), dtype=np.uint8)
    made.addPairwiseBilateral(20, 40, image, compat, normalization=dcrf.NORMALIZE_AFTER)
    return made


def answers(made):
    """The compiled loop's, then torch's."""
    q, tmp1, tmp2 = made.startInference()
    made.stepInference(q, tmp1, tmp2)
    matrix = crf(-4 * np.eye(LABELS)).inference(2)
    return [np.array(x) for x in (made.inference(5), q, made.klDivergence(q), matrix)]


def in_child(queue, made):
    queue.put((threads.threads(), answers(crf() if made is None else made)))


@pytest.fixture
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize(("method", "inherited"), [("fork", False), ("fork", True), ("spawn", False)])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_answer_like_the_parent(method, inherited):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    made = crf()
    expected = answers(made)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    given = made if inherited else None
    children = [context.Process(target=in_child, args=(queue, given), daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    for _ in children:
        number, got = queue.get(timeout=25)
        assert number == 1
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for child in children:
        child.join(timeout=30)
        assert child.exitcode == 0
