"""What a file is that should hold weights and cannot be read as such."""

import pickle
import zipfile
from pathlib import Path

from torch.serialization import get_unsafe_globals_in_checkpoint

__all__ = ["what_file"]

_PAGE = "a web page, not the file that it should have led to; download it again"
#: How files of other kinds begin, that are met under the names of checkpoints.
_BEGINNINGS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
    b"\x89HDF": "an HDF5 file, as Keras writes; only PyTorch's and safetensors are read",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"<!doctype": _PAGE,
    b"<html": _PAGE,
}


def what_file(path: Path, error: Exception) -> str:
    """Say in a phrase what a file is that ``torch.load`` refused with ``error``."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if not start:
        return "empty"
    known = [what for begin, what in _BEGINNINGS.items() if start.startswith((begin, begin.upper()))]
    damaged = f"damaged, or no file of weights ({type(error).__name__})"
    return (known or _archive(path) or _objects(path, error) or [damaged])[0]


def _archive(path: Path) -> list[str]:
    """Of a zip archive without weights in it."""
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:  # of which no more than the end is right
        return []
    if any("/code/" in name for name in names):
        return ["a TorchScript program, not weights; save its state_dict() instead"]
    holds_weights = any(name.endswith("data.pkl") for name in names)
    return [] if holds_weights else ["a zip archive without weights of PyTorch; unpack it first"]


def _objects(path: Path, error: Exception) -> list[str]:
    """Of a checkpoint with objects in it, whose making would run code."""
    if not isinstance(error, pickle.UnpicklingError):
        return []
    try:
        names = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # as of a damaged pickle
        return []
    classes = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    advice = "not loaded because that can run code; save its state_dict() alone"
    return [f"not only weights but objects of {classes}, {advice}"] if names else []
