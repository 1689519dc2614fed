"""Class weights, focal loss and Dice by hand; parts add up; early stopping; what is refused before work."""

import json
import math

import pytest
import torch
from torch.nn import functional as F

from crfnet.errors import InputError
from crfnet.models import ModelConfig
from crfnet.models.deeplab_v3 import DeepLabV3Config
from crfnet.segmenter import build_segmenter
from crfnet.training import TrainConfig, check_training, train
from crfnet.training.criterion import Criterion, class_weights
from crfnet.training.loss import training_loss
from tests.training.conftest import TinyDataset, tiny_config, tiny_segmenter

LOGITS = torch.tensor([[[[0.0, 2.0, 5.0]], [[0.0, 0.0, 1.0]]]])  # two classes, three pixels
LABELS = torch.tensor([[[1, 0, 255]]])
P = (0.5, 1 / (1 + math.exp(-2)))  # of the right classes


def value(logits=LOGITS, labels=LABELS, **keys) -> float:
    criterion = Criterion(**keys)
    return float(criterion.loss(logits, labels, criterion.sizes(labels)))


def test_class_weights_by_hand():
    expected = (3 * -math.log(P[0]) + 1 * -math.log(P[1])) / 4
    assert value(class_weights=(1.0, 3.0)) == pytest.approx(expected)
    weights = torch.tensor([1.0, 3.0])
    assert value(class_weights=(1.0, 3.0)) == pytest.approx(
        float(F.cross_entropy(LOGITS, LABELS, weights, ignore_index=255))
    )
    assert value(class_weights=(2.0, 2.0)) == pytest.approx(value())


def test_focal_loss_by_hand():
    expected = sum((1 - p) ** 2 * -math.log(p) for p in P) / 2
    assert value(focal=2.0) == pytest.approx(expected)
    weighted = (3 * (1 - P[0]) ** 2 * -math.log(P[0]) + (1 - P[1]) ** 2 * -math.log(P[1])) / 4
    assert value(focal=2.0, class_weights=(1.0, 3.0)) == pytest.approx(weighted)


def test_dice_by_hand():
    # Class 0 is in one pixel: probabilities 0.5 and P[1]; class 1 in the other: 0.5 and 1 - P[1].
    dice = (2 * P[1] / (0.5 + P[1] + 1) + 2 * 0.5 / (0.5 + (1 - P[1]) + 1)) / 2
    assert value(dice=1.0) == pytest.approx(1 - dice)
    assert value(dice=0.25) == pytest.approx(0.75 * value() + 0.25 * (1 - dice))
    one_class = torch.zeros_like(LABELS)
    assert value(torch.tensor([[[[9e3] * 3], [[0.0] * 3]]]), one_class, dice=1.0) == pytest.approx(0)


@pytest.mark.parametrize(
    "keys", [{"focal": 0.5}, {"focal": 2.0}, {"dice": 0.5}, {"class_weights": (0.0, 2.0, 1.0)}, {}]
)
def test_gradients_are_finite_and_parts_add_up(keys):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 5, 7, generator=generator)
    logits[0] *= 1000  # sure of every pixel
    logits.requires_grad_()
    labels = torch.randint(0, 4, (4, 5, 7), generator=generator)
    labels[labels == 3] = 255
    labels[1] = 255
    criterion = Criterion(**keys)
    sizes = criterion.sizes(labels)
    whole = criterion.loss(logits, labels, sizes)
    parts = sum(criterion.loss(x, y, sizes) for x, y in zip(logits.split(1), labels.split(1), strict=True))
    torch.testing.assert_close(parts, whole)
    (gradient,) = torch.autograd.grad(whole, logits)
    assert gradient.isfinite().all()
    assert not gradient[1].any()
    assert gradient[2].any()
    void = torch.full_like(labels, 255)
    nothing = criterion.loss(logits, void, criterion.sizes(void))
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, logits)[0].any()


