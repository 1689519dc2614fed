"""The compiled loop's wrapper: lattices that are built once give what each call builds for itself."""

import torch

from crfnet.crf.inference.label_by_label import GridKernel, LatticeKernel, mean_field
from crfnet.kernels.cpu import lattice


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
