"""crfnet: segmentation networks with sharp boundaries; DeepLab and a differentiable dense CRF.

What most people import stands here; it is loaded when it is used, so that the command line starts fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

from crfnet.errors import needing

if TYPE_CHECKING:
    from crfnet.crf.config import CRFConfig
    from crfnet.crf.config_file import load_crf_config
    from crfnet.crf.layer import DenseCRF
    from crfnet.crf.loss import DenseCRFLoss
    from crfnet.domain_transform import DomainTransform
    from crfnet.photo import example_photo
    from crfnet.segmenter import Segmenter

__version__ = "0.1.0"

__all__ = [
    "CRFConfig",
    "DenseCRF",
    "DenseCRFLoss",
    "DomainTransform",
    "Segmenter",
    "example_photo",
    "load_crf_config",
]

_MODULES = {
    "CRFConfig": "crfnet.crf.config",
    "DenseCRF": "crfnet.crf.layer",
    "DenseCRFLoss": "crfnet.crf.loss",
    "DomainTransform": "crfnet.domain_transform",
    "Segmenter": "crfnet.segmenter",
    "example_photo": "crfnet.photo",
    "load_crf_config": "crfnet.crf.config_file",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needing(f"crfnet.{name}"):
        return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
