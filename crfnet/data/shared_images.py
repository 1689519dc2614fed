"""Images that two sets share: told by their pixels, whatever their names."""

from collections.abc import Iterable, Sequence

from crfnet.data.dataset import SegmentationDataset

__all__ = ["shared_images", "shared_images_line"]

_SHOWN = 5  #: ids that a line names


def shared_images(dataset: SegmentationDataset, ids: Iterable[str], others: Iterable[str]) -> list[str]:
    """Those of the images `ids` of a data set whose pixels are those of another set's images.

    Args:
        dataset: its images are read once, by its `check` if that was first.
        ids: some of its own, in the order of the answer.
        others: digests of the other set's images, of its `image_digests`.
    """
    known = set(others)
    return [image_id for image_id in ids if dataset.image_digests[image_id] in known]


def shared_images_line(shared: Sequence[str], number: int, what: str, other: str) -> str:
    """Say that scores on new images were promised and are none; empty where no image is shared.

    Args:
        shared: ids, see `shared_images`.
        number: of all images among which they are.
        what: they are, as "validation images".
        other: what they are as well, as "trained on".
    """
    if not shared:
        return ""
    dots = ", ..." if len(shared) > _SHOWN else ""
    return (
        f"{len(shared)} of the {number} {what} are {other}, too ({', '.join(shared[:_SHOWN])}{dots}): "
        "scores on them say nothing about new images"
    )
