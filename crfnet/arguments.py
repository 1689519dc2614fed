"""The arguments of the command line: every command, every option, and what --help says."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from crfnet.errors import InputError

__all__ = ["parsed", "split"]

_EPILOG = """\
how the commands follow one another:
  crfnet demo                                    everything below on the built-in toy set, minutes, offline
  crfnet compare configs/camvid/resnet18.yaml    the same on your data: five arms, one report

or step by step:
  crfnet data check CONFIG                       every image and mask read once: counts, sizes, classes, void
  crfnet train CONFIG --stage unary              the network alone              -> OUTPUT/unary/train
  crfnet scores CONFIG --checkpoint CKPT         its scores on a split, cached  -> OUTPUT/scores
  crfnet search CONFIG --scores OUTPUT/scores    the CRF's parameters           -> OUTPUT/search/best.yaml
  crfnet train CONFIG --stage joint --checkpoint CKPT --crf best.yaml           -> OUTPUT/joint/train
  crfnet evaluate CONFIG --scores OUTPUT/scores --crf best.yaml --exclude OUTPUT/search/images.txt
  crfnet report OUTPUT                           the report again, of a finished compare or evaluate
  crfnet report RUN1 RUN2 RUN3 --output DIR      one report of runs that differ in their seed
  crfnet predict CONFIG --checkpoint CKPT --crf best.yaml photo.jpg
  crfnet import FILE --out CKPT                  a public checkpoint of DeepLab, as one of ours

torchrun --nproc-per-node=N -m crfnet COMMAND ...   train, scores, evaluate and compare share their work

Every key of a config can be changed on the command line: --search.images 50 --model.width 0.5
`crfnet config --help` explains every key, `crfnet config CONFIG` prints what a file comes to.
"""

#: Keys of a config that stand in no section.
_RUN_KEYS = ("--title", "--seed", "--device", "--pictures")


_CONVERT_SCORES = """\
examples:
  crfnet convert-scores features/fc8/val --to scores --images VOC2012/JPEGImages
      .mat files of DeepLab's Caffe release: <id>_blob_0.mat, variable data, (w, h, l, 1), padded to 513 x 513
  crfnet convert-scores softmax --to scores --kind probabilities --axes hwl
      .npy or .npz files <id>.npy of (h, w, l) probabilities, at image size or at any stride
  crfnet convert-scores pngs --to scores
      grey pictures <id>_<class>.png, 8 or 16 bit, one per image and class, white = 1
then:
  crfnet search CONFIG --scores scores
