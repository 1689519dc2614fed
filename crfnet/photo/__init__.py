"""A photograph with a public network's logits of it, for first tries and examples; see LICENSE.md.

Numpy alone reads it, and nothing is imported that needs the extra `cli`.
"""

from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch

from crfnet.resize import resize_logits
from crfnet.shapes import Image, Logits

__all__ = ["CLOSE_UP", "ExamplePhoto", "example_photo"]

#: Hair, neck and collar: rows from, columns from, height and width of a part worth a closer look.
CLOSE_UP = (31, 136, 183, 183)


class ExamplePhoto(NamedTuple):
    """An image and what a network says of it.

    Attributes:
        image: (1, 3, 512, 512) uint8, RGB.
        logits: (1, 21, 512, 512), the network's (1, 21, 33, 33) resized to the image.
        names: of the 21 classes, PASCAL VOC's.
    """

    image: Image
    logits: Logits
    names: tuple[str, ...]


def example_photo() -> ExamplePhoto:
    """NASA's portrait of the astronaut Eileen Collins with the logits of a DeepLab v3 on MobileNetV2.

    The network sees a person, and a bottle where a model of the shuttle stands.
    """
    with (files("crfnet.photo") / "astronaut.npz").open("rb") as stream, np.load(stream) as arrays:
        pixels, scores = (torch.from_numpy(arrays[name]) for name in ("image", "scores"))
        names = tuple(map(str, arrays["names"]))
    image = pixels.permute(2, 0, 1)[None].contiguous()
    size = (image.shape[2], image.shape[3])
    # The network's input was stretched to 513 x 513, with corners aligned.
    return ExamplePhoto(image, resize_logits(scores[None], size, align_corners="stretch"), names)
