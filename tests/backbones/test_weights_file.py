"""Backbone weights from a file: every naming that is known, and one line for what does not match."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones import build_backbone
from crfnet.backbones.vgg import decimated_fc
from crfnet.checkpoints.convert import convert_file, write_converted
from crfnet.errors import InputError
from crfnet.files.weight_files import write_safetensors
from crfnet.models import DeepLabV1Config, DeepLabV3Config, ModelConfig, build_network
from crfnet.pipeline.build import build_run_segmenter
from crfnet.pipeline.run_config import load_run


def random_state(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }


def torchvision_s(name: str) -> dict[str, Tensor]:
    return random_state(getattr(torchvision.models, name)(weights=None))


def timm_s(name: str) -> dict[str, Tensor]:
    return random_state(timm.create_model(name))


def lite_s(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's EfficientNet-Lite by the names of efficientnet-lite-pytorch, unit after unit."""
    layers = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    layers |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    plain = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    units = list(dict.fromkeys(tuple(n.split(".")[1:3]) for n in state if n.startswith("blocks.")))
    names = {}
    for name in state:
        first, *rest = name.split(".")
        if first == "blocks":
            number = units.index((rest[0], rest[1]))
            names[name] = f"_blocks.{number}.{(plain if number == 0 else layers)[rest[2]]}.{rest[3]}"
        else:
            names[name] = f"{outside.get(first, '_fc')}.{rest[0]}"
    return {names[name]: value for name, value in state.items()}