"""


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} ({self.prog} --help tells more)")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; images of predict may stand behind some, where argparse no longer takes them."""
    parser = _parser()
    options, left = parser.parse_known_args(arguments)
    if left and (options.command != "predict" or any(each.startswith("-") for each in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.images += map(Path, left)
    return options


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options of the command, and changes of the config: ``--section.key VALUE``, ``--seed=1``."""
    options: list[str] = []
    overrides: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, _, value = argument.partition("=")
        if not (name.startswith("--") and ("." in name or name in _RUN_KEYS)):
            options.append(argument)
        elif value or "=" in argument:
            overrides.append(argument)
        else:
            overrides += [argument, *([following] if (following := next(left, None)) is not None else [])]
    return options, overrides


_IMPORT = """\
Says what a file of weights is: torchvision's DeepLabV3, kazuto1011/deeplab-pytorch (v2, MSC),
VainF/DeepLabV3Plus-Pytorch (v3, v3+), jfzhang95/pytorch-deeplab-xception (v3+), a CRF-as-RNN layer, or one of
crfnet's own. The network is rebuilt as it was: order of channels and mean, geometry of strides, pools and
resizes. Files are read without running code from them.
"""
_IMPORT_EPILOG = """\
examples:
  crfnet import deeplabv2_resnet101_msc-vocaug-20000.pth               what it is, and its model section
  crfnet import deeplabv2_resnet101_msc-vocaug-20000.pth --out v2.pt   a checkpoint, and v2.yaml beside it
  crfnet evaluate v2.yaml --checkpoint v2.pt --data.name voc --data.root PATH/TO/VOC
  crfnet import best_deeplabv3plus_resnet101_voc_os16.pth --classes 11 --out start.pt
                                                                       other classes: a new classifier
  crfnet import plain/checkpoint.pt --config msc.yaml --out start.pt   what fits another model; it says which
"""


def _add_import(commands: Any) -> None:
    made = commands.add_parser(
        "import",
        help="identify a public checkpoint, and make it one of ours",
        description=_IMPORT,
        epilog=_IMPORT_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("file", metavar="FILE", type=Path, help="a .pth, .pt or .safetensors file")
    made.add_argument(
        "--out", metavar="FILE", type=Path, help="write it as .pt or .safetensors, a .yaml beside it"
    )
    made.add_argument("--overwrite", action="store_true", help="replace the files of --out")
    made.add_argument(
        "--classes", metavar="N", type=int, help="for N classes: unless the file has as many, new classifiers"
    )
    made.add_argument(
        "--output-stride", metavar="S", type=int, help="8 or 16, where the file does not say; default: 16"
    )
    made.add_argument(
        "--config", metavar="CONFIG", type=Path, help="put what fits into this config's model and data set"
    )


def _add_folders(evaluate: argparse.ArgumentParser) -> None:
    evaluate.usage = (
        "crfnet evaluate CONFIG (--predictions DIR | --scores PATH | --checkpoint CKPT) [...]\n"
        "       crfnet evaluate --predictions DIR --labels DIR --num-classes N [--class-names A,B,...] [...]"
    )
    evaluate.add_argument(
        "config", metavar="CONFIG", type=Path, nargs="?", help="YAML file that says which data set"
    )
    folders = evaluate.add_argument_group(
        "without CONFIG", "two folders of PNGs, files paired by name, 255 = void; writes only with --output"
    )
    folders.add_argument("--labels", metavar="DIR", type=Path, help="folder of <id>.png true label maps")
    folders.add_argument("--num-classes", metavar="N", type=int, help="both hold labels 0..N-1")
    folders.add_argument("--class-names", metavar="A,B,...", help="names of the N classes; default: numbers")


def _add_convert_scores(commands: Any) -> None:
    summary = "turn another program's score files into a score folder, which search and evaluate read"
    made = commands.add_parser(
        "convert-scores",
        help=summary,
        description=summary,
        epilog=_CONVERT_SCORES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("source", metavar="SRC", type=Path, help="folder of score files")
    made.add_argument("--to", metavar="DIR", type=Path, required=True, help="the score folder to write")
    made.add_argument(
        "--format", choices=("mat", "npz", "npy", "png"), default="", help="default: by the files' ending"
    )
    made.add_argument(
        "--kind",
        choices=("logits", "probabilities"),
        default="",
        help="default: logits; of png probabilities",
    )
    made.add_argument("--axes", default="", help="order of labels, rows, columns; default: lhw, of mat whl")
    made.add_argument("--key", default="", help="the array in a .mat or .npz file; default: the only one")
    made.add_argument("--strip", help="end of the names that is no part of the id; default: of mat _blob_0")
    made.add_argument("--images", metavar="DIR", type=Path, help="crop padded scores to these images' sizes")
    made.add_argument(
        "--align-corners", action="store_true", help="scores at a stride lie on the corner pixels' centres"
    )
    made.add_argument("--overwrite", action="store_true", help="replace the scores that DIR holds")


_REPORT = """\
examples:
  crfnet report runs/camvid
      writes its report again
  crfnet report runs/seed0 runs/seed1 runs/seed2 --output runs/seeds
      one report over the three: means over seeds, intervals over images and seeds; first, for each seed,
      crfnet compare CONFIG --seed 1 --output runs/seed1
"""


def _add_report(commands: Any) -> None:
    summary = "write the report of a finished compare or evaluate again, or one of several seeds"
    made = commands.add_parser(
        "report",
        help=summary,
        description=f"{summary}, from what lies in the folders; nothing is predicted again",
        epilog=_REPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "folders", metavar="FOLDER", type=Path, nargs="+", help="one that holds report.json; several: seeds"
    )
    made.add_argument("--output", metavar="DIR", type=Path, help="write there; needed for several folders")
    made.add_argument("--overwrite", action="store_true", help="replace what DIR holds")


_DATA = """\
examples:
  crfnet data check configs/voc12/vgg16_large_fov.yaml --data.root VOCdevkit/VOC2012
      reads both splits once: counts, sizes, classes, void, and every file that cannot be used (exit status 2)
  crfnet data voc-aug VOCdevkit/VOC2012 benchmark_RELEASE
      writes SegmentationClassAug and the list trainaug (10,582 ids) into VOC's folder; goes on where it was
"""


def _add_data(commands: Any) -> None:
    made = commands.add_parser(
        "data",
        help="check a data set, or build trainaug of VOC and SBD",
        epilog=_DATA,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read everything once and report", allow_abbrev=False)
    check.add_argument(
        "config", metavar="CONFIG", type=Path, help="YAML file that says which data set; --data.root PATH"
    )
    check.add_argument("--output", metavar="FILE", type=Path, help="the report as JSON, too")
    aug = actions.add_parser(
        "voc-aug", help="trainaug = VOC 2012 and SBD, VOC's masks win", allow_abbrev=False
    )
    aug.add_argument("voc", metavar="VOC", type=Path, help="VOCdevkit/VOC2012, into which it is written")
    aug.add_argument("sbd", metavar="SBD", type=Path, help="folder of SBD: cls/<id>.mat, train.txt, val.txt")
    aug.add_argument(
        "--count", metavar="N", type=int, default=10582, help="ids that trainaug must have; default: 10582"
    )
    for part in (check, aug):
        part.add_argument("--workers", metavar="N", type=int, default=4, help="processes; default: 4")
        part.add_argument("--overwrite", action="store_true", help="replace what is there and differs")


def _add_explore(commands: Any) -> None:
    summary = "a local page with sliders for the CRF's parameters on one image; save writes them for --crf"
    made = commands.add_parser("explore", help=summary, description=summary, allow_abbrev=False)
    made.add_argument("image", metavar="IMAGE", type=Path, help="the image file")
    made.add_argument(
        "scores",
        metavar="SCORES",
        type=Path,
        help="score folder or .npz of `crfnet scores`, or one .npy or .npz file of (l, h, w)",
    )
    made.add_argument("--id", metavar="ID", help="the image's name in SCORES; default: IMAGE's, no ending")
    made.add_argument("--crf", metavar="YAML", type=Path, help="start from these parameters (best.yaml)")
    made.add_argument("--labels", metavar="PNG", type=Path, help="true labels: shows accuracy and mIoU")
    made.add_argument("--classes", metavar="FILE", type=Path, help="names of the classes, one a line")
    made.add_argument(
        "--palette",
        metavar="NAME",
        help="colours (and names) of voc, camvid, cityscapes, context, context59, person_part, or a file of "
        "'red green blue' lines; default: those of --labels",
    )
    made.add_argument("--port", metavar="N", type=int, default=5006, help="of 127.0.0.1; default: 5006")
    made.add_argument("--no-browser", action="store_true", help="serve the page without opening it")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="crfnet",
        description="Segmentation networks with sharp boundaries: train, search, train jointly, compare.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, *, config: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if config:
            made.add_argument(
                "config", metavar="CONFIG", type=Path, help="YAML file; --section.key VALUE changes a key"
            )
        made.add_argument("--output", metavar="DIR", type=Path, help="instead of the config's output folder")
        made.add_argument("--overwrite", action="store_true", help="replace what the output folder holds")
        return made

    demo = command(
        "demo", "the whole comparison on the built-in toy set: CPU, offline, minutes", config=False
    )
    compare = command("compare", "train, search, train jointly, score all five arms, write one report")
    train = command("train", "train the network alone, or network and CRF together")
    scores = command("scores", "run a trained network over a split and keep its scores for the search")
    search = command("search", "cross-validate w1, theta_alpha, theta_beta on cached scores, coarse to fine")
    evaluate = command(
        "evaluate",
        "mIoU, accuracies, trimap curves, Boundary IoU and F of predictions, cached scores or a checkpoint",
        config=False,
    )
    predict = command("predict", "label maps and overlays of images, or of a split")
    _add_report(commands)
    _add_convert_scores(commands)
    _add_import(commands)
    _add_explore(commands)
    _add_data(commands)
    command("config", "print a config with every key, or (--help) explain every key")

    for part in (demo, compare, train, search, evaluate):
        part.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    train.add_argument("--stage", choices=("unary", "joint"), default="unary", help="default: unary")
    train.add_argument(
        "--checkpoint", metavar="CKPT", type=Path, help="start from these weights (stage joint needs them)"
    )
    train.add_argument(
        "--crf", metavar="YAML", type=Path, help="stage joint: start the CRF from a search's best.yaml"
    )
    for part in (scores, predict):
        part.add_argument("--checkpoint", metavar="CKPT", type=Path, required=True, help="trained weights")
    for part, default in ((scores, "val"), (evaluate, None), (predict, None)):
        shown = "none" if part is predict else "val"
        part.add_argument("--split", choices=("train", "val"), default=default, help=f"default: {shown}")
    search.add_argument(
        "--scores", metavar="PATH", type=Path, required=True, help="folder of cached scores, or one .npz"
    )
    source = evaluate.add_mutually_exclusive_group(required=True)
    source.add_argument("--predictions", metavar="DIR", type=Path, help="folder of <id>.png label maps")
    source.add_argument("--scores", metavar="PATH", type=Path, help="folder of cached scores, or one .npz")
    source.add_argument("--checkpoint", metavar="CKPT", type=Path, help="trained weights")
    for part in (evaluate, predict):
        part.add_argument(
            "--crf", metavar="YAML", type=Path, help="put this CRF behind the network (best.yaml)"
        )
    evaluate.add_argument(
        "--exclude", metavar="FILE", type=Path, help="ids to leave out (images.txt of a search)"
    )
    _add_folders(evaluate)
    predict.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="image files; or use --split")
    return parser
