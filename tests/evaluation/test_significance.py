"""The bootstrap: identical arms, a sure difference, the true coverage, pairing."""

import math

import pytest
import torch

from crfnet.evaluation.confusion import metrics
from crfnet.evaluation.significance import (
    bootstrap,
    paired_bootstrap,
    percentile_interval,
    resample_counts,
    resampled,
)


def miou(confusions):
    return metrics(confusions).miou


def accuracy(confusions):
    return confusions.diagonal(dim1=-2, dim2=-1).sum(-1) / confusions.sum((-2, -1))


def images(shares, pixels=1000):
    """Confusion matrices of two-class images with the given share of right pixels each."""
    right = (torch.as_tensor(shares) * pixels).round().long()
    rows = torch.stack([right, pixels - right], -1)
    return torch.stack([rows, rows.flip(-1)], -2)


def test_counts_are_multinomial():
    counts = resample_counts(7, 400, seed=1)
    assert counts.shape == (400, 7)
    assert (counts.sum(1) == 7).all()
    assert counts.mean(0).sub(1).abs().max() < 0.25
    assert counts.var().item() == pytest.approx(6 / 7, abs=0.1)
    assert torch.equal(counts, resample_counts(7, 400, seed=1))
    assert not torch.equal(counts, resample_counts(7, 400, seed=2))


def test_resampled_is_the_statistic_of_the_drawn_images():
    confusions = torch.randint(1, 50, (5, 3, 3))
    counts = resample_counts(5, 300, seed=0)  # more draws than one chunk holds
    found = resampled(confusions, miou, counts)
    for draw in (0, 299):
        drawn = torch.cat([confusions[i : i + 1].repeat(int(n), 1, 1) for i, n in enumerate(counts[draw])])
        assert float(found[draw]) == pytest.approx(float(miou(drawn.sum(0))))


def test_identical_arms_differ_by_nothing():
    confusions = torch.randint(0, 50, (9, 3, 3))
    interval = paired_bootstrap(confusions, confusions.clone(), miou, draws=50)
    assert (interval.low, interval.high, interval.estimate) == (0, 0, 0)
    assert not interval.excludes_zero


def test_known_difference_is_found_and_signed():
    """b is 3 points better on every image: sure when paired, though images differ far more than arms do."""
    shares = torch.linspace(0.3, 0.9, 30)
    a, b = images(shares), images(shares + 0.03)
    interval = paired_bootstrap(a, b, accuracy, draws=200)
    assert interval.estimate == pytest.approx(0.03, abs=1e-3)
    assert interval.low > 0.025
    assert interval.high < 0.035
    assert interval.excludes_zero
    assert paired_bootstrap(b, a, accuracy, draws=200).high < 0
    alone = bootstrap(a, accuracy, draws=200)
    assert alone.high - alone.low > 0.05
    assert alone.low < alone.estimate < alone.high


def test_coverage():
    """Over many small data sets the 95 % interval holds the true difference about 95 % of the time."""
    generator = torch.Generator().manual_seed(0)
    trials, covered = 200, 0
    for trial in range(trials):
        shares = 0.3 + 0.4 * torch.rand(60, generator=generator)
        gains = 0.05 + 0.1 * torch.randn(60, generator=generator).clamp(-2, 2)
        interval = paired_bootstrap(images(shares), images(shares + gains), accuracy, draws=200, seed=trial)
        covered += interval.low <= 0.05 <= interval.high
    assert 0.89 <= covered / trials <= 0.99


def test_interval_holds_95_percent_of_the_draws():
    interval = percentile_interval(torch.tensor(0.4), torch.linspace(0, 1, 1001))
    assert (interval.low, interval.high, interval.estimate) == pytest.approx((0.025, 0.975, 0.4), abs=1e-6)


def test_undefined_draws_are_left_out():
    samples = torch.tensor([math.nan, 0.2, 0.4])
    assert percentile_interval(torch.tensor(0.3), samples).low == pytest.approx(0.2, abs=0.01)
    nothing = percentile_interval(torch.tensor(math.nan), samples)
    assert math.isnan(nothing.low)
    assert not nothing.excludes_zero


def test_pairs_need_the_same_images():
    a, b = torch.ones(3, 2, 2), torch.ones(4, 2, 2)
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(a, b, miou)
    with pytest.raises(ValueError, match="images is 0"):
        resample_counts(0, 5, seed=0)
