"""Damaged checkpoints, lists, reports and searches: what one command leaves and another goes on with."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from crfnet.crf.config_file import load_crf_config
from tests.fuzz.damage import Damage, damages
from tests.fuzz.factories import bomb, npz, pickled
from tests.fuzz.fixture_tree import IDS, FixtureTree
from tests.fuzz.fuzzing import fuzz, parts
from tests.fuzz.harness import run
from tests.fuzz.values import Change, changes

COUNT = 20  #: of each of seven kinds, and half as many of five files of a report: 190 examples


def saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def checkpoints(fixtures: FixtureTree) -> dict[str, bytes]:
    """Files of torch.save whose content is not that of a checkpoint."""
    good = torch.load(fixtures.root / "checkpoint.pt", weights_only=True)
    model = good["model"]
    name = next(name for name, value in model.items() if value.ndim == 4)

    def with_weight(value: Any) -> bytes:
        return saved({**good, "model": {**model, name: value}})

    return {
        "trap": pickled(fixtures.root / "trap"),
        "list": saved([1, 2]),
        "number": saved(3),
        "tensor": saved(torch.zeros(3)),
        "weights alone": saved(model),
        "no weights": saved({**good, "model": {}}),
        "weights are a list": saved({**good, "model": [1]}),
        "weights are none": saved({**good, "model": None}),
        "numbers as names": saved({**good, "model": {1: torch.zeros(2)}}),
        "number as weight": with_weight(3),
        "none as weight": with_weight(None),
        "another shape": with_weight(torch.zeros(3)),
        "nan": with_weight(torch.full_like(model[name], float("nan"))),
        "half": with_weight(model[name].half()),
        "integers": with_weight(model[name].int()),
        "complex": with_weight(model[name].to(torch.complex64)),
        "sparse": with_weight(torch.zeros_like(model[name]).to_sparse()),
        "meta": with_weight(model[name].to("meta")),
        "one number expanded": with_weight(torch.zeros(1).expand(model[name].shape)),
        "settings are none": saved({**good, "settings": None}),
        "settings are a list": saved({**good, "settings": ["crf.w1"]}),
        "settings of a crf": saved({**good, "settings": {"crf.w1": "x", "crf.nothing": 2}}),
        "numbers as settings": saved({**good, "settings": {1: 2}}),
        "a crf without weights": saved({**good, "settings": {"crf.w1": 3.0}}),
    }


COMMANDS = {
    "import": lambda fixtures, path: ["import", path],
    "predict": lambda fixtures, path: ["predict", fixtures.config, "--checkpoint", path, "--split", "val"],
    "train": lambda fixtures, path: ["train", fixtures.config, "--checkpoint", path],
}


@parts
@pytest.mark.parametrize("command", COMMANDS)
def test_checkpoints(fixtures, command, part):
    others = checkpoints(fixtures)

    def example(damage: Damage) -> None:
        with fixtures.damaged(fixtures.root / "checkpoint.pt") as path:
            damage.apply(path, others)
            ending = run(fixtures, COMMANDS[command](fixtures, path), [path.name])
            if ending.status == 0:
                assert path.name in ending.out or str(fixtures.out) in ending.out

    fuzz(example, damages(others), COUNT, part)
    for each in others if part == 1 else ():
        example(Damage(each))


@parts
def test_safetensors(fixtures, part):
    others = {"huge header": b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "no json": b"\x02" + bytes(7) + b"{x"}

    def example(damage: Damage) -> None:
        with fixtures.damaged(fixtures.root / "weights.safetensors") as path:
            damage.apply(path, others)
            run(fixtures, ["import", path, "--out", fixtures.out / "w.pt"], [path.name])

    fuzz(example, damages(others), COUNT, part)


LISTS = {
    "twice": b"a\na\n",
    "stranger": b"a\nnobody\n",
    "path": b"../a\n",
    "nothing": b"\n\n",
    "pair": b"/JPEGImages/a.jpg /SegmentationClass/a.png\n",
    "spaces": b"a b\n",
    "no end": b"a\nb",
    "windows": b"a\r\nb\r\n",
    "nul": b"a\0\n",
    "long": b"a" * 5000,
    "all": b"a\nb\nc\n",
}


@parts
@pytest.mark.parametrize("name", ["images.txt", "voc/ImageSets/Segmentation/val.txt"])
def test_lists(fixtures, name, part):
    command = ["search", fixtures.config, "--scores", fixtures.root / "scores"]
    if name == "images.txt":
        command = ["evaluate", fixtures.config, "--predictions", fixtures.root / "predictions", "--exclude"]
        command.append(fixtures.root / name)

    def example(damage: Damage) -> None:
        with fixtures.damaged(fixtures.root / name) as path:
            damage.apply(path, LISTS)
            names = [
                path.name,
                "search.images",
                *(f"{image_id}." for image_id in IDS),
                "nobody",
                "JPEGImages",
            ]
            ending = run(fixtures, command, names)
            if ending.status == 0:
                listed = {Path(word).stem for word in path.read_text("utf-8-sig").split()}
                check_lists(fixtures, name, listed)

    fuzz(example, damages(LISTS), COUNT, part)


def check_lists(fixtures: FixtureTree, name: str, listed: set[str]) -> None:
    """Only images of the list were searched on, or only the others were scored."""
    if name == "images.txt":
        with np.load(fixtures.out / "evaluation/predictions/evaluation.npz") as found:
            assert set(found["ids"]) == set(IDS) - listed
    else:
        assert set((fixtures.out / "search/images.txt").read_text().split()) <= listed
        assert load_crf_config(fixtures.out / "search/best.yaml").w1 == 3


def counts(fixtures: FixtureTree) -> dict[str, bytes]:
    """Files evaluation.npz with one array that is another."""
    with np.load(fixtures.root / "evaluation/unary/evaluation.npz") as file:
        good = dict(file)

    def with_array(name: str, array: Any) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, **{**good, name: np.asarray(array)})
        return stream.getvalue()

    settings = json.loads(str(good["settings"]))
    made = {name: with_array("settings", json.dumps({**settings, key: value})) for name, key, value in (
        ("classes -1", "num_classes", -1), ("text classes", "num_classes", "21"),
        ("no width", "max_width", 0),
        ("large width", "max_width", 10**12), ("list width", "max_width", [1]),
        ("element", "element", "ring"),
        ("list element", "element", []), ("f width", "f_width", -1), ("text f width", "f_width", "x"),
        ("null width", "iou_width", None),
    )}  # fmt: skip
    return made | {
        "floats": with_array("confusion", good["confusion"].astype(float)),
        "negative": with_array("confusion", -good["confusion"]),
        "ids twice": with_array("ids", ["a"] * len(good["ids"])),
        "numbers as ids": with_array("ids", range(len(good["ids"]))),
        "ids in a square": with_array("ids", [good["ids"]]),
        "negative sizes": with_array("void_sizes", -good["void_sizes"]),
        "bins outside": with_array("void_bins", good["void_bins"] + 10**6),
        "negative bins": with_array("change_bins", -good["change_bins"] - 1),
        "text counts": with_array("change_counts", good["change_counts"].astype(str)),
        "float bins": with_array("change_bins", good["change_bins"] + 0.5),
        "negative matches": with_array("contours", -good["contours"] - 1),
        "settings in a list": with_array("settings", ["{}"]),
        "settings of numbers": with_array("settings", 3),
        "bomb": bomb(*good),
        "other": npz(other=b""),
    }


#: Files of a finished evaluation, and whether they have to be named when they are damaged.
REPORTED = {
    "report.json": ("report.json",),
    "unary/evaluation.npz": ("evaluation.npz",),
    "config.yaml": ("config.yaml",),
    "unary/a.png": (),
    "posthoc/energy/energy.csv": ("energy.csv",),
}


@parts
@pytest.mark.parametrize("name", REPORTED)
def test_reports(fixtures, name, part):
    """A report is written again, or nothing in its folder changes."""
    others = (
        counts(fixtures) if name.endswith("npz") else {"other": b"{}", "text": b"a,b\n1,2\n", "list": b"[1]"}
    )
    whole = json.loads((fixtures.root / "evaluation/report.json").read_text())
    given = (
        st.one_of(damages(others), changes(whole), changes(whole))
        if name == "report.json"
        else damages(others)
    )

    def example(damage: Damage | Change) -> None:
        with fixtures.copied("evaluation") as folder:
            path = folder / name
            if isinstance(damage, Damage):
                damage.apply(path, others)
            else:
                path.write_text(json.dumps(damage.of(whole), default=str))
            before = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
            ending = run(fixtures, ["report", folder], [*REPORTED[name], str(folder)])
            if ending.status == 2:
                assert {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()} == before
            else:
                assert "unary" in (folder / "report.md").read_text() or isinstance(damage, Change)

    fuzz(example, given, COUNT // 2, part)
    for each in others if part == 1 else ():
        example(Damage(each))


@parts
def test_searches_to_go_on_with(fixtures, part):
    """A damaged study is refused, or the search ends as it did."""
    best = load_crf_config(fixtures.root / "best.yaml")
    command = ["search", fixtures.config, "--scores", fixtures.root / "scores", "--resume"]

    def example(damage: Damage) -> None:
        with fixtures.copied("search") as folder:
            damage.apply(folder / "study.db", {"text": b"words", "sqlite": b"SQLite format 3\0"})
            ending = run(fixtures, command, ["study.db", "--resume"])
            if ending.status == 0:
                assert load_crf_config(folder / "best.yaml") == best

    fuzz(example, damages({"text": b"words", "sqlite": b"SQLite format 3\0"}), COUNT, part)
