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
