"""The loop: bit-equal resume, refusals, the guard, what is written, what is trained when."""

import json
import math

import pytest
import torch
from torch import nn

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.data import TrainingStream
from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from crfnet.training import TrainConfig, TrainingDivergedError, train
from tests.training.conftest import (
    TinyDataset,
    TinyNetwork,
    assert_same,
    tiny_config,
    tiny_segmenter,
    weights,
)

JOINT = {"loss": "image", "unary_loss": 0.5, "crf_lr": 0.1}


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def without_time(line):
    return {name: value for name, value in line.items() if name != "seconds"}


@pytest.mark.parametrize("crf", [False, True], ids=["alone", "joint"])
@pytest.mark.parametrize("death", [11, 15], ids=["at the checkpoint", "two steps after it"])
def test_ten_steps_are_five_and_a_kill_and_five(tmp_path, crf, death):
    """With dropout, batch statistics and (joint) sampled rows: each draws from the global generator."""
    config = tiny_config(crf_warmup=2, **JOINT) if crf else tiny_config()
    whole, parts = tiny_segmenter(crf=crf), tiny_segmenter(crf=crf)
    train(whole, TinyDataset(), config, tmp_path / "whole", seed=5)
    with pytest.raises(KeyboardInterrupt):
        train(parts, TinyDataset(dies_at=death), config, tmp_path / "parts", seed=5)
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["step"] == 5

    torch.manual_seed(123)  # the process that resumes is another one
    resumed = tiny_segmenter(crf=crf)
    result = train(resumed, TinyDataset(), config, tmp_path / "parts", seed=5, resume=True)
    assert_same(weights(resumed), weights(whole))
    assert_same(read_checkpoint(result.path)["model"], weights(whole))
    assert [line["step"] for line in log_of(tmp_path / "parts")] == list(range(1, 11))
    assert list(map(without_time, log_of(tmp_path / "parts"))) == list(
        map(without_time, log_of(tmp_path / "whole"))
    )


def test_seed_decides(tmp_path):
    made = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        model = tiny_segmenter()
        train(model, TinyDataset(), tiny_config(iterations=2), tmp_path / name, seed=seed)
        made.append(weights(model))
    assert_same(made[0], made[1])
    assert not torch.equal(made[0]["network.body.weight"], made[2]["network.body.weight"])


def test_checkpoints_pictures_and_workers_change_no_weight(tmp_path):
    plain, busy = tiny_segmenter(crf=True), tiny_segmenter(crf=True)
    train(plain, TinyDataset(), tiny_config(iterations=4, **JOINT), tmp_path / "plain", seed=0)
    config = tiny_config(iterations=4, checkpoint_every=1, picture_every=1, log_every=3, workers=1, **JOINT)
    train(busy, TinyDataset(), config, tmp_path / "busy", seed=0)
    assert_same(weights(busy), weights(plain))


def test_images_come_in_the_order_of_the_stream(tmp_path, dataset):
    seen = []

    class Watching(TinyNetwork):
        def forward(self, image):
            seen.append(image)
            return super().forward(image)

    model = Segmenter(Watching(), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    config = tiny_config(iterations=3)
    train(model, dataset, config, tmp_path, seed=9)
    stream = TrainingStream(TinyDataset(), config.augment, seed=9)
    expected = torch.stack([stream[k].image for k in range(6)]).float()
    assert torch.equal(torch.cat(seen), expected)


def test_finished_run_resumed_does_nothing(tmp_path):
    model = tiny_segmenter()
    train(model, TinyDataset(), tiny_config(), tmp_path, seed=0)
    log = log_of(tmp_path)
    again = tiny_segmenter()
    train(again, TinyDataset(dies_at=0), tiny_config(), tmp_path, seed=0, resume=True)
    assert_same(weights(again), weights(model))
    assert log_of(tmp_path) == log


def test_killed_before_the_first_checkpoint_begins_again(tmp_path):
    config = tiny_config(iterations=3)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_segmenter(), TinyDataset(dies_at=4), config, tmp_path, seed=0)
    train(tiny_segmenter(), TinyDataset(), config, tmp_path, seed=0, resume=True)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3]