def test_the_loss_of_a_step_is_that_criterion():
    model, dataset = tiny_segmenter(), TinyDataset()
    batch = [torch.stack(each) for each in zip(*(dataset[i][1:] for i in range(3)), strict=True)]
    model.eval()
    criterion = Criterion((1.0, 2.0, 3.0), 2.0, 0.5)
    logits = model(batch[0])
    expected = criterion.loss(logits, batch[1], criterion.sizes(batch[1]))
    found = training_loss(model, *batch, tiny_config(loss="image"), criterion=criterion)
    assert torch.equal(found, expected)


def test_balanced_weights_are_those_of_the_data_set():
    dataset = TinyDataset()
    dataset.check()
    counts = dataset.pixels[:-1]
    assert sum(counts) == 3 * 24 * 32
    weights = class_weights(tiny_config(class_weights="balanced"), dataset)
    assert weights == pytest.approx([sum(counts) / (3 * count) for count in counts])
    assert class_weights(tiny_config(class_weights=(1.0, 0.0, 2.0)), dataset) == (1.0, 0.0, 2.0)


def losses(folder) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_every_key_reaches_the_training(tmp_path):
    seen = []
    for place, keys in enumerate(({}, {"class_weights": "balanced"}, {"focal": 2.0}, {"dice": 0.5})):
        train(
            tiny_segmenter(), TinyDataset(), tiny_config(iterations=2, **keys), tmp_path / str(place), seed=0
        )
        seen.append(losses(tmp_path / str(place))[0])
    assert len(set(seen)) == 4


def test_early_stopping(tmp_path):
    """With a learning rate of 0 no validation beats the first: two more, and it ends, for good."""
    config = tiny_config(iterations=20, lr=0.0, validate_every=2, early_stop=2)
    result = train(
        tiny_segmenter(), TinyDataset(), config, tmp_path / "run", seed=0, validation=TinyDataset()
    )
    assert len(losses(tmp_path / "run")) == 6
    state = json.loads((tmp_path / "run/state.json").read_text())
    assert (state["state"], state["step"]) == ("finished", 6)
    assert torch.load(result.path)["step"] == 6
    train(
        tiny_segmenter(),
        TinyDataset(),
        config,
        tmp_path / "run",
        seed=0,
        validation=TinyDataset(),
        resume=True,
    )
    assert len(losses(tmp_path / "run")) == 6
    with pytest.raises(InputError, match="early_stop is 2, must be 0 without validate_every"):
        tiny_config(early_stop=2)


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"class_weights": (1.0, 2.0)}, "class_weights is [1.0, 2.0], must be balanced or 3 numbers"),
        ({"loss": "stride"}, "loss is 'stride', must be image for a model with a CRF"),
        ({"validate_every": 1}, "validate_every is 1, must be 0 without validation images"),
    ],
)
def test_stages_that_could_not_be_trained(keys, part):
    with pytest.raises(InputError) as caught:
        check_training(
            tiny_segmenter(crf=True), TinyDataset(), tiny_config(**{"loss": "image"} | keys), None, "joint."
        )
    assert str(caught.value).startswith(f"joint.{part}")


@pytest.mark.parametrize(
    ("key", "number"),
    [("class_weights", (-1.0,)), ("class_weights", (0.0, 0.0)), ("focal", -1.0), ("dice", 1.5)],
)
def test_numbers_that_are_no_weights(key, number):
    with pytest.raises(InputError, match=rf"^{key} is"):
        TrainConfig(**{key: number})


def test_a_batch_of_one_with_image_pooling():
    def model(**keys):
        variant = DeepLabV3Config(image_pooling=keys.pop("image_pooling", True))
        return build_segmenter(ModelConfig(variant=variant, backbone="resnet18", width=0.125, **keys), 3)

    alone = tiny_config(batch_size=2, accumulate=2)
    with pytest.raises(
        InputError, match=r"^train\.batch_size is 2, which leaves 1 image for each process and part"
    ):
        check_training(model(), TinyDataset(), alone, None, "train.")
    check_training(model(), TinyDataset(), tiny_config(batch_size=2), None)
    check_training(model(image_pooling=False), TinyDataset(), alone, None)
    check_training(model(batch_norm="frozen"), TinyDataset(), alone, None)
