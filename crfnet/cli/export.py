"""``crfnet export``: the network of a checkpoint for another runtime."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crfnet.errors import InputError, require

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Writes the network with its preprocessing as an ONNX file: RGB images (b, 3, h, w), float32 in 0..255, to
logits at the network's stride. The file is run by onnxruntime once, on several sizes, and must answer as the
network does. A dense CRF cannot be part of it: it is applied to the logits afterwards, see
experiments/onnx/run.py. The one in the checkpoint is written beside the file, as FILE_crf.yaml.
"""
_EPILOG = """\
examples:
  crfnet export runs/camvid/unary/train/checkpoint.pt --to onnx --out camvid.onnx
      a run's network; its config is found in the run's folder, or given with --config
  crfnet export deeplabv3_resnet50_coco.pth --to onnx                  a public checkpoint
  crfnet export msc.pt --to onnx --size 321 321                        one size, where not all can be had
then:
  python experiments/onnx/run.py camvid.onnx photo.jpg --crf best.yaml
"""


def add_parser(commands: Any) -> None:
    """``export``."""
    summary = "the network of a checkpoint as an ONNX file, for runtimes without PyTorch"
    parser = commands.add_parser("export", help=summary, description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="trained or public weights")
    parser.add_argument("--to", choices=("onnx",), required=True, help="the format")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="default: CHECKPOINT's name, ending in .onnx"
    )
    parser.add_argument(
        "--config", metavar="CONFIG", type=Path, help="of the run; default: beside or above CHECKPOINT"
    )
    parser.add_argument(
        "--size", metavar=("ROWS", "COLUMNS"), type=int, nargs=2, help="one size; default: every size"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the files")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Export the network of a checkpoint."""
    from crfnet.crf.config import CRFConfig
    from crfnet.files import check_writable
    from crfnet.pipeline.export import export_onnx, model_of_checkpoint

    del command
    out = options.out or options.checkpoint.with_suffix(".onnx")
    require("export: --out", str(out), out.suffix == ".onnx", "a file that ends in .onnx")
    beside = out.with_name(f"{out.stem}_crf.yaml")
    for path in (out, beside):
        check_writable(path, file=True)
        if path.exists() and not options.overwrite:
            raise InputError(f"{path}: exists already; give --overwrite or another --out")
    size = None if options.size is None else tuple(options.size)
    require("export: --size", options.size, size is None or min(size) >= 1, "two numbers >= 1")
    model, crf = model_of_checkpoint(options.checkpoint, options.config, overrides)
    made = export_onnx(model, out, crf, size=size)
    sizes = {0: f"{size} alone", 1: "any size"}.get(made.multiple, f"multiples of {made.multiple}")
    images = f"images (b, {model.mean.numel()}, h, w) of {sizes}"
    lines = [f"{out}: {images} to logits, the network's within {made.difference:.1g}"]
    if crf is not None:
        what = "CRF of the checkpoint, for DenseCRF" if isinstance(crf, CRFConfig) else "domain transform"
        lines.append(f"{beside}: the {what}; it is no part of the ONNX file")
    return "\n".join(lines)