def test_half_written_line_is_dropped(tmp_path):
    config = tiny_config(iterations=4, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_segmenter(), TinyDataset(dies_at=4), config, tmp_path, seed=0)
    written = (tmp_path / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(written + '{"step": 3, "lo')
    train(tiny_segmenter(), TinyDataset(), config, tmp_path, seed=0, resume=True)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4]


def test_schedule_is_followed(tmp_path, dataset):
    """With so high a power the second of two updates changes nothing."""
    seen = []

    class Watching(TinyNetwork):
        def forward(self, image):
            seen.append(self.head.weight.detach().clone())
            return super().forward(image)

    model = Segmenter(Watching())
    train(model, dataset, tiny_config(iterations=2, power=500.0, momentum=0.0), tmp_path, seed=0)
    assert not torch.equal(seen[1], seen[0])
    assert torch.equal(model.network.head.weight, seen[1])


def test_used_folder_is_refused(tmp_path):
    config = tiny_config(iterations=1)
    train(tiny_segmenter(), TinyDataset(), config, tmp_path, seed=0)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match=r"holds checkpoint\.pt and log\.jsonl; resume or overwrite"):
        train(tiny_segmenter(), TinyDataset(), config, tmp_path, seed=0)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(InputError, match=r"holds log\.jsonl;"):
        train(tiny_segmenter(), TinyDataset(), config, tmp_path, seed=0)


def test_overwrite_begins_again_and_leaves_what_is_not_its_own(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    train(tiny_segmenter(), TinyDataset(), tiny_config(), tmp_path, seed=0)
    train(tiny_segmenter(), TinyDataset(), tiny_config(iterations=2), tmp_path, seed=1, overwrite=True)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 2
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="overwrite is True, must be False with resume"):
        train(tiny_segmenter(), TinyDataset(), tiny_config(), tmp_path, seed=1, resume=True, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "seed", "crf", "message"),
    [
        ({"lr": 0.5}, 0, {}, r"began with lr 0\.01, now it is 0\.5"),
        ({"iterations": 11}, 0, {}, "began with iterations 10, now it is 11"),
        ({"augment": TrainConfig().augment}, 0, {}, r"began with augment\.crop \[16, 24\], now"),
        ({}, 1, {}, "began with seed 0, now it is 1"),
        ({}, 0, {"normalization": "symmetric"}, r"began with crf\.normalization 'after', now"),
    ],
)
def test_resume_with_other_settings_is_refused(tmp_path, changes, seed, crf, message):
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_segmenter(crf=True),
            TinyDataset(dies_at=3),
            tiny_config(checkpoint_every=1, **JOINT),
            tmp_path,
            seed=0,
        )
    log = log_of(tmp_path)
    with pytest.raises(InputError, match=rf"checkpoint\.pt: the run {message}"):
        train(
            tiny_segmenter(crf=True, **crf),
            TinyDataset(),
            tiny_config(**{**JOINT, **changes}),
            tmp_path,
            seed=seed,
            resume=True,
        )
    assert log_of(tmp_path) == log


def test_resume_with_another_model_or_data_is_refused(tmp_path, dataset):
    with pytest.raises(KeyboardInterrupt):
        train(tiny_segmenter(), TinyDataset(dies_at=3), tiny_config(checkpoint_every=1), tmp_path, seed=0)
    with pytest.raises(InputError, match="of another model"):
        train(Segmenter(TinyNetwork(4)), dataset, tiny_config(), tmp_path, seed=0, resume=True)
    dataset.ids = ("a", "b")
    with pytest.raises(InputError, match="began with images 3, now it is 2"):
        train(tiny_segmenter(), dataset, tiny_config(), tmp_path, seed=0, resume=True)


class Breaks(TinyNetwork):
    """After ``good`` training steps its logits are multiplied by ``factor``."""

    def __init__(self, good: int, factor: float) -> None:
        super().__init__()
        self.good, self.factor = good, factor

    def forward(self, image):
        self.good -= 1
        return super().forward(image) * (self.factor if self.good < 0 else 1)


