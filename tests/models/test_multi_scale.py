"""DeepLab v2's three scales: where their positions lie, the maximum, the four losses, one set of weights."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crfnet.models import build_network
from crfnet.models.multi_scale import fused_by_max
from crfnet.segmenter import Segmenter, build_segmenter
from crfnet.training.config import TrainConfig
from crfnet.training.loss import stride_loss, training_loss
from tests.models.configs import model_config
from tests.tolerances import assert_close

TINY = {"backbone": "resnet18", "width": 0.125, "head": "aspp_s", "multi_scale": True}


def test_the_scales_share_their_weights() -> None:
    with torch.device("meta"):
        network = build_network(model_config(backbone="resnet101", multi_scale=True), num_classes=21)
    assert sum(parameter.numel() for parameter in network.parameters()) == 44_048_532


@pytest.mark.parametrize("align_corners", [True, False])
def test_321_pixels_give_maps_of_41_31_and_21_positions(align_corners: bool) -> None:
    sizes = []

    def network(image: Tensor) -> Tensor:
        sizes.append(tuple(image.shape[2:]))
        return F.max_pool2d(image, 1, 8, ceil_mode=True)

    maps = fused_by_max(network, torch.rand(1, 3, 321, 161), align_corners=align_corners)
    expected = [(321, 161), (241, 121), (161, 81)] if align_corners else [(321, 161), (240, 120), (160, 80)]
    assert sizes == expected
    assert [m.shape[2] for m in maps] == [41, 41, 41, sizes[2][0] // 8 + align_corners]


@pytest.mark.parametrize("size", [(65, 129), (60, 75), (100, 57)])
def test_positions_of_all_scales_lie_on_the_same_pixels(size: tuple[int, int]) -> None:
    """A ramp, sampled every eighth pixel of its own image, is the same ramp on every scale."""
    rows, columns = (torch.arange(float(n)) for n in size)
    image = torch.stack([rows[:, None] + 0 * columns, 0 * rows[:, None] + columns, rows[:, None] - columns])
    batch = torch.stack([image, -image])
    fused, whole, middle, half = fused_by_max(lambda x: x[:, :, ::8, ::8], batch, align_corners=True)
    assert torch.equal(whole, batch[:, :, ::8, ::8])
    inner = (..., slice(-1), slice(-1))  # the last position may lie beyond those of a smaller map
    # The last position of a smaller map may lie up to a pixel short of the one it is taken for.
    torch.testing.assert_close(middle[inner], whole[inner], atol=1.0, rtol=0)
    torch.testing.assert_close(fused[inner], whole[inner], atol=1.0, rtol=0)
    assert half.shape[2] <= -(-size[0] // 16) + 1
    if size == (65, 129):
        torch.testing.assert_close(middle, whole)
        torch.testing.assert_close(fused, whole)


@pytest.mark.parametrize("align_corners", [True, False])
@torch.no_grad()
def test_the_largest_score_counts(align_corners: bool) -> None:
    network = build_network(model_config(**(TINY | {"align_corners": align_corners})), num_classes=3).eval()
    single = build_network(model_config(**(TINY | {"multi_scale": False})), num_classes=3).eval()
    single.load_state_dict(network.state_dict())
    image = torch.randn(2, 3, 65, 97)
    sizes = [(49, 73), (33, 49)] if align_corners else [(48, 72), (32, 48)]
    maps = [single(image)]
    for size in sizes:
        small = F.interpolate(image, size, mode="bilinear", align_corners=align_corners)
        maps.append(F.interpolate(single(small), (9, 13), mode="bilinear", align_corners=align_corners))
    assert_close(network(image), torch.stack(maps).amax(0), "exact", torch.float32)
    assert not torch.equal(network(image), maps[0])


@pytest.mark.parametrize("loss", ["stride", "image"])
def test_training_adds_four_losses(loss: str) -> None:
    torch.manual_seed(3)
    model = build_segmenter(model_config(**TINY), 3).eval()
    image = torch.randint(0, 256, (2, 3, 65, 65), dtype=torch.uint8)
    labels = torch.randint(0, 3, (2, 65, 65))
    fused, whole, middle, half = model.network.all_logits(model.normalized(image))
    assert half.shape[2:] == (5, 5)
    four = sum(stride_loss(scores, labels) for scores in (fused, whole, middle, half))
    config = TrainConfig(loss=loss, unary_loss=0.5 if loss == "image" else 0.0)
    single = F.cross_entropy(model(image), labels)
    expected = four if loss == "stride" else single + 0.5 * four
    assert_close(training_loss(model, image, labels, config), expected, "exact", torch.float32)


def test_other_networks_have_one_loss() -> None:
    model = Segmenter(torch.nn.Conv2d(3, 3, 3, 8, padding=1))
    image = torch.randint(0, 256, (2, 3, 17, 17), dtype=torch.uint8)
    (scores,) = model.all_logits(image)
    assert torch.equal(scores, model.strided_logits(image))


@pytest.mark.parametrize(
    "changes", [{}, {"batch_norm": "frozen"}, {"backbone": "vgg16", "head": "large_fov"}]
)
def test_one_image_is_learned(changes: dict[str, object]) -> None:
    model = build_segmenter(model_config(**(TINY | {"dropout": 0.0} | changes)), 3).train()
    image = torch.randint(0, 128, (2, 3, 33, 33), dtype=torch.uint8)
    image[..., 17:] += 128
    labels = (image[:, 0] > 127).long()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(25):
        loss = training_loss(model, image, labels, TrainConfig())
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
