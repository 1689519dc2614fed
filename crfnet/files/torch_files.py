"""Files of ``torch.save``, read without running code from them and without more memory than they fill."""

import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crfnet.files.regular import regular

__all__ = ["ClaimError", "load_torch_file"]

#: Bytes that tensors may stand for beyond those in the file: one number that stands for many, as `expand`
#: makes, is saved as one.
_MAX_UNFOLDED_BYTES = 2**28
_MAX_VALUES = 10**7  #: of lists and mappings: one that is held many times is saved as one


class ClaimError(ValueError):
    """A file that claims more than it holds."""


def load_torch_file(path: Path, allowed: Sequence[Any] = ()) -> Any:
    """What ``torch.save`` wrote: tensors, on the CPU, and plain values.

    Args:
        path: of the file.
        allowed: classes beside those, see ``torch.serialization.safe_globals``.

    Raises:
        ClaimError: it claims more than it holds.
        Exception: any other: a damaged pickle raises anything at all.
    """
    size = regular(path).stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(info.file_size for info in archive.infolist())
        if claimed > size:  # torch packs nothing
            raise ClaimError(f"its parts would unpack {size} bytes to {claimed}")
    with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old and of sparse files; what cannot be read is an error
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except RuntimeError as error:
            if "allocate memory" not in str(error):
                raise
            raise ClaimError(f"it claims more memory than there is, in {size} bytes") from error
    if _unfolded(content, {}) > _MAX_VALUES:
        raise ClaimError(f"what it holds again and again is more than {_MAX_VALUES} values written out")
    for place, tensor in _tensors(content, ""):
        if (claimed := tensor.numel() * tensor.element_size()) > size + _MAX_UNFOLDED_BYTES:
            shape = list(tensor.shape)
            raise ClaimError(f"{place} claims the shape {shape}, {claimed} bytes, in a file of {size}")
    return content


def _unfolded(value: Any, known: dict[int, float]) -> float:
    """Count values, those of a list or mapping as often as it is held; what holds itself has no end."""
    inside: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    else:
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        known[id(value)] = 1 + sum(_unfolded(each, known) for each in inside)
    return known[id(value)]


def _tensors(content: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor, also those that hold no memory."""
    if isinstance(content, Tensor):
        yield place or "a tensor", content
    pairs: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(content, Mapping):
        pairs = iter(content.items())
    elif isinstance(content, list | tuple):
        pairs = iter(enumerate(content))
    for name, value in pairs:
        yield from _tensors(value, f"{place}.{name}" if place else str(name))
