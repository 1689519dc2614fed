"""``crfnet import``: what a checkpoint is, and that as one of ours."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crfnet.cli.shared import check_not_read
from crfnet.errors import InputError, require

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Says what a file of weights is: torchvision's DeepLabV3, kazuto1011/deeplab-pytorch (v2, MSC),
VainF/DeepLabV3Plus-Pytorch (v3, v3+), jfzhang95/pytorch-deeplab-xception (v3+), a TF-Lite file of v3 with
MobileNetV2, a CRF-as-RNN layer, or one of crfnet's own. The network is rebuilt as it was: order of channels
and mean, geometry of strides, pools and resizes. Files are read without running code from them. What training
scripts put around the weights is taken off and named: dictionaries (state_dict, model, ema, ...), prefixes
(module., model., net., _orig_mod., ...).
"""
_EPILOG = """\
examples:
  crfnet import deeplabv2_resnet101_msc-vocaug-20000.pth               what it is, and its model section
  crfnet import deeplabv2_resnet101_msc-vocaug-20000.pth --out v2.pt   a checkpoint, and v2.yaml beside it
  crfnet evaluate v2.yaml --checkpoint v2.pt --data.root PATH/TO/VOC
  crfnet import best_deeplabv3plus_resnet101_voc_os16.pth --classes 11 --out start.pt
                                                                       other classes: a new classifier
  crfnet import deeplabv3.tflite --out start.pt                        TF-Lite: pip install 'crfnet[tflite]'
  crfnet import plain/checkpoint.pt --config msc.yaml --out start.pt   what fits another model; it says which
"""


def add_parser(commands: Any) -> None:
    """``import``."""
    summary = "identify a public checkpoint, and make it one of ours"
    parser = commands.add_parser("import", help=summary, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("file", metavar="FILE", type=Path, help="a .pth, .pt, .safetensors or .tflite file")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="write it as .pt or .safetensors, a .yaml beside it"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the files of --out")
    parser.add_argument(
        "--classes", metavar="N", type=int, help="for N classes: unless the file has as many, new classifiers"
    )
    parser.add_argument(
        "--output-stride", metavar="S", type=int, help="8 or 16, where the file does not say; default: 16"
    )
    parser.add_argument(
        "--rates", metavar="R", type=int, nargs="+", help="dilations of ASPP's branches, which no file says"
    )
    parser.add_argument(
        "--config", metavar="CONFIG", type=Path, help="put what fits into this config's model and data set"
    )


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Say what a checkpoint is, and write it as one of ours."""
    import torch

    from crfnet.checkpoints.convert import convert_file, fitted, model_yaml, write_converted
    from crfnet.config.nested import changed
    from crfnet.config.variants import to_plain
    from crfnet.data import DataConfig, classes_of
    from crfnet.pipeline.run_config import load_run

    del command
    if overrides and options.config is None:
        raise InputError(f"import: {overrides[0]} changes a config, but no --config is given")
    if options.out is not None:
        _check_out(options)
    torch.manual_seed(0)
    converted = convert_file(
        options.file, num_classes=options.classes, output_stride=options.output_stride, rates=options.rates
    )
    _check_own(options, converted.config is None)
    if options.config is not None:
        run = load_run(options.config, overrides)
        classes = len(classes_of(run.data).names)
        require(
            "import --classes", options.classes, options.classes in (None, classes), f"{classes}, as --config"
        )
        torch.manual_seed(run.seed)
        data = changed(to_plain(run.data), to_plain(DataConfig()), always=("name",))
        converted = replace(fitted(converted, run.model, classes, run.data.channels), data=data)
    lines = [f"{options.file}: {converted.what}", *converted.notes]
    if converted.config is not None:
        lines += ["", model_yaml(converted.config).rstrip()]
    if options.out is not None:
        lines += ["", *(f"written: {path}" for path in write_converted(converted, options.out))]
    return "\n".join(lines)


def _check_own(options: Namespace, own: bool) -> None:
    """Options that say what a public file leaves open are none for a file that tells, or has no network."""
    given = {"--rates": options.rates, "--output-stride": options.output_stride}
    if options.config is None:
        given["--classes"] = options.classes
    for name, value in given.items():
        told = own or (name == "--rates" and options.file.suffix == ".tflite")
        allowed = "left out: the file tells (for other classes give --config)"
        require(f"import {name}", value, value is None or not told, allowed)


def _check_out(options: Namespace) -> None:
    """The place of the checkpoint, and of the config beside it."""
    from crfnet.files import check_writable

    for path in (options.out, options.out.with_suffix(".yaml")):
        check_writable(path, file=True)
        check_not_read(path, options)
        if path.exists() and not options.overwrite:
            raise InputError(f"{path}: exists already; give --overwrite or another --out")
    _check_replaced(options.out.with_suffix(".yaml"))


def _check_replaced(config: Path) -> None:
    """The config that is replaced must be one of a model and its classes alone, as this command writes it."""
    from crfnet.files import read_yaml

    if config.exists():
        content = read_yaml(config)
        ours = isinstance(content, dict) and set(content) in ({"model"}, {"model", "data"})
        if not ours:
            raise InputError(f"{config}: not written by crfnet import, so it is left alone; another --out")
