"""Batches of a run, sharded over processes, and how long training waited for them."""

import time
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from crfnet.data import Sample, SegmentationDataset, TrainingStream
from crfnet.distributed import shard
from crfnet.errors import InputError
from crfnet.training.config import TrainConfig
from crfnet.training.failures import TrainingFailedError
from crfnet.training.stop_signals import ignore_stop_signals

__all__ = ["TrainLoader"]


class TrainLoader:
    """Loader of the batches from iteration ``start_step`` to the last, as Samples with a leading axis.

    Iteration i has items ``i * batch_size`` and on of the `TrainingStream`; several processes share them, so
    that the images of an iteration do not depend on how many there are.

    Args:
        dataset: the training images.
        config: of the stream, the batches and the workers.
        seed: of the stream.
        start_step: iterations done.

    Attributes:
        wait_seconds: spent waiting for a batch so far.
    """

    def __init__(self, dataset: SegmentationDataset, config: TrainConfig, seed: int, start_step: int) -> None:
        self.wait_seconds = 0.0
        size = config.batch_size
        items = [range(step * size, (step + 1) * size) for step in range(start_step, config.iterations)]
        # A loader draws a seed for its workers, here from a generator of its own: from the global one, a
        # resumed run, which makes a second loader, would draw once more than one that was not killed.
        self._loader = DataLoader(
            TrainingStream(dataset, config.augment, seed=seed),
            batch_sampler=[list(shard(each)) for each in items],
            num_workers=config.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
            worker_init_fn=ignore_stop_signals,
        )

    def __iter__(self) -> Iterator[Sample]:
        """Yield one batch after the other.

        Raises:
            TrainingFailedError: an image cannot be read any more; one line, also from a worker process.
        """
        batches = iter(self._loader)
        try:
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                self.wait_seconds += time.perf_counter() - started
                if batch is None:
                    return
                yield batch
        except InputError as error:  # a worker's comes with its traceback, whose last line it is
            line = str(error).strip().splitlines()[-1]
            raise TrainingFailedError(line.removeprefix("crfnet.errors.InputError: ")) from error
        finally:
            # Not left to the garbage collector: an error's traceback would keep the workers, which do not
            # listen to signals, and Python waits for them when it ends.
            getattr(batches, "_shutdown_workers", lambda: None)()
