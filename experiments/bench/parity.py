"""Runs a peer's own networks or CRF beside crfnet's import of them, and prints a table of the differences.

    python experiments/bench/parity.py torchvision
    python experiments/bench/parity.py vainf|jfzhang95|kazuto1011|convcrf|pydensecrf CHECKOUT \\
        --images FILE ...

CHECKOUT is a clone of VainF/DeepLabV3Plus-Pytorch, jfzhang95/pytorch-deeplab-xception,
kazuto1011/deeplab-pytorch, MarvinTeichmann/ConvCRF or lucasb-eyer/pydensecrf (built in place). The model
classes are imported from there; weights and the statistics of batch normalization are random. Networks see
photos, cut or repeated to every size, without --images a random one; a CRF sees a photo and random smooth
logits. The largest difference is that of logits in units of their standard deviation, of a CRF that of
marginals.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from parity_crf import CRFS
from parity_networks import NETWORKS
from PIL import Image
from torch import Tensor

COLUMNS = ("layout", "size", "largest difference", "labels equal")
Row = tuple[str, str, float, float]


def main() -> None:
    options = parse()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    if options.checkout is not None:
        sys.path.insert(0, str(options.checkout.resolve()))
    print(f"{options.peer} {commit(options.checkout)}, torch {torch.__version__}, ", end="")
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, crfnet {commit(Path(__file__).parent)}\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("| --- | --- | ---: | ---: |")
    for name, size, difference, equal in rows(options):
        print(f"| {name} | {size} | {difference:.1e} | {equal:.5f} |", flush=True)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Of every network or CRF of the peer, at every size."""
    if options.peer in CRFS:
        cases: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = CRFS[options.peer]()
    else:
        cases = {name: compare_network(make) for name, make in NETWORKS[options.peer]().items()}
    for name, compare in cases.items():
        if options.only not in name:
            continue
        for size in options.sizes:
            found = [compare(image) for image in photos(options.images, size)]
            difference = max(float((ours - theirs).abs().max()) for ours, theirs in found)
            equal = np.mean([float((a.argmax(1) == b.argmax(1)).float().mean()) for a, b in found])
            yield name, f"{size[0]}x{size[1]}", difference, float(equal)


def compare_network(
    make: Callable[[], tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]],
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Both networks are built once, when they are first asked."""
    pair: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = []

    @torch.no_grad()
    def compare(image: Tensor) -> tuple[Tensor, Tensor]:
        if not pair:
            pair.append(make())
        ours, theirs = (network(image) for network in pair[0])
        return ours / theirs.std(), theirs / theirs.std()

    return compare


def photos(files: list[Path], size: tuple[int, int]) -> list[Tensor]:
    """Photos (1, 3, h, w) in 0..255, each of the size; a random one where no file is given."""
    if not files:
        return [smooth(3, size).mul(60).add(128).clamp(0, 255).byte()]
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    repeated = [np.tile(i, (-(-size[0] // i.shape[0]), -(-size[1] // i.shape[1]), 1)) for i in images]
    return [torch.from_numpy(i[: size[0], : size[1]].copy()).permute(2, 0, 1).unsqueeze(0) for i in repeated]


def smooth(channels: int, size: tuple[int, int]) -> Tensor:
    """Random maps (1, c, h, w) of standard deviation about 1 that change over some 16 pixels."""
    coarse = torch.randn(1, channels, size[0] // 16 + 2, size[1] // 16 + 2)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=True)


def commit(folder: Path | None) -> str:
    """The short name and day of a checkout's commit."""
    if folder is None:
        return ""
    asked = ["git", "-C", str(folder), "log", "-1", "--format=%h (%cs)"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "of no commit"


def size_of(text: str) -> tuple[int, int]:
    """``375x500``: rows and columns."""
    height, _, width = text.partition("x")
    return int(height), int(width)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peer", choices=(*NETWORKS, *CRFS))
    parser.add_argument("checkout", type=Path, nargs="?")
    parser.add_argument("--images", type=Path, nargs="+", default=[])
    parser.add_argument("--only", default="", help="only what has this in its name")
    parser.add_argument(
        "--sizes", type=size_of, nargs="+", default=[(321, 321), (513, 513), (375, 500)], metavar="HxW"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.checkout is None and options.peer != "torchvision":
        parser.error(f"{options.peer} needs the path of a checkout")
    return options


if __name__ == "__main__":
    main()
