"""Augmentation and the training sequence: everything from the seed, image and labels move together."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from crfnet.data import (
    AugmentConfig,
    DataConfig,
    Sample,
    SegmentationDataset,
    ToyConfig,
    TrainingStream,
    augment,
    load_dataset,
)
from crfnet.errors import InputError
from crfnet.labels import VOID

FILL = (1, 2, 3)


def blocks(height: int = 40, width: int = 60) -> Sample:
    """Labels 0..15 in 4 x 4 blocks; the image says the label in gray: 15 * label + 10."""
    labels = torch.arange(width)[None] * 4 // width + 4 * (torch.arange(height)[:, None] * 4 // height)
    return Sample("blocks", (15 * labels + 10).byte().expand(3, -1, -1).contiguous(), labels)


def same(a: Sample, b: Sample) -> bool:
    return a.id == b.id and torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels)


def test_size_types_and_label_set():
    config = AugmentConfig(crop=(33, 21))
    for seed in range(20):
        sample = augment(blocks(), config, FILL, seed)
        assert sample.image.shape == (3, 33, 21)
        assert sample.image.dtype == torch.uint8
        assert sample.image.is_contiguous()  # a view would keep the whole scaled image in memory
        assert sample.labels.shape == (33, 21)
        assert sample.labels.dtype == torch.int64
        assert set(sample.labels.unique().tolist()) <= {*range(16), VOID}


def test_same_seed_same_sample_and_global_state_untouched():
    config = AugmentConfig(crop=(32, 32))
    first = augment(blocks(), config, FILL, 3)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state must not matter
    before, before_numpy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert same(augment(blocks(), config, FILL, 3), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002
    assert not same(augment(blocks(), config, FILL, 4), first)


def test_neither_the_sample_nor_its_memory_is_changed():
    sample, untouched = blocks(), blocks()
    config = AugmentConfig(crop=(40, 60), scale=(1.0, 1.0), mirror=False)
    result = augment(sample, config, FILL, 0)
    assert same(result, untouched)
    result.image.zero_()
    result.labels.zero_()
    assert same(sample, untouched)


def test_image_and_labels_move_together():
    """Where the image is even it shows the label; with no scaling it does so everywhere."""
    for scale in ((1.0, 1.0), (0.5, 1.5)):
        for seed in range(20):
            sample = augment(blocks(), AugmentConfig(crop=(32, 70), scale=scale), (255, 255, 255), seed)
            gray, known = sample.image[0].float(), sample.labels != VOID
            even = (neighborhood_max(gray) == -neighborhood_max(-gray)) | (scale == (1.0, 1.0))
            assert (known & even).sum() > 0.25 * known.sum()
            assert torch.equal(gray[known & even], 15.0 * sample.labels[known & even] + 10)


def neighborhood_max(gray: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.max_pool2d(gray[None], 3, stride=1, padding=1)[0]


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_grids_have_no_offset(factor):
    """The place of an edge is the same in the image and in the labels: within a pixel, and on average."""
    offsets = []
    for edge in range(20, 45):
        labels = (torch.arange(64) >= edge).long().expand(8, 64).contiguous()
        sample = Sample("edge", (200 * labels).byte().expand(3, -1, -1).contiguous(), labels)
        config = AugmentConfig(
            crop=(round(8 * factor), round(64 * factor)), scale=(factor, factor), mirror=False
        )
        result = augment(sample, config, FILL, 0)
        offsets.append((result.labels[0].sum() - result.image[0, 0].sum() / 200).item())
    assert max(map(abs, offsets)) <= 0.75
    assert abs(sum(offsets) / len(offsets)) < 0.1


def test_small_images_lie_anywhere_in_fill_and_void():
    config = AugmentConfig(crop=(50, 80), scale=(0.5, 0.5))
    tops, lefts = set(), set()
    for seed in range(40):
        sample = augment(blocks(), config, FILL, seed)
        inside = sample.labels != VOID
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        assert inside.sum() == 20 * 30
        assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == (20, 30)
        assert (sample.image[:, ~inside] == torch.tensor(FILL)[:, None]).all()
        tops.add(rows[0].item())
        lefts.add(columns[0].item())
    assert len(tops) > 12
    assert len(lefts) > 15
    assert max(tops) > 24
    assert min(tops) < 6


def test_large_images_are_cropped_anywhere():
    config = AugmentConfig(crop=(20, 30), scale=(1.0, 1.0), mirror=False)
    crops = [augment(blocks(), config, FILL, seed) for seed in range(60)]
    assert all((crop.labels != VOID).all() for crop in crops)
    corners = {(crop.labels[0, 0].item(), crop.labels[-1, -1].item()) for crop in crops}
    assert any(top == 0 for top, _ in corners)
    assert any(bottom == 15 for _, bottom in corners)


def test_scale_is_continuous_in_its_interval():
    sample = Sample(
        "plain", torch.zeros(3, 100, 100, dtype=torch.uint8), torch.zeros(100, 100, dtype=torch.long)
    )
    config = AugmentConfig(crop=(151, 151))
    sides = torch.tensor(
        [(augment(sample, config, FILL, seed).labels != VOID).any(0).sum().item() for seed in range(200)]
    )
    assert sides.min() >= 50
    assert sides.max() <= 150
    assert sides.min() < 56
    assert sides.max() > 144
    assert len(sides.unique()) > 60
    assert sides.double().mean() == pytest.approx(100, abs=7)


def test_mirror_is_every_second_and_can_be_off():
    whole = AugmentConfig(crop=(40, 60), scale=(1.0, 1.0))
    mirrored = 0
    for seed in range(100):
        sample = augment(blocks(), whole, FILL, seed)
        if sample.labels[0, 0] == 3:
            mirrored += 1
            assert torch.equal(sample.image, blocks().image.flip(2))
            assert torch.equal(sample.labels, blocks().labels.flip(1))
        else:
            assert same(sample, blocks())
    assert 30 < mirrored < 70
    off = AugmentConfig(crop=(40, 60), scale=(1.0, 1.0), mirror=False)
    assert all(same(augment(blocks(), off, FILL, seed), blocks()) for seed in range(10))


@pytest.mark.parametrize(
    ("field", "value"),
    [("crop", (0, 5)), ("scale", (0.0, 1.0)), ("scale", (1.5, 0.5)), ("scale", (1.0, float("inf")))],
)
def test_config_out_of_range(field, value):
    with pytest.raises(InputError, match=f"augment.{field} is .*, must be"):
        AugmentConfig(**{field: value})


class Numbers(SegmentationDataset):
    """Seven samples whose labels are their index."""

    name, classes, palette = "numbers", tuple("abcdefg"), ((0, 0, 0),) * 7
    ids = tuple("abcdefg")

    def __getitem__(self, index: int) -> Sample:
        labels = torch.full((6, 6), index)
        return Sample(self.ids[index], labels[None].expand(3, -1, -1).byte().contiguous(), labels)


def stream(seed: int = 0) -> TrainingStream:
    return TrainingStream(Numbers(), AugmentConfig(crop=(4, 4)), seed=seed)


def test_every_image_once_an_epoch_in_another_order():
    ids = [stream()[k].id for k in range(35)]
    epochs = [ids[7 * e : 7 * e + 7] for e in range(5)]
    for epoch in epochs:
        assert sorted(epoch) == list("abcdefg")
    assert len(set(map(tuple, epochs))) > 3
    assert [stream(1)[k].id for k in range(35)] != ids


def test_item_is_a_function_of_seed_and_k():
    forwards = [stream()[k] for k in range(20)]
    one = stream()
    for k in (19, 3, 11, 3):
        assert same(one[k], forwards[k])
    with pytest.raises(IndexError):
        one[-1]
    with pytest.raises(ValueError, match="seed is -1, must be at least 0"):
        stream(-1)


def test_the_same_image_is_augmented_anew_each_time():
    toy = TrainingStream(
        load_dataset(DataConfig(toy=ToyConfig(train=1)), "train"), AugmentConfig(crop=(40, 40)), seed=0
    )
    assert len({toy[k].image.numpy().tobytes() for k in range(6)}) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_through_a_loader(workers):
    items = [stream()[k] for k in range(3, 11)]
    loader = DataLoader(stream(), batch_size=4, sampler=range(3, 11), num_workers=workers)
    batches = list(loader)
    assert len(batches) == 2
    for number, batch in enumerate(batches):
        wanted = items[4 * number : 4 * number + 4]
        assert list(batch.id) == [item.id for item in wanted]
        assert torch.equal(batch.image, torch.stack([item.image for item in wanted]))
        assert torch.equal(batch.labels, torch.stack([item.labels for item in wanted]))
