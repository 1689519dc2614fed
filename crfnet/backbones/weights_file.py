"""A backbone's weights from a file, by the names of torchvision, timm or efficientnet-lite-pytorch."""

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor, nn

from crfnet.backbones.layer_names import HEAD, PREFIXES, common_names
from crfnet.errors import InputError, needing, require

__all__ = ["load_weights", "load_weights_file", "read_classifier"]

#: Of VGG-16's classifier, what fc6 and fc7 of DeepLab v1 and v2 start from.
VGG_CLASSIFIER = {
    "classifier.0.weight": (4096, 25088),
    "classifier.0.bias": (4096,),
    "classifier.3.weight": (4096, 4096),
    "classifier.3.bias": (4096,),
}


def load_weights_file(backbone: nn.Module, path: Path, fresh: tuple[str, ...] = ()) -> None:
    """All weights of ``backbone`` become those of a file; a classifier behind them is left out.

    Args:
        backbone: unchanged when the file does not fit.
        path: .pth, .pt or .safetensors; see `crfnet.files.weight_files.read_weights`.
        fresh: how names begin that the file may lack: their weights start at random.

    Raises:
        InputError: it cannot be read, lacks weights, or has others; one line that names them.
    """
    load_weights(backbone, _read(path), str(path), fresh)


def read_classifier(path: Path) -> dict[str, Tensor]:
    """The fully connected layers of torchvision's VGG-16 in a file.

    Raises:
        InputError: it cannot be read, or has no such layers.
    """
    state = _read(path)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for name, shape in VGG_CLASSIFIER.items():
        require(f"{path}: shape of {name}", shapes.get(name), shapes.get(name) == shape, f"{shape} (VGG-16)")
    return {name: state[name] for name in VGG_CLASSIFIER}


def load_weights(
    backbone: nn.Module, state: Mapping[str, Tensor], place: str, fresh: tuple[str, ...] = ()
) -> None:
    """All weights of ``backbone`` become those of ``state``, whatever of the known names those have.

    Those whose names begin with one of ``fresh`` may be missing, and stay as they are.

    Raises:
        InputError: they do not fit; the line begins with ``place``.
    """
    ours = backbone.state_dict()
    names = {common: name for name, common in common_names(ours).items()}
    theirs = _without_prefix(state, names)
    found = {names[name]: value for name, value in theirs.items() if name in names}
    missing = [
        name
        for name in ours
        if name not in found and not name.endswith("num_batches_tracked") and not name.startswith(fresh)
    ]
    others = [name for name in theirs if name not in names and not HEAD.fullmatch(name)]
    reshaped = [
        f"{name} is {list(value.shape)}, must be {list(ours[name].shape)}"
        for name, value in found.items()
        if value.shape != ours[name].shape
    ]
    faults = [f"it lacks {_some(missing)}"] * bool(missing)
    faults += ["; ".join(reshaped[:1]) + _more(reshaped, 1)] * bool(reshaped)
    faults += [f"it has {_some(others)} beside"] * bool(others)
    if faults:
        raise InputError(f"{place}: weights of another network than this backbone: {'; '.join(faults)}")
    if not all(value.isfinite().all() for value in found.values()):
        raise InputError(f"{place}: holds NaN or infinity, must hold finite weights")
    backbone.load_state_dict(ours | found)


def _read(path: Path) -> dict[str, Tensor]:
    with needing("backbone_weights"):
        from crfnet.files.weight_files import read_weights

    return read_weights(path)


def _without_prefix(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """By common names; without the prefix under which most of the wanted are found."""
    candidates = []
    for prefix in PREFIXES:
        part = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
        common = common_names(part)
        candidates.append({common[name]: value for name, value in part.items()})
    return max(candidates, key=lambda candidate: len(candidate.keys() & set(wanted)))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + _more(names, 3)


def _more(items: list[str], shown: int) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""
