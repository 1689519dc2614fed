"""Colors that can be told apart, of known data sets, of files."""

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.errors import InputError
from crfnet.explore import Session, distinct_colors, open_session
from crfnet.explore.painting import painted
from crfnet.explore.palettes import palette_of_png
from crfnet.labels import DATASET_CLASSES, VOC_PALETTE, overlay, write_label_png
from tests.explore.test_files import IMAGE, SIZE


@pytest.mark.parametrize("count", [2, 21, 22, 60, 150, 255])
def test_colors_are_apart(count):
    colors = distinct_colors(count)
    assert len(colors) == count
    assert colors[:21] == VOC_PALETTE[:21][:count]
    assert all(0 <= part <= 255 for color in colors for part in color)
    apart = torch.cdist(*[torch.tensor(colors).float()] * 2).fill_diagonal_(torch.inf).min()
    assert apart >= (45 if count <= 60 else 36)  # VOC's own come as near as 32, beyond its 64th


def test_colors_of_files(tmp_path):
    scores = tmp_path / "scores.npy"
    np.save(scores, np.zeros((3, *SIZE), dtype=np.float32)[:, ::2, ::2])

    def opened(**files):
        return open_session(IMAGE, scores, "a", **files)

    def refused(match, **files):
        with pytest.raises(InputError, match=match) as caught:
            opened(**files)
        assert "\n" not in str(caught.value)

    assert opened().colors == distinct_colors(3)
    truth, chosen = tmp_path / "truth.png", ((1, 2, 3), (4, 5, 6), (250, 9, 8))
    write_label_png(truth, torch.ones(SIZE, dtype=torch.long), chosen)
    assert opened(labels=truth).colors == chosen
    lines = tmp_path / "colors.txt"
    lines.write_text("10 20 30\n\n40, 50, 60\n255 0 255\n0 0 0\n")
    assert opened(labels=truth, palette=str(lines)).colors == ((10, 20, 30), (40, 50, 60), (255, 0, 255))
    Image.new("L", SIZE[::-1]).save(truth)
    assert opened(labels=truth).colors == distinct_colors(3)
    assert palette_of_png(truth, 3) is None
    refused("--palette is 'camvid', must be for 3 classes, as the scores are, not 11", palette="camvid")
    refused("--palette is 'vok', must be a file or one of toy, voc, camvid", palette="vok")
    lines.write_text("1 2 3\n4 5 6\n")
    refused("2 colors, must be 3", palette=str(lines))
    lines.write_text("1 2 3\n4 5 256\n7 8 9\n")
    refused(r"color 2 is \(4, 5, 256\)", palette=str(lines))
    lines.write_text("red\n")
    refused("cannot be read as lines", palette=str(lines))
    with pytest.raises(InputError, match="colors: 2, must be 3"):
        Session(IMAGE, torch.zeros(1, 3, *SIZE), colors=chosen[:2])


def test_names_of_a_known_data_set(tmp_path):
    np.save(tmp_path / "scores.npy", np.zeros((11, 6, 8), dtype=np.float32))
    session = open_session(IMAGE, tmp_path / "scores.npy", "a", palette="camvid")
    assert (session.names, session.colors) == DATASET_CLASSES["camvid"]
    (tmp_path / "names.txt").write_text("".join(f"{letter}\n" for letter in "abcdefghijk"))
    named = open_session(
        IMAGE, tmp_path / "scores.npy", "a", palette="camvid", classes=tmp_path / "names.txt"
    )
    assert (named.names, named.colors) == (tuple("abcdefghijk"), DATASET_CLASSES["camvid"].colors)


@pytest.mark.parametrize("opacity", [0.0, 0.35, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_look_ups_paint_what_the_overlay_paints(opacity, channels):
    plots = pytest.importorskip("crfnet.explore.plots")
    image = torch.randint(0, 256, (channels, 23, 31), dtype=torch.uint8)
    labels = torch.randint(0, 7, (23, 31))
    wanted = plots.rgba(overlay(image, labels, distinct_colors(7), opacity))
    assert np.array_equal(painted(image, labels, distinct_colors(7), opacity), wanted)
