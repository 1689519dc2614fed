"""The bootstrap: identical arms, a sure difference, the true coverage, pairing."""

import math

import pytest
import torch

from crfnet.evaluation.bootstrap import (
    bootstrap,
    percentile_interval,
    resample_counts,
    resample_seeds,
    resampled,
    seeds_bootstrap,
)
from crfnet.evaluation.confusion import metrics
from tests.evaluation.by_hand import paired_interval


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
    interval = seeds_bootstrap(confusions[None], confusions[None].clone(), miou, draws=50)
    assert (interval.low, interval.high, interval.estimate) == (0, 0, 0)
    assert not interval.excludes_zero


def test_known_difference_is_found_and_signed():
    """b is 3 points better on every image: sure when paired, though images differ far more than arms do."""
    shares = torch.linspace(0.3, 0.9, 30)
    a, b = images(shares), images(shares + 0.03)
    interval = seeds_bootstrap(a[None], b[None], accuracy, draws=200)
    assert interval.estimate == pytest.approx(0.03, abs=1e-3)
    assert interval.low > 0.025
    assert interval.high < 0.035
    assert interval.excludes_zero
    assert seeds_bootstrap(b[None], a[None], accuracy, draws=200).high < 0
    alone = bootstrap(a, accuracy, draws=200)
    assert alone.high - alone.low > 0.05
    assert alone.low < alone.estimate < alone.high


def random_arms(images, trials, generator):
    """Confusion matrices (i, t, 3, 3) of two arms: hard images are hard for both, and b is a bit better."""
    share = torch.tensor([0.7, 0.2, 0.1]) * (0.5 + torch.rand(images, trials, 3, generator=generator))
    hard = torch.rand(images, trials, 1, generator=generator)
    arms = []
    for better in (0.0, 0.03):
        noise = torch.randn(images, trials, 3, generator=generator)
        right = (0.6 + 0.3 * hard + better + 0.04 * noise).clamp(0, 1) * share
        wrong = (share - right) / 2
        arms.append(wrong.unsqueeze(-1).expand(-1, -1, -1, 3) + torch.diag_embed(right - wrong))
    return arms


def test_coverage():
    """The 95 % interval of a difference of mIoU holds the true one in 95 % of data sets, up to 2 points.

    600 data sets of 100 images: 2 points are 2.2 standard errors of the share that is counted.
    """
    generator = torch.Generator().manual_seed(0)
    trials, counts = 600, resample_counts(100, 600, seed=1)
    a, b = (arm.sum((0, 1)) for arm in random_arms(400, 500, generator))
    true = float(miou(b) - miou(a))  # of 200 000 images
    assert 0.02 < true < 0.06
    a, b = random_arms(100, trials, generator)
    estimates = miou(b.sum(0)) - miou(a.sum(0))
    draws = resampled(b, miou, counts) - resampled(a, miou, counts)  # (draws, trials)
    found = [percentile_interval(estimates[t], draws[:, t]) for t in range(trials)]
    covered = sum(each.low <= true <= each.high for each in found)
    assert 0.93 <= covered / trials <= 0.97
    one = seeds_bootstrap(a[None, :, 7], b[None, :, 7], miou, draws=600, seed=1)
    assert (one.low, one.high) == pytest.approx((found[7].low, found[7].high), abs=1e-9)


def test_any_counts_can_be_resampled():
    """A mean of per-image scores is the sum of (score, 1): its interval is that of the mean."""
    scores = torch.randn(50, generator=torch.Generator().manual_seed(3)).double()
    pairs = torch.stack([scores, torch.ones(50)], -1)
    found = bootstrap(pairs, lambda sums: sums[..., 0] / sums[..., 1], draws=4000)
    assert found.estimate == pytest.approx(float(scores.mean()))
    error = float(scores.std() / 50**0.5)
    assert found.low == pytest.approx(found.estimate - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.estimate + 1.96 * error, abs=0.15 * error)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_drawn_seeds_vary_as_their_mean_does(seeds):
    """The variance of the weighted mean is s^2 / n, not the (n-1) / n of it that n of n draws give."""
    scores = torch.randn(seeds, generator=torch.Generator().manual_seed(seeds)).double()
    weights = resample_seeds(seeds, 40000, torch.Generator().manual_seed(0))
    assert torch.allclose(weights.sum(1), torch.ones(40000, dtype=torch.float64))
    drawn = weights @ scores
    assert float(drawn.mean()) == pytest.approx(float(scores.mean()), abs=0.02)
    assert float(drawn.var()) == pytest.approx(float(scores.var() / seeds), rel=0.03)


def test_multiprocess_seeds_widen_the_interval():
    """Scores are means over seeds; where seeds differ the interval shows it, and pairing takes it out."""
    shares = torch.linspace(0.3, 0.9, 30)
    luck = (-0.05, 0.0, 0.05)
    a = torch.stack([images(shares + each) for each in luck])
    b = torch.stack([images(shares + each + 0.03) for each in luck])
    apart, together = (seeds_bootstrap(a, b, accuracy, 500, paired=paired) for paired in (False, True))
    assert apart.estimate == together.estimate == pytest.approx(0.03, abs=1e-3)
    assert apart.low < 0 < apart.high
    assert together.low > 0.025
    assert together.high < 0.035
    fewer = seeds_bootstrap(a[:2], b, accuracy, 500)
    assert fewer.estimate == pytest.approx(0.055, abs=1e-3)
    one = seeds_bootstrap(a[:1], b[:1], accuracy, 500)
    assert one == paired_interval(a[0], b[0], accuracy, 500)
    same = seeds_bootstrap(a, a.clone(), accuracy, 50, paired=True)
    assert (same.low, same.high, same.estimate) == (0, 0, 0)


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
        seeds_bootstrap(a[None], b[None], miou)
    with pytest.raises(ValueError, match="a has 1 seeds and b has 2"):
        seeds_bootstrap(a[None], torch.stack([a, a]), miou, paired=True)
    with pytest.raises(ValueError, match="images is 0"):
        resample_counts(0, 5, seed=0)
