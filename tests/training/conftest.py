"""A network, a data set and a configuration so small that a training step takes milliseconds."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import AugmentConfig, Sample, SegmentationDataset
from crfnet.domain_transform import DomainTransform, EdgeNet
from crfnet.segmenter import Segmenter
from crfnet.training import TrainConfig


class TinyNetwork(nn.Module):
    """Two convolutions with batch normalization and dropout between them: logits at stride 8."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, stride=8, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(nn.functional.dropout(self.norm(self.body(image)).relu(), 0.5, self.training))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {
            "backbone_weight": [self.body.weight, self.norm.weight],
            "backbone_bias": [self.body.bias, self.norm.bias],
            "head_weight": [self.head.weight],
            "head_bias": [self.head.bias],
        }


class TinyDataset(SegmentationDataset):
    """Random images whose label is the brightest channel; item ``dies_at`` of those asked for raises."""

    name = "tiny"
    classes = ("red", "green", "blue")
    palette = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    ids = ("a", "b", "c")

    def __init__(self, dies_at: int | None = None) -> None:
        self.asked, self.dies_at = 0, dies_at

    def __getitem__(self, index: int) -> Sample:
        if self.asked == self.dies_at:
            raise KeyboardInterrupt
        self.asked += 1
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, 3, 4), generator=generator)
        image = image.repeat_interleave(8, 1).repeat_interleave(8, 2).to(torch.uint8)
        return Sample(self.ids[index], image, image.long().argmax(0))


def tiny_segmenter(*, crf: bool = False, **changes: object) -> Segmenter:
    torch.manual_seed(1)
    config = dataclasses.replace(
        CRFConfig(iterations=2, train_iterations=2, filter=PermutohedralFilter(rows=16)), **changes
    )
    return Segmenter(TinyNetwork(), DenseCRF(3, config) if crf else None)


def tiny_segmenter_with_edges() -> Segmenter:
    """With a domain transform behind it whose edges are learned from the features of its first layer."""
    torch.manual_seed(1)
    network = TinyNetwork()
    return Segmenter(network, DomainTransform(edge_net=EdgeNet.behind(network, ["body"])))


def tiny_config(**changes: object) -> TrainConfig:
    default = TrainConfig(
        iterations=10,
        batch_size=2,
        augment=AugmentConfig(crop=(16, 24)),
        lr=1e-2,
        checkpoint_every=5,
        log_every=1,
        picture_every=0,
    )
    return dataclasses.replace(default, **changes)


def weights(model: Segmenter) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert not different, different


@pytest.fixture
def dataset() -> TinyDataset:
    return TinyDataset()
