"""What a result was made of, as digests kept beside it: what went on with other inputs would be wrong."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.errors import InputError
from crfnet.files import check_type, one_line, regular, write_json

__all__ = [
    "DIGESTS_FILE",
    "START",
    "check_digests",
    "file_digest",
    "files_digest",
    "started_from_weights",
    "state_digest",
    "text_digest",
    "weights_digest",
]

DIGESTS_FILE = "digests.json"
START = "weights to start from"  #: the name of a training's first weights there


def check_digests(folder: Path, digests: Mapping[str, str], again: str) -> None:
    """Write the digests of what a folder's results are made of; refuse others than those that are there.

    Args:
        folder: of the results.
        digests: by what they are of, such as "images" or "weights".
        again: what to do, for the message.

    Raises:
        InputError: an input has changed since the results were begun.
    """
    path = folder / DIGESTS_FILE
    known = _read(path) if path.is_file() else {}
    changed = [name for name, digest in digests.items() if known.get(name, digest) != digest]
    if changed:
        raise InputError(
            f"{folder}: was begun with other {' and '.join(changed)} than there are now; {again}"
        )
    if {**known, **digests} != known:
        write_json(path, {**known, **digests})


def started_from_weights(folder: Path) -> bool:
    """Whether a training in this folder was begun with the weights of a checkpoint."""
    path = folder / DIGESTS_FILE
    return path.is_file() and START in _read(path)


def weights_digest(checkpoint: Path) -> str:
    """The digest of all weights in a checkpoint, a CRF's too; not of the time or the machine of training.

    Raises:
        InputError: missing or damaged.
    """
    return state_digest(read_checkpoint(checkpoint)["model"])


def state_digest(state: Mapping[str, object]) -> str:
    """The digest of a module's state."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The digest of a file, whatever its name.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(regular(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def files_digest(paths: Iterable[Path]) -> str:
    """The digest of files, their names among it.

    Raises:
        InputError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(json.dumps([path.name, file_digest(path)]).encode())
    return digest.hexdigest()


def text_digest(*parts: object) -> str:
    """The digest of plain values."""
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(regular(path).read_text(encoding="utf-8"))
        check_type(found, dict[str, str], "it")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({one_line(error)}); begin again with --overwrite") from error
    return dict(found)
