"""Label maps of images: which files are read, which are written, and one after another."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from crfnet.data import DataConfig, SegmentationDataset, load_dataset, read_image
from crfnet.data.dataset import Split
from crfnet.data.image_files import IMAGE_ENDINGS
from crfnet.errors import InputError
from crfnet.files import check_writable, leftovers, recorded_files, recording
from crfnet.labels import Palette, overlay, write_label_png, write_picture
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["ImageList", "check_outputs", "image_list", "opened", "write_predictions"]


@dataclass(frozen=True)
class ImageList:
    """Images with names of their own: files, or a split of a data set.

    Attributes:
        names: in order, all different: the stems of files, the ids of a data set.
        config: channels and range of the images.
        files: by name; none of a split.
        dataset: the split.
        folders: those that were given whole.
    """

    names: tuple[str, ...]
    config: DataConfig
    files: Mapping[str, Path] = field(default_factory=dict)
    dataset: SegmentationDataset | None = None
    folders: tuple[Path, ...] = ()

    def read(self, without: Collection[str] = ()) -> Iterator[tuple[str, ImageBytes]]:
        """Names and images, each read when it is asked for.

        Args:
            without: names that are left out.
        """
        if self.dataset is not None:
            yield from ((name, self.dataset[number].image) for number, name in enumerate(self.names))
        for name, path in self.files.items():
            if name not in without:
                yield name, read_image(path, self.config.channels, self.config.image_range)

    def place(self, name: str) -> str:
        """What a message calls an image: its file, where it has one."""
        return str(self.files.get(name, f"image {name!r}"))


def image_list(
    paths: Sequence[Path], split: Split | None, config: DataConfig, *, without: Path | None = None
) -> ImageList:
    """List the images; the data set is needed for a split alone.

    Args:
        paths: image files, and folders of them, of which all images are taken, by name.
        split: instead of them, "train" or "val".
        config: the data set, and channels and range of the images.
        without: a folder whose ``.npy`` files are no images.

    Raises:
        InputError: no such file or folder, a folder without images, two images of one name.
    """
    if split is not None:
        dataset = load_dataset(config, split)
        return ImageList(tuple(dataset.ids), config, dataset=dataset)
    files = [file for path in paths for file in (_inside(path, without) if path.is_dir() else [path])]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such image file")
    twice = [name for name, number in Counter(path.stem for path in files).items() if number > 1]
    if twice:
        first, second, *_ = (path for path in files if path.stem == min(twice))
        raise InputError(
            f"predict: two images are named {min(twice)!r}, {first} and {second}; their label maps would "
            "replace each other"
        )
    folders = tuple(path for path in paths if path.is_dir())
    return ImageList(
        tuple(path.stem for path in files), config, {path.stem: path for path in files}, folders=folders
    )


def check_outputs(folder: Path, images: ImageList, rasters: Collection[str] = (), *, overwrite: bool) -> None:
    """Refuse to write a file twice, over one that is read, or over one that crfnet has not written.

    Args:
        folder: that is written.
        images: whose label maps are written.
        rasters: names of those whose label maps are GeoTIFFs.
        overwrite: replace files that crfnet wrote.

    Raises:
        InputError: names the file, or the folder that cannot be written.
    """
    check_writable(folder)
    endings = [(name, ".tif" if name in rasters else ".png") for name in images.names]
    outputs = [folder / f"{name}{end}{kind}" for name, kind in endings for end in ("", "_overlay")]
    twice = [path for path, number in Counter(outputs).items() if number > 1]
    if twice:
        raise InputError(
            f"predict: two images' files would be {twice[0]}, and replace each other; predict them into two "
            "folders (--output)"
        )
    read = {path.resolve() for path in images.files.values()}
    ours = set(recorded_files(folder))
    for path in outputs:
        if path.resolve() in read:
            raise InputError(f"{path}: is read, and would be replaced; give another --output")
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists already; give --overwrite or another --output")
        if path.exists() and path not in ours:
            raise InputError(f"{path}: not written by crfnet, so it is left alone; give another --output")


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Within, what is written is on the folder's list; what a killed process left half-written is removed."""
    for half_written in leftovers(folder):
        half_written.unlink()
    with recording(folder):
        yield


def write_predictions(
    folder: Path,
    images: ImageList,
    label: Callable[[str, ImageBytes], LabelMap],
    colors: Palette,
    *,
    without: Collection[str] = (),
) -> None:
    """Write a label map ``<name>.png`` and its overlay ``<name>_overlay.png``, one image after another.

    Args:
        folder: made when missing.
        images: that are labeled.
        label: makes the labels of an image, given by its name.
        colors: of the labels.
        without: names that are left out.
    """
    number = len(images.names) - len(without)
    for name, image in tqdm(images.read(without), "predict", number, unit="image", mininterval=0.5):
        labels = label(name, image).cpu()
        write_label_png(folder / f"{name}.png", labels, colors)
        write_picture(folder / f"{name}_overlay.png", overlay(image, labels, colors))


def _inside(folder: Path, without: Path | None) -> list[Path]:
    """The image files in a folder, by name; hidden files are none."""
    scores = without is not None and folder.resolve() == without.resolve()
    endings = [ending for ending in IMAGE_ENDINGS if not (scores and ending == ".npy")]
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
    ]
    if not files:
        raise InputError(f"{folder}: no image, must be at least one with an ending of {', '.join(endings)}")
    return files
