"""Checks the GPU kernels against torch and brute force, then measures whole inferences, training and search.

    python experiments/bench/gpu/run.py [--quick] [--device cuda] [--image FILE] [--parts check inference ...]

One run prints every figure, in under ten minutes on a data-center GPU:

- ceilings: the speeds of a large copy and of a float32 matrix product, of which all floors are made;
- contract: the tests of `tests/kernels` on this device, and compute-sanitizer on each kernel, if installed;
- check: the kernels against brute force and float64 at larger sizes;
- inference: 500 x 375 pixels, 21 classes, 10 iterations, one and 16 images, with what has to be moved and
  computed, the floor from it, peak memory and pydensecrf where it can be imported; the steps as CUDA graphs;
- bound, tiles: sweeps over what `auto` and the exact filter have as constants;
- training: a step of DeepLab v2 ResNet-101 at 321 x 321, batch 10, and the CRF's share of it;
- search: the paper's coarse search.

Times are medians of CUDA events after a warm-up, operators built anew each time. A part that fails prints
its error, the others go on, and the exit status is 1; a target that is missed is said and is no failure.
``--quick`` takes tiny sizes, on a CPU too, where checks run in Triton's interpreter. Its times mean nothing.
"""

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

if "cpu" in sys.argv:  # read when triton is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

sys.path.insert(0, str(Path(__file__).parents[1]))  # posthoc.py, and this folder as the package gpu

import torch

from gpu.checks import check
from gpu.inference import inference
from gpu.kernel_tests import contract
from gpu.machine import Bench, ceilings, header
from gpu.sweeps import bound, tiles
from gpu.training_search import search, training

PARTS = {
    part.__name__: part for part in (ceilings, contract, check, inference, bound, tiles, training, search)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--image", type=Path, help="a picture; default: a made-up one")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    bench = Bench(options)
    torch.manual_seed(0)
    start = time.perf_counter()
    header(bench)
    for name in options.parts:
        print(f"\n{name}", flush=True)
        clock = time.perf_counter()
        try:
            PARTS[name](bench)
        except Exception as error:  # the other parts are still wanted
            bench.failed = True
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            print(f"FAILED: {type(error).__name__}: {error} ({where})", flush=True)
        print(f"({time.perf_counter() - clock:.0f} s)", flush=True)
    print(f"\n{'FAILED' if bench.failed else 'all checks passed'} after {time.perf_counter() - start:.0f} s")
    sys.exit(bench.failed)


if __name__ == "__main__":
    main()
