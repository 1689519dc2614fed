"""The root of a data set and the lists of ids in it."""

from collections.abc import Sequence
from pathlib import Path

from crfnet.errors import InputError, printable

__all__ = ["check_ids", "existing_root", "read_ids"]

_MAX_BYTES = 200  #: of an id; what is written of an image adds its ending, and up to 255 make a file's name


def existing_root(name: str, root: Path | None, *folders: str, argument: str = "data.root") -> Path:
    """`root`, which was given as `argument`, when it holds all of `folders`.

    Raises:
        InputError: No root was given, or it or one of its folders does not exist.
    """
    listed = " and ".join(filter(None, (", ".join(folders[:-1]), folders[-1])))
    wanted = f"the folder of the data set (data.name: {name}) that holds {listed}"
    if root is None:
        raise InputError(f"{argument} is not given, must be {wanted}")
    if not root.is_dir():
        shown = root if root.is_absolute() else f"{root} ({root.absolute()})"
        raise InputError(f"{argument} is {shown}, where no folder is, must be {wanted}")
    for folder in (root / each for each in folders):
        if not folder.is_dir():
            raise InputError(f"{argument} is {root}, which has no folder {folder}, must be {wanted}")
    return root


def check_ids(ids: Sequence[str], place: object) -> None:
    """Refuse ids that no file of scores or predictions can have as its name.

    Args:
        ids: all of a split.
        place: where they come from, for the message.

    Raises:
        InputError: one begins with a dot, as half-written files do; is longer than any file's name
            with an ending; is no text in UTF-8; or holds a folder or the end of a line.
    """
    for image_id in ids:
        if (reason := _no_name(image_id)) is not None:
            raise InputError(f"{place}: the image {image_id[:80]!r} {reason}; rename its files")


def _no_name(image_id: str) -> str | None:
    size = len(image_id.encode(errors="surrogateescape"))
    plain = image_id == image_id.strip() and Path(image_id).name == image_id
    reasons = {
        "has a name that is no text in UTF-8": any("\ud800" <= each <= "\udfff" for each in image_id),
        f"has a name of {size} bytes, must be at most {_MAX_BYTES}": size > _MAX_BYTES,
        "has a name that begins with a dot": image_id.startswith("."),
        "has a name that holds a folder, an end of a line or a space at an end": not plain
        or "\n" in image_id
        or "\t" in image_id
        or printable(image_id) != image_id,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def read_ids(places: Sequence[Path], name: str, *, spaces: bool = False) -> tuple[str, ...]:
    """The ids in ``<name>.txt`` of the first of the folders `places` that has it.

    A line is a bare id, or a pair of an image's and its mask's path, ``/JPEGImages/ID.jpg /MASKS/ID.png``, as
    in the lists of DeepLab's authors; of those only the id is used. Empty lines are skipped. With ``spaces``,
    ids may hold some.

    Raises:
        InputError: The list is missing, empty or no text; a line that is no id; an id that stands twice.
    """
    folder = next((folder for folder in places if (folder / f"{name}.txt").is_file()), places[0])
    path = folder / f"{name}.txt"
    if not path.is_file():
        there = ", ".join(sorted({p.stem for place in places for p in place.glob("*.txt")})) or "none"
        nor = "".join(f", nor in {place}" for place in places[1:])
        raise InputError(f"{path}: no such list{nor}; lists there: {there}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}), must be a text file with one id a line"
        ) from error
    ids = [_id(line, path, spaces) for line in lines if line.strip()]
    if not ids:
        raise InputError(f"{path}: the list is empty, must be one id a line, at least one")
    check_ids(ids, path)
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            raise InputError(f"{path}: id {image_id} stands in the list twice, must be once")
        seen.add(image_id)
    return tuple(ids)


def _id(line: str, path: Path, spaces: bool) -> str:
    words = line.split()
    stems = [Path(word).stem for word in words]
    if len(words) == 2 and all("/" in word for word in words) and stems[0] == stems[1]:
        return stems[0]
    if (len(words) != 1 and not spaces) or "/" in line or "\\" in line:
        raise InputError(
            f"{path}: {line.strip()!r} is not an id, must be a file name without folder and ending, "
            "or the paths of an image and its mask"
        )
    return line.strip()
