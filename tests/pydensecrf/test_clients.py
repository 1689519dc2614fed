"""Programs written for pydensecrf, as they are written everywhere, run unchanged after `install()`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from crfnet.crf import CRFConfig, DenseCRF, FeaturePotential
from tests.pydensecrf import dense_reference

RUN = """
import runpy, sys
import crfnet.pydensecrf
crfnet.pydensecrf.install()
for script in sys.argv[1:]:
    runpy.run_path(script, run_name="__main__")
"""

# A network's probabilities, refined: two standard terms, probabilities and labels of every pixel.
POSTHOC = """
import numpy as np
import pydensecrf.densecrf as dcrf
import pydensecrf.utils as utils

class Refiner:
    def __init__(self, steps, pos_w, pos_xy_std, bi_w, bi_xy_std, bi_rgb_std):
        self.steps = steps
        self.pos_w, self.pos_xy_std = pos_w, pos_xy_std
        self.bi_w, self.bi_xy_std, self.bi_rgb_std = bi_w, bi_xy_std, bi_rgb_std

    def __call__(self, image, probs):
        classes, height, width = probs.shape
        unary = np.ascontiguousarray(utils.unary_from_softmax(probs))
        image = np.ascontiguousarray(image)
        d = dcrf.DenseCRF2D(width, height, classes)
        d.setUnaryEnergy(unary)
        d.addPairwiseGaussian(sxy=self.pos_xy_std, compat=self.pos_w)
        d.addPairwiseBilateral(
            sxy=self.bi_xy_std, srgb=self.bi_rgb_std, rgbim=image, compat=self.bi_w
        )
        Q = d.inference(self.steps)
        return np.array(Q).reshape((classes, height, width))

if __name__ == "__main__":
    given = np.load("posthoc.npz")
    Q = Refiner(10, 3, 3, 4, 40, 13)(given["image"], given["probs"])
    np.savez("posthoc_out.npz", Q=Q, labels=np.argmax(Q, axis=0))
"""

# A sparse annotation made dense, with the generic class and features of utils; then step by step.
ANNOTATION = """
import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf.utils import unary_from_labels, create_pairwise_gaussian, create_pairwise_bilateral

given = np.load("annotation.npz")
img, anno = given["image"], given["labels"]
n_labels = len(set(anno.flat)) - 1  # 0 is unknown

d = dcrf.DenseCRF(img.shape[1] * img.shape[0], n_labels)
U = unary_from_labels(anno, n_labels, gt_prob=0.7, zero_unsure=True)
d.setUnaryEnergy(U)
feats = create_pairwise_gaussian(sdims=(3.1, 2.3), shape=img.shape[:2])
d.addPairwiseEnergy(feats, compat=3, kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC)
feats = create_pairwise_bilateral(sdims=(8.3, 7.1), schan=(13, 11, 12), img=img, chdim=2)
d.addPairwiseEnergy(
    feats, compat=10, kernel=dcrf.KernelType.FULL_KERNEL,
    normalization=dcrf.NormalizationType.NORMALIZE_AFTER,
)
Q = d.inference(5)
MAP = np.argmax(Q, axis=0).reshape(img.shape[:2])
Q2, tmp1, tmp2 = d.startInference()
kl = []
for i in range(5):
    kl.append(d.klDivergence(Q2))
    print("KL-divergence at {}: {}".format(i, kl[-1]))
    d.stepInference(Q2, tmp1, tmp2)
np.savez("annotation_out.npz", Q=Q, Q2=Q2, MAP=MAP, kl=kl)
"""

# Foreground against background in an image of two channels, penalties as arrays of float32.
TWO_CHANNELS = """
import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf.utils import unary_from_softmax, create_pairwise_bilateral

