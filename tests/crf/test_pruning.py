"""Labels that cannot matter: the bound of what pruning changes, and that nothing else does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.pruning import Pruning
from crfnet.errors import InputError
from tests.tolerances import assert_close

pytestmark = pytest.mark.usefixtures("operators")
F64 = torch.float64
LABELS = 6
SMALL = {"w1": 3.0, "theta_alpha": 4.0, "theta_beta": 80.0, "w2": 2.0, "theta_gamma": 1.5}


def crf(**changes):
    return DenseCRF(LABELS, CRFConfig(**{**SMALL, **changes})).double().eval()


def scores(*low, batch=2):
    """Logits under which each of the labels `low` stays unlikely everywhere."""
    logits = torch.randn(batch, LABELS, 6, 7, dtype=F64)
    logits[:, list(low)] -= 9
    return logits, 255 * torch.rand(batch, 3, 6, 7, dtype=F64)


@torch.no_grad()
@pytest.mark.parametrize("weights", ["scalar", "per_class"])
@pytest.mark.parametrize("filter", ["exact", "permutohedral"])
@pytest.mark.parametrize("normalization", ["after", "symmetric", "none"])
def test_messages_change_by_at_most_the_bound(normalization, filter, weights):
    """Before its softmax, every logit of a step differs by at most sum_m w_m eps r_m."""
    eps = 1e-2
    options = {"normalization": normalization, "filter": filter, "weights": weights, "iterations": 1}
    logits, image = scores(1, 4)
    whole = crf(**options)
    problem = whole.problem(logits, image)
    q = problem.unary.softmax(1)
    kept = Pruning.below(eps, problem.unary, None).kept
    dropped = [label for label in range(LABELS) if label not in kept]
    assert dropped == [1, 4]
    bound = 0
    for potential in whole.potentials.values():
        alone = replace(problem, potentials=[potential]).penalty()
        row_sums = -alone(torch.ones_like(q))  # w r
        bound = bound + row_sums.max() * eps
    full = problem.penalty()(q)
    few = problem.penalty(labels=kept)(torch.cat([q[:, kept], q[:, dropped].sum(1, keepdim=True)], 1))
    assert_close(few[:, :-1], full[:, kept], "layer", F64)
    assert (few[:, -1] == 0).all()
    assert full[:, dropped].abs().max() <= bound
    assert full[:, dropped].abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("mask", [False, True])
def test_answers_with_and_without_pruning(mask):
    logits, image = scores(1, 4)
    options = {"mask": torch.rand(2, 6, 7) < 0.7} if mask else {}
    whole, pruned = crf()(logits, image, **options), crf(prune=1e-2)(logits, image, **options)
    assert torch.equal(whole.argmax(1), pruned.argmax(1))
    assert_close(pruned.exp().sum(1), torch.ones(2, 6, 7, dtype=F64), "layer", F64)
    assert 0 < (whole.exp() - pruned.exp()).abs().max() < 1e-2
    # A dropped label has its unary alone: its odds against another dropped one are those of the logits.
    assert_close(pruned[:, 1] - pruned[:, 4], logits[:, 1] - logits[:, 4], "layer", F64)


def test_what_lies_outside_the_mask_keeps_no_label():
    unary = torch.randn(1, LABELS, 10)
    unary[:, 1] -= 20
    unary[:, 1, 7:] += 40
    mask = torch.arange(10).unsqueeze(0) < 7
    assert Pruning.below(1e-2, unary, mask).dropped.tolist() == [1]
    assert Pruning.below(1e-2, unary, None).dropped.tolist() == []


@torch.no_grad()
def test_dropped_labels_stay_below_the_threshold():
    logits, image = scores(0, 2)
    trace = []
    crf(prune=1e-2)(logits, image, trace=trace)
    assert len(trace) == 11
    assert all(step[:, [0, 2]].max() < 1e-2 for step in trace)
    assert all(torch.allclose(step.sum(1), torch.ones((), dtype=F64)) for step in trace)


@torch.no_grad()
@pytest.mark.parametrize("low", [(), (1, 2, 3, 4, 5)])
def test_no_label_or_all_but_one_dropped(low):
    logits, image = scores(*low)
    found = crf(prune=0.1)(logits, image)
    whole = crf()(logits, image)
    if low:
        assert (found.argmax(1) == 0).all()
    else:
        assert torch.equal(found, whole)


@torch.no_grad()
def test_all_labels_below_the_threshold_keeps_the_likeliest():
    logits, image = scores()
    logits[:, 3] += 0.5
    found = crf(prune=0.999)(logits, image)
    assert found.isfinite().all()


def test_not_in_training_nor_with_gradients():
    logits, image = scores(1, 4)
    pruned, whole = crf(prune=1e-2, train_iterations=10), crf(train_iterations=10)
    assert torch.equal(pruned(logits, image), whole(logits, image))
    with torch.no_grad():
        assert torch.equal(pruned.train()(logits, image), whole.train()(logits, image))


@pytest.mark.parametrize(
    "changes", [{"weights": "full"}, {"compatibility": "matrix"}, {"compatibility": "diagonal"}]
)
def test_needs_messages_label_by_label(changes):
    with pytest.raises(InputError, match=r"prune is 0.01, must be 0 unless"):
        CRFConfig(prune=0.01, **changes)


@pytest.mark.parametrize("prune", [-0.1, 1.0, float("nan")])
def test_bad_threshold_is_refused(prune):
    with pytest.raises(InputError, match="prune is"):
        CRFConfig(prune=prune)


@torch.no_grad()
def test_photo_with_two_of_21_classes(extra_data):
    """Scores that a confident network would give: at 1e-4 most labels go, 99.9 % of the pixels agree."""
    folder = extra_data / "voc_samples"
    with (
        Image.open(folder / "2007_000346.png") as photo,
        Image.open(folder / "2007_000346_labels.png") as truth,
    ):
        image = torch.from_numpy(np.array(photo.convert("RGB"))).permute(2, 0, 1)[None, :, ::3, ::3]
        labels = torch.from_numpy(np.array(truth)).long()[None, ::3, ::3]
    one_hot = torch.nn.functional.one_hot(labels, 21).permute(0, 3, 1, 2).float()
    blurred = torch.nn.functional.avg_pool2d(one_hot, 15, 1, 7, count_include_pad=False)
    coarse = torch.nn.functional.avg_pool2d(torch.randn(one_hot.shape), 9, stride=1, padding=4)
    logits = 30 * blurred + 6 * coarse
    config = {"w1": 4.0, "theta_alpha": 33.0, "theta_beta": 3.0}
    whole, pruned = (DenseCRF(21, CRFConfig(**config, prune=p)).eval() for p in (0.0, 1e-4))
    kept = len(Pruning.below(1e-4, logits.flatten(2), None).kept)
    assert len(labels.unique()) <= kept <= 10
    agree = (whole.map(logits, image) == pruned.map(logits, image)).float().mean()
    assert agree >= 0.999
