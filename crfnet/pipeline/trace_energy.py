"""The free energy of a CRF from iteration to iteration, on a few images: does its inference converge?"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from crfnet.crf.layer import DenseCRF
from crfnet.data import Sample, SegmentationDataset
from crfnet.distributed import on_rank_zero
from crfnet.pipeline.predictors import Unary
from crfnet.pipeline.run_folder import run_stage
from crfnet.pipeline.samples import select_samples
from crfnet.report import ENERGY_FILE, EnergyTrace, write_energy_traces

__all__ = ["TRACED_IMAGES", "trace_energy"]

TRACED_IMAGES = 4  #: the first ones of those that are evaluated
_MAX_SIDE = 1024  # pixels: a trace keeps the marginals of every step


def trace_energy(
    folder: Path, crf: DenseCRF, unary: Unary, dataset: SegmentationDataset, ids: Sequence[str]
) -> None:
    """Trace the inference of `crf` on the first `TRACED_IMAGES` images into ``folder/energy/energy.csv``.

    A large image is cropped to its center, 1024 x 1024 pixels. A stage of its own, since it filters
    everything twice: what an arm costs is measured without it. A finished folder is left as it is.
    """
    crf.eval()

    def trace_sample(sample: Sample) -> EnergyTrace:
        with torch.inference_mode():
            logits = _center_crop(unary(sample))
            trace = crf.trace(logits, _center_crop(sample.image[None]).to(logits.device))
        pixels = logits.shape[2] * logits.shape[3]
        return EnergyTrace(
            sample.id, (trace.free_energy[:, 0].double() / pixels).tolist(), trace.change[:, 0].tolist()
        )

    def work() -> dict[str, float]:
        samples = select_samples(dataset, ids[:TRACED_IMAGES])
        on_rank_zero(
            lambda: write_energy_traces(folder / ENERGY_FILE, [trace_sample(sample) for sample in samples])
        )
        return {}

    run_stage((folder / ENERGY_FILE).parent, work)


def _center_crop(maps: Tensor) -> Tensor:
    """Crop to the center what is larger than is traced; contiguous, so that the rest is freed."""
    for axis in (2, 3):
        length = min(maps.shape[axis], _MAX_SIDE)
        maps = maps.narrow(axis, (maps.shape[axis] - length) // 2, length)
    return maps.contiguous()
