"""The lattice as a GPU builds it, without a wait but one: on a CPU it is the lattice that a CPU builds."""

import pytest
import torch

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.filters.permutohedral import lattice as lattice_module
from crfnet.crf.filters.permutohedral.lattice import build_lattice
from crfnet.crf.filters.permutohedral.simplices import _strides
from tests.tolerances import assert_close


@pytest.fixture
def without_waits(monkeypatch):
    monkeypatch.setattr(lattice_module, "_waits", lambda device: True)


def tables(lattice):
    return [
        x
        for part in (lattice.splat, *lattice.blurs, lattice.slice)
        for x in (part.indices, part.offsets, part.weights)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 17), (3, 5, 40), (1, 2, 300), (2, 9, 11)])
def test_same_lattice(shape, dtype, monkeypatch):
    features = (2 * torch.randn(shape)).to(dtype)
    expected = build_lattice(features.double())
    monkeypatch.setattr(lattice_module, "_waits", lambda device: True)
    for one, other in zip(tables(build_lattice(features)), tables(expected), strict=True):
        if one.is_floating_point():
            assert_close(one, other, "lattice", dtype)
        else:
            assert torch.equal(one, other)


def test_same_lattice_of_far_points_and_of_photos(without_waits):
    """Codes beyond 63 bits; many points on one corner; a batch in which one image is constant."""
    far = torch.randint(0, 1000, (1, 8, 6)).double() * 1e6
    far = torch.cat([far, far + 0.2 * torch.randn(1, 8, 6, dtype=torch.float64)], dim=2)
    photo = bilateral_features(torch.rand(2, 3, 9, 8, dtype=torch.float64) * 30 + 100, 20.0, 12.0)
    photo[1, 2:] = 3.0
    for features in (far, photo):
        values = torch.randn(features.shape[0] * features.shape[2], 2, dtype=torch.float64)
        found = build_lattice(features)(values)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lattice_module, "_waits", lambda device: False)
            assert_close(found, build_lattice(features)(values), "lattice", torch.float64)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (float("nan"), "features hold NaN or infinity"),
        (float("inf"), "features hold NaN or infinity"),
        (-float("inf"), "features hold NaN or infinity"),
        (-1e13, r"features reach 1e\+13 bandwidths; the lattice takes up to 1e\+12"),
    ],
)
@pytest.mark.parametrize("dimensions", [1, 4])
def test_same_refusals(bad, message, dimensions, without_waits):
    features = torch.randn(2, dimensions, 9)
    features[1, 0, 3] = bad
    with pytest.raises(ValueError, match=message):
        PermutohedralFilter().operator(features)
    placed, _ = lattice_module._placed(features)  # on a GPU, garbage here would be an index out of bounds
    assert placed.abs().max() <= 1e12


@pytest.mark.parametrize(
    ("extents", "batch", "expected"),
    [
        ([0, 3, 10], 2, [5 * 8 * 15, 8 * 15, 15, 1]),
        ([2**31 - 5, 2**30 - 5], 2, [2**61, 2**30, 1]),
        ([2**31 - 5, 2**30 - 5], 3, None),
        ([2**16 - 5] * 5, 1, None),
        ([10**12] * 40, 1, None),
    ],
)
def test_codes_beyond_62_bits_are_hashed(extents, batch, expected):
    """Products that overflow would lose digits, some all of them: a power of 2 wraps to 0."""
    strides = _strides(torch.tensor(extents), batch).tolist()
    if expected is None:
        assert strides[-1] == 1
        assert min(map(abs, strides[:-1])) > 2**40
        assert len({stride % 256 for stride in strides}) > min(len(strides) // 2, 2)
    else:
        assert strides == expected


def test_too_many_points_are_refused():
    many = torch.zeros(1, 1, 1, device="meta").expand(1, 3, 2**29)
    with pytest.raises(
        ValueError, match=r"features make 2147483648 entries of one table; .* fewer than 2\^31"
    ):
        build_lattice(many)
