"""Files of a few bytes that stand for gigabytes or for hours: refused by what they claim."""

import zipfile

import numpy as np
import pytest
import torch

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.errors import InputError
from crfnet.files import arrays, read_arrays, read_yaml
from crfnet.files.torch_files import load_torch_file
from crfnet.files.weight_files import read_weights
from crfnet.files.wrappers import KEYS
from crfnet.score_cache import ScoreFolder


def npy(kind: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + bytes([len(text), 0]) + text + data


@pytest.mark.parametrize("kind", ["<U0", "|V0", "|S0"])
def test_texts_of_no_letters(kind, tmp_path):
    """Each fills no byte: a file of a hundred may say that it holds a billion of them."""
    (tmp_path / "a.npy").write_bytes(npy(kind, (10**9,)))
    with pytest.raises(ValueError, match="it claims the shape"):
        read_arrays(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("ids.npy", npy(kind, (10**9,)))
        archive.writestr("logits.npy", npy("<f4", (10**9, 2, 0, 0)))
    with pytest.raises(InputError, match="it claims the shape"):
        ScoreFolder(tmp_path / "a.npz")


def test_arrays_without_numbers_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", none=np.zeros((3, 0), np.float32), ids=np.array(["", "a"]))
    assert read_arrays(tmp_path / "a.npz")["none"].shape == (3, 0)


def test_many_members_each_below_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_MAX_TOTAL_BYTES", 3_000_000)
    member = npy("<f4", (250_000,), bytes(1_000_000))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}.npy", member)
    with pytest.raises(ValueError, match="its arrays would unpack"):
        read_arrays(tmp_path / "a.npz")
    assert read_arrays(tmp_path / "a.npz", ["0", "1"])["1"].shape == (250_000,)


def lists() -> object:
    value = [torch.zeros(1)]
    for _ in range(12):
        value = [value] * 10
    return value


def mappings() -> object:
    value: dict[str, object] = {}
    for _ in range(8):
        value = dict.fromkeys(KEYS, value)
    return value


def circle() -> object:
    value: dict[str, object] = {"a": torch.zeros(1)}
    value["model"] = value
    return value


@pytest.mark.parametrize("made", [lists, mappings, circle])
def test_lists_and_mappings_that_are_held_again_and_again(made, tmp_path):
    """A few hundred bytes of pickle; to walk through what they stand for would take years."""
    torch.save({"model": made()}, tmp_path / "c.pt")
    for read in (read_weights, read_checkpoint):
        with pytest.raises(InputError, match=r"c\.pt: damaged.* written out"):
            read(tmp_path / "c.pt")


def test_a_list_that_is_held_twice_is_read(tmp_path):
    shared = [1, 2]
    torch.save({"a": shared, "b": shared, "c": ((), ())}, tmp_path / "c.pt")
    assert load_torch_file(tmp_path / "c.pt") == {"a": [1, 2], "b": [1, 2], "c": ((), ())}


def test_many_keys_take_no_longer_than_their_number(tmp_path):
    """Each was counted among all others."""
    (tmp_path / "a.yaml").write_text("".join(f"k{number}: 1\n" for number in range(4000)))
    assert len(read_yaml(tmp_path / "a.yaml")) == 4000
    (tmp_path / "a.yaml").write_text("1: a\n1: b\n")
    with pytest.raises(InputError, match="key 1 twice"):
        read_yaml(tmp_path / "a.yaml")
