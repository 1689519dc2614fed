"""Arguments of the commands for what comes from elsewhere: data sets, scores and checkpoints."""

from pathlib import Path
from typing import Any

__all__ = ["add_convert_scores", "add_data", "add_import"]

_DATA = """\
examples:
  crfnet data check configs/voc/deeplab_v2_vgg16_large_fov.yaml --data.root VOCdevkit/VOC2012
      reads both splits once: counts, sizes, classes, void, and every file that cannot be used (exit status 2)
  crfnet data voc-aug VOCdevkit/VOC2012 benchmark_RELEASE
      writes SegmentationClassAug and the list trainaug (10,582 ids) into VOC's folder; goes on where it was
"""


def add_data(commands: Any) -> None:
    """``data``."""
    summary = "check a data set, or build trainaug of VOC and SBD"
    made = commands.add_parser("data", help=summary, epilog=_DATA)
    actions = made.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read everything once and report")
    check.add_argument(
        "config", metavar="CONFIG", type=Path, help="YAML file that says which data set; --data.root PATH"
    )
    check.add_argument("--output", metavar="FILE", type=Path, help="the report as JSON, too")
    aug = actions.add_parser("voc-aug", help="trainaug = VOC 2012 and SBD, VOC's masks win")
    aug.add_argument("voc", metavar="VOC", type=Path, help="VOCdevkit/VOC2012, into which it is written")
    aug.add_argument("sbd", metavar="SBD", type=Path, help="folder of SBD: cls/<id>.mat, train.txt, val.txt")
    aug.add_argument(
        "--count", metavar="N", type=int, default=10582, help="ids that trainaug must have; default: 10582"
    )
    for part in (check, aug):
        part.add_argument("--workers", metavar="N", type=int, default=4, help="processes; default: 4")
        part.add_argument("--overwrite", action="store_true", help="replace what is there and differs")


_CONVERT_SCORES = """\
examples:
  crfnet convert-scores features/fc8/val --to scores --images VOC2012/JPEGImages
      .mat files of DeepLab's Caffe release: <id>_blob_0.mat, variable data, (w, h, l, 1), padded to 513 x 513
  crfnet convert-scores softmax --to scores --kind probabilities --axes hwl
      .npy or .npz files <id>.npy of (h, w, l) probabilities, at image size or at any stride
  crfnet convert-scores pngs --to scores
      gray pictures <id>_<class>.png, 8 or 16 bit, one per image and class, white = 1
then:
  crfnet search CONFIG --scores scores
"""


def add_convert_scores(commands: Any) -> None:
    """``convert-scores``."""
    summary = "turn another program's score files into a score folder, which search and evaluate read"
    made = commands.add_parser("convert-scores", help=summary, description=summary, epilog=_CONVERT_SCORES)
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
        "--align-corners", action="store_true", help="scores at a stride lie on the corner pixels' centers"
    )
    made.add_argument("--overwrite", action="store_true", help="replace the scores that DIR holds")


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


def add_import(commands: Any) -> None:
    """``import``."""
    summary = "identify a public checkpoint, and make it one of ours"
    made = commands.add_parser("import", help=summary, description=_IMPORT, epilog=_IMPORT_EPILOG)
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
