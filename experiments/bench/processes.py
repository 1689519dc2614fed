"""Times post-hoc inference in a pool of processes: the layer, the drop-in and pydensecrf, default settings.

    python experiments/bench/processes.py SCORES.npz IMAGES --processes 2 4 --start fork spawn

SCORES.npz and IMAGES as in mean_field_cpu.py. Every process takes its share of the images, one after the
other, lattices, decoding and upsampling included; the pool is warmed up first (imports, compiled code), and
the ways alternate. Images a second of the whole pool, medians over the repeats. pydensecrf where it can be
imported.
"""

import argparse
import multiprocessing
import statistics
import time

import mean_field_cpu
import numpy as np
import torch
from mean_field_cpu import add_images, by_pydensecrf, load
from posthoc import header

import crfnet.pydensecrf.densecrf as drop_in
from crfnet.crf.layer import CRFConfig, DenseCRF


def main() -> None:
    options = parse()
    header(
        argparse.Namespace(threads="default", classes="cached scores", iterations=10, repeats=options.repeats)
    )
    ways = ["layer", "drop-in"] + (["pydensecrf"] if mean_field_cpu.dcrf is not None else [])
    print("| start | processes | " + " | ".join(f"{way}, images/s" for way in ways) + " | ratios |")
    print("|" + " --- |" * (3 + len(ways)))
    for start in options.start:
        for processes in options.processes:
            rates = measured(options, ways, start, processes)
            middles = [statistics.median(rates[way]) for way in ways]
            ratios = ", ".join(f"{middle / middles[-1]:.2f}" for middle in middles)
            print(f"| {start} | {processes} | " + " | ".join(f"{m:.2f}" for m in middles) + f" | {ratios} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images(parser, every=17)
    parser.add_argument("--theta", default="49/5")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--start", nargs="+", default=["fork", "spawn"], choices=["fork", "spawn"])
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def measured(
    options: argparse.Namespace, ways: list[str], start: str, processes: int
) -> dict[str, list[float]]:
    """Images a second, a number for each repeat."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    numbers = range(0, options.images * options.every, options.every)
    with multiprocessing.get_context(start).Pool(processes) as pool:
        for way in ways:
            pool.starmap(infer, [(options, way, 0)] * (2 * processes), chunksize=1)
        for _ in range(options.repeats):
            for way in ways:
                begin = time.perf_counter()
                pool.starmap(infer, [(options, way, number) for number in numbers], chunksize=1)
                rates[way].append(options.images / (time.perf_counter() - begin))
    return rates


def infer(options: argparse.Namespace, way: str, number: int) -> int:
    """The commonest label of one image, which is all that travels back."""
    image, logits = load(options, number)
    alpha, beta = map(float, options.theta.split("/"))
    config = CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta, iterations=10)
    if way == "layer":
        with torch.inference_mode():
            marginals = DenseCRF(logits.shape[1], config).eval()(logits, image)[0].flatten(1).numpy()
    elif way == "drop-in":
        marginals = by_pydensecrf(image, logits[0].flatten(1).numpy(), config, drop_in)
    else:
        marginals = by_pydensecrf(image, logits[0].flatten(1).numpy(), config)
    return int(np.bincount(marginals.argmax(0)).argmax())


if __name__ == "__main__":
    main()
