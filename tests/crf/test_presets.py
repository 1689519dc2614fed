"""Every preset as the update of the code that it is named after, on matrices written out."""

import math

import pytest
import torch
from torch import Tensor

from crfnet.crf import CRFConfig, DenseCRF, FeaturePotential, SpatialPotential
from crfnet.crf.features import bilateral_features, spatial_features
from crfnet.crf.filters import LocalFilter, PermutohedralFilter
from crfnet.crf.reference import kernel_matrix, local_matrix, permutohedral_matrix
from crfnet.errors import InputError
from tests.tolerances import assert_close, relative_l2

F64 = torch.float64
CPU = torch.device("cpu")
LABELS, GRID = 3, (6, 7)


def example(*grid: int) -> tuple[Tensor, Tensor]:
    """Logits, and an image of two colors with noise."""
    logits = 2 * torch.randn(1, LABELS, *grid, dtype=F64)
    image = (
        60.0 + 90.0 * (torch.arange(grid[1]) > grid[1] // 2).to(F64) + 8 * torch.randn(1, 3, *grid, dtype=F64)
    )
    return logits, image


def lattice(features: Tensor) -> Tensor:
    return permutohedral_matrix(features[0]).unsqueeze(0)


def positions_over(theta: float, grid: tuple[int, ...]) -> Tensor:
    return spatial_features(*grid, theta, dtype=F64, device=CPU)


def scaled(kernel: Tensor, normalization: str) -> Tensor:
    sums = kernel.sum(-1, keepdim=True)
    return {"after": kernel / sums, "symmetric": kernel / (sums * sums.mT).sqrt()}[normalization]


def answers(name: str, logits: Tensor, image: Tensor) -> list[Tensor]:
    """Through the operators, and where a CPU has one through the compiled loop."""
    layer = DenseCRF.preset(name, LABELS).double().eval()
    with torch.no_grad():
        without = layer.marginals(logits, image).flatten(2)
    return [layer.marginals(logits, image).detach().flatten(2), without]


def by_reference(logits: Tensor, kernels: list[tuple[float, Tensor]], steps: int) -> Tensor:
    """Potts: ``Q <- softmax(U + sum_m w_m K_m Q)``."""
    u = logits.flatten(2)
    q = u.softmax(1)
    for _ in range(steps):
        q = (u + sum(w * q @ kernel.mT for w, kernel in kernels)).softmax(1)
    return q


def check(found: list[Tensor], expected: Tensor) -> None:
    for each in found:  # the weights and widths of a module are rounded to float32
        assert_close(each.float(), expected.float(), "layer", torch.float32)


def test_deeplab() -> None:
    """The lattice for the bilateral kernel; the spatial one is exact."""
    logits, image = example(*GRID)
    bilateral = scaled(lattice(bilateral_features(image, 49.0, 5.0)), "after")
    spatial = scaled(kernel_matrix(positions_over(3.0, GRID)), "after")
    check(
        answers("deeplab", logits, image),
        by_reference(logits, [(4.0, bilateral), (3.0, spatial)], 10),
    )


@pytest.mark.parametrize(
    ("name", "bilateral", "weights", "normalization", "steps"),
    [
        ("crfasrnn", (160.0, 3.0), (5.0, 3.0), "after", 10),
        ("pydensecrf", (80.0, 13.0), (10.0, 3.0), "symmetric", 5),
    ],
)
def test_crfasrnn_and_pydensecrf_filter_positions_on_a_lattice_too(
    name: str, bilateral: tuple[float, float], weights: tuple[float, float], normalization: str, steps: int
) -> None:
    logits, image = example(*GRID)
    kernels = [bilateral_features(image, *bilateral), positions_over(3.0, GRID)]
    matrices = [scaled(lattice(features), normalization) for features in kernels]
    expected = by_reference(logits, list(zip(weights, matrices, strict=True)), steps)
    check(answers(name, logits, image), expected)
    exact = scaled(kernel_matrix(kernels[1]), normalization)
    other = by_reference(logits, [(weights[0], matrices[0]), (weights[1], exact)], steps)
    assert relative_l2(other, expected) > 2e-4  # what a separable convolution would give


@pytest.mark.parametrize("grid", [(8, 12), (9, 11), (10, 5)])
def test_convcrf(grid: tuple[int, int]) -> None:
    """(1 - w) U + w (10 K_color + 3 K_position) Q, w = 0.2; both kernels raw, on cells of 4 x 4 pixels.

    Cells reach beyond the image on both sides; the first step filters log-probabilities.
    """
    logits, image = example(*grid)
    color = local_matrix(image.flatten(2) / 13, grid, 11, 4, centered=True)
    place = local_matrix(positions_over(3.0, grid), grid, 11, 4, centered=True)
    kernel = 10 * color + 3 * place
    log_u = logits.flatten(2).log_softmax(1)
    q = log_u
    for _ in range(5):
        q = (0.8 * log_u + 0.2 * q @ kernel.mT).softmax(1)
    check(answers("convcrf", logits, image), q)


def test_the_first_step_of_convcrf_can_be_left_out_and_traced() -> None:
    logits, image = example(*GRID)
    layer = DenseCRF.preset("convcrf", LABELS, first_step="softmax", iterations=1).double().eval()
    kernel = 2 * local_matrix(image.flatten(2) / 13, GRID, 11, 4, centered=True) + 0.6 * local_matrix(
        positions_over(3.0, GRID), GRID, 11, 4, centered=True
    )
    u = 0.8 * logits.flatten(2)
    check([layer.marginals(logits, image).detach().flatten(2)], (u + u.softmax(1) @ kernel.mT).softmax(1))
    layer = DenseCRF.preset("convcrf", LABELS).double().eval()
    steps: list[Tensor] = []
    log_q = layer(logits, image, trace=steps)
    assert len(steps) == 6
    assert torch.equal(steps[0].flatten(2), u.softmax(1))
    assert_close(steps[-1], log_q.exp(), "exact", F64)
    still = DenseCRF.preset("convcrf", LABELS, iterations=0).double().eval()
    assert_close(still(logits, image).flatten(2), u.log_softmax(1), "exact", F64)


def test_gradients_flow_through_the_first_step() -> None:
    logits, image = example(4, 5)
    layer = DenseCRF.preset("convcrf", LABELS, train_iterations=2).double().train()
    assert torch.autograd.gradcheck(lambda x: layer(x, image), (logits.requires_grad_(),))


@pytest.mark.parametrize("spatial", ["separable", "permutohedral", "local"])
def test_spatial_kernel_by_every_filter_in_a_batch_with_a_mask(spatial: str) -> None:
    """Each image as it is alone; without an image, too; the width learns."""
    config = CRFConfig(w1=0.0, theta_gamma=1.5, spatial=spatial, iterations=2, train_iterations=2)  # type: ignore[arg-type]
    layer = DenseCRF(LABELS, config).double().eval()
    logits = torch.randn(2, LABELS, 6, 7, dtype=F64)
    mask = torch.zeros(2, 6, 7, dtype=torch.bool)
    mask[0, :4, :5], mask[1] = True, True
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            both = layer(logits, mask=mask)
            assert_close(both[:1, :, :4, :5], layer(logits[:1, :, :4, :5]), "layer", F64)
            assert_close(both[1:], layer(logits[1:]), "layer", F64)
    layer.train()(logits).exp()[:, 0].sum().backward()
    width = layer.potentials["spatial"].log_theta_gamma
    assert isinstance(width, Tensor)
    assert width.grad is not None
    assert width.grad != 0


def test_filter_of_the_spatial_kernel() -> None:
    assert CRFConfig().build_spatial_filter() is None
    assert CRFConfig(spatial="local").build_spatial_filter() == LocalFilter()
    own = LocalFilter(window=5, pool=2)
    assert CRFConfig(spatial="local", filter=own).build_spatial_filter() == own
    assert CRFConfig(spatial="permutohedral", filter=own).build_spatial_filter() == PermutohedralFilter()
    rows = PermutohedralFilter(rows=7)
    assert CRFConfig(spatial="permutohedral", filter=rows).build_spatial_filter() == rows
    spatial = DenseCRF(LABELS, CRFConfig(spatial="local", filter=own)).potentials["spatial"]
    assert isinstance(spatial, SpatialPotential)
    assert spatial.filter == own


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match=r"crf.prune is 0.1, must be 0 with first_step log_softmax"):
        CRFConfig(prune=0.1, first_step="log_softmax")
    assert math.isinf(DenseCRF.preset("convcrf", LABELS).config.theta_alpha)


