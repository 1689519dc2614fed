"""Images per second of every stage: reading, forward, training steps, scores, CRF inference, evaluation.

    python experiments/bench/throughput.py [--config CONFIG] [--batch N] [--repeats 5] [--device cuda]
        [--workers 0 2 8] [--steps 20] [--section.key VALUE ...]

The model, its CRF, the data set and the training are those of CONFIG (default: the demo's), so that
`--config configs/voc/deeplab_v2_resnet101_aspp_l_msc.yaml --data.root PATH` measures DeepLab v2. The
network keeps its random weights, which cost as much as trained ones. Each stage runs once to warm up, then
as often as asked; the median counts. Last, whole training runs tell what share of their time they waited
for images with as many workers, the start of the workers included. Nothing of it is kept.
"""

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import torch
from header import print_header
from torch.amp.grad_scaler import GradScaler
from torch.utils.data import default_collate

from crfnet.data import Sample, TrainingStream, load_dataset
from crfnet.evaluation.evaluator import Evaluation
from crfnet.pipeline.build import resolve_device
from crfnet.pipeline.cost import Cost
from crfnet.pipeline.run_config import Run, load_run
from crfnet.segmenter import Segmenter, build_segmenter
from crfnet.training import TrainConfig, train
from crfnet.training.optim import build_optimizer
from crfnet.training.stop_signals import StopRequest
from crfnet.training.train_step import TrainStep


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, default=Path(str(files("crfnet.pipeline") / "demo.yaml")))
    parser.add_argument("--batch", type=int, help="images in a training step; default: the config's")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of each training run that waits for images")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2, 8])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options, overrides = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    run = load_run(options.config, overrides)
    batch = options.batch or run.train.batch_size
    run = dataclasses.replace(
        run,
        device=options.device,
        train=sized(run.train, batch, options.steps),
        joint=sized(run.joint, batch, options.steps),
    )
    bench = Bench(run, options.repeats)
    print_header()
    print(
        f"{options.config.name} {' '.join(overrides)}: {bench.device}, batch {batch}, "
        f"crop {run.train.augment.crop}, precision {run.train.precision}, {bench.classes} classes\n"
    )
    print("| stage | images per second | ms per image | peak MB |\n| --- | ---: | ---: | ---: |")
    for name, (images, work) in bench.stages().items():
        bench.report(name, images, work)
    print("\n| workers | training steps per second | waiting for images |\n| ---: | ---: | ---: |")
    for workers in options.workers:
        bench.wait(workers)


def sized(config: TrainConfig, batch: int, steps: int) -> TrainConfig:
    """The config without what is measured elsewhere."""
    return dataclasses.replace(
        config,
        batch_size=batch,
        iterations=steps,
        crf_warmup=0,
        checkpoint_every=steps,
        picture_every=0,
        validate_every=0,
    )


class Bench:
    """A run's data and models, and how to time work on them."""

    def __init__(self, run: Run, repeats: int) -> None:
        self.run, self.repeats = run, repeats
        self.device = resolve_device(run.device)
        self.images, self.val = load_dataset(run.data, "train"), load_dataset(run.data, "val")
        self.classes = self.val.num_classes
        self.stream = TrainingStream(self.images, run.train.augment, seed=0)
        self.batch: Sample = default_collate([self.stream[k] for k in range(run.train.batch_size)])
        self.whole = [self.val[i] for i in range(min(4, len(self.val)))]

    def segmenter(self, *, crf: bool) -> Segmenter:
        torch.manual_seed(0)
        return build_segmenter(self.run.model, self.classes, self.run.crf if crf else None).to(self.device)

    def stages(self) -> dict[str, tuple[int, Callable[[], object]]]:
        """Images in a call, and the call."""
        alone, joint = self.segmenter(crf=False), self.segmenter(crf=True)
        network, behind = self.segmenter(crf=False).eval(), self.segmenter(crf=True).eval()
        size, items = self.run.train.batch_size, itertools.count()
        image = self.batch.image.to(self.device)
        whole = [sample.image[None].to(self.device) for sample in self.whole]
        with torch.inference_mode():
            logits = [network(each) for each in whole]
            labels = [each[0].argmax(0) for each in logits]

        def forward() -> None:
            with torch.inference_mode():
                network.strided_logits(image)

        def scores() -> None:
            with torch.inference_mode():
                for each in whole:
                    network.strided_logits(each).float().cpu()

        def crf() -> None:
            with torch.inference_mode():
                for given, each in zip(logits, whole, strict=True):
                    behind.crf(given, each)  # type: ignore[misc]

        def evaluation() -> None:
            config = self.run.evaluation
            made = Evaluation(self.classes, config.max_width, config.element, config.boundary)
            for sample, prediction in zip(self.whole, labels, strict=True):
                made.add(sample.id, prediction, sample.labels)

        return {
            "reading and augmenting": (size, lambda: [self.stream[next(items)] for _ in range(size)]),
            "network, forward": (size, forward),
            "training step, network alone": (size, self.update(alone, self.run.train)),
            "training step, network and CRF": (size, self.update(joint, self.run.joint)),
            "scores of whole images": (len(whole), scores),
            "CRF inference on them": (len(whole), crf),
            "evaluation of them": (len(whole), evaluation),
        }

    def update(self, model: Segmenter, config: TrainConfig) -> Callable[[], object]:
        optimizer = build_optimizer(model, config)
        scaler = GradScaler(self.device.type, enabled=config.precision == "float16")
        made = TrainStep(model, optimizer, scaler, config, Path("checkpoint.pt"))
        return lambda: made(0, self.batch, StopRequest())

    def report(self, name: str, images: int, work: Callable[[], object]) -> None:
        work()
        taken = []
        with Cost() as cost:
            for _ in range(self.repeats):
                self.finish()
                started = time.perf_counter()
                work()
                self.finish()
                taken.append(time.perf_counter() - started)
        each = statistics.median(taken) / images
        print(f"| {name} | {1 / each:.1f} | {1000 * each:.2f} | {cost.peak_mb:.0f} |", flush=True)

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def wait(self, workers: int) -> None:
        config = dataclasses.replace(self.run.train, workers=workers)
        with tempfile.TemporaryDirectory() as folder:
            result = train(self.segmenter(crf=False), self.images, config, Path(folder), seed=0)
        share = 100 * result.data_seconds / result.seconds
        print(f"| {workers} | {config.iterations / result.seconds:.2f} | {share:.0f} % |", flush=True)


if __name__ == "__main__":
    main()
