"""Multiply-adds of DeepLab v3 and v3+ on a 513x513 image beside the published ones (v3+, tables 3 and 5).

    python experiments/bench/multiply_adds.py [--out FILE.md]

Nothing is computed: torch counts the operations of a network without data. The paper's networks ran in a
graph that differs from ours in ways that change no score but cost operations, so a second column counts them
as that graph does:

- a convolution of rate r is run on r^2 interleaved images of ceil(n / r) rows each (space-to-batch): the rows
  that fill up the last ones are computed and thrown away;
- its ResNet-101 has three 3x3 convolutions (64, 64, 128 channels) for the first 7x7 one, and the stride on
  the last unit of a block, where ours, as torchvision's weights need it, has it on the first.

What is left, at most 0.3 billion, is what is no convolution. The published 101.28 is 1.3 % below because it
is that of a network without multi-grid: it is 81.02 plus 20.26, but the decoder costs 21.76 elsewhere.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from crfnet.models import VARIANTS, ModelConfig, Network, build_network

SIZE = 513
MULTI_GRID = (1, 2, 4)
RESNET = {"backbone": "resnet101", "multi_grid": MULTI_GRID}
XCEPTION = {"backbone": "timm:xception65"}


class Row(NamedTuple):
    """A network of the paper, its output stride in evaluation and its multiply-adds in billions."""

    table: int
    variant: str
    output_stride: int
    changes: dict
    published: float


ROWS = [
    Row(3, "deeplab_v3", 16, RESNET, 81.02),
    Row(3, "deeplab_v3", 8, RESNET, 276.18),
    Row(3, "deeplab_v3plus", 16, RESNET, 101.28),
    Row(3, "deeplab_v3plus", 8, RESNET, 297.92),
    Row(3, "deeplab_v3", 32, RESNET, 52.43),
    Row(3, "deeplab_v3plus", 32, RESNET, 74.20),
    Row(5, "deeplab_v3", 16, XCEPTION, 68.00),
    Row(5, "deeplab_v3", 8, XCEPTION, 240.85),
    Row(5, "deeplab_v3plus", 16, XCEPTION, 89.76),
    Row(5, "deeplab_v3plus", 8, XCEPTION, 262.59),
    Row(5, "deeplab_v3plus", 16, {**XCEPTION, "separable": True}, 54.17),
    Row(5, "deeplab_v3plus", 8, {**XCEPTION, "separable": True}, 177.10),
]


class Count(NamedTuple):
    """Billions of multiply-adds: as torch counts ours, and in the published graph."""

    ours: float
    published_graph: float


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, help="write the table there too")
    out = options.parse_args().out
    lines = [
        f"torch {torch.__version__}, {SIZE}x{SIZE}, 21 classes, billions of multiply-adds",
        "",
        "| table | network | output stride | published | ours | ratio | in the published graph | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        found = count(row)
        name = f"{row.variant}, {row.changes['backbone']}" + ", separable" * ("separable" in row.changes)
        lines.append(
            f"| {row.table} | {name} | {row.output_stride} | {row.published:.2f} "
            f"| {found.ours:.2f} | {found.ours / row.published:.3f} "
            f"| {found.published_graph:.2f} | {found.published_graph / row.published:.3f} |"
        )
    print("\n".join(lines))
    if out is not None:
        out.write_text("\n".join(lines) + "\n")


def count(row: Row) -> Count:
    """Both counts of one row."""
    own = {name: value for name, value in row.changes.items() if name != "backbone"}
    variant = VARIANTS[row.variant](output_stride=row.output_stride, **own)
    config = ModelConfig(variant, backbone=row.changes["backbone"])
    with torch.device("meta"):
        network = build_network(config, num_classes=21).eval()
    by_torch, trunk, head = operations(network)
    if row.changes["backbone"] == "resnet101":
        trunk = published_resnet101(row.output_stride)
    return Count(by_torch / 1e9, (trunk + head) / 1e9)


def operations(network: Network) -> tuple[int, int, int]:
    """Multiply-adds on one image.

    Returns:
        By torch's counter; then of backbone and head with rows filled up to multiples of the rates.
    """
    filled = {True: 0, False: 0}
    in_backbone = set(network.backbone.modules())

    def add(layer, inputs, output):
        filled[layer in in_backbone] += cost(layer, output)

    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(add) for layer in convolutions]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.empty(1, 3, SIZE, SIZE, device="meta"))
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2, filled[True], filled[False]


def cost(layer: nn.Conv2d, output: torch.Tensor) -> int:
    """Multiply-adds of a convolution in the published graph."""
    rows, columns = (filled_up(side, layer.dilation[0]) for side in output.shape[2:])
    return rows * columns * layer.weight.numel()


def filled_up(side: int, rate: int) -> int:
    """The smallest multiple of ``rate`` that is not below ``side``."""
    return -(-side // rate) * rate


def published_resnet101(output_stride: int) -> int:
    """ResNet-101 as published: three 3x3 convolutions first, stride on a block's last unit, multi-grid."""
    side, stride, rate, channels = 257, 4, 1, 128
    total = side**2 * 9 * (3 * 64 + 64 * 64 + 64 * 128)
    side = 129
    for planes, units, last_stride in ((64, 3, 2), (128, 4, 2), (256, 23, 2), (512, 3, 1)):
        for unit in range(units):
            strided = unit == units - 1 and last_stride == 2
            shrinks = strided and stride < output_stride
            after = (side + 1) // 2 if shrinks else side
            unit_rate = rate * (MULTI_GRID[unit] if planes == 512 else 1)
            total += side**2 * channels * planes
            total += (after if shrinks else filled_up(side, unit_rate)) ** 2 * 9 * planes**2
            total += after**2 * planes * 4 * planes
            if channels != 4 * planes:
                total += side**2 * channels * 4 * planes
            channels, side = 4 * planes, after
            if shrinks:
                stride *= 2
            elif strided:
                rate *= 2
    return total


if __name__ == "__main__":
    main()
