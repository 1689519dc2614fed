"""Draws the README's first picture: a photo, a public DeepLab's labels of it, and the same behind the CRF."""

from pathlib import Path

import torch

from crfnet import DenseCRF, example_photo
from crfnet.photo import CLOSE_UP
from crfnet.report.before_after import before_after_figure, jpeg
from crfnet.report.closeup import Window

HERE = Path(__file__).parent


def main() -> None:
    """Write ``before_after.jpg`` beside this file."""
    image, logits, names = example_photo()
    crf = DenseCRF.preset("deeplab", num_classes=len(names)).eval()
    with torch.no_grad():
        after = crf.map(logits, image)
    maps = {"a public DeepLab": logits.argmax(1)[0], "the same + CRF": after[0]}
    figure = before_after_figure(image[0], maps, window=Window(*CLOSE_UP))
    (HERE / "before_after.jpg").write_bytes(jpeg(figure))


if __name__ == "__main__":
    main()
