"""Weights of others, or our own, as a checkpoint that every command takes, or as safetensors."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from crfnet.checkpoints.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from crfnet.checkpoints.data_section import data_section
from crfnet.checkpoints.layouts import Imported, import_state, import_tflite
from crfnet.checkpoints.layouts.layout import HEAD
from crfnet.checkpoints.legacy import current_settings, current_weights
from crfnet.config.nested import changed, flat
from crfnet.config.variants import to_plain
from crfnet.crf.crfasrnn import NAMES, from_crfasrnn
from crfnet.errors import InputError
from crfnet.files import one_line, write_atomically
from crfnet.files.weight_files import read_safetensors, read_unwrapped, write_safetensors
from crfnet.models import ModelConfig, build_network
from crfnet.models.input_channels import adapt_first_convolution
from crfnet.segmenter import Segmenter, build_segmenter

__all__ = ["Converted", "convert_file", "fitted", "model_yaml", "public_segmenter", "write_converted"]

ENDINGS = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Converted:
    """Weights by the names of a `Segmenter`, and what there is to say about them.

    Attributes:
        what: which network or layer of whom, one line.
        model: the weights, ``network.`` or ``crf.`` in front of their names.
        config: the model that they belong to; None where the file does not tell.
        notes: a line for everything that was skipped, assumed or added.
        settings: of a checkpoint; those of the CRF are needed to build it again.
        data: the section ``data:`` that belongs to it; None for `data_section` of its classes.
    """

    what: str
    model: dict[str, Tensor]
    config: ModelConfig | None = None
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] | None = None


def convert_file(
    path: Path,
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
    rates: Sequence[int] | None = None,
) -> Converted:
    """What the weights in a file are, by our names.

    Args:
        path: a checkpoint or safetensors file of a layout in `crfnet.checkpoints.layouts.LAYOUTS`, of this
            library, or one with a layer of CRF-as-RNN in it; or a TF-Lite file.
        num_classes: another number of classes than the file's, whose classifiers then start anew.
        output_stride: where the layout leaves it open.
        rates: dilations of the branches of ASPP, where they are not the original's default.

    Raises:
        InputError: it cannot be read, is of no known layout, or of a network that cannot be expressed.
    """
    try:
        if path.suffix == ".tflite":
            return _converted(import_tflite(path, num_classes=num_classes, output_stride=output_stride))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    state, around = read_unwrapped(path)
    try:
        if all(name.startswith(("network.", "crf.")) for name in state):
            settings, own = _own_settings(path), current_weights(state)
            notes = around if any(note.startswith("stripped") for note in around) else ()
            return Converted(f"crfnet, {_size(own)}", own, notes=notes, settings=settings)
        if all(sum(key.endswith(name) for key in state) == 1 for name in NAMES):
            return dataclasses.replace(made := _crf(state), notes=(*around, *made.notes))
        imported = import_state(state, num_classes=num_classes, output_stride=output_stride, rates=rates)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return _converted(imported, around)


def _converted(imported: Imported, around: Sequence[str] = ()) -> Converted:
    weights = imported.state
    if not any(HEAD.fullmatch(name) for name in weights):  # for other classes: their start
        weights = build_network(imported.config, imported.num_classes).state_dict() | weights
    return Converted(
        what=f"{imported.what}, {imported.num_classes} classes, {_size(imported.state)}",
        model={f"network.{name}": value for name, value in weights.items()},
        config=imported.config,
        notes=(
            *around,
            *(f"assumed: {note}" for note in imported.notes),
            *(f"skipped: {s}" for s in imported.skipped),
        ),
        settings={"source": imported.what, "num_classes": imported.num_classes},
    )


def public_segmenter(
    path: Path,
    *,
    num_classes: int | None = None,
    output_stride: int | None = None,
    rates: Sequence[int] | None = None,
) -> Segmenter:
    """The model in a public checkpoint, with its own preprocessing, in evaluation mode.

    Args:
        path: as of `convert_file`.
        num_classes: as of `convert_file`.
        output_stride: as of `convert_file`.
        rates: as of `convert_file`.

    Raises:
        InputError: as `convert_file`; or the file does not tell the network (our own, or a CRF alone).
    """
    converted = convert_file(path, num_classes=num_classes, output_stride=output_stride, rates=rates)
    if converted.config is None:
        raise InputError(f"{path}: {converted.what}: not a public network; build the model from its config")
    model = build_segmenter(converted.config, converted.settings["num_classes"])
    model.load_state_dict(converted.model)
    return model.eval()


def fitted(converted: Converted, config: ModelConfig, num_classes: int, channels: int = 3) -> Converted:
    """The same weights in the model of ``config``: what fits by name and shape is taken, the rest is named.

    So MSc begins from a plain DeepLab v1, and a network for other classes from a published one. The other
    weights of the network start as in training; a CRF in ``converted`` is left out. For images of other
    ``channels`` the first convolution is `adapt_first_convolution`'s.

    Raises:
        InputError: nothing fits.
    """
    network = build_network(config, num_classes)
    ours = {f"network.{name}": value for name, value in network.state_dict().items()}
    taken = {
        name: value
        for name, value in converted.model.items()
        if name in ours and ours[name].shape == value.shape
    }
    if not taken:
        raise InputError(
            f"{converted.what}: none of its weights fits a {config.variant_name} on {config.backbone}"
        )
    notes = [f"taken: {len(taken)} of {len(converted.model)} entries"]
    left = [name for name in converted.model if name not in taken]
    new = [name for name in ours if name not in taken]
    notes += [f"skipped: {_listed(left)}"] * bool(left) + [f"new, started at random: {_listed(new)}"] * bool(
        new
    )
    network.load_state_dict({name.removeprefix("network."): value for name, value in (ours | taken).items()})
    adapt_first_convolution(network, channels)
    return Converted(
        converted.what,
        {f"network.{name}": value for name, value in network.state_dict().items()},
        config,
        (*converted.notes, *notes),
        {"source": converted.what, "num_classes": num_classes},
    )


def write_converted(converted: Converted, path: Path) -> list[Path]:
    """Writes a checkpoint (.pt, .pth) or .safetensors, and beside it a config with model and data if known.

    Returns:
        The files.

    Raises:
        InputError: another ending.
    """
    if path.suffix not in ENDINGS:
        raise InputError(f"{path}: must end in {', '.join(ENDINGS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        about = {"format": "crfnet", "what": converted.what, "settings": converted.settings}
        write_safetensors(path, converted.model, about)
    else:
        save_checkpoint(
            path,
            Checkpoint(
                step=0,
                seconds=0.0,
                settings=converted.settings,
                model=converted.model,
                optimizer={},
                random={},
            ),
        )
    if converted.config is None:
        return [path]
    beside = path.with_suffix(".yaml")
    data = converted.data or data_section(converted.settings["num_classes"])
    section = yaml.safe_dump({"data": dict(data)}, sort_keys=False)
    write_atomically(beside, f"# {converted.what}\n{model_yaml(converted.config)}{section}".encode())
    return [path, beside]


def model_yaml(config: ModelConfig) -> str:
    """The section ``model:`` of a config file, with the keys that are not the default."""
    default = ModelConfig(type(config.build_variant())(), backbone=config.backbone)
    plain = changed(to_plain(config), to_plain(default), always=("variant", "backbone"))
    return str(yaml.safe_dump({"model": plain}, sort_keys=False))


def _crf(state: Mapping[str, Tensor]) -> Converted:
    """The layer alone. Whose sign its matrix has is not in the file; taken is the PyTorch port's."""
    crf = from_crfasrnn(state)
    rest = len(state) - len(NAMES)
    notes = [
        "assumed: the sign of sadeepj/crfasrnn_pytorch; for Keras and Caffe see from_crfasrnn",
        "assumed: bandwidths 160, 3, 3 and the steps of the release, which are in no such file",
    ]
    notes += [f"skipped: {rest} weights of the network before it"] * bool(rest)
    return Converted(
        what=f"CRF-as-RNN: the CRF layer, {crf.num_classes} classes",
        model={f"crf.{name}": value for name, value in crf.state_dict().items()},
        notes=tuple(notes),
        settings=flat(to_plain(crf.config), "crf."),
    )


def _own_settings(path: Path) -> dict[str, Any]:
    """Of a file of ours, whose CRF cannot be built without them; a bare state dict has none."""
    if path.suffix == ".safetensors":
        try:
            return current_settings(dict(json.loads(read_safetensors(path)[1].get("settings", "{}"))))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path}: its settings cannot be read ({one_line(error)})") from error
    try:
        return read_checkpoint(path)["settings"]
    except InputError:
        return {}


def _size(state: Mapping[str, Tensor]) -> str:
    numbers = sum(value.numel() for value in state.values())
    return f"{len(state)} entries, {numbers / 1e6:.1f} million numbers"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
