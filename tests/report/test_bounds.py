"""Figures of bounded size, whatever the images' shapes and the names in them are."""

import time

import numpy as np
import pytest
import torch

from crfnet.data import DataConfig, load_dataset
from crfnet.labels import VOC_PALETTE
from crfnet.pipeline.rehearse_report import rehearse_report
from crfnet.pipeline.run_config import Run
from crfnet.report.closeup import border_window
from crfnet.report.document import png_of
from crfnet.report.figure_text import figure_text
from crfnet.report.image_strip import strip_figure

NAMES = ["a$\\foo$", "_hidden", "$$", "x" * 500, "a\nb\x1b", *map(str, range(16))]


def sample(height: int, width: int):
    labels = torch.arange(height * width).view(height, width) % 6
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    return ("id $\\x$", image, labels, {"unary": labels, "joint": labels.flip(0)})


@pytest.mark.parametrize("size", [(300, 1), (5000, 1), (1, 5000), (1, 1), (40, 60)])
def test_a_strip_does_not_grow_with_the_shape(size):
    figure = strip_figure([sample(*size)], ["unary", "joint"], VOC_PALETTE, NAMES)
    assert figure.get_size_inches().max() < 12
    assert png_of(figure).startswith(b"\x89PNG")


def test_a_strip_of_many_samples_is_as_much_smaller():
    figure = strip_figure([sample(60, 8)] * 200, ["unary", "joint"], VOC_PALETTE, NAMES)
    assert figure.get_size_inches()[1] * figure.dpi < 2**16


def test_a_window_of_a_large_photo_is_found_at_once():
    """A window of a million pixels was summed pixel by pixel at every place: hours."""
    labels = torch.zeros(3000, 4000, dtype=torch.int64)
    labels[1500:, 2000:] = 1
    start = time.process_time()
    window = border_window(labels, labels, labels.roll(5, 0))
    assert time.process_time() - start < 30
    assert window.height == 900


def test_windows_are_those_of_plain_sums():
    random = np.random.default_rng(0)
    labels, before, after = (torch.from_numpy(random.integers(0, 3, (60, 50))) for _ in range(3))
    window = border_window(labels, before, after)
    assert 0 <= window.top <= 60 - window.height
    changed = (before != after)[window.top : window.top + window.height].float().mean()
    assert changed > 0.5


@pytest.mark.parametrize(
    ("name", "shown"), [("a$b$", r"a\$b\$"), ("a\nb", "a b"), ("\x1b", r"\x1b"), ("plain", "plain")]
)
def test_names_in_figures(name, shown):
    assert figure_text(name) == shown
    assert len(figure_text("x" * 500)) == 40


def test_a_report_is_tried_before_the_work():
    """Class names that Matplotlib would read as formulas, and one that no table holds."""
    data = load_dataset(DataConfig(), "val")
    data.classes = ("a$\\foo$", *data.classes[1:])
    rehearse_report(Run(), data, data.ids[:2], ["unary", "joint"])
