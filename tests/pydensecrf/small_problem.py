"""A small problem for tests of arguments."""

import numpy as np

from crfnet.pydensecrf import densecrf as dcrf

M, W, H = 3, 7, 5
N = W * H


def numbers(*shape):
    """Multiples of 1/64 in [0, 4): the same in float16."""
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32) / 64


def image():
    return np.random.default_rng(1).integers(0, 256, (H, W, 3), dtype=np.uint8)


def crf():
    return dcrf.DenseCRF2D(W, H, M, device="cpu")


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array
