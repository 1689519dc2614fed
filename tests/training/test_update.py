"""One update in parts, at lower precision, in another layout, compiled: the same numbers to rounding."""

import itertools
import json
import math
import shutil

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from crfnet.training import TrainingDivergedError, train, train_step
from tests.tolerances import assert_close
from tests.training.conftest import (
    TinyDataset,
    TinyNetwork,
    assert_same,
    tiny_config,
    tiny_segmenter,
    weights,
)
from tests.training.processes import run
from tests.training.test_processes import Plain, Uneven, losses_in, plain_segmenter

JOINT = {"loss": "image", "unary_loss": 0.5}


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("crf", [False, True], ids=["alone", "joint"])
def test_an_update_in_parts_is_the_whole_one(tmp_path, crf):
    changes = {"iterations": 20, "batch_size": 6, "clip": 1.0, **(JOINT if crf else {})}
    models = {parts: plain_segmenter(crf) for parts in (1, 3)}
    for parts, model in models.items():
        train(model, Uneven(), tiny_config(accumulate=parts, **changes), tmp_path / str(parts), seed=0)
    assert_close(losses_in(tmp_path / "3"), losses_in(tmp_path / "1"), "training", torch.float64)
    for name, value in weights(models[1]).items():
        assert_close(weights(models[3])[name], value, "training", torch.float64)


def test_a_part_has_its_own_images(tmp_path):
    shapes = []

    class Watching(Plain):
        def all_logits(self, image: Tensor) -> list[Tensor]:
            shapes.append(len(image))
            return super().all_logits(image)

    train(
        Segmenter(Watching()),
        Uneven(),
        tiny_config(iterations=2, batch_size=6, accumulate=3),
        tmp_path,
        seed=0,
    )
    assert shapes == [2] * 6