@pytest.mark.parametrize(
    ("crf", "factor", "named"),
    [
        (False, math.nan, "loss is nan"),
        (False, math.inf, "loss is (nan|inf)"),
        (True, math.nan, "loss is nan"),
    ],
)
def test_divergence_stops_and_keeps_the_checkpoint(tmp_path, dataset, crf, factor, named):
    model = Segmenter(Breaks(7, factor), tiny_segmenter(crf=True).crf if crf else None)
    config = tiny_config(**(JOINT if crf else {}))
    message = rf"training diverged: {named} in iteration 8; the last good checkpoint is .*checkpoint\.pt; try"
    with pytest.raises(TrainingDivergedError, match=message) as caught:
        train(model, dataset, config, tmp_path, seed=0)
    assert "\n" not in str(caught.value)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 5
    assert len(log_of(tmp_path)) == 7
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_gradient_that_is_not_finite_changes_no_weight(tmp_path, dataset):
    class Root(TinyNetwork):
        """Has logits 0 and an infinite derivative."""

        def forward(self, image):
            return (super().forward(image) * 0).abs().sqrt()

    model = Segmenter(Root())
    before = dict(model.named_parameters())
    before = {name: value.detach().clone() for name, value in before.items()}
    with pytest.raises(
        TrainingDivergedError, match="gradient_norm is nan in iteration 1; there is no checkpoint"
    ):
        train(model, dataset, tiny_config(), tmp_path, seed=0)
    assert_same({name: value.detach() for name, value in model.named_parameters()}, before)


def test_weights_that_overflow_are_not_saved(tmp_path, dataset):
    config = tiny_config(checkpoint_every=1, lr=1e30, weight_decay=1e30)
    with pytest.raises(TrainingDivergedError, match="a weight is nan in iteration 1; there is no checkpoint"):
        train(tiny_segmenter(), dataset, config, tmp_path, seed=0)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_warmup_trains_the_crf_alone(tmp_path, dataset):
    model = tiny_segmenter(crf=True)
    before = weights(model)
    train(model, dataset, tiny_config(iterations=3, crf_warmup=3, **JOINT), tmp_path, seed=0)
    after = weights(model)
    assert_same(*({k: v for k, v in state.items() if k.startswith("network")} for state in (after, before)))
    changed = [name for name in before if not torch.equal(after[name], before[name])]
    assert changed == [name for name in before if name.startswith("crf")]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_network_is_trained_after_the_warmup(tmp_path, dataset):
    model = tiny_segmenter(crf=True)
    before = weights(model)
    train(model, dataset, tiny_config(iterations=3, crf_warmup=2, **JOINT), tmp_path, seed=0)
    after = weights(model)
    for name in ("body.weight", "norm.weight", "norm.running_mean", "head.weight"):
        assert not torch.equal(after[f"network.{name}"], before[f"network.{name}"])
    assert int(after["network.norm.num_batches_tracked"]) == 1


@pytest.mark.parametrize("fixed_crf", [False, True])
def test_warmup_is_skipped_where_it_would_train_nothing(tmp_path, dataset, fixed_crf):
    model = tiny_segmenter(crf=fixed_crf, learn_theta=False, learn_weights=False)
    train(model, dataset, tiny_config(iterations=4, crf_warmup=3, **JOINT), tmp_path, seed=0)
    (line,) = log_of(tmp_path)
    assert line["step"] == 4
    assert line["lr"] == pytest.approx(0.01 * 0.25**0.9)


def test_control_of_warmup_alone_is_its_start(tmp_path):
    model = tiny_segmenter()
    before = weights(model)
    result = train(model, TinyDataset(dies_at=0), tiny_config(crf_warmup=10, **JOINT), tmp_path, seed=0)
    assert_same(read_checkpoint(result.path)["model"], before)


def test_stride_loss_with_a_crf_is_refused(tmp_path, dataset):
    with pytest.raises(InputError, match=r"loss is 'stride', must be image .* leaves it untrained"):
        train(tiny_segmenter(crf=True), dataset, tiny_config(), tmp_path / "new", seed=0)
    assert not (tmp_path / "new").exists()


