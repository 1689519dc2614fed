"""ImageNet weights: from the cache, or one line that says what to do. Nothing is ever downloaded."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.models import get_weight

from crfnet.backbones import build_backbone
from crfnet.backbones.weights import IMAGENET_WEIGHTS, imagenet_state
from crfnet.errors import InputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub on a machine without internet."""

    def offline(*_: object, **__: object) -> None:
        raise URLError("no internet")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("name", IMAGENET_WEIGHTS)
def test_missing_weights_name_file_cache_and_remedy(name: str, cache: Path) -> None:
    with pytest.raises(InputError) as caught:
        imagenet_state(name)
    message = str(caught.value)
    file = get_weight(IMAGENET_WEIGHTS[name]).url.rpartition("/")[2]
    assert str(cache / file) in message
    assert f"https://download.pytorch.org/models/{file}" in message
    assert "weights: none" in message
    assert "\n" not in message


def test_backbone_with_missing_weights_is_not_built_at_random(cache: Path) -> None:
    with pytest.raises(InputError, match=r"ImageNet weights of resnet18"):
        build_backbone("resnet18", pretrained=True)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_broken_file_in_the_cache_is_named(content: bytes, cache: Path) -> None:
    cache.mkdir()
    file = cache / "resnet18-f37072fd.pth"
    file.write_bytes(content)
    with pytest.raises(InputError, match=str(file)):
        imagenet_state("resnet18")


def test_file_in_the_cache_is_read(cache: Path) -> None:
    cache.mkdir()
    torch.save({"a": torch.ones(2)}, cache / "resnet18-f37072fd.pth")
    assert torch.equal(imagenet_state("resnet18")["a"], torch.ones(2))
