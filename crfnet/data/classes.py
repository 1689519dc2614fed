"""Names and colors of the labels of every data set, without a look at its files."""

from collections.abc import Callable

from crfnet.data.camvid import CAMVID
from crfnet.data.cityscapes import CITYSCAPES
from crfnet.data.context import CONTEXT
from crfnet.data.dataset import Color, DataConfig, palette
from crfnet.data.person_part import PERSON_PARTS
from crfnet.data.shapes_toy import TOY_CLASSES
from crfnet.data.voc import VOC_CLASSES

__all__ = ["KNOWN", "Classes", "classes_of"]

Classes = tuple[tuple[str, ...], tuple[Color, ...]]  #: names and colors of class 0, 1, ...

#: By the name of the data set; all but ``folders``, whose classes are the user's.
KNOWN: dict[str, Callable[[], Classes]] = {
    "toy": lambda: (TOY_CLASSES, palette(len(TOY_CLASSES))),
    "voc": lambda: (VOC_CLASSES, palette(len(VOC_CLASSES))),
    "camvid": lambda: (tuple(CAMVID), tuple(CAMVID.values())),
    "cityscapes": lambda: (
        tuple(each.name for each in CITYSCAPES),
        tuple(each.color for each in CITYSCAPES),
    ),
    "context": lambda: (("background", *CONTEXT), palette(1 + len(CONTEXT))),
    "context59": lambda: (tuple(CONTEXT), palette(1 + len(CONTEXT))[1:]),
    "person_part": lambda: (tuple(PERSON_PARTS), palette(len(PERSON_PARTS))),
}


def classes_of(config: DataConfig) -> Classes:
    """What a `SegmentationDataset` of this config has as ``classes`` and ``palette``; no file is needed."""
    if config.name == "folders":
        return config.classes, palette(len(config.classes))
    return KNOWN[config.name]()
