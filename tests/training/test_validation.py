"""Validation while training: the number, the best network, and what it must not change."""

import json
import math
import os
import signal

import pytest
import torch
from torch import nn

from crfnet.checkpoints.checkpoint import load_model, read_checkpoint
from crfnet.errors import InputError
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.segmenter import Segmenter
from crfnet.training import TrainingInterrupted, train
from crfnet.training.validation import validate
from tests.training.conftest import (
    TinyDataset,
    TinyNetwork,
    assert_same,
    tiny_config,
    tiny_segmenter,
    weights,
)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def by_hand(model: Segmenter, images: int) -> float:
    """Mean IoU of one confusion matrix over all."""
    dataset, total = TinyDataset(), torch.zeros(3, 3, dtype=torch.int64)
    for index in range(images):
        sample = dataset[index]
        total += confusion_matrix(model.eval()(sample.image[None])[0].argmax(0), sample.labels, 3)
    return float(metrics(total).miou)


@pytest.mark.parametrize("images", [0, 1, 2, 99])
def test_mean_iou_of_the_first_images(images):
    model = tiny_segmenter(crf=True)
    expected = by_hand(model, min(images or 3, 3))
    assert validate(model.train(), TinyDataset(), images) == expected


def test_the_best_network_is_kept_and_the_last_too(tmp_path, dataset):
    model = tiny_segmenter()
    config = tiny_config(iterations=12, lr=0.05, validate_every=2)
    train(model, dataset, config, tmp_path, seed=0, validation=TinyDataset())
    lines = log_of(tmp_path)
    assert [line["step"] for line in lines if "miou" in line] == [2, 4, 6, 8, 10, 12]
    mious = {line["step"]: line["miou"] for line in lines if "miou" in line}
    assert len(set(mious.values())) > 2
    first_best = max(mious, key=lambda step: (mious[step], -step))
    best = read_checkpoint(tmp_path / "best.pt")
    assert best["step"] == first_best
    assert best["best"] == mious[first_best]
    kept = tiny_segmenter()
    load_model(kept, tmp_path / "best.pt")
    assert by_hand(kept, 3) == mious[first_best]
    assert_same(read_checkpoint(tmp_path / "checkpoint.pt")["model"], weights(model))
    assert read_checkpoint(tmp_path / "checkpoint.pt")["best"] == mious[first_best]


def test_validation_changes_no_weight_and_may_differ_on_resuming(tmp_path):
    plain, watched = tiny_segmenter(crf=True), tiny_segmenter(crf=True)
    train(plain, TinyDataset(), tiny_config(loss="image"), tmp_path / "plain", seed=0)
    config = tiny_config(loss="image", validate_every=3)
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_segmenter(crf=True),
            TinyDataset(dies_at=13),
            tiny_config(loss="image"),
            tmp_path / "w",
            seed=0,
        )
    train(watched, TinyDataset(), config, tmp_path / "w", seed=0, validation=TinyDataset(), resume=True)
    assert_same(weights(watched), weights(plain))
    assert [line["step"] for line in log_of(tmp_path / "w") if "miou" in line] == [6, 9]
    assert not (tmp_path / "plain/best.pt").exists()


def test_the_best_of_before_a_kill_counts(tmp_path):
    """After the kill the network is worse: best.pt stays."""

    class Fades(TinyNetwork):
        seen = 0

        def forward(self, image):
            self.seen += self.training
            return super().forward(image) * (1.0 if self.seen < 4 else 0.0)

    def run(folder, **options):
        model = Segmenter(Fades())
        model.network.seen = options.pop("seen", 0)
        config = tiny_config(iterations=8, lr=0.05, validate_every=3, checkpoint_every=3)
        dataset = TinyDataset(dies_at=options.pop("dies_at", None))
        train(model, dataset, config, folder, seed=0, validation=TinyDataset(), **options)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, dies_at=8)
    best = read_checkpoint(tmp_path / "checkpoint.pt")["best"]
    assert best > 0.2
    run(tmp_path, seen=3, resume=True)
    assert read_checkpoint(tmp_path / "best.pt")["step"] == 3
    assert read_checkpoint(tmp_path / "checkpoint.pt")["best"] == best


