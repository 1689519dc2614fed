"""PASCAL VOC 2012, and any other data set in the layout of its folders."""

from crfnet.data.config import DataConfig
from crfnet.data.dataset import SegmentationDataset, Split
from crfnet.data.file_dataset import FileDataset, MaskFiles, label_table
from crfnet.data.id_lists import existing_root, read_ids
from crfnet.labels import DATASET_CLASSES

__all__ = ["AUG_MASKS", "IMAGES", "LISTS", "MASKS", "voc", "voc_layout"]

IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
AUG_MASKS = "SegmentationClassAug"  #: masks of SBD beside VOC's own, as `crfnet data voc-aug` writes them


def voc(config: DataConfig, split: Split) -> SegmentationDataset:
    """PASCAL VOC 2012 segmentation: background and 20 classes, 255 = void (Everingham et al., IJCV 2010).

    A mask is read from ``SegmentationClass``, or where that has none from ``SegmentationClassAug``: so
    trainaug needs no other setting than its list, and an image that VOC labeled itself is never trained on
    or scored with a mask of SBD, which has no void.
    """
    return voc_layout("voc", config, split, len(DATASET_CLASSES["voc"].names), masks=(MASKS, AUG_MASKS))


def voc_layout(
    name: str,
    config: DataConfig,
    split: Split,
    num_classes: int,
    *,
    masks: tuple[str, ...] = (MASKS,),
    also_void: tuple[int, ...] = (),
) -> FileDataset:
    """Images and label maps in the folders of PASCAL VOC.

    ``JPEGImages/<id>.jpg`` (or ``.png``; the jpg is read if both are there), ``SegmentationClass/<id>.png``
    (palette image, whose index plane is the label map, or 8-bit gray image of labels) and
    ``ImageSets/Segmentation/<list>.txt`` (one id a line; empty lines are skipped). No image is opened yet.

    Args:
        name: Short name for logs and messages.
        config: ``root`` is the folder; ``train`` and ``val`` name the lists.
        split: Which of the two lists.
        num_classes: Number of labels in the masks.
        masks: Folders of the masks, the first that has one is used.
        also_void: Labels in the files, beside 255, that mean void.

    Raises:
        InputError: No root, a folder or list that does not exist, an empty list, an id that is not the bare
            name of a file or stands in the list twice.
    """
    root = existing_root(name, config.root, IMAGES, MASKS, LISTS)
    table = label_table(num_classes, also_void)
    return FileDataset(
        name,
        root,
        read_ids([root / LISTS], config.train if split == "train" else config.val),
        config,
        images=tuple(f"{IMAGES}/{{id}}{ending}" for ending in (".jpg", ".png")),
        masks=tuple(MaskFiles(f"{folder}/{{id}}.png", table) for folder in masks),
    )
