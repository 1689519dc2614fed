"""pydensecrf's interface on this package's CRF: pure Python, on CPU and GPU.

Two lines before the first ``import pydensecrf`` of a program switch it over, unchanged otherwise::

    import crfnet.pydensecrf
    crfnet.pydensecrf.install()

    import pydensecrf.densecrf as dcrf  # from here on ours
    from pydensecrf.utils import unary_from_softmax

Or import the modules from here: ``import crfnet.pydensecrf.densecrf as dcrf``.
"""

import os
import sys
import warnings

import torch

from crfnet.pydensecrf import densecrf, eigen, utils

__all__ = ["densecrf", "eigen", "install", "utils"]


def _use_one_thread() -> None:
    """In a forked child, where torch would wait for ever for the OpenMP threads that did not come along."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_use_one_thread)


def install() -> None:
    """Make ``pydensecrf`` and its modules ``densecrf``, ``eigen`` and ``utils`` the ones of this package.

    For this process, and for every import that comes after; calling it again changes nothing. An installed
    pydensecrf is bypassed. Modules that have imported it already keep it, with a warning.
    """
    ours = sys.modules[__name__]
    if sys.modules.get("pydensecrf", ours) is not ours:
        warnings.warn(
            "pydensecrf has been imported already: what imported it goes on using it. Call "
            "crfnet.pydensecrf.install() before",
            stacklevel=2,
        )
    for name in [name for name in sys.modules if name.startswith("pydensecrf.")]:
        del sys.modules[name]
    sys.modules["pydensecrf"] = ours
    for module in (densecrf, eigen, utils):
        sys.modules[module.__name__.replace(__name__, "pydensecrf")] = module
