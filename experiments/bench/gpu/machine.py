"""The machine: what it is, how fast it copies and multiplies, and how to time and weigh on it."""

import argparse
import math
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from posthoc import dcrf, load, photo_like, scores
from torch import Tensor

from crfnet import kernels
from crfnet.crf.filters import FILTERS, ExactFilter, GaussianFilter

BOUND = 1e-5  # relative L2 error that the kernels promise
EPS = 1e-4  # of the exact filter where it is timed
Run = Callable[[], object]


def filter_of(name: str, eps: float) -> GaussianFilter:
    """The filter of that name; exact ones leave out what is below ``eps``."""
    return ExactFilter(eps) if name == "exact" else FILTERS[name]()


class Bench:
    """The machine, its two ceilings, and how to time on it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        self.quick, self.image = options.quick, options.image
        self.repeats = 2 if self.quick else 7
        self.bytes_per_ms = self.operations_per_ms = math.nan
        self.failed = False

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def has_kernels(self) -> bool:
        return kernels.usable(torch.zeros(1, device=self.device))

    def milliseconds(self, run: Run, repeats: int | None = None) -> float:
        """Median over repeats, after one run that does not count."""
        run()
        taken = []
        for _ in range(repeats or self.repeats):
            if self.on_gpu:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                start.record()
                run()
                end.record()
                torch.cuda.synchronize()
                taken.append(start.elapsed_time(end))
            else:
                clock = time.perf_counter()
                run()
                taken.append(1000 * (time.perf_counter() - clock))
        return statistics.median(taken)

    def peak(self, run: Run) -> float:
        """Megabytes allocated at most during the run, beyond what was before it."""
        if not self.on_gpu:
            return math.nan
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6

    def expect(self, what: str, error: float, bound: float = BOUND) -> None:
        good = error <= bound
        self.failed |= not good
        print(f"  {'ok  ' if good else 'FAIL'} {what:58s} {error:9.2e}  (bound {bound:.0e})", flush=True)

    def picture(self, height: int, width: int, batch: int = 1) -> Tensor:
        """(batch, 3, height, width), the given picture or a made-up one; its mirror images in turn."""
        one = load(self.image) if self.image else photo_like(height, width)
        one = F.interpolate(one.float(), (height, width), mode="bilinear", align_corners=False)
        turned = [one, one.flip(3), one.flip(2), one.flip(2, 3)]
        return torch.cat([turned[i % 4] for i in range(batch)]).to(self.device)

    def logits(self, image: Tensor, classes: int) -> Tensor:
        one = scores(image[:1].cpu(), None, classes, "even").to(self.device)
        return one.expand(len(image), -1, -1, -1).contiguous()


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def against(target: float, found: float) -> str:
    """A figure beside what it should stay below."""
    return f"{found:.2f} ({'within' if found <= target else 'MISSES'} {target:g})"


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def header(bench: Bench) -> None:
    print(f"machine    {platform.platform()}, {processor()}, {torch.get_num_threads()} threads")
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = "none"
    print(f"versions   python {platform.python_version()}, torch {torch.__version__}, triton {version}, "
          f"cuda {torch.version.cuda}")  # fmt: skip
    if bench.on_gpu:
        properties = torch.cuda.get_device_properties(bench.device)
        print(f"gpu        {properties.name}, {properties.multi_processor_count} multiprocessors, "
              f"sm_{properties.major}{properties.minor}, {properties.total_memory / 1e9:.0f} GB")  # fmt: skip
        if shutil.which("nvidia-smi"):
            query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem"
            command = ["nvidia-smi", query, "--format=csv,noheader"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            print(f"driver     {said}")
    print(f"kernels    usable: {bench.has_kernels}; pydensecrf: {dcrf is not None}")


def ceilings(bench: Bench) -> None:
    """The two speeds that floors are made of."""
    size = 2**18 if bench.quick else 2**29
    source = torch.randn(size, device=bench.device)
    target = torch.empty_like(source)
    bench.bytes_per_ms = 8 * size / bench.milliseconds(lambda: target.copy_(source))
    side = 256 if bench.quick else 8192
    left, right = (torch.randn(side, side, device=bench.device) for _ in range(2))
    bench.operations_per_ms = side**3 / bench.milliseconds(lambda: left @ right)
    print(f"copy       {bench.bytes_per_ms / 1e9:.2f} TB/s read and written")
    print(f"float32    {bench.operations_per_ms / 1e9:.1f} T multiply-adds/s in a matrix product of {side}")
