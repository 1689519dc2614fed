"""One class alone: where it is, and what the CRF gave it and took from it."""

import torch

from crfnet.labels import Color, as_rgb
from crfnet.shapes import ImageBytes, LabelMap, Picture

__all__ = ["CHANGES", "class_view"]

_GAINED, _LOST = (0, 158, 115), (213, 94, 0)
CHANGES: dict[str, Color] = {"gained by the CRF": _GAINED, "lost": _LOST}  #: for the legend
_SHADE = 0.2  #: of its gray value is left of a pixel of other classes


def class_view(
    image: ImageBytes, labels: LabelMap, label: int, opacity: float, before: LabelMap | None = None
) -> Picture:
    """Show the image where a class is, and dark and gray elsewhere.

    Args:
        image: of any channels; shown as RGB.
        labels: what is shown.
        label: the class.
        opacity: of the darkness and of the colors, 0..1.
        before: if given, what the class gained since is green and what it lost is orange (see `CHANGES`).
    """
    picture = as_rgb(image).float()
    there = labels == label
    target = torch.where(there, picture, _SHADE * picture.mean(0, keepdim=True))
    if before is not None:
        for where, color in ((there & (before != label), _GAINED), (~there & (before == label), _LOST)):
            target = torch.where(where, torch.tensor(color, dtype=torch.float32)[:, None, None], target)
    share = 1 - (1 - opacity) ** 2  # a half is dark enough to see the class alone
    return torch.lerp(picture, target, share).round().byte()
