"""The compiled loop of evaluation gives what operators give, and says what reduced messages leave out."""

import dataclasses

import pytest
import torch

from crfnet.crf import CRFConfig, DenseCRF, MeanField
from crfnet.crf.filters import PermutohedralFilter, auto
from crfnet.crf.inference import label_by_label
from crfnet.crf.inference.label_by_label import GridKernel, LatticeKernel, mean_field
from crfnet.crf.potentials import BilateralPotential, FeaturePotential, SpatialPotential
from crfnet.kernels.cpu import lattice

CONFIG = CRFConfig(theta_alpha=6.0, theta_beta=20.0, iterations=4, inference=MeanField(reduce=0.0))
F64 = torch.float64


def scene(batch=2, labels=9, size=(13, 11), dtype=F64):
    return 2 * torch.randn(batch, labels, *size, dtype=dtype), 255 * torch.rand(batch, 3, *size, dtype=dtype)


def both(crf, monkeypatch, *inputs, **options):
    """The answer of the loop, which has to run, and that of operators."""
    ran = []
    real = label_by_label.mean_field
    monkeypatch.setattr(label_by_label, "mean_field", lambda *a, **k: ran.append(1) or real(*a, **k))
    with torch.no_grad():
        compiled = crf.eval()(*inputs, **options)
        assert ran
        monkeypatch.setattr(label_by_label, "usable", lambda unary: False)
        return compiled, crf(*inputs, **options)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weights": "per_class"},
        {"normalization": "symmetric"},
        {"normalization": "before"},
        {"normalization": "none", "w1": 0.1, "w2": 0.1},
        {"w1": 0.0},
        {"w2": 0.0},
        {"theta_alpha": float("inf")},
        {"iterations": 0},
        {"unary_weight": 0.5},
        {"filter": "auto"},
    ],
    ids=str,
)
def test_as_operators(changes, monkeypatch):
    if changes.get("filter") == "auto":
        monkeypatch.setitem(auto._EXACT_POINTS, "cpu", 10)
    crf = DenseCRF(9, dataclasses.replace(CONFIG, **changes)).double()
    compiled, expected = both(crf, monkeypatch, *scene())
    torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (5, 3), (17, 19)])
def test_awkward_sizes_and_the_last_image_alone(size, monkeypatch):
    logits, image = scene(3, 5, size)
    crf = DenseCRF(5, CONFIG).double()
    compiled, expected = both(crf, monkeypatch, logits, image)
    torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-10)
    monkeypatch.undo()
    with torch.no_grad():
        torch.testing.assert_close(crf(logits[2:], image[2:]), compiled[2:], rtol=0, atol=1e-12)


def test_masks_spacings_points_volumes_and_one_logit(monkeypatch):
    logits, image = scene()
    mask = torch.rand(2, 13, 11) < 0.6
    spacing = torch.tensor([[1.0, 2.0], [0.5, 1.0]])
    cases = [
        (DenseCRF(9, CONFIG), (logits, image), {"mask": mask}),
        (DenseCRF(9, CONFIG), (logits, image), {"spacing": spacing}),
        (DenseCRF(2, CONFIG), (logits[:, :1], image), {}),
        (DenseCRF(9, CONFIG), scene(1, 9, (4, 5, 6)), {}),
        (
            DenseCRF(
                9, CONFIG, potentials={"p": FeaturePotential(2.0, [1.0, 4.0], source="f", num_classes=9)}
            ),
            (torch.randn(2, 9, 31, dtype=F64),),
            {"features": {"f": torch.randn(2, 2, 31, dtype=F64)}},
        ),
    ]
    for crf, inputs, options in cases:
        with monkeypatch.context() as patch:
            compiled, expected = both(crf.double(), patch, *inputs, **options)
        # Each image has its own cut-off along an axis; what is cut is 4e-8 of a row at most.
        torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-8 if "spacing" in options else 1e-10)


