"""Networks on images of other channels: gray as RGB gave it, and everything from training to pictures."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models._manipulate import adapt_input_conv
from torch.nn import Conv2d

from crfnet.cli.main import main
from crfnet.data import AugmentConfig, Sample, augment
from crfnet.errors import InputError
from crfnet.models import ModelConfig
from crfnet.models.input_channels import channel_statistics
from crfnet.segmenter import build_segmenter
from tests.models.configs import model_config

NETWORKS = {
    "resnet18": {"width": 0.125},
    "vgg16": {"width": 0.0625},
    "timm:test_resnet": {},
}


def built(backbone: str, channels: int):
    torch.manual_seed(0)
    return build_segmenter(ModelConfig(backbone=backbone, **NETWORKS[backbone]), 3, channels=channels).eval()


@pytest.mark.parametrize("backbone", NETWORKS)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_first_convolution_is_that_of_timm(backbone, channels):
    rgb, other = (built(backbone, number) for number in (3, channels))
    first = next(layer for layer in rgb.network.modules() if isinstance(layer, Conv2d))
    adapted = next(layer for layer in other.network.modules() if isinstance(layer, Conv2d))
    torch.testing.assert_close(adapted.weight, adapt_input_conv(channels, first.weight))
    image = torch.randint(0, 256, (2, channels, 33, 49), dtype=torch.uint8)
    assert other(image).shape == (2, 3, 33, 49)
    with pytest.raises(ValueError, match=rf"must be \(b, {channels}, h, w\)"):
        other(torch.zeros(1, 3, 33, 33))


def test_gray_gives_what_it_gave_as_rgb():
    rgb, gray = built("resnet18", 3), built("resnet18", 1)
    for model in (rgb, gray):
        model.mean.fill_(100)
        model.std.fill_(50)
    image = torch.randint(0, 256, (1, 1, 33, 49)).float()
    torch.testing.assert_close(gray(image), rgb(image.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
    assert channel_statistics((1.0, 2.0, 6.0), 1) == (3.0,)
    assert channel_statistics((1.0, 2.0, 6.0), 5) == (1.0, 2.0, 6.0, 1.0, 2.0)


def test_every_convolution_on_the_image_is_adapted():
    config = model_config(
        variant="deeplab_v1", backbone="vgg16", width=0.0625, head="large_fov", multi_scale_features=True
    )
    model = build_segmenter(config, 3, channels=4)
    assert [layer.in_channels for layer in model.network.modules() if isinstance(layer, Conv2d)].count(4) == 2
    assert not next(
        model.network.backbone.parameters()
    ).requires_grad  # as before: MSc trains classifiers alone
    assert model.eval()(torch.zeros(1, 4, 33, 33)).shape == (1, 3, 33, 33)


def test_caffe_has_three_channels():
    with pytest.raises(InputError, match=r"model\.preprocessing is 'caffe', must be backbone or imagenet"):
        build_segmenter(ModelConfig(backbone="resnet18", width=0.125, preprocessing="caffe"), 3, channels=1)


def test_augmentation_fills_every_channel():
    sample = Sample("a", torch.zeros(5, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.int64))
    found = augment(sample, AugmentConfig(crop=(9, 9), scale=(1.0, 1.0), mirror=False), (1, 2, 3), seed=0)
    outside = found.image[:, found.labels == 255]
    assert [set(row.tolist()) for row in outside] == [{1}, {2}, {3}, {1}, {2}]


@pytest.mark.parametrize("channels", [1, 5])
def test_compare_on_images_of_other_channels(channels, tmp_path):
    """Data, networks, both CRFs, the report's pictures and predict."""
    random = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 3)):
        for folder in ("images", "masks"):
            (tmp_path / folder / split).mkdir(parents=True)
        for name in range(count):
            labels = np.zeros((24, 32), np.uint8)
            labels[6:18, 8 + name : 20] = 1
            pixels = random.integers(0, 2000, (24, 32, channels)) + 1000 * labels[..., None].astype(int)
            np.save(tmp_path / f"images/{split}/{name}.npy", pixels.astype(np.uint16).squeeze())
            Image.fromarray(labels).save(tmp_path / f"masks/{split}/{name}.png")
    config = tmp_path / "own.yaml"
    stage = "{iterations: 2, batch_size: 2, augment: {crop: [33, 33]}, picture_every: 1"
    config.write_text(
        f"output: {tmp_path}/run\npictures: 1\n"
        f"data: {{name: folders, root: {tmp_path}, classes: [a, b], channels: {channels}, "
        "image_range: [0, 3000]}\n"
        "model: {variant: deeplab_v2, backbone: resnet18, width: 0.125, deeplab_v2: {head: large_fov}}\n"
        f"train: {stage}}}\njoint: {stage}, loss: image}}\n"
        "crf: {iterations: 2, train_iterations: 2, permutohedral: {rows: 16}}\n"
        "search: {images: 2, w1: [3], theta_alpha: [30], theta_beta: [3], rounds: 1, iterations: 2}\n"
        "evaluation: {draws: 20, max_width: 5}\n"
    )
    main(["compare", str(config)])
    assert (tmp_path / "run/report.html").is_file()
    main(
        [
            *("predict", str(config), str(tmp_path / "images/val/0.npy")),
            *("--checkpoint", str(tmp_path / "run/joint/train/checkpoint.pt")),
        ]
    )
    with Image.open(tmp_path / "run/predictions/0_overlay.png") as picture:
        assert picture.mode == "RGB"
