"""Label maps from logits, and their pictures."""

import pytest
import torch
from PIL import Image

from crfnet.errors import InputError
from crfnet.evaluation.prediction import (
    VOC_PALETTE,
    overlay,
    paint,
    predict_labels,
    read_label_png,
    write_label_png,
    write_picture,
)

LABELS = torch.tensor([[0, 1, 2], [15, 20, 255]])


def test_voc_palette():
    """Colors that the VOC development kit lists."""
    assert VOC_PALETTE[0] == (0, 0, 0)
    assert VOC_PALETTE[1] == (128, 0, 0)
    assert VOC_PALETTE[3] == (128, 128, 0)
    assert VOC_PALETTE[15] == (192, 128, 128)
    assert VOC_PALETTE[20] == (0, 64, 128)
    assert VOC_PALETTE[255] == (224, 224, 192)


def test_predict_labels():
    image = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
    labels = predict_labels(lambda x: x.float().requires_grad_(), image)
    assert torch.equal(labels, image.float().argmax(0))
    assert not labels.is_inference()
    with pytest.raises(ValueError, match="model gave logits"):
        predict_labels(lambda x: x[..., ::2].float(), image)


def test_label_png_is_a_palette_picture(tmp_path):
    path = tmp_path / "labels.png"
    write_label_png(path, LABELS)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert picture.convert("RGB").getpixel((0, 1)) == (192, 128, 128)
    assert torch.equal(read_label_png(path), LABELS)
    write_label_png(path, LABELS, palette=[(1, 2, 3), (4, 5, 6)])
    with Image.open(path) as picture:
        assert picture.convert("RGB").getpixel((1, 0)) == (4, 5, 6)
        assert picture.convert("RGB").getpixel((2, 1)) == (224, 224, 192)
    assert [file.name for file in tmp_path.iterdir()] == ["labels.png"]
    with pytest.raises(ValueError, match=r"0\.\.255"):
        write_label_png(path, LABELS * 2)


def test_read_label_png_refuses_colors(tmp_path):
    path = tmp_path / "colors.png"
    write_picture(path, paint(LABELS))
    with pytest.raises(InputError, match="mode RGB"):
        read_label_png(path)
    with pytest.raises(InputError, match="no such file"):
        read_label_png(tmp_path / "gone.png")
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="cannot be read"):
        read_label_png(path)


def test_overlay_mixes_and_spares_void(tmp_path):
    image = torch.full((3, 2, 3), 100, dtype=torch.uint8)
    mixed = overlay(image, LABELS, opacity=0.25)
    assert mixed[:, 0, 1].tolist() == [107, 75, 75]  # 0.75 * 100 + 0.25 * (128, 0, 0)
    assert mixed[:, 1, 2].tolist() == [100, 100, 100]
    assert torch.equal(overlay(image, LABELS, opacity=1.0)[:, 0], paint(LABELS)[:, 0])
    with pytest.raises(ValueError, match="opacity is 2"):
        overlay(image, LABELS, opacity=2.0)
    write_picture(tmp_path / "overlay.png", mixed)
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.mode == "RGB"
        assert picture.getpixel((1, 0)) == (107, 75, 75)