def test_monai_s_update_by_the_recipe() -> None:
    """softmax(x + factor (w_b N(K_b Q) + w_g N(K_g Q))), coordinates with rows first, a guide in 0..1."""
    logits, image = example(*GRID)
    rows, columns = torch.meshgrid(*(torch.arange(float(n), dtype=F64) for n in GRID), indexing="ij")
    place = torch.stack([rows.flatten(), columns.flatten()]).unsqueeze(0)
    guide = image.flatten(2) / 255
    bilateral = scaled(lattice(torch.cat([place / 5, guide / 0.5], 1)), "after")
    gaussian = scaled(lattice(place / 5), "after")
    expected = by_reference(logits, [(3 * 1.0, bilateral), (3 * 1.0, gaussian)], 5)
    config = CRFConfig(
        w1=3.0,
        theta_alpha=5.0,
        theta_beta=127.5,
        w2=3.0,
        theta_gamma=5.0,
        spatial="permutohedral",
        iterations=5,
    )
    with torch.no_grad():
        found = DenseCRF(LABELS, config).double().eval().marginals(logits.mT, image.mT).mT.flatten(2)
    check([found], expected)


def test_nfwcrf_s_update_by_the_recipe() -> None:
    """u - C (W_s K_s x + W_b K_b x), C = -I, on an image normalized by ImageNet's statistics."""
    logits, image = example(*GRID)
    mean, deviation = (
        torch.tensor(x, dtype=F64).view(3, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    normalized = (image.flatten(2) / 255 - mean) / deviation
    place = positions_over(1.0, GRID)
    seen = torch.cat([place / 160, normalized / 0.05], 1)
    bilateral, spatial = scaled(lattice(seen), "after"), scaled(lattice(place / 3), "after")
    expected = by_reference(logits, [(1.0, bilateral), (1.0, spatial)], 5)
    potentials = {
        "bilateral": FeaturePotential(1.0, [1.0] * 5, source="seen", num_classes=LABELS),
        "spatial": SpatialPotential(1.0, 3.0, filter=PermutohedralFilter(), num_classes=LABELS),
    }
    layer = DenseCRF(LABELS, CRFConfig(iterations=5), potentials=potentials).double().eval()
    check([layer.marginals(logits, image, features={"seen": seen}).detach().flatten(2)], expected)
