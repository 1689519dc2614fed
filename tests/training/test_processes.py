"""Two processes train what one does: the same loss, the same weights, one end for both."""

import json
import math
import os
import signal

import pytest
import torch
from torch import Tensor, nn

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import Sample
from crfnet.distributed import rank
from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from crfnet.training import TrainingDivergedError, TrainingInterrupted, train
from tests.tolerances import assert_close
from tests.training.conftest import TinyDataset, assert_same, tiny_config, tiny_segmenter
from tests.training.processes import begin, ended, run


class Plain(nn.Module):
    """Nothing random and no statistics of a batch; two maps of different strides for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, stride=8, padding=1)
        self.head = nn.Conv2d(4, 3, 1)
        self.unused = nn.Conv2d(4, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.all_logits(image)[0]

    def all_logits(self, image: Tensor) -> list[Tensor]:
        scores = self.head(self.body(image).relu())
        return [scores, scores[:, :, ::2, ::2]]


class Uneven(TinyDataset):
    """Image i has i of its three rows of blocks void: processes see different numbers of valid pixels."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        sample.labels[: 8 * index] = 255
        return sample


def plain_crf() -> DenseCRF:
    """Without theta, whose gradient is drawn."""
    return DenseCRF(3, CRFConfig(iterations=2, train_iterations=2, learn_theta=False))


def plain_segmenter(crf: bool) -> Segmenter:
    torch.manual_seed(1)
    return Segmenter(Plain(), plain_crf() if crf else None).double()


CONFIGS = {
    "alone": tiny_config(iterations=20, batch_size=4),
    "joint": tiny_config(
        iterations=20, batch_size=4, accumulate=2, crf_warmup=3, loss="image", unary_loss=0.5, clip=1.0
    ),
}


def train_plain(folder, name: str) -> None:
    model = plain_segmenter(name == "joint")
    train(model, Uneven(), CONFIGS[name], folder, seed=5)
    torch.save(model.state_dict(), folder / f"weights{rank()}.pt")


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses_in(folder) -> Tensor:
    return torch.tensor([line["loss"] for line in log_of(folder)], dtype=torch.float64)


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_train_what_one_does(tmp_path, name):
    train_plain(tmp_path / "one", name)
    run(2, tmp_path / "two", train_plain, tmp_path / "two", name)
    one, two = (losses_in(tmp_path / place) for place in ("one", "two"))
    assert len(one.unique()) == 20
    assert len({int((sample.labels != 255).sum()) for sample in map(Uneven().__getitem__, range(3))}) == 3
    assert_close(two, one, "training", torch.float64)
    states = [
        torch.load(tmp_path / place) for place in ("one/weights0.pt", "two/weights0.pt", "two/weights1.pt")
    ]
    assert_same(states[1], states[2])
    for weight, value in states[0].items():
        assert_close(states[1][weight], value, "training", torch.float64)
    assert json.loads((tmp_path / "two/state.json").read_text())["state"] == "finished"


def train_tiny(folder, resume: bool, dies_at: int | None = None) -> None:
    """Batch normalization, dropout and the CRF's sampled rows: everything that is drawn in each process."""
    model = tiny_segmenter(crf=True)
    dataset = Dies(dies_at if rank() == 1 else None)
    config = tiny_config(batch_size=4, loss="image", checkpoint_every=3, validate_every=4)
    train(model, dataset, config, folder, seed=5, resume=resume, validation=TinyDataset())
    torch.save(model.state_dict(), folder / f"weights{rank()}.pt")


class Dies(TinyDataset):
    """Its process is killed at item ``dies_at`` of those asked for."""

    def __getitem__(self, index: int) -> Sample:
        if self.asked == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_killed_process_ends_the_other_and_both_go_on(tmp_path):
    run(2, tmp_path / "whole", train_tiny, tmp_path / "whole", False)
    codes = ended(begin(2, tmp_path / "parts", train_tiny, tmp_path / "parts", False, 10), 60)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] == 1
    assert read_checkpoint(tmp_path / "parts/checkpoint.pt")["step"] == 3
    run(2, tmp_path / "parts", train_tiny, tmp_path / "parts", True)
    for number in (0, 1):
        whole, parts = (torch.load(tmp_path / place / f"weights{number}.pt") for place in ("whole", "parts"))
        assert_same(parts, whole)
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert [line["step"] for line in log_of(tmp_path / "parts") if "miou" in line] == [4, 8]
    random = read_checkpoint(tmp_path / "parts/checkpoint.pt")["random"]
    assert not torch.equal(random["0"]["torch"], random["1"]["torch"])


class BreaksAlone(Plain):
    """In process 1, the fourth training step gives NaN."""

    asked = 0

    def all_logits(self, image: Tensor) -> list[Tensor]:
        self.asked += self.training
        factor = math.nan if rank() == 1 and self.asked == 4 else 1.0
        return [scores * factor for scores in super().all_logits(image)]


def diverge(folder) -> None:
    with pytest.raises(TrainingDivergedError, match="loss is nan in iteration 4"):
        train(
            Segmenter(BreaksAlone(), plain_crf()),
            Uneven(),
            tiny_config(loss="image", unary_loss=0.5),
            folder,
            seed=0,
        )


def test_what_is_not_finite_in_one_process_ends_both_alike(tmp_path):
    run(2, tmp_path, diverge, tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["state"], state["step"]) == ("diverged", 3)


class AsksAlone(Plain):
    """Process 1 gets SIGTERM in its fourth training step."""

    asked = 0

    def all_logits(self, image: Tensor) -> list[Tensor]:
        self.asked += self.training
        if rank() == 1 and self.asked == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().all_logits(image)


def stop(folder) -> None:
    with pytest.raises(TrainingInterrupted, match="SIGTERM after iteration 4 of 10") as caught:
        train(Segmenter(AsksAlone()), Uneven(), tiny_config(), folder, seed=0)
    assert caught.value.status == 143


def test_a_signal_to_one_process_stops_both_behind_the_same_step(tmp_path):
    run(2, tmp_path, stop, tmp_path)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4


def refuse(folder) -> None:
    with pytest.raises(
        InputError, match=r"batch_size is 6, must be a multiple of 4: 2 processes, accumulate 2"
    ):
        train(Segmenter(Plain()), Uneven(), tiny_config(batch_size=6, accumulate=2), folder / "a", seed=0)
    with pytest.raises(InputError, match=r"sync_batch_norm .* in several processes on CPUs, must be off"):
        train(tiny_segmenter(), Uneven(), tiny_config(sync_batch_norm=True), folder / "b", seed=0)
    with pytest.raises(InputError, match="began with processes 1, now it is 2"):
        train(Segmenter(Plain()), Uneven(), tiny_config(), folder / "c", seed=0, resume=True)


def test_what_several_processes_cannot_do_is_one_line(tmp_path):
    train(Segmenter(Plain()), Uneven(), tiny_config(), tmp_path / "c", seed=0)
    run(2, tmp_path, refuse, tmp_path)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
