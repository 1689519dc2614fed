"""One of everything that a command reads, all valid and tiny."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.io import savemat

from crfnet.cli.main import main
from crfnet.labels import DATASET_CLASSES, VOC_PALETTE
from crfnet.score_cache import write_scores

IDS = ("a", "b", "c")
SIZE = (16, 20)
CLASSES = len(DATASET_CLASSES["voc"].names)

CONFIG = {
    "device": "cpu",
    "model": {"backbone": "resnet18", "deeplab_v2": {"head": "large_fov"}, "width": 0.0625},
    "train": {"iterations": 1, "batch_size": 1, "augment": {"crop": [16, 20]}, "picture_every": 0},
    "crf": {"iterations": 1, "train_iterations": 1, "permutohedral": {"rows": 16}},
    "search": {
        "images": 2,
        "w1": [3],
        "theta_alpha": [20],
        "theta_beta": [5],
        "rounds": 1,
        "iterations": 1,
    },
    "evaluation": {"draws": 5, "max_width": 2},
    "pictures": 1,
}


class FixtureTree:
    """Valid files below `root`, and `out`, which is not there until a command writes it.

    Attributes:
        root: the folder.
        config: a config whose data set is `voc`.
        out: the config's output folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.config, self.out = root, root / "run.yaml", root / "out"
        self._random = np.random.default_rng(0)
        self._data()
        self._scores()
        self._label_maps()
        data = {"name": "voc", "root": str(root / "voc")}
        self.config.write_text(yaml.safe_dump({**CONFIG, "data": data, "output": str(self.out)}))
        self._results()
        self.digest = self.now()

    def now(self) -> dict[str, str]:
        """A digest of every file but those of `out`; for all else its kind."""
        return {str(path.relative_to(self.root)): _digest(path) for path in _below(self.root, self.out)}

    @contextmanager
    def damaged(self, path: Path) -> Iterator[Path]:
        """`path` may be made anything at all within; it is as it was behind, and `out` is gone."""
        content = path.read_bytes()
        try:
            yield path
        finally:
            remove(path)
            path.write_bytes(content)
            remove(self.out)

    @contextmanager
    def copied(self, name: str) -> Iterator[Path]:
        """A folder of the tree in `out`, where commands may write."""
        try:
            yield Path(shutil.copytree(self.root / name, self.out / name))
        finally:
            remove(self.out)

    def _data(self) -> None:
        for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (self.root / "voc" / name).mkdir(parents=True)
        for image_id, ending in zip(IDS, ("jpg", "png", "jpg"), strict=True):
            pixels = self._random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.root / f"voc/JPEGImages/{image_id}.{ending}")
            _mask(
                self.root / f"voc/SegmentationClass/{image_id}.png", self._labels(), indexed=image_id != "c"
            )
        for split in ("train", "val"):
            (self.root / f"voc/ImageSets/Segmentation/{split}.txt").write_text("".join(f"{i}\n" for i in IDS))

    def _labels(self) -> np.ndarray:
        labels = np.zeros(SIZE, np.uint8)
        labels[4:12, 5:15] = self._random.integers(1, CLASSES)
        labels[3, 5:15] = 255
        return labels

    def _scores(self) -> None:
        logits = {image_id: self._random.normal(size=(CLASSES, *SIZE)).astype(np.float16) for image_id in IDS}
        pairs = [(image_id, torch.from_numpy(array)) for image_id, array in logits.items()]
        write_scores(self.root / "scores", pairs[:2], CLASSES, align_corners=False, source="a test")
        np.save(self.root / "scores/c.npy", logits["c"])
        np.savez(self.root / "scores.npz", ids=np.array(IDS), logits=np.stack(list(logits.values())))
        np.save(self.root / "one.npy", logits["a"])
        np.savez(self.root / "one.npz", anything=logits["a"])
        for kind in ("npy", "npz", "mat", "png"):
            (self.root / "foreign" / kind).mkdir(parents=True)
        for image_id, array in logits.items():
            np.save(self.root / f"foreign/npy/{image_id}.npy", array)
            np.savez(self.root / f"foreign/npz/{image_id}.npz", data=array)
            padded = np.pad(array[:3].astype(np.float32), ((0, 0), (0, 4), (0, 2)))
            savemat(self.root / f"foreign/mat/{image_id}_blob_0.mat", {"data": padded.transpose(2, 1, 0)})
        for label in range(2):
            picture = self._random.integers(0, 256, SIZE, dtype=np.uint8)
            Image.fromarray(picture).save(self.root / f"foreign/png/a_{label}.png")

    def _label_maps(self) -> None:
        (self.root / "predictions").mkdir()
        for image_id in IDS:
            _mask(self.root / f"predictions/{image_id}.png", self._labels() % 255, indexed=image_id != "b")
        (self.root / "classes.txt").write_text("".join(f"{name}\n" for name in DATASET_CLASSES["voc"].names))

    def _results(self) -> None:
        """What commands make of the rest."""
        config, scores = str(self.config), str(self.root / "scores")
        main(["train", config])
        checkpoint = self.out / "unary/train/checkpoint.pt"
        shutil.copy(checkpoint, self.root / "checkpoint.pt")
        shutil.copytree(self.out / "unary/train", self.root / "trained")
        main(["import", str(checkpoint), "--out", str(self.root / "weights.safetensors")])
        main(["search", config, "--scores", scores])
        for name in ("best.yaml", "images.txt"):
            shutil.copy(self.out / "search" / name, self.root / name)
        shutil.move(self.out / "search", self.root / "search")
        main(["evaluate", config, "--scores", scores, "--crf", str(self.root / "best.yaml")])
        shutil.move(self.out / "evaluation", self.root / "evaluation")
        remove(self.out)


def _mask(path: Path, labels: np.ndarray, *, indexed: bool) -> None:
    mask = Image.fromarray(labels)
    if indexed:
        mask.putpalette([part for color in VOC_PALETTE for part in color])
    mask.save(path)


def remove(path: Path) -> None:
    """Whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _below(folder: Path, without: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path != without:
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from _below(path, without)


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