@pytest.mark.parametrize("asked", [7, 11, 19])
def test_stopped_where_a_validation_is_due(tmp_path, asked):
    """It is made by the run that goes on; in the last step, which is not stopped, at once."""

    class Asks(TinyDataset):
        """SIGTERM comes while this image is read, the second one of its step."""

        def __getitem__(self, index):
            if self.asked == asked:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(index)

    def run(folder, images, **options):
        model = tiny_segmenter(crf=True)
        config = tiny_config(lr=0.05, validate_every=2, picture_every=2, loss="image")
        train(model, images, config, folder, seed=3, validation=TinyDataset(), **options)

    run(tmp_path / "whole", TinyDataset())
    parts = tmp_path / "parts"
    if asked == 19:
        run(parts, Asks())
    else:
        with pytest.raises(TrainingInterrupted):
            run(parts, Asks())
        step = (asked + 1) // 2
        assert [line["step"] for line in log_of(parts)][-1] == step - 1
        with pytest.raises(KeyboardInterrupt):  # before another checkpoint: it is pending a second time
            run(parts, TinyDataset(dies_at=0), resume=True)
        assert log_of(parts) == log_of(tmp_path / "whole")[:step]
        run(parts, TinyDataset(), resume=True)
    assert log_of(parts) == log_of(tmp_path / "whole")
    for name in ("best.pt", "checkpoint.pt"):
        found, expected = (read_checkpoint(folder / name) for folder in (parts, tmp_path / "whole"))
        assert {**found, "seconds": 0, "model": 0, "optimizer": 0, "random": 0} == {
            **expected, "seconds": 0, "model": 0, "optimizer": 0, "random": 0,
        }  # fmt: skip
        assert_same(found["model"], expected["model"])


def test_a_validation_that_is_pending_may_no_longer_be_wanted(tmp_path):
    class Asks(TinyDataset):
        def __getitem__(self, index):
            if self.asked == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(index)

    with pytest.raises(TrainingInterrupted):
        train(
            tiny_segmenter(),
            Asks(),
            tiny_config(validate_every=4),
            tmp_path,
            seed=0,
            validation=TinyDataset(),
        )
    train(tiny_segmenter(), TinyDataset(), tiny_config(), tmp_path, seed=0, resume=True)
    assert [line["step"] for line in log_of(tmp_path)] == list(range(1, 11))
    assert not any("miou" in line for line in log_of(tmp_path))


def test_a_set_without_a_valid_pixel_is_no_best(tmp_path, dataset):
    class Void(TinyDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)._replace(labels=torch.full((24, 32), 255))

    train(
        tiny_segmenter(),
        dataset,
        tiny_config(iterations=1, validate_every=1),
        tmp_path,
        seed=0,
        validation=Void(),
    )
    (line,) = log_of(tmp_path)
    assert line["miou"] is None
    assert not (tmp_path / "best.pt").exists()
    assert read_checkpoint(tmp_path / "checkpoint.pt")["best"] == -math.inf


def test_validation_needs_images(tmp_path, dataset):
    with pytest.raises(InputError, match="validate_every is 5, must be 0 without validation images"):
        train(tiny_segmenter(), dataset, tiny_config(validate_every=5), tmp_path / "new", seed=0)
    assert not (tmp_path / "new").exists()


def test_tensorboard_has_every_validation(tmp_path, dataset):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = Segmenter(nn.Conv2d(3, 3, 1))
    config = tiny_config(iterations=4, log_every=3, validate_every=2)
    train(model, dataset, config, tmp_path, seed=0, validation=TinyDataset())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("miou")] == [2, 4]
    assert [event.step for event in events.Scalars("loss")] == [3]