given = np.load("channels.npz")
image, fg = given["image"], given["foreground"]
probs = np.stack([1 - fg, fg], axis=0)
crf = dcrf.DenseCRF2D(image.shape[1], image.shape[0], 2)
crf.setUnaryEnergy(unary_from_softmax(probs, scale=0.9))
energy = create_pairwise_bilateral(sdims=(6.1, 5.3), schan=[0.3, 0.2], img=image, chdim=2)
crf.addPairwiseEnergy(energy, compat=np.array([-0.5, -0.7], dtype=np.float32))
crf.addPairwiseEnergy(energy[:3].copy(), compat=-0.6 * np.eye(2, dtype=np.float32))
np.save("channels_out.npy", np.array(crf.inference(10))[1].reshape(fg.shape))
"""


def blobs(height, width, labels):
    """Probabilities and an image of smooth regions with a little noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    scores = np.stack([np.sin(x / (3 + k) + k) + np.cos(y / (4 + k) - k) for k in range(labels)])
    noisy = dense_reference.softmax(2 * scores + random.normal(size=scores.shape))
    colors = random.integers(40, 216, (labels, 3))[scores.argmax(0)]
    image = np.clip(colors + random.normal(scale=6, size=colors.shape), 0, 255).astype(np.uint8)
    return noisy.astype(np.float32), image


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Inputs and outputs of the three programs, run one after the other in one fresh process."""
    folder = tmp_path_factory.mktemp("clients")
    probs, image = blobs(12, 16, 4)
    np.savez(folder / "posthoc.npz", probs=probs, image=image)
    probs, image = blobs(7, 9, 3)
    labels = np.where(np.random.default_rng(1).random((7, 9)) < 0.5, 0, probs.argmax(0) + 1)
    np.savez(folder / "annotation.npz", image=image, labels=labels)
    probs, image = blobs(6, 8, 2)
    np.savez(folder / "channels.npz", image=image[..., :2] / 255, foreground=probs[1])
    scripts = []
    for name, text in (("posthoc", POSTHOC), ("annotation", ANNOTATION), ("channels", TWO_CHANNELS)):
        scripts.append(folder / f"{name}.py")
        scripts[-1].write_text(text)
    command = [sys.executable, "-W", "error", "-c", RUN, *map(str, scripts)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("KL-divergence at ") == 5
    return folder


def test_posthoc_is_our_layer(folder):
    """A multiple of four pixels, so that no points are filled in: the layer on the same two kernels."""
    given, answer = np.load(folder / "posthoc.npz"), np.load(folder / "posthoc_out.npz")
    config = CRFConfig(normalization="symmetric", iterations=10)
    kernels = {
        "place": FeaturePotential(3.0, [1 / 9] * 2, source="spatial", num_classes=4),
        "color": FeaturePotential(4.0, [1 / 1600] * 2 + [1 / 169] * 3, num_classes=4),
    }
    crf = DenseCRF(4, config, potentials=kernels).eval()
    image = torch.from_numpy(given["image"]).permute(2, 0, 1).unsqueeze(0)
    with torch.no_grad():
        log_q = crf(torch.from_numpy(given["probs"]).log().unsqueeze(0), image)[0]
    assert answer["Q"].dtype == np.float32
    assert (answer["labels"] == log_q.argmax(0).numpy()).all()
    np.testing.assert_allclose(answer["Q"], log_q.exp().numpy(), atol=1e-4)
    assert (answer["labels"] != given["probs"].argmax(0)).mean() > 0.05


def test_annotation_is_that_of_plain_loops(folder):
    given, answer = np.load(folder / "annotation.npz"), np.load(folder / "annotation_out.npz")
    image, labels = given["image"].astype(float), given["labels"].reshape(-1)
    u = np.full((3, 63), -np.log(0.15))
    u[labels - 1, np.arange(63)] = -np.log(0.7)
    u[:, labels == 0] = np.log(3)
    place = np.mgrid[:7, :9].reshape(2, -1) / [[3.1], [2.3]]
    color = image.reshape(-1, 3).T / [[13], [11], [12]]
    near = np.mgrid[:7, :9].reshape(2, -1) / [[8.3], [7.1]]
    terms = [
        (3, dense_reference.kernel(place.astype(np.float32), "NORMALIZE_SYMMETRIC")),
        (10, dense_reference.kernel(np.concatenate([near, color]).astype(np.float32), "NORMALIZE_AFTER")),
    ]
    marginals = dense_reference.mean_field(u, terms, 5)
    for q in (answer["Q"], answer["Q2"]):
        np.testing.assert_allclose(q, marginals[-1], atol=1e-4)
    assert (answer["MAP"].reshape(-1) == marginals[-1].argmax(0)).all()
    expected = [dense_reference.free_energy(u, terms, q, 1.0) for q in marginals[:-1]]
    np.testing.assert_allclose(answer["kl"], expected, rtol=1e-4)


def test_two_channels_are_those_of_plain_loops(folder):
    given, answer = np.load(folder / "channels.npz"), np.load(folder / "channels_out.npy")
    p = np.stack([1 - given["foreground"], given["foreground"]]).reshape(2, -1)
    u = -np.log(0.9 * p.astype(float) + 0.05)
    place = np.mgrid[:6, :8].reshape(2, -1) / [[6.1], [5.3]]
    color = given["image"].reshape(-1, 2).T / [[0.3], [0.2]]
    features = np.concatenate([place, color]).astype(np.float32)
    terms = [
        (np.array([-0.5, -0.7]), dense_reference.kernel(features, "NORMALIZE_SYMMETRIC")),
        (-0.6 * np.eye(2), dense_reference.kernel(features[:3], "NORMALIZE_SYMMETRIC")),
    ]
    expected = dense_reference.mean_field(u, terms, 10)[-1][1]
    np.testing.assert_allclose(answer.reshape(-1), expected, atol=1e-4)
    assert 0.2 < (expected > 0.5).mean() < 0.8
