"""Networks that take some sizes only, at every size."""

import logging

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.crf.layer import DenseCRF
from crfnet.errors import InputError
from crfnet.evaluation.inference import PredictConfig, TiledInference
from crfnet.network_size import evaluating, explained
from crfnet.segmenter import Segmenter, check_image


class UNet(nn.Module):
    """Halves ``depth`` times; adds what was not halved."""

    def __init__(self, depth: int = 3, *, skip: bool = True, norm: bool = False) -> None:
        super().__init__()
        self.depth, self.skip = depth, skip
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.first(image))
        scales = [x]
        for _ in range(self.depth):
            scales.append(F.max_pool2d(scales[-1], 2))
        x = scales.pop()
        while scales:
            x = F.interpolate(x, scale_factor=2)
            x = x + scales.pop() if self.skip else (scales.pop() is None) or x
        return self.last(x)


class Patches(nn.Module):
    """A transformer's: patches of 14 pixels, and an assertion."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 5, 14, 14)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        assert image.shape[2] % 14 == 0, "rows are no multiple of the patch"
        assert image.shape[3] % 14 == 0, "columns are no multiple of the patch"
        return {"out": self.embed(image)}


def photo(rows: int, columns: int, batch: int = 1) -> Tensor:
    return torch.randint(0, 256, (batch, 3, rows, columns), dtype=torch.uint8)


def padded(segmenter: Segmenter, image: Tensor, multiple: int) -> Tensor:
    rows, columns = image.shape[2:]
    right, below = -columns % multiple, -rows % multiple
    return F.pad(segmenter.normalized(image), (0, right, 0, below), mode="replicate")


@pytest.mark.parametrize(("rows", "columns"), [(33, 41), (31, 31), (1, 7), (64, 65), (100, 1)])
@pytest.mark.parametrize("depth", [1, 3, 5])
@torch.no_grad()
def test_u_nets_at_any_size(rows: int, columns: int, depth: int) -> None:
    segmenter, image = Segmenter(UNet(depth)), photo(rows, columns)
    expected = segmenter.network(padded(segmenter, image, 2**depth))[:, :, :rows, :columns]
    assert torch.equal(segmenter(image), expected)
    assert torch.equal(segmenter.strided_logits(image), expected)
    assert segmenter.size.multiple == 2**depth


@torch.no_grad()
def test_no_padding_where_none_is_needed(caplog: pytest.LogCaptureFixture) -> None:
    segmenter, image = Segmenter(UNet(3)), photo(64, 24)
    with caplog.at_level(logging.INFO, "crfnet"):
        assert torch.equal(segmenter(image), segmenter.network(segmenter.normalized(image)))
        assert not caplog.records
        segmenter(photo(64, 25))
        segmenter(photo(64, 26))
    assert [record.getMessage() for record in caplog.records] == [
        "the network needs multiples of 8 pixels: images are padded, logits cropped"
    ]


@torch.no_grad()
def test_a_network_that_returns_another_size_is_padded() -> None:
    """Without a skip nothing fails: 33 rows come back as 32."""
    segmenter = Segmenter(UNet(3, skip=False))
    assert segmenter(photo(33, 41)).shape == (1, 5, 33, 41)
    assert segmenter.size.multiple == 8


@torch.no_grad()
def test_strided_logits_of_a_padded_image_lie_where_they_belong() -> None:
    segmenter, image = Segmenter(Patches()), photo(33, 50)
    coarse = segmenter.network(padded(segmenter, image, 14))["out"]
    assert coarse.shape == (1, 5, 3, 4)
    expected = F.interpolate(coarse, (42, 56), mode="bilinear")[:, :, :33, :50]
    torch.testing.assert_close(segmenter(image), expected)
    assert segmenter.size.multiple == 14


def test_given_multiple() -> None:
    calls: list[tuple[int, ...]] = []

    class Network(UNet):
        def forward(self, image: Tensor) -> Tensor:
            calls.append(tuple(image.shape))
            return super().forward(image)

    segmenter = Segmenter(Network(2), multiple=16)
    assert segmenter(photo(17, 30, 2)).shape == (2, 5, 17, 30)
    assert calls == [(2, 3, 32, 32)]
    with pytest.raises(InputError, match="multiple is 0, must be at least 1"):
        Segmenter(Network(), multiple=0)
    with pytest.raises(RuntimeError, match="size of tensor"):
        Segmenter(Network(), multiple=1)(photo(17, 30))


def test_trials_leave_no_trace() -> None:
    """Statistics of batches are of the images alone, and the modes stay."""
    network = UNet(3, norm=True).train()
    network.last.eval()
    segmenter = Segmenter(network)
    segmenter(photo(33, 41, 2)).sum().backward()
    assert network.norm.num_batches_tracked == 2  # the refused image, and the padded one
    assert network.training
    assert not network.last.training
    assert network.first.weight.grad.any()


def test_other_errors_stay() -> None:
    class Broken(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise RuntimeError("no such weight")

    class OutOfMemory(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("of this image")

    class TrainsOnPairs(UNet):
        def forward(self, image: Tensor) -> Tensor:
            if self.training:
                raise ValueError("Expected more than 1 value per channel when training")
            return super().forward(image)

    for network, words in (
        (Broken(), "no such weight"),
        (OutOfMemory(), "of this"),
        (TrainsOnPairs(0), "more than 1"),
    ):
        segmenter = Segmenter(network)
        with pytest.raises((RuntimeError, ValueError), match=words):
            segmenter(photo(33, 41))
        assert segmenter.size.multiple == 1


def test_cut_borders_are_named() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 5))
    words = r"network: returned logits of shape \(1, 5, 34, 44\) for an image of 40 x 50 .* cuts borders off"
    with pytest.raises(ValueError, match=words) as caught:
        Segmenter(network)(photo(40, 50))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"shape \(5, 40, 50\) for an image of 40 x 50"):
        Segmenter(Flat())(photo(40, 50))


def test_an_array_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match=r"image: a ndarray, must be a tensor: torch.from_numpy\(image\)"):
        check_image(photo(4, 5).numpy())


class Flat(nn.Module):
    """Forgets the batch."""

    def forward(self, image: Tensor) -> Tensor:
        return image.new_zeros(5, *image.shape[2:])


def test_what_explains_a_size() -> None:
    for size in (1, 2, 33, 321, 513):
        for stride in (1, 2, 4, 8, 14, 16, 32):
            assert explained(size, -(-size // stride))
            assert size < stride or explained(size, size // stride)
        assert explained(size, 2 * size)
    assert explained(321, 41)
    assert explained(96, 13)  # one more, of a pool that looks beyond the image
    assert not any(explained(572, count) for count in (0, 388, 570, 571, 573, 1000))


@torch.no_grad()
def test_with_tiles_scales_and_a_crf() -> None:
    segmenter = Segmenter(UNet(3), DenseCRF.preset("deeplab", 5, iterations=1)).eval()
    config = PredictConfig(scales=(0.75, 1.0), mirror=True, tile=64, overlap=32)
    assert TiledInference(segmenter, config)(photo(71, 90)).shape == (1, 5, 71, 90)


class Dense(nn.Module):
    """Of another stride in evaluation mode, as DeepLab v3 may be."""

    def __init__(self) -> None:
        super().__init__()
        self.stride, self.norm, self.frozen = 16, nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.frozen.eval()

    def train(self, mode: bool = True) -> "Dense":
        self.stride = 16 if mode else 8
        return super().train(mode)


@pytest.mark.parametrize("mode", [True, False])
def test_after_a_trial_every_module_is_as_it_was(mode: bool) -> None:
    network = nn.Sequential(Dense(), nn.Identity())
    network[0].train(mode)
    network[0].frozen.eval()
    before = [each.training for each in network.modules()]
    with evaluating(network):
        assert not any(each.training for each in network.modules())
        assert network[0].stride == 8
    assert [each.training for each in network.modules()] == before
    assert network[0].stride == (16 if mode else 8)
