"""A generated data set of tiny images of two colored halves, and noisy logits at stride 4 for it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from crfnet.data import Sample, SegmentationDataset
from crfnet.labels import VOC_PALETTE

CLASSES = 3


class TinyDataset(SegmentationDataset):
    def __init__(self, count: int = 4, size: tuple[int, int] = (12, 16)) -> None:
        self.name, self.classes, self.palette = "pictures", tuple("abc"), VOC_PALETTE[:CLASSES]
        self.ids = tuple(f"p{i}" for i in range(count))
        self.size = size

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        height, width = self.size
        border = int(torch.randint(3, width - 3, (), generator=generator))
        labels = torch.full((height, width), index % CLASSES)
        labels[:, border:] = (index + 1) % CLASSES
        labels[0] = 255
        noise = torch.randint(0, 20, (3, height, width), generator=generator)
        image = (labels.clamp(max=CLASSES - 1) * 60 + noise).to(torch.uint8)
        return Sample(self.ids[index], image, labels)


def noisy_logits(dataset: SegmentationDataset) -> Iterator[tuple[str, Tensor]]:
    for index, image_id in enumerate(dataset.ids):
        labels = dataset[index].labels.clamp(max=CLASSES - 1)
        generator = torch.Generator().manual_seed(100 + index)
        truth = torch.nn.functional.one_hot(labels, CLASSES).permute(2, 0, 1).float()
        low = torch.nn.functional.avg_pool2d(truth, 4)
        yield image_id, 2 * low + 0.7 * torch.randn(low.shape, generator=generator)
