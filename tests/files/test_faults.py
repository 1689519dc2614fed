"""What is no file, and files that claim more than they hold."""

import os
import struct
from pathlib import Path

import pytest
import torch

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.data.context import _named_order
from crfnet.data.file_dataset import read_mat
from crfnet.errors import InputError
from crfnet.explore.palettes import read_palette
from crfnet.files import check_type, open_image, read_arrays, read_yaml
from crfnet.files.weight_files import read_safetensors, read_unwrapped
from crfnet.pipeline.digests import file_digest
from crfnet.report.energy_curves import read_energy_traces


def opened(path: Path) -> None:
    with open_image(path):
        pass


@pytest.mark.parametrize(
    "read",
    [
        read_yaml,
        read_arrays,
        opened,
        read_safetensors,
        file_digest,
        read_energy_traces,
        _named_order,
        lambda path: read_palette(path, 3),
        lambda path: read_mat(path, "x"),
    ],
)
def test_a_fifo_is_told_at_once(tmp_path, read):
    """It would wait for somebody to write into it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("read", [read_checkpoint, read_unwrapped])
def test_a_small_file_does_not_ask_for_400_gb(tmp_path, read):
    path = tmp_path / "a.pt"
    required = {"step": 1, "seconds": 1.0, "settings": {}, "optimizer": {}, "random": {}}
    torch.save({**required, "model": {"w.weight": torch.zeros(1).expand(10**11)}}, path)
    assert path.stat().st_size < 3000
    with pytest.raises(InputError, match=r"model\.w\.weight claims the shape \[100000000000\], 400000000000"):
        read(path)


def test_an_old_file_does_not_ask_for_400_gb(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(4, dtype=torch.uint8)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"K\x04N", b"\x8a\x08" + struct.pack("<q", 4 * 10**11) + b"N"))
    with pytest.raises(InputError, match=r"a\.pt: damaged"):
        read_unwrapped(path)


def test_whole_numbers_that_python_does_not_show(tmp_path):
    (tmp_path / "a.yaml").write_text(f"seed: 0x{'f' * 5000}\n")
    with pytest.raises(InputError, match="20000 bits"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("value", "hint", "said"),
    [
        (True, int, "x is True, must be a whole number"),
        (10**5000, int, "many digits"),
        ("1", float, "must be a number"),
        ({"a": "b"}, dict[str, float], r"x\.a is 'b', must be a number"),
        ({1: 2.0}, dict[str, float], "a name in x is 1, must be text"),
        ([1, None], list[int], r"x\[1\] is None"),
        (b"a", str | None, "x is a bytes, must be text or nothing"),
    ],
    ids=range(7),
)
def test_types(value, hint, said):
    with pytest.raises(ValueError, match=said):
        check_type(value, hint, "x")


def test_types_that_fit():
    for value, hint in ((1, float), (1.5, float), ({"a": [1]}, dict[str, list[int]]), (None, str | None)):
        check_type(value, hint, "x")
