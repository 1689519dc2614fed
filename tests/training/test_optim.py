"""Groups, multipliers and schedule against the table of the released solvers."""

import pytest
import torch
from torch import nn

from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from crfnet.training.config import TrainConfig
from crfnet.training.optim import (
    build_optimizer,
    learning_rate_factor,
    poly_factor,
    set_learning_rates,
    step_factor,
)
from tests.training.conftest import TinyNetwork, tiny_config, tiny_segmenter


def groups(model: Segmenter, **changes: object) -> dict[str, dict]:
    optimizer = build_optimizer(model, tiny_config(lr=0.5, weight_decay=0.25, crf_lr=0.125, **changes))
    return {group["name"]: group for group in optimizer.param_groups}


def test_every_group_has_its_multiplier_and_decay():
    made = groups(tiny_segmenter(crf=True), loss="image")
    assert {name: (group["lr"], group["weight_decay"]) for name, group in made.items()} == {
        "backbone_weight": (0.5, 0.25),
        "backbone_bias": (1.0, 0),
        "head_weight": (5.0, 0.25),
        "head_bias": (10.0, 0),
        "crf": (0.125, 0),
    }
    assert all(group["momentum"] == 0.9 for group in made.values())


def test_multipliers_are_settings():
    made = groups(tiny_segmenter(), head_lr=3.0, bias_lr=4.0)
    assert [group["lr"] for group in made.values()] == [0.5, 2.0, 1.5, 6.0]


def test_groups_hold_every_trainable_parameter_once():
    model = tiny_segmenter(crf=True, learn_theta=False)
    model.network.norm.requires_grad_(False)
    made = [parameter for group in groups(model).values() for parameter in group["params"]]
    expected = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(map(id, made)) == sorted(map(id, expected))


def test_network_without_groups_is_all_backbone():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1, bias=False))
    made = groups(Segmenter(network))
    assert set(made) == {"backbone_weight", "backbone_bias"}
    assert [id(p) for p in made["backbone_bias"]["params"]] == [id(network[0].bias), id(network[1].bias)]
    assert len(made["backbone_weight"]["params"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda groups: groups["head_bias"].clear(), r"head\.bias is in 0 groups"),
        (lambda groups: groups["head_weight"].extend(groups["head_bias"]), r"head\.bias is in 2 groups"),
        (lambda groups: groups.update(neck=[]), "unknown neck"),
    ],
)
def test_wrong_groups_are_refused(change, message):
    class Wrong(TinyNetwork):
        def parameter_groups(self):
            made = super().parameter_groups()
            change(made)
            return made

    with pytest.raises(ValueError, match=message):
        groups(Segmenter(Wrong()))


def test_nothing_to_train_is_refused():
    model = tiny_segmenter().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        groups(model)


def test_poly():
    assert poly_factor(0, 20, 0.9) == 1
    assert poly_factor(10, 20, 0.9) == pytest.approx(0.535886731268146)  # 0.5 ** 0.9
    assert poly_factor(15, 20, 2.0) == pytest.approx(0.0625)
    assert poly_factor(20, 20, 0.9) == 0


def test_staircase_falls_to_a_tenth_every_2000_iterations():
    """v1, section 5."""
    assert [step_factor(step, 2000, 0.1) for step in (0, 1999, 2000, 3999, 5999)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01]
    )


def test_the_configuration_chooses_the_schedule():
    config = TrainConfig(iterations=20, schedule="step", step_size=5, gamma=0.5)
    assert [learning_rate_factor(step, config) for step in (0, 4, 5, 14, 15)] == [1, 1, 0.5, 0.25, 0.125]
    assert learning_rate_factor(10, TrainConfig(iterations=20)) == poly_factor(10, 20, 0.9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "cosine"}, "schedule is 'cosine', must be poly or step"),
        ({"step_size": 0}, "step_size is 0, must be >= 1"),
        ({"gamma": 0.0}, r"gamma is 0.0, must be in \(0, 1\]"),
        ({"gamma": 1.5}, "gamma is 1.5"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(changes, words):
    config = TrainConfig()
    for name, value in changes.items():  # past the type checker of the tests, which would refuse it first
        object.__setattr__(config, name, value)
    with pytest.raises(InputError, match=words):
        config.__post_init__()


def test_schedule_scales_what_a_group_began_with():
    optimizer = build_optimizer(tiny_segmenter(crf=True), tiny_config(lr=0.5, crf_lr=0.125))
    for factor in (0.5, 0.25):  # twice: the factors do not pile up
        set_learning_rates(optimizer, factor)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.25, 1.25, 2.5, 0.03125]


def test_biases_and_crf_do_not_decay():
    model = tiny_segmenter(crf=True)
    optimizer = build_optimizer(model, tiny_config(lr=0.1, weight_decay=0.5, crf_lr=0.1))
    before = {name: value.clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"network.body.weight", "network.norm.weight", "network.head.weight"}
