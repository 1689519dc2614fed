"""A small folder in the layout of PASCAL VOC."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crfnet.labels import VOC_PALETTE


class VocWriter:
    """Writes images, masks and lists into ``root``; every file can be replaced by a broken one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (root / folder).mkdir(parents=True)

    def mask_path(self, image_id: str) -> Path:
        return self.root / "SegmentationClass" / f"{image_id}.png"

    def image_path(self, image_id: str, ending: str = "png") -> Path:
        return self.root / "JPEGImages" / f"{image_id}.{ending}"

    def list(self, name: str, text: str) -> Path:
        path = self.root / "ImageSets/Segmentation" / f"{name}.txt"
        path.write_text(text)
        return path

    def image(self, image_id: str, pixels: np.ndarray, ending: str = "png") -> None:
        Image.fromarray(pixels.astype(np.uint8)).save(self.image_path(image_id, ending))

    def mask(self, image_id: str, labels: np.ndarray, mode: str = "P") -> None:
        mask = Image.fromarray(labels.astype(np.uint8))
        if mode == "P":
            mask.putpalette([part for color in VOC_PALETTE for part in color])
        mask.save(self.mask_path(image_id))


@pytest.fixture
def voc_writer(tmp_path: Path) -> Callable[..., VocWriter]:
    """``voc_writer("a", "b")``: a valid folder; train and val list these ids; images are 7 x 5 pixels."""

    def write(*ids: str) -> VocWriter:
        writer = VocWriter(tmp_path / "voc")
        for place, image_id in enumerate(ids):
            writer.image(image_id, np.full((5, 7, 3), 10 * place))
            writer.mask(image_id, np.full((5, 7), place))
        for name in ("train", "val"):
            writer.list(name, "".join(f"{image_id}\n" for image_id in ids))
        return writer

    return write