def test_clip_limits_the_step(tmp_path, dataset):
    steps = {}
    for clip in (0.0, 1e-3):
        model = tiny_segmenter()
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        config = tiny_config(iterations=1, lr=1.0, clip=clip, head_lr=1.0, bias_lr=1.0, weight_decay=0.0)
        train(model, dataset, config, tmp_path / str(clip), seed=0)
        moved = [(value - before[name]).norm() for name, value in model.named_parameters()]
        steps[clip] = torch.stack(moved).norm().item()
    (line,) = log_of(tmp_path / "0.001")
    assert steps[0.0] == pytest.approx(line["gradient_norm"], rel=1e-4)  # the log has it before the clip
    assert steps[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_training_learns(tmp_path, dataset):
    model = tiny_segmenter(crf=True, w1=0.0)
    train(model, dataset, tiny_config(iterations=50, lr=0.02, **JOINT), tmp_path, seed=0)
    losses = [line["loss"] for line in log_of(tmp_path)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert not model.training


def test_log_has_every_crf_parameter_and_result_tells_the_cost(tmp_path, dataset):
    model = tiny_segmenter(crf=True, weights="per_class", compatibility="matrix")
    config = tiny_config(iterations=3, log_every=2, **JOINT)
    result = train(model, dataset, config, tmp_path, seed=0)
    lines = log_of(tmp_path)
    always = {"w1", "w2", "theta_alpha", "theta_beta", "theta_gamma"}
    assert [set(line["crf"]) for line in lines] == [always, always | {"mu"}, always]
    assert [line["lr"] for line in lines] == pytest.approx([0.01 * (1 - k / 3) ** 0.9 for k in range(3)])
    assert lines[-1]["crf"]["w1"] == pytest.approx(model.crf.parameters_by_name()["w1"].tolist())
    assert len({line["crf"]["theta_alpha"] for line in lines}) == 3
    assert result.path == tmp_path / "checkpoint.pt"
    assert 0 < result.seconds < 60
    assert 50 < result.peak_memory_mb < 100_000


def test_seconds_add_up_over_a_resume(tmp_path):
    config = tiny_config(iterations=6)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_segmenter(), TinyDataset(dies_at=11), config, tmp_path, seed=0)
    checkpoint = read_checkpoint(tmp_path / "checkpoint.pt")
    torch.save({**checkpoint, "seconds": 1000.0}, tmp_path / "checkpoint.pt")
    result = train(tiny_segmenter(), TinyDataset(), config, tmp_path, seed=0, resume=True)
    assert 1000 < result.seconds < 1060


def test_tensorboard_has_curves_and_pictures_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny_config(iterations=4, checkpoint_every=2, picture_every=2, **JOINT)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_segmenter(crf=True), TinyDataset(dies_at=7), config, tmp_path, seed=0)
    train(tiny_segmenter(crf=True), TinyDataset(), config, tmp_path, seed=0, resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    crf = {f"crf/{name}" for name in ("w1", "w2", "theta_alpha", "theta_beta", "theta_gamma")}
    assert set(events.Tags()["scalars"]) == {"loss", "lr", "gradient_norm"} | crf
    for tag in ("loss", "crf/theta_beta"):
        assert [event.step for event in events.Scalars(tag)] == [1, 2, 3, 4]
    pictures = events.Images("image, truth, prediction")
    assert [(event.step, event.height, event.width) for event in pictures] == [(2, 16, 72), (4, 16, 72)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "iterations is 0, must be >= 1"),
        ({"lr": math.nan}, "lr is nan, must be a number >= 0"),
        ({"momentum": 1.0}, r"momentum is 1\.0, must be in \[0, 1\)"),
        ({"unary_loss": 0.5}, r"unary_loss is 0\.5, must be 0 with loss stride"),
        ({"crf_warmup": 11}, r"crf_warmup is 11, must be <= iterations \(10\)"),
        ({"workers": -1}, "workers is -1, must be >= 0"),
    ],
)
def test_bad_values_name_the_key(changes, message):
    with pytest.raises(InputError, match=message):
        tiny_config(**changes)


def test_network_from_elsewhere_is_trained(tmp_path, dataset):
    """No ``parameter_groups``, another stride, scores in a dictionary."""

    class Elsewhere(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 5, stride=5)

        def forward(self, image):
            return {"out": self.layer(image)}

    model = Segmenter(Elsewhere())
    before = weights(model)
    train(model, dataset, tiny_config(iterations=2), tmp_path, seed=0)
    assert all(not torch.equal(value, before[name]) for name, value in weights(model).items())