def written(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        write_safetensors(path, state, {})
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("backbone", "state", "same"),
    [
        ("resnet18", lambda: torchvision_s("resnet18"), {"layer4.1.bn2.bias": "layer4.1.bn2.bias"}),
        (
            "resnet18",
            lambda: timm_s("resnet18"),
            {"layer2.0.downsample.0.weight": "layer2.0.downsample.0.weight"},
        ),
        (
            "mobilenet_v2",
            lambda: torchvision_s("mobilenet_v2"),
            {
                "conv_stem.weight": "features.0.0.weight",
                "blocks.0.0.conv_pw.weight": "features.1.conv.1.weight",
                "blocks.0.0.bn2.bias": "features.1.conv.2.bias",
                "blocks.2.1.conv_dw.weight": "features.5.conv.1.0.weight",
                "blocks.6.0.bn3.running_var": "features.17.conv.3.running_var",
            },
        ),
        (
            "mobilenet_v2_jfzhang95",
            lambda: timm_s("mobilenetv2_100"),
            {"features.17.conv.3.running_var": "blocks.6.0.bn3.running_var"},
        ),
        (
            "mobilenet_v3_large",
            lambda: torchvision_s("mobilenet_v3_large"),
            {"features.4.block.2.fc1.weight": "features.4.block.2.fc1.weight"},
        ),
        (
            "efficientnet_lite1",
            lambda: lite_s(timm_s("tf_efficientnet_lite1")),
            {
                "bn1.running_mean": "_bn0.running_mean",
                "blocks.1.0.bn3.weight": "_blocks.1._bn2.weight",
                "blocks.6.0.conv_pwl.weight": "_blocks.20._project_conv.weight",
            },
        ),
        (
            "timm:tf_efficientnet_lite0",
            lambda: lite_s(timm_s("tf_efficientnet_lite0")),
            {"network.blocks.6.0.conv_pwl.weight": "_blocks.15._project_conv.weight"},
        ),
        (
            "timm:convnext_atto",
            lambda: timm_s("convnext_atto"),
            {"network.stages_2.blocks.1.conv_dw.weight": "stages.2.blocks.1.conv_dw.weight"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_naming_is_known(backbone: str, state, same: dict[str, str], tmp_path: Path) -> None:
    theirs = state()
    file = written(theirs, tmp_path / "weights.pth")
    loaded = build_backbone(backbone, weights_file=file, output_stride=16).state_dict()
    for ours, name in same.items():
        assert torch.equal(loaded[ours], theirs[name]), ours
    sums = {round(float(value.double().sum()), 6) for value in theirs.values()}
    assert all(round(float(value.double().sum()), 6) in sums for value in loaded.values())


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "model.", "network.backbone.", "module."])
def test_what_stands_in_front_of_names_is_left_out(prefix: str, tmp_path: Path) -> None:
    theirs = torchvision_s("resnet18")
    state = {prefix + name: value for name, value in theirs.items() if not name.startswith("fc.")}
    state |= {} if prefix == "module." else {"decoder.weight": torch.ones(2)}
    file = written(state, tmp_path / "weights.safetensors")
    backbone = build_backbone("resnet18", weights_file=file)
    assert torch.equal(backbone.conv1.weight, theirs["conv1.weight"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv1.weight": None}, r"it lacks conv1.weight$"),
        (
            dict.fromkeys(["bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"]),
            "it lacks bn1.weight, bn1.bias, bn1.running_mean and 1 more$",
        ),
        (
            {"conv1.weight": torch.ones(64, 1, 7, 7)},
            r"conv1.weight is \[64, 1, 7, 7\], must be \[64, 3, 7, 7\]",
        ),
        ({"layer3.5.conv1.weight": torch.ones(1)}, "it has layer3.5.conv1.weight beside"),
        ({"conv1.weight": torch.full((64, 3, 7, 7), torch.nan)}, "holds NaN or infinity"),
    ],
)
def test_what_does_not_match_is_one_line(change: dict[str, Tensor | None], said: str, tmp_path: Path) -> None:
    state = {k: v for k, v in (torchvision_s("resnet18") | change).items() if v is not None}
    file = written(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=said) as caught:
        build_backbone("resnet18", weights_file=file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_blocks_that_a_cascade_repeats_start_at_random(tmp_path: Path) -> None:
    plain = build_backbone("resnet18", width=0.125)
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    cascade = build_backbone(
        "resnet18", width=0.125, extra_blocks=3, output_stride=16, weights_file=tmp_path / "plain.pth"
    )
    state = cascade.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    assert any(name.startswith("layer7.") for name in state)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = written(torchvision_s("resnet18"), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"it lacks conv_stem.weight, .* more; it has conv1.weight"):
        build_backbone("mobilenet_v2", weights_file=file)
    with pytest.raises(InputError, match="no such file"):
        build_backbone("mobilenet_v2", weights_file=tmp_path / "missing.pth")
    with pytest.raises(InputError, match=r"backbone_weights is .*, must be left out with weights: imagenet"):
        build_backbone("mobilenet_v2", weights_file=file, pretrained=True)


def test_vgg_starts_fc6_and_fc7_from_the_file(tmp_path: Path) -> None:
    state = torchvision_s("vgg16")
    file = written(state, tmp_path / "weights.pth")
    config = ModelConfig(DeepLabV1Config(head="large_fov"), backbone="vgg16", backbone_weights=file)
    network = build_network(config, 3).state_dict()
    expected = decimated_fc(state)
    assert torch.equal(network["backbone.features.0.weight"], state["features.0.weight"])
    assert torch.equal(network["head.fc6.weight"], expected["fc6.weight"])
    second = build_network(ModelConfig(backbone="vgg16", backbone_weights=file), 3).state_dict()
    assert torch.equal(second["head.branches.3.fc7.bias"], expected["fc7.bias"])
    del state["classifier.3.bias"]
    written(state, file)
    with pytest.raises(InputError, match=r"shape of classifier.3.bias is None, must be \(4096,\) \(VGG-16\)"):
        build_network(config, 3)


def test_config_and_a_checkpoint_of_it(tmp_path: Path) -> None:
    """The file is read from a config; with a checkpoint it is not needed any more."""
    file = written(torchvision_s("mobilenet_v2"), tmp_path / "weights.pth")
    changes = ["--model.variant", "deeplab_v3", "--model.backbone", "mobilenet_v2"]
    run = load_run(None, [*changes, "--model.backbone_weights", str(file)])
    model = build_run_segmenter(run, 3, None, None)
    loaded = model.network.state_dict()["backbone.blocks.6.0.conv_pwl.weight"]
    assert torch.equal(loaded, torch.load(file)["features.17.conv.2.weight"])

    save = tmp_path / "own.safetensors"
    write_safetensors(save, {f"network.{k}": v for k, v in model.network.state_dict().items()}, {})
    [checkpoint] = write_converted(convert_file(save), tmp_path / "own.pt")
    again = build_backbone("mobilenet_v2", weights_file=checkpoint)
    assert torch.equal(again.state_dict()["blocks.6.0.conv_pwl.weight"], loaded)
    file.unlink()
    assert build_run_segmenter(run, 3, checkpoint, None) is not None
    with pytest.raises(InputError, match="no such file"):
        build_run_segmenter(run, 3, None, None)


def test_other_output_stride_needs_no_file_again(tmp_path: Path) -> None:
    file = written(torchvision_s("mobilenet_v2"), tmp_path / "weights.pth")
    variant = DeepLabV3Config(eval_output_stride=8)
    network = build_network(ModelConfig(variant, "mobilenet_v2", backbone_weights=file), 3)
    file.unlink()
    assert network.eval()(torch.randn(1, 3, 65, 65)).shape == (1, 3, 9, 9)


@pytest.mark.parametrize(
    ("photo", "best", "scores"),
    [
        ("chelsea", [285, 282, 281, 287], [8.7285, 7.0523, 7.0166, 5.0996]),
        ("astronaut", [450, 560, 573, 610], [5.2416, 4.5634, 4.4981, 4.3357]),
    ],
)
@torch.no_grad()
def test_pictures_get_the_class_scores_of_the_original(
    photo: str, best: list[int], scores: list[float], extra_data: Path
) -> None:
    """efficientnet-lite-pytorch 0.1.0 with image_size=225, where its padding is the same on both sides."""
    file = extra_data / "weights" / "efficientnet_lite0_imagenet.pth"
    backbone = build_backbone("efficientnet_lite0", output_stride=32, weights_file=file).eval()
    head = torch.load(file, weights_only=True)
    image = torchvision.transforms.v2.functional.pil_to_tensor(
        Image.open(extra_data / "photos" / f"{photo}.jpg")
    )
    small = F.interpolate(image[None].float(), (225, 225), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    x = F.conv2d(backbone((small - mean) / std), head["_conv_head.weight"])
    statistics = (head[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    x = F.relu6(F.batch_norm(x, *statistics, eps=1e-3)).mean((2, 3))
    found = (x @ head["_fc.weight"].T + head["_fc.bias"])[0].topk(4)
    assert found.indices.tolist() == best
    assert found.values.tolist() == pytest.approx(scores, abs=2e-3)
