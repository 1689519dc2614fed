"""What the two fast loops leave out on scores of real networks, against every label of every pixel."""

import importlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from crfnet.crf.features import bilateral_features
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.kernels.cpu.grid import grid_of
from crfnet.kernels.cpu.lattice import build_lattice
from crfnet.kernels.cpu.mean_field import mean_field
from crfnet.kernels.cpu.settling import settled_labels

WEIGHTS = np.array([[3.0, 3.0], [6.0, 3.0]])
IMAGES = {"voc": (20, 119, 250), "camvid": (5, 40, 90)}


@cache
def _case(folder, name, number):
    """Image, logits (1, l, h, w) and labels (h, w)."""
    (path,) = (folder / f"{name}_scores").glob("*.npz")
    scores = np.load(path)
    if "q" in scores:
        small = (scores["q"][number].astype(np.float32) - scores["zero_point"]) * scores["scale"]
        small = np.moveaxis(small.astype(np.float32), 2, 0)
    else:
        small = scores["logits"][number].astype(np.float32)
    id_ = scores["ids"][number]
    image = np.array(Image.open(folder / name / "JPEGImages" / f"{id_}.jpg").convert("RGB"))
    labels = np.array(Image.open(folder / name / "SegmentationClass" / f"{id_}.png"))
    logits = interpolate(
        torch.from_numpy(small)[None], labels.shape, mode="bilinear", align_corners=name == "voc"
    )
    return torch.from_numpy(image).permute(2, 0, 1)[None], logits, torch.from_numpy(labels).long()


@pytest.mark.parametrize("theta", [(30.0, 3.0), (100.0, 6.0)])
@pytest.mark.parametrize("name", IMAGES)
def test_labels_and_miou_are_those_of_every_pixel_in_every_step(extra_data, name, theta):
    """As the READMEs of search and crf state; the shares are those of a single image at worst."""
    confusions = {}
    for number in IMAGES[name]:
        image, logits, truth = _case(extra_data, name, number)
        lattice = build_lattice(bilateral_features(image, *theta).numpy())
        grid = grid_of(tuple(truth.shape), 3.0, np.dtype(np.float32))
        unary = logits[0].flatten(1).numpy()
        full, layer = (
            mean_field(unary, [lattice], [grid], WEIGHTS, iterations=10, reduce=reduce).log_marginals
            for reduce in (0, 1e-4)
        )
        settled = settled_labels(
            unary, lattice, grid, WEIGHTS, iterations=10, normalization="after", tolerance=3e-3
        ).labels
        expected = full.argmax(1)
        assert (layer.argmax(1) != expected).mean() < 1e-4
        assert np.sqrt(np.square(np.exp(layer) - np.exp(full)).sum(1).mean()) < 1e-4
        assert (settled != expected).mean() < 1e-3
        for loop, labels in (("all", expected), ("layer", layer.argmax(1)), ("settling", settled)):
            for v, each in enumerate(labels):
                matrix = confusion_matrix(
                    torch.from_numpy(each).long().view_as(truth), truth, logits.shape[1]
                )
                confusions[loop, v] = confusions.get((loop, v), 0) + matrix
    for loop, limit in (("layer", 5e-5), ("settling", 5e-4)):
        for v in range(len(WEIGHTS)):
            mious = [float(metrics(confusions[key, v]).miou) for key in ("all", loop)]
            assert abs(mious[0] - mious[1]) <= limit


def test_a_real_network_s_labels_spread_over_150_classes(extra_data, monkeypatch):
    """As `experiments/bench/growth.py` measures them: labels stay those of all channels, which are few."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "experiments" / "bench")
    growth = importlib.import_module("growth")
    stored = np.load(extra_data / "voc_scores" / "deeplabv3_mobilenetv2.npz")
    image = interpolate(_case(extra_data, "voc", 20)[0].float(), (188, 250), mode="bilinear")
    lattice = build_lattice(bilateral_features(image, 30.0, 3.0).numpy())
    grid = grid_of((188, 250), 3.0, np.dtype(np.float32))
    channels = {}
    for classes in (2, 21, 150):
        small = growth.spread(stored, 20, classes)
        assert small.shape == (1, classes, 33, 33)
        logits = interpolate(small, (188, 250), mode="bilinear", align_corners=True)[0]
        unary = logits.flatten(1).contiguous().numpy()
        everything, reduced = (
            mean_field(unary, [lattice], [grid], WEIGHTS[:1], iterations=10, reduce=reduce)
            for reduce in (0, 1e-4)
        )
        expected, found = (run.log_marginals[0].argmax(0) for run in (everything, reduced))
        assert (found != expected).mean() < 1e-4
        assert everything.channels.tolist() == [classes] * 10
        channels[classes] = reduced.channels.mean()
    assert channels[2] <= channels[21] <= channels[150] <= 24
