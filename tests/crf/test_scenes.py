"""What a DenseCRF takes besides RGB images: masks, other grids, points, own features, one logit."""

import math

import numpy as np
import pytest
import torch

from crfnet.crf import BilateralPotential, CRFConfig, DenseCRF, FeaturePotential, SpatialPotential, reference
from crfnet.crf.features import positions
from crfnet.crf.filters import FILTERS, LocalFilter, PermutohedralFilter
from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.errors import InputError
from tests.tolerances import assert_close

F64 = torch.float64
CPU = torch.device("cpu")
LABELS = 3
SMALL = {"w1": 2.0, "theta_alpha": 3.0, "theta_beta": 60.0, "w2": 1.0, "theta_gamma": 1.5, "iterations": 3}


NARROW = {"local": LocalFilter(window=3)}


def crf(**changes):
    return DenseCRF(LABELS, CRFConfig(**{**SMALL, **changes})).double().eval()


def on_grid(*grid, batch=2, channels=3, labels=LABELS):
    logits = 2 * torch.randn(batch, labels, *grid, dtype=F64)
    return logits, 255 * torch.rand(batch, channels, *grid, dtype=F64)


def by_reference(logits, features, weights, normalization="after", iterations=3):
    """Potts mean field of the O(N^2) reference on feature sets (b, d, n), one per kernel."""
    matrices = [
        reference.normalized_kernel_matrix(one, normalization).expand(len(logits), -1, -1) for one in features
    ]
    mu = 1 - torch.eye(logits.shape[1], dtype=F64)
    weights = [torch.tensor(weight, dtype=F64) for weight in weights]
    return reference.mean_field(logits.flatten(2), matrices, weights, mu, iterations)[-1].view(logits.shape)


def assert_close_to_rounded(found, expected):
    """Of a layer whose parameters were made in float32, as the parameters of a module are."""
    assert_close(found.float(), expected.float(), "layer", torch.float32)


# masks


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padded_batch_equals_one_by_one(filter, normalization):
    """Padding right and below, with the image and the logits there as bad as they may be."""
    layer = crf(filter=NARROW.get(filter, filter), normalization=normalization)
    sizes = [(5, 7), (4, 4)]
    logits, image = torch.full((2, LABELS, 6, 7), 1e4, dtype=F64), torch.zeros(2, 3, 6, 7, dtype=F64)
    mask = torch.zeros(2, 6, 7, dtype=torch.bool)
    alone = [on_grid(*size, batch=1) for size in sizes]
    for k, (h, w) in enumerate(sizes):
        logits[k, :, :h, :w], image[k, :, :h, :w] = alone[k][0][0], alone[k][1][0]
        mask[k, :h, :w] = True
    log_q = layer(logits, image, mask=mask)
    for k, (h, w) in enumerate(sizes):
        assert_close(log_q[k, :, :h, :w], layer(*alone[k])[0], "layer", F64)
    outside = ~mask.unsqueeze(1).expand_as(logits)
    assert_close(log_q[outside], logits.log_softmax(1)[outside], "layer", F64)