def test_several_bilateral_potentials(monkeypatch):
    potentials = {
        "near": BilateralPotential(1.0, 2.0, 40.0, num_classes=9),
        "smooth": SpatialPotential(0.5, 1.5, num_classes=9),
        "far": BilateralPotential(2.0, 9.0, 60.0, num_classes=9),
    }
    compiled, expected = both(DenseCRF(9, CONFIG, potentials=potentials).double(), monkeypatch, *scene())
    torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-10)


def test_what_the_loop_does_not_take_goes_through_operators(monkeypatch):
    monkeypatch.setattr(label_by_label, "mean_field", lambda *a, **k: pytest.fail("compiled"))
    logits, image = scene(1)
    for changes in (
        {"weights": "full"},
        {"compatibility": "matrix"},
        {"inference": MeanField(damping=0.1)},
        {"inference": MeanField(tolerance=0.1)},
        {"inference": "frank_wolfe"},
        {"filter": "exact"},
        {"memory": 5},
    ):
        with torch.no_grad():
            DenseCRF(9, dataclasses.replace(CONFIG, **changes)).double().eval()(logits, image)
    DenseCRF(9, CONFIG).double().eval()(logits, image).sum().backward()  # with gradients
    with torch.no_grad():
        DenseCRF(9, CONFIG).double().eval()(logits, image, trace=[])


class _Doubled(PermutohedralFilter):
    """Builds an operator of its own."""

    def build(self, features, grid, mask):
        return super().build(features / 2, grid, mask)


def test_a_derived_filter_that_builds_otherwise_is_heard(monkeypatch):
    logits, image = scene(1)
    crf = DenseCRF(9, dataclasses.replace(CONFIG, filter=_Doubled())).double().eval()
    plain = DenseCRF(9, CONFIG).double().eval()
    with torch.no_grad():
        assert (crf(logits, image) - plain(logits, image)).abs().max() > 1e-3
        monkeypatch.setattr(label_by_label, "mean_field", lambda *a, **k: pytest.fail("compiled"))
        crf(logits, image)


@pytest.mark.parametrize("filter", ["exact", "local"])
def test_features_are_made_once_for_filters_that_are_no_lattice(filter, monkeypatch):
    made = []
    real = BilateralPotential.features
    monkeypatch.setattr(BilateralPotential, "features", lambda *a: made.append(1) or real(*a))
    with torch.no_grad():
        DenseCRF(9, dataclasses.replace(CONFIG, filter=filter)).double().eval()(*scene(1))
    assert made == [1]


def test_settings_side_by_side_are_each_alone():
    logits, image = scene(2, 5)
    unary, crf = logits.flatten(2), DenseCRF(5, CONFIG).double()
    kernels = [
        LatticeKernel(crf.potentials["bilateral"].features(crf.problem(logits, image).scene)),
        GridKernel((13, 11), 3.0),
    ]
    weights = torch.tensor([[4.0, 3.0], [1.0, 0.0], [0.0, 2.0]], dtype=F64)
    options = {"iterations": 3, "normalization": "after", "reduce": 0.0}
    together = mean_field(unary, kernels, weights, **options).log_q
    for setting, alone in enumerate(weights):
        found = mean_field(unary, kernels, alone[None], **options).log_q[0]
        torch.testing.assert_close(together[setting], found, rtol=0, atol=1e-10)


def test_reduced_messages_are_within_the_residual_that_they_state():
    """Of 40 labels of rank 3: one group of channels is filtered, and the marginals hardly move."""
    torch.manual_seed(1)
    coarse = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 5, dtype=F64), (40, 44), mode="bilinear")
    logits = 30 * torch.einsum("lk,bkhw->blhw", torch.randn(40, 3, dtype=F64), coarse)
    unary, image = logits.flatten(2), 255 * torch.rand(1, 3, 40, 44, dtype=F64)
    crf = DenseCRF(40, CONFIG).double()
    kernel = LatticeKernel(crf.potentials["bilateral"].features(crf.problem(logits, image).scene))
    options = {"iterations": 5, "normalization": "after"}
    weights = torch.tensor([[4.0]], dtype=F64)
    whole = mean_field(unary, [kernel], weights, reduce=0.0, **options)
    few = mean_field(unary, [kernel], weights, reduce=1e-3, **options)
    assert whole.channels == [[40] * 5]
    assert min(few.channels[0]) <= 16
    change = (whole.log_q.exp() - few.log_q.exp()).abs().max()
    assert 0 < change < 5 * 4 * max(few.largest_residual[0])


