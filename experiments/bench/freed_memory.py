"""Times a training step on a CPU with memory kept and in large pages, as `crfnet train` has it, and without.

    python experiments/bench/freed_memory.py [--config CONFIG] [--threads 1 2] [--steps 8] [--repeats 2]

The network of CONFIG from random weights, its batch, crop and precision, on noise; no data is needed. Each
side runs in a process of its own, because the settings are the process's; the sides take turns. Seconds are
medians without the first two steps; memory is the largest resident size.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from header import print_header
from torch.amp.grad_scaler import GradScaler

from crfnet.data import Sample
from crfnet.labels import DATASET_CLASSES
from crfnet.memory import peak_memory_mb
from crfnet.pipeline.run_config import load_run
from crfnet.segmenter import build_segmenter
from crfnet.training import train_step
from crfnet.training.optim import build_optimizer
from crfnet.training.stop_signals import StopRequest

CONFIG = Path(__file__).parents[2] / "configs/camvid/deeplab_v3plus_efficientnet_lite0.yaml"
SIDES = ("given back", "kept")


def main() -> None:
    options = parse()
    if options.side:
        print(json.dumps(steps(options)))
        return
    print_header()
    print(f"{' '.join(platform.libc_ver())}, {options.config.name}")
    print("| threads | freed memory | s / step | processor s | peak MB | times faster |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for threads in options.threads:
        taken = {side: [] for side in SIDES}
        for _ in range(options.repeats):
            for side in SIDES:
                taken[side].append(child(options, side, threads))
        ratio = statistics.median(old["wall"] / new["wall"] for old, new in zip(*taken.values(), strict=True))
        for side, runs in taken.items():
            wall, cpu, peak = (statistics.median(run[key] for run in runs) for key in ("wall", "cpu", "peak"))
            gain = f"{ratio:.2f}" if side == "kept" else ""
            print(f"| {threads} | {side} | {wall:.2f} | {cpu:.2f} | {peak:.0f} | {gain} |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def child(options: argparse.Namespace, side: str, threads: int) -> dict[str, float]:
    """One side in a process of its own, with the environment that `crfnet` sets or without."""
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
        "THP_MEM_ALLOC_ENABLE": str(int(side == "kept")),
    }
    command = [sys.executable, __file__, "--config", str(options.config), "--steps", str(options.steps)]
    command += ["--threads", str(threads), "--side", side]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def steps(options: argparse.Namespace) -> dict[str, float]:
    """Seconds and memory of training steps in this process."""
    torch.set_num_threads(options.threads[0])
    torch.manual_seed(0)
    run = load_run(options.config, ["--model.backbone_weights", "null"])
    if options.side == "given back":
        train_step.keep_freed_memory = lambda: False
    classes = len(DATASET_CLASSES[run.data.name].names)
    model = build_segmenter(run.model, classes, None)
    train_step.prepare_model(model, run.train)
    optimizer = build_optimizer(model, run.train)
    step = train_step.TrainStep(model, optimizer, GradScaler("cpu", enabled=False), run.train, Path("none"))
    batch, (height, width) = run.train.batch_size, run.train.augment.crop
    image = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    sample = Sample("noise", image, torch.randint(0, classes, (batch, height, width)))
    wall, cpu = [], []
    for number in range(options.steps):
        started, used = time.perf_counter(), time.process_time()
        step(number, sample, StopRequest())
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    found = {"wall": statistics.median(wall[2:]), "cpu": statistics.median(cpu[2:])}
    return found | {"peak": peak_memory_mb()}


if __name__ == "__main__":
    main()