class Noting(TinyNetwork):
    """Notes the precision of its convolution."""

    seen: torch.dtype

    def forward(self, image: Tensor) -> Tensor:
        self.seen = self.body(image).dtype
        return super().forward(image)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_that_of_the_network_alone(tmp_path, dataset, precision):
    model = Segmenter(Noting(), tiny_segmenter(crf=True).crf)
    got = []
    model.crf.register_forward_hook(lambda layer, given, log_q: got.append(log_q.dtype))
    train(model, dataset, tiny_config(iterations=4, precision=precision, **JOINT), tmp_path, seed=0)
    assert model.network.seen == getattr(torch, precision)
    assert set(got) == {torch.float32}
    assert {value.dtype for value in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_begins_with_the_same_loss(tmp_path, precision):
    losses = []
    for name in ("float32", precision):
        model, config = plain_segmenter(True).float(), tiny_config(iterations=1, precision=name, **JOINT)
        train(model, Uneven(), config, tmp_path / name, seed=0)
        losses.append(losses_in(tmp_path / name))
    assert_close(losses[1], losses[0], "training", getattr(torch, precision))
    assert not torch.equal(losses[1], losses[0])


class Separable(Plain):
    """With a depthwise convolution, as in MobileNets and EfficientNets, and a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        channels = self.body.out_channels
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.grouped = nn.Conv2d(channels, channels, 3, padding=1, groups=2)

    def all_logits(self, image: Tensor) -> list[Tensor]:
        return [self.head(torch.relu(self.grouped(self.depthwise(torch.relu(self.body(image))))))]


class ConvolutionGradients(TorchDispatchMode):
    """Notes the type that each convolution's gradient is computed in, by its number of groups."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.seen.setdefault(args[9], set()).update((args[0].dtype, args[1].dtype, args[2].dtype))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_depthwise_convolutions_keep_float32_on_cpus(tmp_path, dataset, precision):
    model, float32 = Segmenter(Separable()), Segmenter(Separable())
    float32.load_state_dict(model.state_dict())
    with ConvolutionGradients() as gradients:
        train(model, dataset, tiny_config(iterations=1, precision=precision), tmp_path / precision, seed=0)
    lower = {getattr(torch, precision)}
    assert gradients.seen == {1: lower, 2: lower, model.network.depthwise.groups: {torch.float32}}
    train(float32, dataset, tiny_config(iterations=1), tmp_path / "float32", seed=0)
    for name, value in weights(float32).items():
        assert_close(weights(model)[name], value, "training", getattr(torch, precision))


class Overflows(TinyNetwork):
    """The gradient of its second training step, times the scaler's 65536, is beyond float16."""

    asked = 0

    def forward(self, image: Tensor) -> Tensor:
        self.asked += self.training
        scores = super().forward(image)
        if self.asked == 2:
            scores.register_hook(lambda grad: grad * 1e38)
        return scores


def test_a_scaled_gradient_that_overflows_is_left_out(tmp_path, dataset):
    seen = []

    class Watching(Overflows):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(self.head.weight.detach().clone())
            return super().forward(image)

    train(Segmenter(Watching()), dataset, tiny_config(iterations=4, precision="float16"), tmp_path, seed=0)
    assert [torch.equal(a, b) for a, b in itertools.pairwise(seen)] == [False, True, False]
    norms = [line["gradient_norm"] for line in log_of(tmp_path)]
    assert [norm is None for norm in norms] == [False, True, False, False]
    assert read_checkpoint(tmp_path / "checkpoint.pt")["scaler"]["scale"] == 2**15
    with pytest.raises(TrainingDivergedError, match=r"gradient_norm is (inf|nan) in iteration 2"):
        train(Segmenter(Overflows()), dataset, tiny_config(iterations=4), tmp_path / "float32", seed=0)


def test_a_gradient_that_overflows_at_every_scale_has_diverged(tmp_path, dataset):
    class Always(TinyNetwork):
        def forward(self, image: Tensor) -> Tensor:
            return (super().forward(image) * 0).abs().sqrt()  # 0, with an infinite derivative

    config = tiny_config(iterations=30, precision="float16")
    with pytest.raises(TrainingDivergedError, match=r"gradient_norm is (inf|nan) in iteration 17"):
        train(Segmenter(Always()), dataset, config, tmp_path, seed=0)


def test_the_scaler_goes_on_after_a_kill(tmp_path):
    config = tiny_config(precision="float16")
    whole, parts = Segmenter(Overflows()), Segmenter(Overflows())
    parts.load_state_dict(whole.state_dict())
    train(whole, TinyDataset(), config, tmp_path / "whole", seed=0)
    with pytest.raises(KeyboardInterrupt):
        train(parts, TinyDataset(dies_at=15), config, tmp_path / "parts", seed=0)
    resumed = Segmenter(TinyNetwork())
    train(resumed, TinyDataset(), config, tmp_path / "parts", seed=0, resume=True)
    assert_same(weights(resumed), weights(whole))
    scales = [read_checkpoint(tmp_path / name / "checkpoint.pt")["scaler"] for name in ("whole", "parts")]
    assert scales[0] == scales[1]
    assert scales[0]["scale"] == 2**15


@pytest.mark.parametrize(("device", "calls"), [("cpu", 1), ("meta", 0)])
def test_what_a_step_frees_is_kept_on_a_cpu(monkeypatch, device, calls):
    asked = []
    monkeypatch.setattr(train_step, "keep_freed_memory", lambda: asked.append(True))
    train_step.prepare_model(tiny_segmenter().to(device), tiny_config())
    assert len(asked) == calls


def test_channels_last_is_the_layout_of_maps_and_weights(tmp_path, dataset):
    seen = []

    class Watching(Plain):
        def all_logits(self, image: Tensor) -> list[Tensor]:
            maps = self.body(image)
            seen.extend(part.is_contiguous(memory_format=torch.channels_last) for part in (image, maps))
            return super().all_logits(image)

    model, plain = Segmenter(Watching()), plain_segmenter(False).float()
    model.load_state_dict(plain.state_dict())
    train(model, dataset, tiny_config(channels_last=True), tmp_path / "last", seed=0)
    assert all(seen)
    assert model.network.body.weight.is_contiguous(memory_format=torch.channels_last)
    train(plain, dataset, tiny_config(), tmp_path / "plain", seed=0)
    for name, value in weights(plain).items():
        assert_close(weights(model)[name], value, "training", torch.float32)


def train_compiled(folder) -> None:
    model = plain_segmenter(True)
    config = tiny_config(compile=True, validate_every=10, picture_every=10, **JOINT)
    train(model, TinyDataset(), config, folder, seed=0, validation=TinyDataset())
    torch.save(model.state_dict(), folder / "weights.pt")


@pytest.mark.slow
def test_compiled_trains_the_same(tmp_path, dataset):
    """In a process without the checks of shapes, which cannot be compiled."""
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("no C++ compiler")
    run(1, tmp_path, train_compiled, tmp_path)
    plain = plain_segmenter(True)
    train(plain, dataset, tiny_config(**JOINT), tmp_path / "plain", seed=0)
    compiled = torch.load(tmp_path / "weights.pt")
    assert list(compiled) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert_close(compiled[name], value, "training", torch.float64)


def test_sync_batch_norm_changes_nothing_in_one_process(tmp_path, dataset):
    models = [tiny_segmenter(), tiny_segmenter()]
    for sync, model in enumerate(models):
        train(
            model,
            dataset,
            tiny_config(iterations=2, sync_batch_norm=bool(sync)),
            tmp_path / str(sync),
            seed=0,
        )
    assert_same(weights(models[1]), weights(models[0]))
    assert type(models[1].network.norm) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 0}, "accumulate is 0, must be >= 1"),
        ({"accumulate": 3}, r"accumulate is 3, must be a divisor of batch_size \(2\)"),
        ({"validate_every": -1}, "validate_every is -1, must be >= 0"),
        ({"lr": math.inf}, "lr is inf, must be a number >= 0"),
    ],
)
def test_bad_values_name_the_key(changes, message):
    with pytest.raises(InputError, match=message):
        tiny_config(**changes)
