"""Damaged score folders, single score files, and score files of other programs."""

import io
import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from crfnet.data.image_files import read_image
from crfnet.explore import open_session
from crfnet.score_cache import ScoreFolder
from tests.fuzz.damage import Damage, damages
from tests.fuzz.factories import arrays, bomb, npy, npz
from tests.fuzz.fixture_tree import CLASSES, IDS, SIZE, FixtureTree
from tests.fuzz.fuzzing import fuzz, parts
from tests.fuzz.harness import guarded, run

COUNT = 20  #: of each of the files below, twice of foreign ones: 240 examples
SHAPE = (CLASSES, *SIZE)


def archives(fixtures: FixtureTree, *names: str) -> dict[str, bytes]:
    """The arrays of `made.arrays` as the members of archives, and archives that are none."""
    made = {name: npz(**dict.fromkeys(names, each)) for name, each in of_arrays(fixtures).items()}
    good = npy(np.zeros(SHAPE, np.float32))
    return made | {
        "bomb": bomb(*names),
        "other names": npz(other=good),
        "no member": npz(),
        "array": good,
        "up": npz(**{"../../up": good}),
    }


def of_arrays(fixtures: FixtureTree) -> dict[str, bytes]:
    return arrays(SHAPE, fixtures.root / "trap")


def mats(fixtures: FixtureTree) -> dict[str, bytes]:
    made = {}
    for name, value in {
        "no array": {},
        "two arrays": {"data": np.zeros((22, 20, 3)), "more": np.zeros(3)},
        "text": {"data": "scores"},
        "cells": {"data": np.array(["a", 1], dtype=object)},
        "record": {"data": {"a": 1}},
        "nan": {"data": np.full((22, 20, 3), np.nan)},
        "small": {"data": np.zeros((4, 4, 3))},
        "one axis": {"data": np.zeros(7)},
        "huge numbers": {"data": np.full((22, 20, 3), 1e300)},
    }.items():
        stream = io.BytesIO()
        savemat(stream, value)
        made[name] = stream.getvalue()
    return made | {
        "7.3": b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(500)
    }


def sheets(fixtures: FixtureTree) -> dict[str, bytes]:
    text = (fixtures.root / "scores/scores.yaml").read_text()
    changes = {
        "one class": ("21", "1"),
        "other classes": ("21", "20"),
        "many classes": ("21", "9" * 5000),
        "fraction": ("21", "21.0"),
        "true": ("21", "true"),
        "probabilities": ("logits", "probabilities"),
        "no kind": ("logits", "nothing"),
        "list kind": ("logits", "[logits]"),
        "aligned": ("false", "true"),
        "maybe": ("false", "maybe"),
        "no source": ("source: a test", "source: null"),
        "key more": ("source", "more: 1\nsource"),
        "key twice": ("source", "kind: logits\nsource"),
        "tag": ("a test", "!!python/object/apply:os.getcwd []"),
        "bool tag": ("false", "!!bool x"),
        "date": ("a test", "2001-13-45"),
        "deep": ("a test", "[" * 2000 + "]" * 2000),
        "itself": ("a test", "&a [*a]"),
    }
    return {name: text.replace(*change).encode() for name, change in changes.items()}


def check_session(fixtures: FixtureTree, scores: Path) -> None:
    """Looked at by eye, scores are finite; they are those in the file, resized, or their logarithms."""
    session = open_session(read_image(fixtures.root / "voc/JPEGImages/a.jpg"), scores, "a")
    assert session.logits.isfinite().all()


def stored(stream: IO[bytes]) -> np.ndarray:
    """An array, of Python 2 as well, which warns."""
    with stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def check_converted(fixtures: FixtureTree, kind: str) -> None:
    """A score folder holds the numbers of the foreign files, in float16."""
    found = ScoreFolder(fixtures.out)
    assert set(found.ids) == set(IDS)
    for image_id in IDS:
        if kind == "mat":
            (array,) = (
                v
                for k, v in loadmat(fixtures.root / f"foreign/mat/{image_id}_blob_0.mat").items()
                if k[0] != "_"
            )
            array = array.reshape(array.shape[:3]).transpose(2, 1, 0)[:, : SIZE[0], : SIZE[1]]
        elif kind == "npy":
            array = stored((fixtures.root / f"foreign/npy/{image_id}.npy").open("rb"))
        else:
            with zipfile.ZipFile(fixtures.root / f"foreign/npz/{image_id}.npz") as archive:
                (name,) = archive.namelist()
                array = stored(archive.open(name))
        array = array[0] if array.ndim == 4 else array
        np.testing.assert_array_equal(
            found.stored_logits(image_id).numpy(), array.astype(np.float32).astype(np.float16)
        )


CONVERTED = {
    "npy": ("npy", "a.npy", of_arrays),
    "npz": ("npz", "b.npz", lambda fixtures: archives(fixtures, "data")),
    "mat": ("mat", "c_blob_0.mat", mats),
}


@parts
@pytest.mark.parametrize("kind", CONVERTED)
def test_scores_of_others(fixtures, kind, part):
    folder, name, made = CONVERTED[kind]
    path, others = fixtures.root / "foreign" / folder / name, made(fixtures)
    command = ["convert-scores", path.parent, "--to", fixtures.out]
    command += ["--images", fixtures.root / "voc/JPEGImages"] if kind == "mat" else []

    def example(damage: Damage) -> None:
        with fixtures.damaged(path):
            damage.apply(path, others)
            there = path.exists()
            ending = run(
                fixtures, command, [name, path.stem, f"{path.parent}:", f"'{name[0]}'"], partial=True
            )
            if ending.status == 0 and there:
                check_converted(fixtures, kind)

    fuzz(example, damages(others), 2 * COUNT, part)
    for each in others if part == 1 else ():
        example(Damage(each))


EXPLORED = {
    "member": ("scores", "scores/a.npz", lambda fixtures: archives(fixtures, "scores")),
    "sheet": ("scores", "scores/scores.yaml", sheets),
    "file of a folder": ("scores/a.npz", "scores/a.npz", lambda fixtures: archives(fixtures, "scores")),
    "many": ("scores.npz", "scores.npz", lambda fixtures: archives(fixtures, "ids", "logits")),
    "array": ("one.npy", "one.npy", of_arrays),
    "archive": ("one.npz", "one.npz", lambda fixtures: archives(fixtures, "anything")),
}


@parts
@pytest.mark.parametrize("kind", EXPLORED)
def test_scores_that_explore_opens(fixtures, kind, part):
    scores, name, made = EXPLORED[kind]
    path, others = fixtures.root / name, made(fixtures)

    def example(damage: Damage) -> None:
        with fixtures.damaged(path):
            damage.apply(path, others)
            said = guarded(fixtures, lambda: check_session(fixtures, fixtures.root / scores))
            assert (
                said is None or path.name in said or f"/{path.stem}" in said or f"{path.parent.name}:" in said
            ), said

    fuzz(example, damages(others), COUNT, part)
    for each in others if part == 1 else ():
        example(Damage(each))
