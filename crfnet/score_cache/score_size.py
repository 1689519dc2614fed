"""Whether scores can be of an image of a given size."""

from crfnet.errors import InputError

__all__ = ["check_score_size"]


def check_score_size(place: str, cells: tuple[int, int], size: tuple[int, int]) -> None:
    """Refuse scores that would be laid over an image that they are not of.

    Args:
        place: what a message calls the scores.
        cells: their rows and columns.
        size: rows and columns of the image.

    Raises:
        InputError: rows and columns look swapped, or the scores are larger than the image.
    """
    (rows, columns), (height, width) = cells, size
    shown = f"{rows} x {columns} (rows x columns)"
    if not _one_stride(size, cells) and _one_stride(size, (columns, rows)):
        raise InputError(
            f"{place}: scores are {shown} of an image of {height} x {width}: rows and columns look "
            "swapped, by the order of axes (convert-scores --axes) or in a photo that its EXIF data turn"
        )
    if rows > height or columns > width:
        raise InputError(
            f"{place}: scores are {shown}, must not be larger than the image, {height} x {width}; those "
            "of padded images are cropped by convert-scores --images"
        )


def _one_stride(size: tuple[int, int], cells: tuple[int, int]) -> bool:
    """Whether one stride along both sides gives so many cells, one more or less by rounding and padding."""
    least = max(pixels / (count + 1) for pixels, count in zip(size, cells, strict=True))
    most = min(pixels / max(count - 1, 0.5) for pixels, count in zip(size, cells, strict=True))
    return least <= most
