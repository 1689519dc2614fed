"""The toy set: the same everywhere, never twice the same, and with the difficulties that it promises."""

import time

import numpy as np
import pytest
import torch
from scipy import ndimage

from crfnet.data import DataConfig, ToyConfig, load_dataset
from crfnet.labels import VOID

COUNT = 40


@pytest.fixture(scope="module")
def samples():
    dataset = load_dataset(DataConfig(toy=ToyConfig(train=COUNT)), "train")
    return [dataset[index] for index in range(COUNT)]


def same(a, b) -> bool:
    return a.id == b.id and torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels)


def test_sizes_and_types(samples):
    for sample in samples:
        assert sample.image.shape == (3, 96, 128)
        assert sample.image.dtype == torch.uint8
        assert sample.labels.shape == (96, 128)
        assert sample.labels.dtype == torch.int64


@pytest.mark.parametrize("size", [(32, 32), (33, 150), (201, 97)])
def test_other_sizes(size):
    sample = load_dataset(DataConfig(toy=ToyConfig(size=size)), "val")[3]
    assert sample.labels.shape == size
    assert sample.image.shape == (3, *size)
    assert len(sample.labels.unique()) >= 3


def test_image_is_a_function_of_seed_split_and_index(samples):
    again = load_dataset(DataConfig(toy=ToyConfig(train=COUNT + 5)), "train")
    np.random.seed(5)  # noqa: NPY002 - the global state must not matter
    torch.manual_seed(5)
    for index in (7, 0, COUNT - 1):
        assert same(again[index], samples[index])
    assert same(again[-1], again[COUNT + 4])
    with pytest.raises(IndexError):
        again[COUNT + 5]


def test_global_random_state_is_untouched():
    before_torch, before_numpy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load_dataset(DataConfig(), "train")[0]
    assert torch.equal(torch.random.get_rng_state(), before_torch)
    assert np.array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002


def test_no_image_comes_twice(samples):
    others = [
        *(load_dataset(DataConfig(), "val")[index] for index in range(10)),
        *(load_dataset(DataConfig(toy=ToyConfig(seed=1)), "train")[index] for index in range(10)),
    ]
    contents = {sample.image.numpy().tobytes() for sample in [*samples, *others]}
    assert len(contents) == COUNT + 20
    assert not {sample.id for sample in samples} & {sample.id for sample in others[:10]}


def test_labels_and_shares(samples):
    labels = torch.stack([sample.labels for sample in samples])
    counts = torch.bincount(labels.flatten(), minlength=256).double()
    shares = counts / counts.sum()
    assert set(labels.unique().tolist()) == {0, 1, 2, 3, 4, 5, VOID}
    assert 0.5 < shares[0] < 0.85
    assert (shares[1:6] > 0.01).all(), shares[1:6]
    assert 0.05 < shares[VOID] < 0.2
    for sample in samples:
        assert len(sample.labels.unique()) >= 4


def test_void_ribbon_separates_all_classes_and_is_thin(samples):
    for sample in samples:
        labels = sample.labels
        # Neither neighbors nor pixels two apart: the ribbon takes a pixel from both sides of a border.
        for apart in (1, 2):
            for a, b in ((labels[apart:], labels[:-apart]), (labels[:, apart:], labels[:, :-apart])):
                assert not ((a != b) & (a != VOID) & (b != VOID)).any()
        # No more than two pixels wide: nearly every void pixel has a labeled one next to it.
        labeled = ndimage.binary_dilation((labels != VOID).numpy(), np.ones((3, 3)))
        assert labeled[(labels == VOID).numpy()].mean() > 0.97


