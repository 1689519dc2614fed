"""Networks of timm: what cannot be used is refused in one line."""

import pytest
import timm
import torch

from crfnet.backbones import build_backbone
from crfnet.errors import InputError


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vgg11", "hrnet_w18_small"])
def test_network_without_stride_8_is_refused(name: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=rf"timm:{name}: .* output stride 8"):
        build_backbone(f"timm:{name}")


def test_stride_is_checked_even_where_timm_does_not_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        strided = timm.create_model("resnet18", features_only=True)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: strided)
    with pytest.raises(InputError, match="last feature map has stride 32, not 8"):
        build_backbone("timm:resnet18")


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["xception41", "mobilenetv3_small_050", "resnet18"])
def test_levels_have_their_strides_and_channels(name: str, output_stride: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(f"timm:{name}", output_stride=output_stride)
        levels = backbone.levels(torch.empty(1, 3, 129, 65))
    assert levels["conv2"].shape == (1, backbone.low_channels["conv2"], 33, 17)
    assert levels["conv3"].shape == (1, backbone.low_channels["conv3"], 17, 9)
    rows, columns = 128 // output_stride + 1, 64 // output_stride + 1
    assert levels["out"].shape == (1, backbone.out_channels, rows, columns)


def test_network_that_knows_only_its_own_stride_is_taken_at_32() -> None:
    with torch.device("meta"):
        assert build_backbone("timm:pvt_v2_b0", output_stride=32).out_channels == 256
        with pytest.raises(InputError, match=r"timm:pvt_v2_b0: this network cannot give output stride 16"):
            build_backbone("timm:pvt_v2_b0", output_stride=16)


@pytest.mark.parametrize(("name", "units"), [("xception41", 8), ("xception65", 16), ("xception71", 16)])
def test_rates_of_xception_are_those_of_the_release(name: str, units: int) -> None:
    """At stride 16 only the last block is dilated, at 8 the middle flow too; rates 2 and then 4."""
    entry = 5 if name == "xception71" else 3
    for output_stride, middle, exit1, exit2 in ((16, 1, 1, 2), (8, 2, 2, 4)):
        with torch.device("meta"):
            network = build_backbone(f"timm:{name}", output_stride=output_stride).network
        rates = [
            layer.dilation[0] for key, layer in network.named_modules() if key.endswith("stack.conv1.conv_dw")
        ]
        assert rates == [1] * entry + [middle] * units + [exit1, exit2]


def test_features_with_channels_last_are_refused() -> None:
    with torch.device("meta"), pytest.raises(InputError, match=r"timm:swin_tiny.* features are not"):
        build_backbone("timm:swin_tiny_patch4_window7_224", output_stride=32)


def test_unknown_name_suggests_similar_ones() -> None:
    with pytest.raises(
        InputError, match=r"timm:resnet_18: timm has no such network; similar names: .*resnet18"
    ):
        build_backbone("timm:resnet_18")


@pytest.mark.parametrize("error", [OSError("no internet\nsecond line"), RuntimeError("no weights exist")])
def test_missing_weights_say_what_to_do(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"timm:resnet18: cannot load .* weights \(no .*weights: none$"):
        build_backbone("timm:resnet18", pretrained=True)


def test_normalisation_is_that_of_the_network() -> None:
    with torch.device("meta"):
        backbone = build_backbone("timm:xception41")
    assert backbone.mean == (127.5, 127.5, 127.5)
    assert backbone.std == (127.5, 127.5, 127.5)
