"""Label maps of cached scores: which scores and images belong together is known before the work."""

from tqdm import tqdm

from crfnet.errors import InputError, require
from crfnet.pipeline.predict_images import ImageList
from crfnet.score_cache import ScoreFolder
from crfnet.score_cache.score_size import check_score_size

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
        check_score_size(scores.location(name), (rows, columns), (image.shape[1], image.shape[2]))


def _some(scores: ScoreFolder) -> str:
    more = f", ... ({len(scores.ids)} in all)" if len(scores.ids) > 3 else ""
    return ", ".join(map(repr, scores.ids[:3])) + more