@pytest.mark.parametrize("filter", ["exact", "permutohedral"])
def test_gradients_with_a_mask_equal_those_without_padding(filter):
    filter = PermutohedralFilter(rows=10**6) if filter == "permutohedral" else filter
    layer = crf(filter=filter, train_iterations=2).train()
    logits, image = on_grid(4, 5, batch=1)
    pads = (0, 2, 0, 1)
    mask = torch.nn.functional.pad(torch.ones(1, 4, 5, dtype=torch.bool), pads)
    gradients = []
    for given, options in (
        ((logits, image), {}),
        ([torch.nn.functional.pad(x, pads) for x in (logits, image)], {"mask": mask}),
    ):
        layer.zero_grad()
        leaf = given[0].clone().requires_grad_()
        layer(leaf, given[1], **options)[..., :4, :5].square().sum().backward()
        thetas = torch.stack([p.grad for p in layer.parameters()])
        gradients.append((leaf.grad[..., :4, :5], thetas))
    for plain, padded in zip(*gradients, strict=True):
        assert_close(padded, plain, "layer", F64)
        assert (plain != 0).all()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_float32_gradients_with_a_mask_are_finite(normalization):
    """Row sums far outside are 0 and no divisors: the gradient of their reciprocals overflows."""
    layer = DenseCRF(
        LABELS, CRFConfig(**{**SMALL, "normalization": normalization, "filter": "exact"})
    ).train()
    logits, image = (x.float() for x in on_grid(2, 20))
    mask = torch.ones(2, 2, 20, dtype=torch.bool)
    mask[:, :, 3:] = False
    layer(logits, image, mask=mask)[:, 0].square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_energies_with_a_mask_equal_those_without_padding():
    layer = crf(filter="exact")
    logits, image = on_grid(4, 5)
    mask = torch.zeros(2, 6, 5, dtype=torch.bool)
    mask[:, :4] = True
    padded = [torch.nn.functional.pad(x, (0, 0, 0, 2), value=7.0) for x in (logits, image)]
    q = layer.marginals(*padded, mask=mask)
    plain = layer.free_energy(layer.marginals(logits, image), logits, image)
    assert_close(layer.free_energy(q, *padded, mask=mask), plain, "layer", F64)
    assert_close(layer.trace(*padded, mask=mask).free_energy[-1], plain, "layer", F64)
    assert_close(
        layer.energy(layer.map(*padded, mask=mask), *padded, mask=mask),
        layer.energy(layer.map(logits, image), logits, image),
        "layer",
        F64,
    )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 4, 5), "mask: torch.float32 of shape"),
        (torch.ones(2, 5, 4, dtype=torch.bool), "mask: torch.bool of shape"),
        (torch.arange(2).view(2, 1, 1).expand(2, 4, 5) == 0, "mask: image 1 has no pixel inside"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_masks_are_refused(mask, message):
    from crfnet.crf.checks import check_mask

    with pytest.raises(ValueError, match=message):
        check_mask(mask, torch.zeros(2, LABELS, 4, 5))


# grids


@pytest.mark.parametrize("grid", [(11,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_grids_of_one_to_three_axes_and_any_channels(grid, channels):
    logits, image = on_grid(*grid, channels=channels)
    place = positions(grid, dtype=F64, device=CPU)
    bilateral = torch.cat([place.expand(2, -1, -1) / 3.0, image.flatten(2) / 60.0], dim=1)
    expected = by_reference(logits, [bilateral, place / 1.5], [2.0, 1.0])
    assert_close_to_rounded(crf(filter="exact").marginals(logits, image), expected)


def test_positions_are_fastest_axis_first():
    place = positions((2, 3, 4), dtype=F64, device=CPU, spacing=torch.tensor([10.0, 5.0, 2.0]))
    expected = [(x * 2.0, y * 5.0, z * 10.0) for z in range(2) for y in range(3) for x in range(4)]
    assert place[0].T.tolist() == [list(one) for one in expected]


@pytest.mark.parametrize("per_image", [False, True])
def test_spacing(per_image):
    """Voxels of 3 x 1 mm, or of another size in each image, in the units of the bandwidths."""
    logits, image = on_grid(4, 5)
    spacing = torch.tensor([[3.0, 1.0], [0.5, 2.0]]) if per_image else torch.tensor([3.0, 1.0])
    place = positions((4, 5), dtype=F64, device=CPU) * spacing.double().flip(-1).view(-1, 2, 1)
    bilateral = torch.cat([place.expand(2, -1, -1) / 3.0, image.flatten(2) / 60.0], dim=1)
    expected = by_reference(logits, [bilateral, place / 1.5], [2.0, 1.0])
    found = crf(filter="exact").marginals(logits, image, spacing=spacing)
    assert_close_to_rounded(found, expected)
    without = crf(filter="exact").marginals(logits, image)
    assert (found - without).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("spacing", "message"),
    [
        (torch.ones(3), "spacing: torch.float32 of shape"),
        (torch.ones(2).int(), "spacing: torch.int32 of shape"),
        (torch.tensor([1.0, 0.0]), "spacing: values from 0 to 1"),
        (torch.tensor([1.0, math.nan]), "spacing: values from nan"),
    ],
)
def test_bad_spacings_are_refused(spacing, message):
    from crfnet.crf.checks import check_spacing

    with pytest.raises(ValueError, match=message):
        check_spacing(spacing, torch.zeros(2, LABELS, 4, 5))


# features


def points_crf(dimensions=4, **options):
    kernels = {"points": FeaturePotential(3.0, torch.ones(dimensions), source="points", num_classes=LABELS)}
    return DenseCRF(LABELS, CRFConfig(iterations=3, **options), potentials=kernels).double().eval()


@pytest.mark.parametrize("filter", ["exact", "permutohedral", "auto"])
def test_point_sets(filter):
    logits, points = torch.randn(2, LABELS, 30, dtype=F64), torch.randn(2, 4, 30, dtype=F64)
    found = points_crf(filter=filter).marginals(logits, features={"points": points})
    if filter == "permutohedral":
        kernel = torch.stack([reference.permutohedral_matrix(one) for one in points])
        kernel = kernel / kernel.sum(2, keepdim=True)
        mu, weight = 1 - torch.eye(LABELS, dtype=F64), torch.tensor(3.0, dtype=F64)
        expected = reference.mean_field(logits, [kernel], [weight], mu, 3)[-1]
    else:
        expected = by_reference(logits, [points], [3.0])
    assert_close_to_rounded(found, expected)


def test_learned_features_get_their_gradient():
    logits, points = torch.randn(1, LABELS, 8, dtype=F64), torch.randn(1, 2, 8, dtype=F64)
    layer = points_crf(2, filter="exact", train_iterations=2).train()
    assert torch.autograd.gradcheck(
        lambda given: layer(logits, features={"points": given}), points.requires_grad_()
    )
    with pytest.raises(ValueError, match="points requires a gradient, which PermutohedralFilter does not"):
        points_crf(2)(logits, features={"points": points})


@pytest.mark.parametrize("source", ["bilateral", "image", "spatial", "guide"])
@pytest.mark.parametrize("full", [False, True])
def test_precision_matrices(source, full):
    logits, image = on_grid(3, 4)
    guide = torch.randn(2, 2, 3, 4, dtype=F64)
    place = positions((3, 4), dtype=F64, device=CPU).expand(2, -1, -1)
    raw = {
        "bilateral": torch.cat([place, image.flatten(2)], dim=1),
        "image": image.flatten(2),
        "spatial": place,
        "guide": guide.flatten(2),
    }[source]
    d = raw.shape[1]
    root = torch.rand(d, d, dtype=F64) + torch.eye(d) if full else torch.rand(d, dtype=F64).add(0.5).diag()
    scale = (1 / raw.std((0, 2))).diag()
    precision = scale @ root @ root.T @ scale
    given = precision if full else precision.diagonal()
    kernel = FeaturePotential(2.0, given, source=source, num_classes=LABELS)
    layer = (
        DenseCRF(LABELS, CRFConfig(iterations=3, filter="exact"), potentials={"own": kernel}).double().eval()
    )
    difference = raw.unsqueeze(-1) - raw.unsqueeze(-2)
    distance = torch.einsum("bdij,de,beij->bij", difference, precision, difference)
    matrix = torch.exp(-distance / 2)
    matrix = matrix / matrix.sum(2, keepdim=True)
    mu = 1 - torch.eye(LABELS, dtype=F64)
    expected = reference.mean_field(logits.flatten(2), [matrix], [torch.tensor(2.0, dtype=F64)], mu, 3)[-1]
    found = layer.marginals(logits, image, features={"guide": guide})
    assert_close_to_rounded(found.flatten(2), expected)
    assert_close(kernel.precision, precision, "layer", torch.float32)
    assert set(layer.parameters_by_name()) == {"own.weight", "own.precision"}


def test_precision_learns_and_stays_positive_definite():
    root = torch.eye(5) * torch.tensor([0.3, 0.3, 0.02, 0.02, 0.02])
    kernel = FeaturePotential(2.0, root @ root, num_classes=LABELS)
    layer = DenseCRF(LABELS, CRFConfig(filter="exact"), potentials={"own": kernel}).train()
    logits, image = on_grid(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-5)
    for _ in range(3):
        optimizer.zero_grad()
        layer(logits, image)[:, 0].sum().backward()
        assert kernel.below.grad.tril(-1).abs().sum() > 0
        optimizer.step()
    assert torch.linalg.eigvalsh(kernel.precision).min() > 0


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        (np.ones((2, 3)), "precision of shape"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        ([1.0, -1.0], "not positive definite"),
        ([1.0, math.nan], "finite"),
        ([], "precision of shape"),
    ],
)
def test_bad_precisions_are_refused(precision, message):
    with pytest.raises(InputError, match=message):
        FeaturePotential(1.0, torch.as_tensor(precision), num_classes=LABELS)


def test_features_that_are_missing_or_do_not_fit_are_refused():
    logits, points = torch.randn(2, LABELS, 9), torch.randn(2, 4, 9)
    layer = points_crf()
    for given, message in (
        ({}, "the kernel looks at 'points', given are none"),
        ({"points": points[:1]}, "features 'points': shape"),
        ({"points": points[..., :8]}, "features 'points': shape"),
        ({"points": points.int()}, "features 'points': torch.int32"),
        ({"points": points[:, :3]}, "3 dimensions, must be 4"),
        ({"points": points / 0}, "features hold NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(logits, features=given)
    with pytest.raises(ValueError, match="BilateralPotential looks at it"):
        crf()(torch.randn(1, LABELS, 4, 4))
    spatial = {"spatial": SpatialPotential(1.0, 2.0, num_classes=LABELS)}
    with pytest.raises(ValueError, match="points have no grid"):
        DenseCRF(LABELS, potentials=spatial)(logits)


def test_any_number_of_kernels():
    logits, image = on_grid(3, 4)
    kernels = {
        "near": BilateralPotential(1.0, 1.0, 30.0, num_classes=LABELS),
        "far": BilateralPotential(2.0, 9.0, 50.0, num_classes=LABELS),
        "color": BilateralPotential(0.5, math.inf, 40.0, num_classes=LABELS),
    }
    layer = DenseCRF(LABELS, CRFConfig(iterations=3, filter="exact"), potentials=kernels).double().eval()
    place = positions((3, 4), dtype=F64, device=CPU).expand(2, -1, -1)
    color = image.flatten(2)
    features = [
        torch.cat([place, color / 30], 1),
        torch.cat([place / 9, color / 50], 1),
        color / 40,
    ]
    found = layer.marginals(logits, image)
    assert_close_to_rounded(found, by_reference(logits, features, [1.0, 2.0, 0.5]))
    assert {"w1", "far.w1", "far.theta_beta", "color.theta_alpha"} <= set(layer.parameters_by_name())


# one logit


def test_one_logit_is_two_classes_of_which_the_first_has_zero():
    layer = DenseCRF(2, CRFConfig(**SMALL, filter="exact")).double().eval()
    logit, image = on_grid(4, 5, labels=1)
    both = torch.cat([torch.zeros_like(logit), logit], dim=1)
    log_q = layer(both, image)
    found = layer(logit, image)
    assert_close(found, log_q[:, 1:] - log_q[:, :1], "layer", F64)
    assert_close(layer.marginals(logit, image), log_q[:, 1:].exp(), "layer", F64)
    assert torch.equal(layer.map(logit, image), log_q.argmax(1))
    assert_close(
        layer.free_energy(layer.marginals(logit, image), logit, image),
        layer.free_energy(log_q.exp(), both, image),
        "layer",
        F64,
    )
    extreme = layer(1e4 * logit.sign(), image)
    assert extreme.isfinite().all()


def test_150_classes():
    layer = DenseCRF(150, CRFConfig(**SMALL)).eval()
    q = layer.marginals(torch.randn(1, 150, 9, 8), 255 * torch.rand(1, 3, 9, 8))
    assert_close(q.sum(1), torch.ones(1, 9, 8), "layer", torch.float32)


# presets and names


def test_unary_weight_multiplies_the_logits():
    logits, image = on_grid(4, 5)
    assert_close(crf(unary_weight=0.7)(logits, image), crf()(0.7 * logits, image), "layer", F64)


def test_convcrf_preset_is_its_published_update():
    """(1 - w) U + w (10 K_color + 3 K_position) Q, w = 0.2; K is raw."""
    layer = DenseCRF.preset("convcrf", LABELS, w2=0.0, filter="local", first_step="softmax").double().eval()
    logits, image = on_grid(4, 5, batch=1)
    kernel = torch.exp(
        -0.5 * ((image.flatten(2).unsqueeze(-1) - image.flatten(2).unsqueeze(-2)) / 13).square().sum(1)
    )
    u = logits.flatten(2)
    q = (0.8 * u).softmax(1)
    for _ in range(5):
        q = (0.8 * u + 0.2 * 10 * q @ kernel).softmax(1)
    assert_close_to_rounded(layer.marginals(logits, image).flatten(2), q)
