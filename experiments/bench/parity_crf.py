"""The CRFs of others for parity.py, each beside the preset that is named after it."""

import copy
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from crfnet import DenseCRF
from crfnet.crf.filters import LocalFilter

__all__ = ["CRFS"]

LABELS = 21

Compare = Callable[[Tensor], tuple[Tensor, Tensor]]  #: from a photo to our marginals and theirs


def logits_of(image: Tensor) -> Tensor:
    """Random logits (1, l, h, w) that change over some 16 pixels, some nats apart."""
    height, width = image.shape[2:]
    generator = torch.Generator().manual_seed(height)
    coarse = 3 * torch.randn(1, LABELS, height // 16 + 2, width // 16 + 2, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)


@torch.no_grad()
def convcrf(pool: int, image: Tensor) -> tuple[Tensor, Tensor]:
    """Its default configuration with another pooling; it asks for no softmax at the end."""
    # Its module of drawings for tests is imported, and needs packages that nothing else does.
    utils = sys.modules.setdefault("utils", ModuleType("utils"))
    utils.test_utils = ModuleType("utils.test_utils")  # type: ignore[attr-defined]
    module = import_module("convcrf.convcrf")
    config = copy.deepcopy(module.default_conf)
    config["blur"] = pool
    size, logits = tuple(image.shape[2:]), logits_of(image)
    theirs = module.GaussCRF(config, size, LABELS, use_gpu=False)(logits, image.float()).softmax(1)
    layer = DenseCRF.preset("convcrf", LABELS, filter=LocalFilter(11, pool, centered=True)).eval()
    return layer.marginals(logits, image), theirs


@torch.no_grad()
def pydensecrf(image: Tensor) -> tuple[Tensor, Tensor]:
    """As its example does it, with the numbers of the preset."""
    module = import_module("pydensecrf.densecrf")
    height, width = image.shape[2:]
    logits = logits_of(image)
    crf = module.DenseCRF2D(width, height, LABELS)
    crf.setUnaryEnergy(np.ascontiguousarray(-logits.log_softmax(1).reshape(LABELS, -1).numpy()))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=pixels, compat=10)
    theirs = torch.from_numpy(np.array(crf.inference(5))).view(1, LABELS, height, width)
    return DenseCRF.preset("pydensecrf", LABELS).eval().marginals(logits, image), theirs


def convcrfs() -> dict[str, Compare]:
    return {f"convcrf, pool {pool}": partial(convcrf, pool) for pool in (1, 4)}


CRFS: dict[str, Callable[[], dict[str, Compare]]] = {
    "convcrf": convcrfs,
    "pydensecrf": lambda: {"pydensecrf": pydensecrf},
}