def test_built_lattices_are_of_every_image_and_its_mask(monkeypatch):
    unary, weights = torch.randn(2, 3, 30), torch.tensor([[3.0, 2.0], [1.0, 0.0]])
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[0, :7], mask[1, 20:] = False, False
    given = {"iterations": 2, "normalization": "after"}
    for features in (torch.randn(2, 5, 30), torch.randn(1, 5, 30)):
        kernel, grid = LatticeKernel(features), GridKernel((5, 6), 1.5)
        expected = [
            mean_field(unary, [grid, kernel], weights, **given, mask=each).log_q for each in (None, mask)
        ]
        built = [kernel.built(unary, each) for each in (None, mask)]
        with monkeypatch.context() as patch:
            patch.setattr(lattice, "build_lattice", None)
            found = [
                mean_field(unary, [grid, kernel], weights, **given, mask=each).log_q
                for kernel, each in zip(built, (None, mask), strict=True)
            ]
        assert torch.equal(torch.stack(found), torch.stack(expected))
        assert not torch.equal(found[0], found[1])
        far = LatticeKernel(torch.where(mask.unsqueeze(1), features, 1e13)).built(unary, mask)
        assert torch.equal(mean_field(unary, [grid, far], weights, **given, mask=mask).log_q, expected[1])


def test_the_marginals_of_one_image_and_of_a_batch():
    unary, kernel = torch.randn(2, 3, 30), LatticeKernel(torch.randn(1, 5, 30))
    given = {"iterations": 2, "normalization": "after"}
    both = mean_field(unary, [kernel], torch.tensor([[3.0], [1.0]]), **given).log_q
    assert both.shape == (2, 2, 3, 30)
    for i in range(2):
        alone = mean_field(unary[i : i + 1], [kernel], torch.tensor([[3.0], [1.0]]), **given).log_q
        assert torch.equal(alone, both[:, i : i + 1])


def sure_scores(labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Six regions of which a network is sure, and something for each of its labels; the image behind them."""
    generator = torch.Generator().manual_seed(3)
    regions = torch.rand(1, 6, 5, 6, generator=generator)
    regions = torch.nn.functional.interpolate(12 * regions, (45, 54), mode="bicubic").softmax(1)
    logits = torch.nn.functional.interpolate(
        torch.randn(1, labels, 6, 7, generator=generator), (45, 54), mode="bilinear"
    )
    places = torch.linspace(0, labels - 1, 6).long()
    logits[:, places] += 25 * regions
    colors = 255 * torch.rand(6, 3, generator=generator)
    noise = 4 * torch.randn(1, 3, 45, 54, generator=generator)
    image = torch.einsum("brhw,rc->bchw", regions, colors)
    return logits, (image + noise).clamp(0, 255)


def test_channels_do_not_grow_with_the_classes(monkeypatch):
    """150 classes need as few channels as 21 where the network is sure; labels are those of all channels."""
    channels, real = {}, label_by_label.mean_field
    for labels in (21, 150):
        runs = []
        monkeypatch.setattr(
            label_by_label, "mean_field", lambda *a, r=runs, **k: r.append(real(*a, **k)) or r[-1]
        )
        found = []
        for reduce in (1e-4, 0.0):
            config = CRFConfig(theta_alpha=20.0, theta_beta=20.0, inference=MeanField(reduce=reduce))
            with torch.no_grad():
                found.append(DenseCRF(labels, config).eval()(*sure_scores(labels)))
        reduced, everything = found
        assert (reduced.argmax(1) == everything.argmax(1)).float().mean() >= 0.9999
        assert (reduced.exp() - everything.exp()).abs().max() < 2e-3
        channels[labels] = [sum(run.channels[0]) / len(run.channels[0]) for run in runs]
        assert channels[labels][1] == labels
    assert channels[150][0] <= 16
    assert channels[150][0] <= 2 * channels[21][0]