def test_thin_parts(samples):
    """Bars vanish under an opening of 7 pixels, and most of what is labeled of them is 3 to 5 pixels wide."""
    bars = [(sample.labels == 2).numpy() for sample in samples]
    area = sum(bar.sum() for bar in bars)
    left = {
        side: sum(ndimage.binary_opening(bar, np.ones((side, side))).sum() for bar in bars) for side in (3, 6)
    }
    assert left[3] > 0.9 * area
    assert left[6] < 0.2 * area

    # Spikes: a part of the stars goes in an opening that leaves discs nearly whole.
    def kept(label: int) -> float:
        masks = [(sample.labels == label).numpy() for sample in samples]
        opened = [ndimage.binary_opening(mask, np.ones((5, 5))) for mask in masks]
        return sum(map(np.sum, opened)) / sum(map(np.sum, masks))

    assert kept(5) < 0.85
    assert kept(1) > 0.9


def test_rings_have_holes(samples):
    holes = 0
    for sample in samples:
        ring = (sample.labels == 4).numpy()
        inside = ndimage.binary_fill_holes(ring) & ~ring
        holes += int((inside & (sample.labels == 0).numpy()).sum() > 20)
    assert holes > COUNT / 4


def test_color_of_a_pixel_tells_a_part_of_the_class(samples):
    """The most frequent class among the training pixels of its color: better than chance, far from enough."""
    colors, labels = pixels(samples)
    r, g, b = (colors.long() // 16).unbind(1)
    bins, half = (r * 16 + g) * 16 + b, len(labels) // 2
    counts = torch.zeros(6 * 4096).index_add(
        0, labels[:half] * 4096 + bins[:half], torch.ones(half, dtype=torch.float32)
    )
    guess, truth = counts.view(6, 4096).argmax(0)[bins[half:]], labels[half:]
    iou = torch.stack(
        [((guess == k) & (truth == k)).sum() / ((guess == k) | (truth == k)).sum() for k in range(1, 6)]
    )
    assert 0.2 < iou.mean() < 0.5, iou
    assert iou.max() < 0.65, iou


def test_color_changes_across_most_borders_but_not_all(samples):
    # The ribbon is two pixels wide: compare the labeled pixels on its sides.
    jumps = torch.cat([_across(sample, 1)[0] for sample in samples])
    assert jumps.median() > 80
    assert 0.02 < (jumps < 40).float().mean() < 0.1


def test_some_borders_are_out_of_focus(samples):
    """At a sharp border most of the change is within the ribbon; at a soft one it goes on beyond."""
    pairs = [_across(sample, 4) for sample in samples]
    near, far = torch.cat([near for near, _ in pairs]), torch.cat([far for _, far in pairs])
    within = (near / far)[far > 40]
    assert within.median() > 0.85
    assert 0.15 < (within < 0.7).float().mean() < 0.35


def _across(sample, reach: int):
    """Changes of color over the void ribbon, and ``reach`` pixels from its middle on either side."""
    image, labels = sample.image.float(), sample.labels
    width = labels.shape[1]

    def shifted(offset: int):
        return slice(5 + offset, width - 5 + offset)

    left, right = labels[:, shifted(-1)], labels[:, shifted(2)]
    border = (left != right) & (left != VOID) & (right != VOID)
    border &= (labels[:, shifted(-reach)] == left) & (labels[:, shifted(reach + 1)] == right)

    def change(a: int, b: int):
        return (image[:, :, shifted(a)] - image[:, :, shifted(b)]).norm(dim=0)[border]

    return change(-1, 2), change(-reach, reach + 1)


def pixels(samples):
    images = torch.stack([sample.image for sample in samples]).float().permute(0, 2, 3, 1).reshape(-1, 3)
    labels = torch.stack([sample.labels for sample in samples]).flatten()
    return images[labels != VOID], labels[labels != VOID]


def test_check_and_speed():
    dataset = load_dataset(DataConfig(toy=ToyConfig(val=20)), "val")
    dataset.check()
    times = []
    for sample_index in range(20):
        start = time.process_time()
        dataset[sample_index]
        times.append(time.process_time() - start)
    assert sorted(times)[10] < 0.05  # about 5 ms; the bound leaves room for a slow and busy machine
