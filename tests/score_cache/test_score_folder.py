import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml

from crfnet.errors import InputError
from crfnet.score_cache import ScoreFolder, missing_scores, write_scores
from tests.search.tiny_dataset import CLASSES, TinyDataset, noisy_logits

METADATA = {"num_classes": 3, "kind": "logits", "align_corners": False, "source": "test"}


def folder_with(folder: Path, array: np.ndarray, **changes: object) -> ScoreFolder:
    folder.mkdir(exist_ok=True)
    (folder / "scores.yaml").write_text(yaml.safe_dump(METADATA | changes))
    np.savez(folder / "a.npz", scores=array)
    return ScoreFolder(folder)


def test_round_trip(tmp_path):
    stored = torch.randn(3, 4, 5).half().float()
    folder = write_scores(tmp_path / "s", [("b", stored), ("a", -stored)], 3, True, "net, step 5")
    assert folder.ids == ("a", "b")
    assert (folder.num_classes, folder.align_corners, folder.source) == (3, True, "net, step 5")
    assert torch.equal(folder.stored_logits("b"), stored)
    expected = F.interpolate(stored[None], (7, 9), mode="bilinear", align_corners=True)
    assert torch.equal(folder.logits("b", (7, 9)), expected)
    assert not torch.equal(expected, F.interpolate(stored[None], (7, 9), mode="bilinear"))


@pytest.mark.parametrize(
    ("cells", "size", "words"),
    [
        ((51, 51), (37, 50), "51 x 51 (rows x columns), must not be larger than the image, 37 x 50"),
        ((37, 51), (37, 50), "must not be larger"),
        ((10, 5), (40, 80), "look swapped"),
    ],
)
def test_scores_that_cannot_be_of_the_image_are_refused(tmp_path, cells, size, words):
    folder = folder_with(tmp_path / "s", np.zeros((3, *cells)))
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        folder.logits("a", size)
    assert str(tmp_path / "s/a.npz") in str(caught.value)


def test_float16_on_disk(tmp_path):
    write_scores(tmp_path, [("a", torch.randn(3, 2, 2))], 3, False, "x")
    assert np.load(tmp_path / "a.npz")["scores"].dtype == np.float16


def test_npy_is_read(tmp_path):
    folder_with(tmp_path, np.zeros((3, 2, 2)))
    np.save(tmp_path / "b.npy", np.ones((3, 2, 2), np.float64))
    folder = ScoreFolder(tmp_path)
    assert folder.ids == ("a", "b")
    assert torch.equal(folder.stored_logits("b"), torch.ones(3, 2, 2))


def test_single_file(tmp_path):
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float16)
    np.savez(tmp_path / "val.npz", ids=np.array(["y", "x"]), logits=logits)
    folder = ScoreFolder(tmp_path / "val.npz")
    assert (folder.ids, folder.num_classes, folder.align_corners) == (("y", "x"), 3, False)
    assert torch.equal(folder.stored_logits("x"), torch.from_numpy(logits[1]).float())
    with pytest.raises(InputError, match=r"val\.npz.*'z'"):
        folder.stored_logits("z")


def test_probabilities_are_as_good_as_logits(tmp_path):
    logits = torch.randn(3, 4, 5)
    folder = folder_with(tmp_path, logits.softmax(0).numpy(), kind="probabilities")
    expected = F.interpolate(logits[None], (8, 10), mode="bilinear").log_softmax(1)
    assert torch.allclose(folder.logits("a", (8, 10)).log_softmax(1), expected, atol=1e-5)


def test_probabilities_are_clamped(tmp_path):
    folder = folder_with(tmp_path, np.eye(3)[:, :, None], kind="probabilities")
    assert folder.stored_logits("a").min() == torch.tensor(1e-5).log()
    assert folder.stored_logits("a").max() == 0


def test_missing_scores_and_resume(tmp_path):
    first, second = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    assert missing_scores(tmp_path / "s", ["a", "b"]) == ["a", "b"]
    write_scores(tmp_path / "s", [("a", first)], 3, False, "x")
    assert missing_scores(tmp_path / "s", ["a", "b"]) == ["b"]
    folder = write_scores(tmp_path / "s", [("a", second), ("b", second)], 3, False, "x")
    assert torch.equal(folder.stored_logits("a"), first)
    assert torch.equal(folder.stored_logits("b"), second)


