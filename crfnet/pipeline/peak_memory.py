"""The peak memory of each arm: of a process that does nothing but predict with it.

In the process that compares arms the memory of one is that of all: what others hold, and what the allocator
kept from them. So one new Python process imports what is needed, and forks a child for each arm, which loads
it, predicts, and tells the largest size it had, libraries included.
"""

import json
import logging
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from crfnet.data import Sample
from crfnet.files import one_line
from crfnet.kernels.cpu.threads import set_threads
from crfnet.memory import peak_memory_mb, reset_peak_memory
from crfnet.pipeline.predictors import Predictor

__all__ = ["peak_memory_alone"]

log = logging.getLogger(__name__)


def peak_memory_alone(
    arms: Mapping[str, Callable[[], Predictor]], sample: Sample, *, limit: float
) -> dict[str, float]:
    """Measure the peak memory of predicting the sample with each arm, in a process for each.

    Args:
        arms: what builds each one's predictor; picklable.
        sample: the image.
        limit: seconds after which an arm is given up.

    Returns:
        MiB by arm: resident memory of the process, on a GPU what torch's allocator held there; NaN where it
        could not be measured, which a warning tells.
    """
    unknown = dict.fromkeys(arms, math.nan)
    if not hasattr(os, "fork"):
        return unknown
    # Not by `multiprocessing`, which runs the caller's script again where that lacks a guard of __main__.
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        given = pickle.dumps((dict(arms), tuple(sample), torch.get_num_threads(), limit))
        ended = subprocess.run(
            [sys.executable, "-m", __name__],
            input=given,
            capture_output=True,
            check=True,
            env={**os.environ, **paths},
        )
        peaks: dict[str, float] = unknown | json.loads(ended.stdout.splitlines()[-1])
        for name in (name for name, peak in peaks.items() if math.isnan(peak)):
            log.warning("peak memory of %s is not measured: %s", name, _last_line(ended.stderr))
        return peaks
    except (OSError, ValueError, IndexError, AttributeError, TypeError, pickle.PicklingError) as error:
        log.warning("peak memory is not measured: %s", one_line(error))
    except subprocess.CalledProcessError as error:
        log.warning("peak memory is not measured: %s", _last_line(error.stderr))
    return unknown


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its process was ended"


def _main() -> None:
    """The new process: arms on standard input, peaks as JSON on standard output."""
    arms, parts, threads, limit = pickle.load(sys.stdin.buffer)
    context = multiprocessing.get_context("fork")  # no thread runs here, and OpenMP was not used
    peaks = {}
    for name, build in arms.items():
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(
            target=_predict_alone, args=(build, Sample(*parts), threads, limit, sender), daemon=True
        )
        child.start()
        sender.close()  # so that the end of the child is the end of the pipe
        try:
            peaks[name] = receiver.recv()
        except EOFError:
            peaks[name] = math.nan
        child.join()
    sys.stdout.write(json.dumps(peaks) + "\n")


def _predict_alone(build: Any, sample: Sample, threads: int, limit: float, sender: Connection) -> None:
    """The child: everything once for what a first call compiles and loads, then the call that counts."""
    signal.alarm(math.ceil(limit))  # which ends it, whatever it waits for
    torch.set_num_threads(threads)
    set_threads(threads)
    predict: Predictor = build()
    predict(sample)
    reset_peak_memory()
    if predict(sample).is_cuda:
        sender.send(torch.cuda.max_memory_allocated() / 2**20)
    else:
        sender.send(peak_memory_mb())


if __name__ == "__main__":
    _main()
