"""Files of training scripts with more than weights in them, and files that are something else."""

import argparse
import gzip
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from crfnet.checkpoints.convert import convert_file
from crfnet.checkpoints.layouts import read_weights
from crfnet.errors import InputError


def test_a_checkpoint_of_torchvision_s_training_script_is_read(tmp_path: Path) -> None:
    """{model, optimizer, lr_scheduler, epoch, args: Namespace}, as its references/segmentation/train.py."""
    network = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5, aux_loss=True
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, 10, 0.9)
    content = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(
            data_path="/data", lr=0.02, amp=False, workers=16, resume="", device="cuda"
        ),
    }
    torch.save(content, tmp_path / "model_3.pth")
    converted = convert_file(tmp_path / "model_3.pth")
    assert "torchvision: DeepLabV3, mobilenet_v3_large, 5 classes" in converted.what
    assert torch.equal(
        converted.model["network.classifier.weight"], network.state_dict()["classifier.4.weight"]
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fcn_resnet50", "torchvision: FCN, which is no DeepLab"),
        ("lraspp_mobilenet_v3_large", "torchvision: LRASPP, which is no DeepLab"),
    ],
)
def test_its_other_networks_are_known_by_name(name: str, words: str, tmp_path: Path) -> None:
    network = getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None)
    torch.save(network.state_dict(), tmp_path / "file.pth")
    with pytest.raises(InputError, match=words):
        convert_file(tmp_path / "file.pth")


def test_a_file_that_cannot_be_read_is_called_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "page.pth").write_text("\n<!DOCTYPE html><html><title>Google Drive</title>")
    (tmp_path / "lfs.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    (tmp_path / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    (tmp_path / "packed.pth").write_bytes(gzip.compress(bytes(64)))
    for name, inside in (("script.pt", "script/code/__torch__.py"), ("archive.zip", "readme.txt")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(inside, "none")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    for name, words in {
        "empty.pth": "empty$",
        "page.pth": "a web page, .* download it again",
        "lfs.pth": "a pointer of Git LFS",
        "keras.h5": "an HDF5 file",
        "packed.pth": "packed with gzip",
        "script.pt": r"a TorchScript program, not weights; save its state_dict\(\)",
        "archive.zip": "a zip archive without weights",
        "module.pth": r"objects of torch.nn.modules.linear.Linear, .* save its state_dict\(\) alone",
    }.items():
        with pytest.raises(InputError, match=f"{name}: .*{words}") as caught:
            read_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
