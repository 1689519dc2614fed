"""A result goes on only with what it was made of: weights, images, labels, protocol."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from crfnet.cli.main import main
from crfnet.errors import InputError
from crfnet.pipeline.digests import check_digests, file_digest, files_digest, state_digest, weights_digest
from tests.test_cli import CONFIG

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")


def paint(root: Path, *, image: int = 0, label: int = 0) -> None:
    """Six images in two lists; one pixel of the last depends on the arguments."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(6):
        picture = draw.integers(0, 200, (32, 40, 3), np.uint8)
        mask = draw.integers(0, 6, (32, 40), np.uint8)
        if i in (2, 5):
            picture[0, 0, 0], mask[0, 0] = 200 + image, 5 if label else 0
        Image.fromarray(picture).save(root / f"images/{i}.png")
        Image.fromarray(mask).save(root / f"masks/{i}.png")
    (root / "train.txt").write_text("0\n1\n2\n")
    (root / "val.txt").write_text("3\n4\n5\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run that trained, cached and evaluated."""
    root = tmp_path_factory.mktemp("made")
    paint(root / "data")
    names = ["a", "b", "c", "d", "e", "f"]
    data = {"name": "folders", "root": str(root / "data"), "classes": names}
    search = {**CONFIG["search"], "images": 1}
    config = {**CONFIG, "data": data, "search": search, "evaluation": {"draws": 5, "max_width": 2}}
    (root / "run.yaml").write_text(yaml.safe_dump(config))
    run(root, "train")
    shutil.copy(root / "out/unary/train/checkpoint.pt", root / "net.pt")
    run(root, "scores", "--checkpoint", root / "net.pt")
    run(root, "evaluate", "--checkpoint", root / "net.pt")
    (root / "best.yaml").write_text("crf: {w1: 3.0}\n")
    run(root, "evaluate", "--scores", root / "out/scores", "--crf", root / "best.yaml", output="of_scores")
    joint = ["--stage", "joint", "--checkpoint", root / "net.pt", "--crf", root / "best.yaml"]
    run(root, "train", *joint)
    return root


def run(root: Path, command: str, *arguments: object, output: str = "out") -> None:
    main([command, str(root / "run.yaml"), "--output", str(root / output), *map(str, arguments)])


@pytest.fixture
def copy(made, tmp_path):
    """The same run in the same place as it was made, put back afterwards."""
    shutil.copytree(made, tmp_path / "kept")
    yield made
    shutil.rmtree(made)
    shutil.copytree(tmp_path / "kept", made)


COMMANDS = {
    "train": ("train", "--resume"),
    "joint": ("train", "--stage", "joint", "--checkpoint", "{net}", "--crf", "{best}", "--resume"),
    "scores": ("scores", "--checkpoint", "{net}"),
    "evaluate": ("evaluate", "--checkpoint", "{net}", "--resume"),
    "of scores": ("evaluate", "--scores", "{scores}", "--crf", "{best}", "--resume"),
}
CHANGES = {
    "images": ("train", "joint", "scores", "evaluate", "of scores"),
    "labels": ("train", "joint", "evaluate", "of scores"),
    "weights": ("joint", "scores", "evaluate"),
    "scores": ("of scores",),
    "parameters": ("joint", "of scores"),
}


def change(root: Path, what: str) -> None:
    if what == "images":
        paint(root / "data", image=1)
    elif what == "labels":
        paint(root / "data", label=1)
    elif what == "weights":
        checkpoint = torch.load(root / "net.pt", weights_only=True)
        next(iter(checkpoint["model"].values())).view(-1)[0] += 1e-3
        torch.save(checkpoint, root / "net.pt")
    elif what == "scores":
        with np.load(root / "out/scores/5.npz") as found:
            scores = found["scores"]
        scores[0, 0, 0] += 1
        np.savez(root / "out/scores/5.npz", scores=scores)
    else:
        (root / "best.yaml").write_text("crf: {w1: 4.0}\n")


def again(root: Path, name: str) -> None:
    places = {"{net}": root / "net.pt", "{best}": root / "best.yaml", "{scores}": root / "out/scores"}
    command, *arguments = COMMANDS[name]
    output = "of_scores" if name == "of scores" else "out"
    run(root, command, *[places.get(each, each) for each in arguments], output=output)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_result_goes_on_with_what_it_was_made_of(copy, name):
    again(copy, name)


@pytest.mark.parametrize(
    ("what", "name"), [(what, name) for what, names in CHANGES.items() for name in names]
)
def test_a_result_does_not_go_on_with_something_else(copy, what, name, capsys):
    change(copy, what)
    before = {path: path.read_bytes() for path in (copy / "out").rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        again(copy, name)
    assert stop.value.code == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("crfnet: ")]
    assert ("other weights or images" if name == "scores" else what) in said
    assert {path: path.read_bytes() for path in before} == before


def test_scores_at_other_scales_are_not_mixed(copy, capsys):
    with pytest.raises(SystemExit):
        run(copy, "scores", "--checkpoint", copy / "net.pt", "--predict.mirror", "true")
    assert "at other scales" in capsys.readouterr().err


def test_labels_may_change_under_scores(copy):
    change(copy, "labels")
    again(copy, "scores")


def test_a_comparison_sees_changed_data_and_weights(made, tmp_path, capsys):
    root = tmp_path / "root"
    shutil.copytree(made, root)
    text = (root / "run.yaml").read_text()
    (root / "run.yaml").write_text(text.replace(str(made / "data"), str(root / "data")))
    run(root, "compare", output="all")
    run(root, "compare", "--resume", output="all")
    checkpoint = root / "all/unary/train/checkpoint.pt"
    whole = checkpoint.read_bytes()
    content = torch.load(checkpoint, weights_only=True)
    content["seconds"] += 1.0  # which decides nothing
    torch.save(content, checkpoint)
    run(root, "compare", "--resume", output="all")
    next(iter(content["model"].values())).view(-1)[0] += 1e-3
    torch.save(content, checkpoint)
    with pytest.raises(SystemExit):
        run(root, "compare", "--resume", output="all")
    assert "all/posthoc/search: was begun with other weights" in capsys.readouterr().err
    checkpoint.write_bytes(whole)
    paint(root / "data", label=1)
    with pytest.raises(SystemExit):
        run(root, "compare", "--resume", output="all")
    assert "other training labels and validation labels" in capsys.readouterr().err


def test_digests_are_of_contents(tmp_path):
    state = {"a": torch.zeros(2, 3), "b": torch.ones((), dtype=torch.int64), "c": torch.zeros(2).bfloat16()}
    same = {name: state[name].clone() for name in reversed(state)}
    assert state_digest(state) == state_digest(same)
    for changed in ({"a": torch.zeros(3, 2)}, {"b": torch.ones(())}, {"d": torch.zeros(1)}):
        assert state_digest({**state, **changed}) != state_digest(state)
    for name in ("x", "y"):
        (tmp_path / name).write_text("same")
    assert file_digest(tmp_path / "x") == file_digest(tmp_path / "y")
    assert files_digest([tmp_path / "x"]) != files_digest([tmp_path / "y"])  # label maps are found by name
    with pytest.raises(InputError, match="none: cannot be read"):
        file_digest(tmp_path / "none")
    with pytest.raises(InputError, match="no such checkpoint"):
        weights_digest(tmp_path / "none")


def test_a_damaged_list_of_digests(tmp_path):
    check_digests(tmp_path, {"images": "1"}, "again")
    check_digests(tmp_path, {"weights": "2"}, "again")
    assert json.loads((tmp_path / "digests.json").read_text()) == {"images": "1", "weights": "2"}
    with pytest.raises(InputError, match="other images and weights than there are now; again"):
        check_digests(tmp_path, {"images": "3", "weights": "4"}, "again")
    for text in ("{", "[]", '{"images": 1}', "[" * 100_000):
        (tmp_path / "digests.json").write_text(text)
        with pytest.raises(InputError, match="damaged"):
            check_digests(tmp_path, {"images": "1"}, "again")
