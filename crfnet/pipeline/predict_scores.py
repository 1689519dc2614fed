"""Label maps of cached scores: which scores and images belong together is known before the work."""

from tqdm import tqdm

from crfnet.errors import InputError, require
from crfnet.pipeline.predict_images import ImageList
from crfnet.score_cache import ScoreFolder

__all__ = ["check_scores"]


def check_scores(scores: ScoreFolder, images: ImageList, num_classes: int) -> None:
    """Read all scores and images once and refuse what does not belong together.

    Scores may be of more images than those that are named, but not of more than folders that are given whole.

    Args:
        scores: cached.
        images: whose label maps are wanted.
        num_classes: of the configuration.

    Raises:
        InputError: images without scores, scores without an image, of other labels or of another size.
    """
    require(f"{scores.path}: number of labels", scores.num_classes, scores.num_classes == num_classes,
            f"{num_classes} as the section data of CONFIG, or --data.classes, says")  # fmt: skip
    known = set(scores.ids)
    for name in images.names:
        if name not in known:
            raise InputError(
                f"{images.place(name)}: {scores.path} holds no scores named {name!r}, only {_some(scores)}"
            )
    strangers = sorted(known - set(images.names))
    if images.folders and strangers:
        raise InputError(
            f"{scores.location(strangers[0])}: no image of that name in {images.folders[0]}; for a part of "
            "the scores name the image files instead of the folder"
        )
    bar = tqdm(images.read(), "check", len(images.names), unit="image", mininterval=0.5, leave=False)
    for name, image in bar:
        _, rows, columns = scores.stored_logits(name).shape
        place, height, width = scores.location(name), image.shape[1], image.shape[2]
        shown = f"{rows} x {columns} (rows x columns)"
        if _swapped((height, width), (rows, columns)):
            raise InputError(
                f"{place}: scores are {shown} of an image of {height} x {width}: rows and columns look "
                "swapped, by the order of axes (convert-scores --axes) or in a photo that its EXIF data turn"
            )
        if rows > height or columns > width:
            raise InputError(
                f"{place}: scores are {shown}, must not be larger than the image, {height} x {width}; those "
                "of padded images are cropped by convert-scores --images"
            )


def _some(scores: ScoreFolder) -> str:
    more = f", ... ({len(scores.ids)} in all)" if len(scores.ids) > 3 else ""
    return ", ".join(map(repr, scores.ids[:3])) + more


def _swapped(size: tuple[int, int], cells: tuple[int, int]) -> bool:
    """Whether one stride along both sides explains the scores only when rows and columns change places."""
    return not _one_stride(size, cells) and _one_stride(size, (cells[1], cells[0]))


def _one_stride(size: tuple[int, int], cells: tuple[int, int]) -> bool:
    """Whether one stride along both sides gives so many cells, one more or less by rounding and padding."""
    least = max(pixels / (count + 1) for pixels, count in zip(size, cells, strict=True))
    most = min(pixels / max(count - 1, 0.5) for pixels, count in zip(size, cells, strict=True))
    return least <= most