def test_a_kill_while_writing_leaves_whole_files(tmp_path, monkeypatch):
    def killed(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        write_scores(tmp_path, [("a", torch.zeros(3, 2, 2))], 3, False, "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".crfnet", "scores.yaml"]


@pytest.mark.parametrize(
    ("change", "key"), [({"source": "y"}, "source"), ({"align_corners": True}, "align_corners")]
)
def test_other_source_is_refused_unless_overwritten(tmp_path, change, key):
    given = {"num_classes": 3, "align_corners": False, "source": "x"}
    zeros, ones = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    write_scores(tmp_path, [("a", zeros), ("b", zeros)], **given)
    with pytest.raises(InputError, match=f"scores.yaml: {key} is"):
        write_scores(tmp_path, [("a", ones)], **(given | change))
    assert torch.equal(ScoreFolder(tmp_path).stored_logits("a"), zeros)
    folder = write_scores(tmp_path, [("a", ones)], **(given | change), overwrite=True)
    assert folder.ids == ("a",)
    assert torch.equal(folder.stored_logits("a"), ones)


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.npz").write_text("mine")
    with pytest.raises(InputError, match=r"no scores\.yaml"):
        write_scores(tmp_path, [], 3, False, "x", overwrite=True)
    assert (tmp_path / "thesis.npz").read_text() == "mine"


@pytest.mark.parametrize(
    ("image_id", "scores", "message"),
    [
        ("../a", torch.zeros(3, 2, 2), "plain file name"),
        ("", torch.zeros(3, 2, 2), "plain file name"),
        ("a", torch.zeros(4, 2, 2), r"\(4, 2, 2\), must be \(3"),
        ("a", torch.full((3, 2, 2), 1e5), "float16"),
        ("a", torch.full((3, 2, 2), torch.nan), "NaN"),
    ],
)
def test_what_cannot_be_written(tmp_path, image_id, scores, message):
    with pytest.raises(InputError, match=message):
        write_scores(tmp_path / "s", [(image_id, scores)], 3, False, "x")


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (np.zeros((4, 2, 2)), "logits", r"a\.npz: scores have shape \(4, 2, 2\), must be \(3, hs, ws\)"),
        (np.zeros((3, 2)), "logits", r"shape \(3, 2\)"),
        (np.zeros((1, 3, 2, 2)), "logits", r"shape \(1, 3, 2, 2\)"),
        (np.zeros((3, 0, 2)), "logits", r"shape \(3, 0, 2\)"),
        (np.full((3, 2, 2), np.nan), "logits", "NaN or infinity"),
        (np.zeros((3, 2, 2), np.int64), "logits", "int64"),
        (np.full((3, 2, 2), 1.5), "probabilities", "to 1.5, must be in 0..1"),
        (np.full((3, 2, 2), -0.5), "probabilities", "-0.5 to"),
    ],
)
def test_bad_array(tmp_path, array, kind, message):
    folder = folder_with(tmp_path, array, kind=kind)
    with pytest.raises(InputError, match=message) as caught:
        folder.logits("a", (4, 4))
    assert "\n" not in str(caught.value)


def test_missing_id(tmp_path):
    folder = folder_with(tmp_path, np.zeros((3, 2, 2)))
    with pytest.raises(InputError, match="no scores for image 'z'; it holds 1: a"):
        folder.stored_logits("z")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_truncated_file(tmp_path, name, share):
    folder_with(tmp_path, np.zeros((3, 20, 20)))
    if name == "a.npy":
        (tmp_path / "a.npz").unlink()
        np.save(tmp_path / name, np.zeros((3, 20, 20)))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        ScoreFolder(tmp_path).stored_logits("a")


def test_npz_that_lacks_the_array_or_is_no_npz(tmp_path):
    folder = folder_with(tmp_path, np.zeros((3, 2, 2)))
    np.savez(tmp_path / "a.npz", logits=np.zeros((3, 2, 2)))
    with pytest.raises(InputError, match=r"a\.npz: cannot be read.*'scores'"):
        folder.stored_logits("a")
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((3, 2, 2)))
    with pytest.raises(InputError, match=r"a\.npz: cannot be read"):
        folder.stored_logits("a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (yaml.safe_dump(METADATA | {"color": 1}), "color.*exactly the keys num_classes, kind"),
        (yaml.safe_dump({"kind": "logits"}), "must hold exactly the keys"),
        ("just text", "'just text'"),
        ("a: [1", "cannot be read as YAML"),
        (yaml.safe_dump(METADATA | {"num_classes": 1}), "num_classes is 1, must be an integer >= 2"),
        (yaml.safe_dump(METADATA | {"num_classes": True}), "num_classes is True"),
        (yaml.safe_dump(METADATA | {"kind": "energies"}), "kind is 'energies', must be logits or prob"),
        (
            yaml.safe_dump(METADATA | {"align_corners": "no"}),
            "align_corners is 'no', must be true, false or stretch",
        ),
        (yaml.safe_dump(METADATA | {"source": 3}), "source is 3, must be text"),
    ],
)
def test_bad_metadata(tmp_path, text, message):
    (tmp_path / "scores.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        ScoreFolder(tmp_path)
    assert "scores.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="holds no scores"):
        ScoreFolder(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"scores\.yaml: missing"):
        ScoreFolder(tmp_path)
    (tmp_path / "scores.yaml").write_text(yaml.safe_dump(METADATA))
    with pytest.raises(InputError, match="of no image"):
        ScoreFolder(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": np.zeros((1, 3, 2, 2))}, "cannot be read"),
        ({"ids": np.array(["a", "a"]), "logits": np.zeros((2, 3, 2, 2))}, "unique strings"),
        ({"ids": np.array([1]), "logits": np.zeros((1, 3, 2, 2))}, "unique strings"),
        ({"ids": np.array(["a"]), "logits": np.zeros((2, 3, 2, 2))}, r"must be \(1, l >= 2"),
        ({"ids": np.array(["a"]), "logits": np.zeros((1, 3, 2))}, r"shape \(1, 3, 2\)"),
    ],
)
def test_bad_single_file(tmp_path, arrays, message):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(InputError, match=message):
        ScoreFolder(tmp_path / "v.npz")


def test_logits_at_image_size(tmp_path):
    folder = write_scores(tmp_path / "s", noisy_logits(TinyDataset(2)), CLASSES, False, "noise")
    assert folder.logits("p1", (12, 16)).shape == (1, CLASSES, 12, 16)
